"""A provider that does as it is told, and the pieces of a worker around it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import httpx2

from db.settings import Settings
from db.unit_of_work import Database
from domain.base import new_id
from domain.training.report import Report
from domain.training.status import Provider, ReportSource
from jobs.context import JobContext
from jobs.providers.base import (
    FinishedModel,
    Pace,
    Position,
    ProviderError,
    ProviderRefused,
    Quote,
    Started,
    TrainingOrder,
)


@dataclass
class ScriptedTrainer:
    """Starts and stops at once, says what the test gives it, and remembers what it was asked."""

    pace: Pace = field(default_factory=lambda: Pace(0.25, 0.25))
    bills_from_creation: bool = False
    price_micros_per_hour: int = 0
    quoted: list[Quote] = field(default_factory=list)
    started: dict[str, TrainingOrder] = field(default_factory=dict)
    """By reference."""
    asked: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    failing: ProviderError | None = None
    """What every call raises, as long as it is set."""
    on_start: Callable[[], None] = lambda: None
    before_start: Callable[[], Awaitable[None]] | None = None
    stops: bool = True
    """Whether an end is confirmed."""
    says: Callable[[Position, datetime], Report] | None = None
    finds: Callable[[str], Started | None] | None = None
    """What it has of a tag, where that is not what was started."""

    async def start(self, order: TrainingOrder) -> Started:
        self._check()
        if self.before_start is not None:
            await self.before_start()
        reference = f"ref-{order.tag}"
        self.started[reference] = order
        self.on_start()
        return Started(reference, price_micros_per_hour=self.price_micros_per_hour)

    async def find(self, tag: str) -> Started | None:
        self._check()
        if self.finds is not None:
            return self.finds(tag)
        return Started(f"ref-{tag}") if f"ref-{tag}" in self.started else None

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        self._check()
        self.asked.append(reference)
        if self.says is not None:
            return self.says(position, now)
        return Report(source=ReportSource.POLL, attempt=position.attempt, at=now)

    async def stop(self, reference: str) -> bool:
        self._check()
        self.stopped.append(reference)
        return self.stops

    async def whose(self) -> str:
        return "nobody"

    async def quotes(self, gpu_types: Sequence[str], hyperparameters: Mapping[str, Any]) -> Sequence[Quote]:
        return self.quoted

    async def alive(self) -> Mapping[str, str]:
        return {reference: order.tag for reference, order in self.started.items() if reference not in self.stopped}

    async def finished(self, version: str) -> FinishedModel:
        raise ProviderRefused("Nothing is kept.")

    def _check(self) -> None:
        if self.failing is not None:
            raise self.failing


def context_of(
    settings: Settings, database: Database, http: httpx2.AsyncClient, trainer: ScriptedTrainer | None = None
) -> JobContext:
    """One worker process's pieces, with the scripted provider as LOCAL."""
    return JobContext(
        worker_id=new_id(),
        settings=settings,
        database=database,
        clock=database.clock,
        trainers={Provider.LOCAL: trainer} if trainer is not None else {},
        app_hosts={},
        http=http,
    )


def reference_of(run_id: UUID, attempt: int = 1) -> str:
    return f"ref-run-{run_id.hex}-{attempt}"
