"""Users' own accounts at providers, as GraphQL types. Their keys are nowhere in them."""

from datetime import datetime
from typing import Self

import strawberry

from domain.integration.model import Integration as IntegrationRow
from graph.ids import global_id
from graph.integration.enums import IntegrationStatus, Provider
from graph.node import Node


@strawberry.type(description="An account of your own at a provider. Its key is kept encrypted, and never shown.")
class Integration(Node):
    provider: Provider = strawberry.field(description="Whose account it is.")
    name: str = strawberry.field(description="What you called it.")
    account_name: str | None = strawberry.field(description="Whose account the key opens, as the provider says.")
    status: IntegrationStatus = strawberry.field(description="Whether runs can be started with it.")
    error_message: str | None = strawberry.field(
        description="Why the provider refused its key, in the provider's words."
    )
    tested_at: datetime = strawberry.field(description="When the provider last took or refused its key.")
    created_at: datetime = strawberry.field(description="When it was first connected.")
    updated_at: datetime = strawberry.field(description="When it was last connected or disconnected.")

    @classmethod
    def of(cls, row: IntegrationRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("Integration", row.id)),
            provider=row.provider,
            name=row.name,
            account_name=row.account_name,
            status=row.status,
            error_message=row.error_message,
            tested_at=row.tested_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
