"""A callback as an operator sees it."""

from datetime import datetime
from typing import Self

import strawberry

import graph.callback.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.callback.model import Callback as CallbackRow
from domain.callback.model import CallbackSource, CallbackStatus
from domain.callback.showing import shown
from graph.callback.loaders import excerpt_loader
from graph.context import Info
from graph.ids import global_id
from graph.node import Node
from graph.scalars import BigInt


@strawberry.type(description="A call of a provider or a script, as it came, and what became of it. For operators only.")
class Callback(Node):
    row: strawberry.Private[CallbackRow]
    source: CallbackSource = strawberry.field(description="Who called.")
    status: CallbackStatus = strawberry.field(description="What became of it.")
    error: str | None = strawberry.field(description="Why it was not applied, or not yet, or not whole.")
    attempt: int | None = strawberry.field(description="The attempt of the run that it is about.")
    tries: int = strawberry.field(description="How often it was taken up.")
    received_at: datetime = strawberry.field(description="When it came first.")
    applied_at: datetime | None = strawberry.field(
        description="When it was decided what became of it; null while it waits."
    )
    next_try_at: datetime | None = strawberry.field(description="When it is taken up again; null once it has ended.")
    sha256: str = strawberry.field(description="The SHA-256 of the body as it came, in hex.")
    headers: strawberry.scalars.JSON = strawberry.field(description="Those that say something about it.")

    @classmethod
    def of(cls, row: CallbackRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("Callback", row.id)),
            row=row,
            source=row.source,
            status=row.status,
            error=row.error,
            attempt=row.attempt,
            tries=row.tries,
            received_at=row.created_at,
            applied_at=row.applied_at,
            next_try_at=row.next_try_at if row.status is CallbackStatus.RECEIVED else None,
            sha256=row.sha256,
            headers=strawberry.scalars.JSON(row.headers),
        )

    @strawberry.field(description="The run that it is about, as far as its address or token told.")
    def run_id(self) -> strawberry.ID | None:
        return strawberry.ID(global_id("TrainingRun", self.row.run_id)) if self.row.run_id is not None else None

    @strawberry.field(description="A script's own number of it; applied in this order.")
    def sequence(self) -> BigInt | None:
        return BigInt(self.row.sequence) if self.row.sequence is not None else None

    @strawberry.field(description="How many bytes of its body are kept; of a MOOT one the first 4,096.")
    async def bytes(self, info: Info) -> BigInt:
        return BigInt((await excerpt_loader(info).load(self.row.id)).size)

    @strawberry.field(description="The first 64 KiB of its body as text, with what looks like a secret masked.")
    async def body(self, info: Info) -> str:
        return shown((await excerpt_loader(info).load(self.row.id)).beginning)
