"""Following streams over the real database and the real Redis: each number once, in order, whatever gets lost."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any
from uuid import UUID

import anyio
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlmodel import col

from db.bus import RedisBus
from db.unit_of_work import Database
from domain.events import Stream, StreamKind
from domain.journal.cursor import StreamCursor
from domain.journal.model import JournalEpoch, RunEvent
from domain.training import service
from domain.training.model import TrainingRun
from domain.training.report import LogChunk, LogText, Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStatus
from domain.viewer import Viewer
from graph.live.connections import CloseSocket
from graph.live.following import Snapshot, Told, follow
from graph.live.hub import Hub
from tests.factories import make_run, make_user

pytestmark = pytest.mark.anyio

SOON_SECONDS = 5


class Story:
    """A run that things happen to, told over the real bus or not at all."""

    def __init__(self, database: Database, run: TrainingRun) -> None:
        self.database = database
        self.run = run
        self.told = 0

    @property
    def stream(self) -> Stream:
        return Stream(StreamKind.RUN, self.run.id)

    async def write(self, count: int = 1) -> None:
        """One log event each."""
        for _ in range(count):
            line = LogText(f"line {self.told}", self.database.clock.now())
            await self._record(log=LogChunk(self.told, self.told + 1, (line,)))
            self.told += 1

    async def end(self) -> None:
        await self._record(outcome=Outcome(EndReason.CODE_ERROR, "enough"))

    async def _record(self, **said: Any) -> None:
        report = Report(source=ReportSource.POLL, attempt=1, at=self.database.clock.now(), **said)
        async with self.database.begin() as work:
            await service.record(work, self.run.id, report)

    def cursor(self, seq: int, epoch: int = 1) -> StreamCursor:
        return StreamCursor(self.stream, epoch, seq)


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database, email="ada@example.com")


@pytest.fixture
async def story(database: Database, worker_database: Database, bus: RedisBus, ada: Viewer) -> Story:
    run = await make_run(database, ada, status=RunStatus.TRAINING, progress=10.0, announced_progress=10.0)
    return Story(Database(worker_database.engine, bus=bus, clock=worker_database.clock), run)


@asynccontextmanager
async def running(database: Database, bus: RedisBus) -> AsyncIterator[Hub]:
    hub = Hub(database, bus)
    async with anyio.create_task_group() as group:
        group.start_soon(hub.run)
        while any(subscription is None for subscription in hub.subscriptions):
            await anyio.sleep(0.01)
        yield hub
        group.cancel_scope.cancel()


@pytest.fixture
async def hub(database: Database, bus: RedisBus) -> AsyncIterator[Hub]:
    async with running(database, bus) as hub:
        yield hub


async def collect(hub: Hub, story: Story, after: StreamCursor | None, into: list[Snapshot | Told]) -> None:
    """Follow to the end."""
    assert story.run.user_id is not None
    async with aclosing(follow(hub, story.stream, story.run.user_id, after)) as messages:
        async for message in messages:
            into.append(message)


def seqs(messages: list[Snapshot | Told]) -> list[int]:
    return [message.event.seq if isinstance(message, Told) else message.seq for message in messages]


async def until(condition: Any) -> None:
    with anyio.fail_after(SOON_SECONDS):
        while not condition():
            await anyio.sleep(0.01)


async def test_a_snapshot_then_each_event_then_the_end(hub: Hub, story: Story) -> None:
    await story.write(2)
    got: list[Snapshot | Told] = []
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(collect, hub, story, None, got)
            await until(lambda: got)
            await story.write(3)
            await story.end()
    assert isinstance(got[0], Snapshot) and got[0].missing is None
    assert seqs(got) == [2, 3, 4, 5, 6]
    assert isinstance(got[-1], Told) and got[-1].event.is_last
    assert hub.topics == {}


async def test_a_cursor_gives_what_was_missed_and_goes_on(hub: Hub, story: Story) -> None:
    await story.write(5)
    got: list[Snapshot | Told] = []
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(collect, hub, story, story.cursor(2), got)
            await until(lambda: len(got) == 3)
            await story.end()
    assert seqs(got) == [3, 4, 5, 6]


async def test_the_seam_between_journal_and_bus_has_no_hole_and_no_double(hub: Hub, story: Story) -> None:
    """Readers who come at every instant of a burst, from every place in it."""
    readers: list[tuple[int, list[Snapshot | Told]]] = []
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            for number in range(40):
                await story.write()
                got: list[Snapshot | Told] = []
                after = (number * 7) % (number + 1)
                readers.append((after, got))
                group.start_soon(collect, hub, story, story.cursor(after), got)
            await story.end()
    for after, got in readers:
        assert seqs(got) == list(range(after + 1, 42))


async def test_who_waits_holds_no_database_connection(hub: Hub, story: Story, database: Database) -> None:
    readers: list[list[Snapshot | Told]] = [[] for _ in range(60)]
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as group:
            for got in readers:
                group.start_soon(collect, hub, story, None, got)
            await until(lambda: all(readers))
            await until(lambda: database.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]  # a QueuePool's
            await story.end()


async def test_subscribers_of_a_run_share_one_topic_and_one_reading_of_the_bus(hub: Hub, story: Story) -> None:
    readers: list[list[Snapshot | Told]] = [[] for _ in range(20)]
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as group:
            for got in readers:
                group.start_soon(collect, hub, story, None, got)
            await until(lambda: all(readers))
            assert len(hub.topics) == 1
            await story.write(3)
            await story.end()
    assert all(seqs(got) == seqs(readers[0]) for got in readers)


async def test_a_lost_message_is_found_within_two_seconds(hub: Hub, story: Story, worker_database: Database) -> None:
    mute = Story(worker_database, story.run)
    got: list[Snapshot | Told] = []
    async with anyio.create_task_group() as group:
        group.start_soon(collect, hub, story, None, got)
        await until(lambda: got)
        await mute.write(3)
        with anyio.fail_after(2):
            while len(got) < 4:
                await anyio.sleep(0.01)
        await mute.end()
    assert seqs(got) == [0, 1, 2, 3, 4]


async def test_messages_doubled_reordered_or_unreadable_change_nothing(hub: Hub, story: Story, redis: Redis) -> None:
    got: list[Snapshot | Told] = []
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(collect, hub, story, None, got)
            await until(lambda: got)
            kept: list[bytes] = []
            async with redis.pubsub() as listener:
                await listener.subscribe(story.stream.channel)
                await story.write(3)
                while len(kept) < 3:
                    message = await listener.get_message(ignore_subscribe_messages=True, timeout=1)
                    if message is not None:
                        kept.append(message["data"])
            for payload in (*reversed(kept), b"garbage", b"{}", b'{"v":1,"seq":9}', *kept):
                await redis.publish(story.stream.channel, payload)
            await story.end()
    assert seqs(got) == [0, 1, 2, 3, 4]


async def test_without_redis_it_is_slower_and_never_wrong(database: Database, story: Story) -> None:
    nowhere = RedisBus(["unix:///nowhere/redis.sock"])
    hub = Hub(database, nowhere)
    got: list[Snapshot | Told] = []
    with anyio.fail_after(10):
        async with anyio.create_task_group() as background:
            background.start_soon(hub.run)
            async with anyio.create_task_group() as group:
                group.start_soon(collect, hub, story, None, got)
                await until(lambda: got)
                await story.write(2)
                await story.end()
            background.cancel_scope.cancel()
    assert seqs(got) == [0, 1, 2, 3]
    await nowhere.close()


async def test_a_finished_run_is_told_and_completes(hub: Hub, story: Story) -> None:
    await story.write(1)
    await story.end()
    whole: list[Snapshot | Told] = []
    rest: list[Snapshot | Told] = []
    nothing: list[Snapshot | Told] = []
    with anyio.fail_after(SOON_SECONDS):
        await collect(hub, story, None, whole)
        await collect(hub, story, story.cursor(1), rest)
        await collect(hub, story, story.cursor(2), nothing)
    assert (seqs(whole), seqs(rest), seqs(nothing)) == ([2], [2], [])


@pytest.mark.parametrize("case", ["epoch", "ahead", "expired"])
async def test_what_cannot_be_told_is_a_gap_with_a_snapshot(
    hub: Hub, story: Story, worker_database: Database, owner_engine: Any, case: str
) -> None:
    await story.write(4)
    after = story.cursor(1)
    missing = (2, 4)
    async with owner_engine.begin() as connection:
        if case == "epoch":
            await connection.execute(sa.update(JournalEpoch).values(epoch=2))
            missing = (1, 4)
        elif case == "expired":
            await connection.execute(sa.delete(RunEvent).where(col(RunEvent.seq) == 2))
    if case == "ahead":
        after = story.cursor(99)
        missing = (5, 4)
    got: list[Snapshot | Told] = []
    with anyio.fail_after(SOON_SECONDS):
        async with anyio.create_task_group() as group:
            group.start_soon(collect, hub, story, after, got)
            await until(lambda: got)
            await story.end()
    assert isinstance(got[0], Snapshot)
    assert got[0].missing == missing
    assert seqs(got) == [4, 5]


async def test_who_reads_too_slowly_is_told_to_resume(hub: Hub, story: Story) -> None:
    stream, owner = story.stream, story.run.user_id
    async with aclosing(follow(hub, stream, owner, None)) as messages:
        await anext(messages)
        (topic,) = hub.topics.values()
        (backlog,) = topic.members
        backlog.overflowed = True
        with pytest.raises(CloseSocket) as closed:
            await anext(messages)
    assert closed.value.close_code == 4510


async def test_a_feed_begins_with_what_goes_on(hub: Hub, story: Story, ada: Viewer) -> None:
    feed = Stream(StreamKind.USER, ada.require())
    async with aclosing(follow(hub, feed, ada.require(), None)) as messages:
        first = await anext(messages)
        assert isinstance(first, Snapshot)
        assert [UUID(core["id"]) for core in first.runs] == [story.run.id]
        await story.end()
        with anyio.fail_after(SOON_SECONDS):
            types = []
            while "model.status_changed" not in types:
                message = await anext(messages)
                assert isinstance(message, Told)
                types.append(message.event.type)
    assert types[0] == "run.status_changed"


async def test_nobody_reads_a_journal_that_is_not_theirs(hub: Hub, database: Database, story: Story) -> None:
    await story.write(2)
    eve = await make_user(database, email="eve@example.com")
    assert eve.user_id is not None
    with pytest.raises(sa.exc.NoResultFound):
        async with aclosing(follow(hub, story.stream, eve.user_id, None)) as messages:
            await anext(messages)
