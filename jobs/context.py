"""What a job is given: the pieces of a worker process."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from uuid import UUID

import httpx2

from db.settings import Settings
from db.unit_of_work import Database, SqlUnitOfWork
from domain.clock import Clock
from domain.training.status import Provider
from jobs.providers.base import AppHost, Trainer


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

    def begin(self) -> AbstractAsyncContextManager[SqlUnitOfWork]:
        """A transaction in the worker's own role. Keep it short: nothing outside is asked within."""
        return self.database.begin()
