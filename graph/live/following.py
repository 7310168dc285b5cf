"""Following a stream from where somebody left it: what they missed, then what happens, each number once."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import col, select

from domain.account.model import User
from domain.events import Event, Stream, StreamKind
from domain.journal import queries
from domain.journal.cursor import StreamCursor
from domain.training.model import TrainingRun
from domain.training.status import ACTIVE
from domain.training.view import core_of
from graph.live.backlog import TooSlow
from graph.live.connections import CloseCode, CloseSocket
from graph.live.hub import Hub
from graph.live.topic import PAGE, Topic

MOST_ACTIVE_RUNS = 100


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stream as it stands at a number; everything before is in it."""

    seq: int
    epoch: int
    runs: tuple[dict[str, Any], ...]
    """The run; for a feed, the runs that have not ended, newest first, at most 100."""
    missing: tuple[int, int] | None = None
    """From and to of what was asked for and cannot be told any more; None where nothing was asked for."""
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """An event with the epoch that its cursor needs."""

    event: Event
    epoch: int

    @property
    def cursor(self) -> str:
        return str(StreamCursor(self.event.stream, self.epoch, self.event.seq))


async def follow(
    hub: Hub, stream: Stream, owner_id: UUID, after: StreamCursor | None
) -> AsyncGenerator[Snapshot | Told, None]:
    """The stream from the cursor on, or from a snapshot. Ends after a run's final status.

    No database session is held while it waits. Raises `CloseSocket` with 4510 where the reader cannot follow."""
    async with hub.join(stream, owner_id) as (topic, backlog, begins):
        last: int | None = None
        start = await _snapshot(topic)
        if after is not None and after.epoch == start.epoch and after.seq <= start.seq:
            last = after.seq
            async for told in _missed(topic, after.seq, begins, start.epoch):
                if told.event.seq != last + 1:
                    last = None
                    break
                last = told.event.seq
                yield told
                if told.event.is_last:
                    return
        if last is None:
            if after is not None:
                start = await _snapshot(topic)
                missing = (min(after.seq, start.seq) + 1, start.seq) if after.epoch == start.epoch else (1, start.seq)
                start = Snapshot(start.seq, start.epoch, start.runs, missing=missing, is_last=start.is_last)
            yield start
            last = start.seq
        if start.is_last and last >= start.seq:
            return
        while True:
            try:
                event = await backlog.next()
            except TooSlow:
                raise CloseSocket(CloseCode.TOO_SLOW_TO_READ, "Too slow: resume from your cursor.") from None
            if event.seq <= last:
                continue
            if event.first_seq != last + 1:
                if event.first_seq > last + 1:  # cannot be while the topic keeps its promise; the journal has it
                    async for told in _missed(topic, last, event.first_seq - 1, start.epoch):
                        last = told.event.seq
                        yield told
                event = event.merged_from(last + 1)
            last = event.seq
            yield Told(event, start.epoch)
            if event.is_last:
                return


async def _missed(topic: Topic, after: int, until: int, epoch: int) -> AsyncGenerator[Told, None]:
    """Events of the journal, page by page."""
    while after < until:
        events = await topic.read(after, until)
        for event in events:
            after = event.seq
            yield Told(event, epoch)
        if len(events) < PAGE:
            return


async def _snapshot(topic: Topic) -> Snapshot:
    """How the stream stands, and its number, in one reading."""
    async with topic.database.begin(topic.owner) as work:
        epoch = await queries.epoch(work.session)
        if topic.stream.kind is StreamKind.RUN:
            run = (await work.session.exec(select(TrainingRun).where(TrainingRun.id == topic.stream.id))).one()
            return Snapshot(run.seq, epoch, (core_of(run),), is_last=run.status.is_final)
        seq = (await work.session.exec(select(User.feed_seq).where(User.id == topic.stream.id))).one()
        statement = (
            select(TrainingRun)
            .where(TrainingRun.user_id == topic.stream.id, col(TrainingRun.status).in_(sorted(ACTIVE)))
            .order_by(col(TrainingRun.id).desc())
            .limit(MOST_ACTIVE_RUNS)
        )
        runs = (await work.session.exec(statement)).all()
        return Snapshot(seq, epoch, tuple(core_of(run) for run in runs))
