"""Tables of the log of everything that happened, numbered without holes."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from domain.base import BIG, JSON_TYPE, TEXT, Owned
from domain.events import Event, Stream, StreamKind


class Numbered(SQLModel):
    """What every event row has beside the stream it belongs to."""

    seq: int = Field(primary_key=True, sa_type=BIG)
    type: str = Field(sa_type=TEXT)
    at: datetime
    attempt: int = 0
    run: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)
    data: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)

    def as_event(self) -> Event:
        """The fact as it travels."""
        raise NotImplementedError


class RunEvent(Numbered, table=True):
    """A numbered fact about a run."""

    __tablename__ = "run_events"
    __table_args__ = (sa.PrimaryKeyConstraint("run_id", "seq"),)

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE", primary_key=True)
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")

    def as_event(self) -> Event:
        return _event(self, Stream(StreamKind.RUN, self.run_id))


class FeedEvent(Numbered, table=True):
    """A numbered fact for everything that a user owns."""

    __tablename__ = "feed_events"
    __table_args__ = (sa.PrimaryKeyConstraint("user_id", "seq"),)

    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE", primary_key=True)

    def as_event(self) -> Event:
        return _event(self, Stream(StreamKind.USER, self.user_id))


class JournalEpoch(SQLModel, table=True):
    """One row: changes when a backup is restored, since numbers may then be given out again."""

    __tablename__ = "journal_epoch"

    id: int = Field(default=1, primary_key=True)
    epoch: int = 1


def _event(row: Numbered, stream: Stream) -> Event:
    return Event(type=row.type, stream=stream, seq=row.seq, at=row.at, attempt=row.attempt, run=row.run, data=row.data)


__all__ = ["FeedEvent", "JournalEpoch", "Owned", "RunEvent"]
