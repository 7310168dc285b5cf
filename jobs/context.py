"""What a job is given: the pieces of a worker process."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

import httpx2

from db.settings import Settings
from db.unit_of_work import Database, SqlUnitOfWork
from domain.clock import Clock
from domain.training.status import Provider
from jobs.providers.base import AppHost, ProviderRefused, Trainer

if TYPE_CHECKING:
    from jobs.accounts import Accounts


@dataclass(frozen=True, slots=True)
class JobContext:
    """Put together in `jobs/worker.py`."""

    worker_id: UUID
    settings: Settings
    database: Database
    clock: Clock
    trainers: Mapping[Provider, Trainer]
    app_hosts: Mapping[Provider, AppHost]
    http: httpx2.AsyncClient
    """For our own public address only: proving that a deployment answers."""

    accounts: "Accounts | None" = None
    """The accounts at remote providers; None where there are none, as in most tests."""

    async def trainer_for(
        self,
        provider: Provider,
        *,
        user_id: UUID,
        integration_id: UUID | None = None,
        test_mode: bool = False,
        scenario: str | None = None,
    ) -> Trainer:
        """Who trains at this provider, with this account. Raises `ProviderRefused` where nobody does."""
        trainer = self.trainers.get(provider)
        if trainer is not None:
            return trainer
        if self.accounts is None or provider is Provider.LOCAL:
            raise ProviderRefused(f"{provider.value} is not available here.")
        from jobs.accounts import Wanted

        return await self.accounts.trainer_of(Wanted(provider, user_id, integration_id, test_mode, scenario))

    def begin(self) -> AbstractAsyncContextManager[SqlUnitOfWork]:
        """A transaction in the worker's own role. Keep it short: nothing outside is asked within."""
        return self.database.begin()
