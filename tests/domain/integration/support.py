"""Rows of connected accounts, and of what was made with them."""

from datetime import datetime
from typing import Any

from db.unit_of_work import Database
from db.vault import Vault
from domain.base import new_id
from domain.deployment.model import Resource, ResourceKind
from domain.integration.model import Integration
from domain.secret import Secret
from domain.training.status import Provider
from domain.viewer import Viewer

VAULT = Vault(["an encryption key of the tests alone"])


async def make_integration(
    database: Database,
    viewer: Viewer,
    *,
    provider: Provider = Provider.REPLICATE,
    name: str = "Work",
    key: str | None = "r8_sim_acme",
    vault: Vault = VAULT,
    **facts: Any,
) -> Integration:
    """A connected account; one without a key for `key=None`."""
    async with database.begin(viewer) as work:
        given: dict[str, Any] = {"tested_at": work.now, "updated_at": work.now, "account_name": "acme"}
        row = Integration(
            id=new_id(),
            user_id=viewer.require(),
            created_at=work.now,
            provider=provider,
            name=name,
            **(given | facts),
        )
        row.secret = None if key is None else vault.seal(Secret(key), bound_to=row.binding)
        work.session.add(row)
    return row


async def make_alive(worker: Database, row: Integration, *, ended_at: datetime | None = None, **facts: Any) -> Resource:
    """Something at the provider that this account pays for."""
    async with worker.begin() as work:
        resource = Resource(
            id=new_id(),
            user_id=row.user_id,
            created_at=work.now,
            provider=row.provider,
            kind=ResourceKind.TRAINING,
            tag=f"run-{new_id().hex}-1",
            integration_id=row.id,
            ended_at=ended_at,
            **facts,
        )
        work.session.add(resource)
    return resource
