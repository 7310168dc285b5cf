"""What a verb works with: one transaction, and what is to be told and done once it has committed."""

from datetime import datetime
from typing import Protocol

from sqlmodel.ext.asyncio.session import AsyncSession

from domain.commands import Command
from domain.events import Event


class UnitOfWork(Protocol):
    """One transaction. Whoever opened it commits; verbs never do."""

    @property
    def session(self) -> AsyncSession: ...

    @property
    def now(self) -> datetime:
        """The hour that the whole transaction works with."""
        ...

    def publish(self, event: Event) -> None:
        """Tell the bus, after the commit. A lost message is found again in the journal."""
        ...

    def enqueue(self, command: Command) -> None:
        """Ring the workers, after the commit. A lost command is derived again from rows."""
        ...


class Bus(Protocol):
    """Carries events between processes; may lose them."""

    async def publish(self, events: list[Event]) -> None: ...


class Queue(Protocol):
    """Carries commands to workers; may lose them."""

    async def enqueue(self, commands: list[Command]) -> None: ...
