"""A fact as it travels: in the journal, on the bus, to webhooks. The format is the contract's, version 1."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self
from uuid import UUID


class StreamKind(StrEnum):
    """Whose numbers an event counts in."""

    RUN = "run"
    USER = "user"
    CHAT = "chat"


@dataclass(frozen=True, slots=True)
class Stream:
    """A numbered sequence of events: one run's, one user's feed."""

    kind: StreamKind
    id: UUID

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"

    @classmethod
    def parse(cls, text: str) -> Self:
        kind, _, id = text.partition(":")
        return cls(StreamKind(kind), UUID(id))

    @property
    def channel(self) -> str:
        """The Redis channel."""
        return str(self)


def time_text(at: datetime) -> str:
    """RFC 3339 in UTC, with microseconds and a Z."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


@dataclass(frozen=True, slots=True)
class Event:
    """One numbered fact about a run, a feed or a chat."""

    type: str
    stream: Stream
    seq: int
    at: datetime
    attempt: int = 0
    run: dict[str, Any] | None = None
    """Core fields of the run as they are after the event."""
    data: dict[str, Any] = field(default_factory=dict)
    first_seq: int = 0
    """Lower than `seq` only where a slow subscriber's queue merged several events into this one."""

    def __post_init__(self) -> None:
        if not self.first_seq:
            object.__setattr__(self, "first_seq", self.seq)

    def merged_from(self, first_seq: int) -> "Event":
        """This event, standing for all from that number on."""
        return replace(self, first_seq=first_seq)

    @property
    def is_last(self) -> bool:
        """Whether the stream ends with this event: the run's final status."""
        return self.stream.kind is StreamKind.RUN and self.type == "run.status_changed" and bool(self.data.get("final"))

    def as_json(self) -> dict[str, Any]:
        """The event as the bus and the journal carry it; the cursor is added where it leaves the product."""
        return {
            "v": 1,
            "type": self.type,
            "stream": str(self.stream),
            "seq": self.seq,
            "firstSeq": self.first_seq,
            "at": time_text(self.at),
            "attempt": self.attempt,
            "run": self.run,
            "data": self.data,
        }

    @classmethod
    def of_json(cls, payload: dict[str, Any]) -> Self:
        return cls(
            type=payload["type"],
            stream=Stream.parse(payload["stream"]),
            seq=payload["seq"],
            first_seq=payload["firstSeq"],
            at=time_of(payload["at"]),
            attempt=payload["attempt"],
            run=payload["run"],
            data=payload["data"],
        )
