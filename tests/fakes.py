"""Stand-ins that remember: what the product told the bus and the queue."""

from dataclasses import dataclass, field
from uuid import UUID

from domain.commands import Command
from domain.events import Event


@dataclass
class Told:
    """A bus and a queue in one, that keep what they are given and carry it nowhere."""

    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    revoked: list[UUID] = field(default_factory=list)
    """Credentials that were said to have ended."""

    async def publish(self, events: list[Event]) -> None:
        self.events.extend(events)

    async def enqueue(self, commands: list[Command]) -> None:
        self.commands.extend(commands)

    async def revoke(self, credential_id: UUID) -> None:
        self.revoked.append(credential_id)

    def types(self) -> list[str]:
        """The types of all events, in order."""
        return [event.type for event in self.events]

    def forget(self) -> None:
        """Begin anew, so that a test compares only what it caused itself."""
        self.events.clear()
        self.commands.clear()
        self.revoked.clear()
