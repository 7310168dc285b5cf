"""What is asked of the journal."""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from domain.events import Event, Stream, StreamKind
from domain.journal.model import FeedEvent, JournalEpoch, RunEvent
from domain.sql import plain


async def epoch(session: AsyncSession) -> int:
    """The journal's epoch: another one after a backup was restored."""
    return (await session.exec(select(JournalEpoch.epoch))).one()


async def heads(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, int]:
    """The newest number of each of these runs and users, whoever owns them; numbers only."""
    rows = await plain(session, "SELECT id, seq FROM journal_heads(:ids)", ids=list(ids))
    return {row.id: row.seq for row in rows}


async def events_after(
    session: AsyncSession, stream: Stream, seq: int, *, until: int | None = None, limit: int = 500
) -> list[Event]:
    """The stream's events after this number, in order, as its owner sees them."""
    table: type[RunEvent] | type[FeedEvent] = RunEvent if stream.kind is StreamKind.RUN else FeedEvent
    owner = col(RunEvent.run_id) if table is RunEvent else col(FeedEvent.user_id)
    statement = select(table).where(owner == stream.id, col(table.seq) > seq).order_by(col(table.seq)).limit(limit)
    if until is not None:
        statement = statement.where(col(table.seq) <= until)
    return [row.as_event() for row in (await session.exec(statement)).all()]
