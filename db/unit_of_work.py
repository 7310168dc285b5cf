"""The only place that commits: one transaction, then its events, then its commands."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel.ext.asyncio.session import AsyncSession

from db.postgres import told_plainly
from domain.clock import Clock, SystemClock
from domain.commands import Command
from domain.events import Event
from domain.sql import plain
from domain.viewer import Viewer
from domain.work import Bus, Queue

logger = logging.getLogger("runwire.db")

SET_VIEWER = "SELECT set_config('runwire.viewer', :viewer, true)"


class SqlUnitOfWork:
    """One transaction, with what is to be told and done once it has committed."""

    def __init__(self, session: AsyncSession, now: datetime) -> None:
        self.session = session
        self.now = now
        self.events: list[Event] = []
        self.commands: list[Command] = []

    def publish(self, event: Event) -> None:
        self.events.append(event)

    def enqueue(self, command: Command) -> None:
        if command not in self.commands:
            self.commands.append(command)


class Database:
    """Opens units of work in one role. Bus and queue may be missing where nothing is told, as in migrations."""

    def __init__(
        self, engine: AsyncEngine, *, bus: Bus | None = None, queue: Queue | None = None, clock: Clock | None = None
    ) -> None:
        self.engine = engine
        self.bus = bus
        self.queue = queue
        self.clock = clock or SystemClock()

    @asynccontextmanager
    async def begin(self, viewer: Viewer | None = None) -> AsyncIterator[SqlUnitOfWork]:
        """One transaction as this viewer; without one, row level security shows an API process nothing.

        Commits when the block ends well, and drops rows, events and commands when it raises. Raises `Unavailable`
        where Postgres does not answer."""
        with told_plainly():
            async with AsyncSession(self.engine, expire_on_commit=False, autoflush=True) as session:
                if viewer is not None and viewer.user_id is not None:
                    await plain(session, SET_VIEWER, viewer=str(viewer.user_id))
                work = SqlUnitOfWork(session, self.clock.now())
                yield work
                await session.commit()
        await self._tell(work)

    async def _tell(self, work: SqlUnitOfWork) -> None:
        """Rows are true by now; whatever gets lost here is found again in them."""
        if work.events and self.bus is not None:
            try:
                await self.bus.publish(work.events)
            except Exception as error:
                logger.warning("Events were not published; readers find them in the journal.", extra=_why(error))
        if work.commands and self.queue is not None:
            try:
                await self.queue.enqueue(work.commands)
            except Exception as error:
                logger.warning("Commands were not queued; the sweep derives them from rows.", extra=_why(error))

    async def close(self) -> None:
        await self.engine.dispose()


def _why(error: Exception) -> dict[str, str]:
    return {"error": type(error).__name__}
