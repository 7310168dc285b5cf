"""The live hub of an API process: one Redis subscription, one topic per watched stream, shared by all subscribers.

The journal in Postgres is the truth and a Redis message a wake-up. Once a second the hub compares the last number of
every watched topic with the journal's, in one query; so a lost message costs at most that second, and Redis being
away makes delivery slower, never wrong.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import anyio
import orjson
from anyio.abc import TaskGroup
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from db.bus import CONTROL, RedisBus
from db.unit_of_work import Database
from domain.errors import Unavailable
from domain.events import Event, Stream
from domain.journal import queries
from graph.live.backlog import Backlog
from graph.live.topic import Topic

logger = logging.getLogger("runwire.live")

COMPARE_SECONDS = 1.0
ATTACH_SECONDS = 1.0
"""How long a join waits for Redis; after that the comparison has to do."""
RECONNECT_SECONDS = 0.5

Control = Callable[[dict[str, Any]], Awaitable[None]]


class Hub:
    """Give `run()` a task of its own; `join` a stream to follow it."""

    def __init__(self, database: Database, bus: RedisBus, *, on_control: Control | None = None) -> None:
        self.database = database
        self.bus = bus
        self.on_control = on_control
        self.topics: dict[Stream, Topic] = {}
        self.subscriptions: list[PubSub | None] = [None] * len(bus.clients)
        self._group: TaskGroup | None = None
        self._asking = anyio.Lock()

    async def run(self) -> None:
        """Listen and compare until cancelled."""
        async with anyio.create_task_group() as group:
            self._group = group
            for place in range(len(self.bus.clients)):
                group.start_soon(self._listen, place)
            group.start_soon(self._compare)

    @asynccontextmanager
    async def join(self, stream: Stream, owner_id: UUID) -> AsyncIterator[tuple[Topic, Backlog, int]]:
        """Follow a stream: gives its topic, what waits for this subscriber, and the number it begins after.

        Whatever is committed after that number comes into the backlog, once and in order."""
        topic = self.topics.get(stream)
        if topic is None:
            topic = self.topics[stream] = Topic(stream, owner_id, self.database)
        backlog = Backlog()
        topic.members.add(backlog)
        try:
            if not topic.attached.is_set():
                await self._attach(topic)
            await topic.prime()
            assert topic.head is not None
            # While we waited, the topic may have passed something on already.
            yield topic, backlog, backlog.waiting[0][0].first_seq - 1 if backlog.waiting else topic.head
        finally:
            topic.members.discard(backlog)
            if not topic.members and self.topics.get(stream) is topic:
                del self.topics[stream]
                await self._detach(topic)

    async def _attach(self, topic: Topic) -> None:
        """Have Redis send us the stream, and wait until it does: what is read afterwards leaves no gap before."""
        place = self.bus.place_of(topic.stream.channel)
        subscription = self.subscriptions[place]
        if subscription is None:
            return
        with anyio.move_on_after(ATTACH_SECONDS):
            try:
                async with self._asking:
                    await subscription.subscribe(topic.stream.channel)
                await topic.attached.wait()
            except (RedisError, OSError):
                logger.warning("Redis does not answer; the stream is followed by the journal alone.")

    async def _detach(self, topic: Topic) -> None:
        subscription = self.subscriptions[self.bus.place_of(topic.stream.channel)]
        if subscription is None:
            return
        with anyio.CancelScope(shield=True), anyio.move_on_after(ATTACH_SECONDS):
            try:
                async with self._asking:
                    if topic.stream not in self.topics:  # somebody may have come meanwhile
                        await subscription.unsubscribe(topic.stream.channel)
            except (RedisError, OSError):
                logger.warning("Redis does not answer; it forgets our streams with the connection.")

    async def _listen(self, place: int) -> None:
        """One Redis server's messages, over one connection that is made anew whenever it breaks."""
        while True:
            subscription = self.bus.clients[place].pubsub()
            try:
                await subscription.subscribe(CONTROL, *self._channels(place))
                self.subscriptions[place] = subscription
                self._catch_all_up(place)
                await self._read(subscription)
            except (RedisError, OSError) as error:
                logger.warning("Redis broke off; live delivery goes on from the journal.", extra=_why(error))
            finally:
                self.subscriptions[place] = None
                for topic in self._topics_at(place):
                    topic.attached = anyio.Event()
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    await subscription.aclose()  # type: ignore[no-untyped-call]  # redis leaves it untyped
            await anyio.sleep(RECONNECT_SECONDS)

    async def _read(self, subscription: PubSub) -> None:
        while True:
            message = await subscription.get_message(ignore_subscribe_messages=False, timeout=5)
            if message is None:
                continue
            if message["type"] == "subscribe":
                self._attached(message["channel"].decode())
            elif message["type"] == "message":
                await self._heard(message["channel"].decode(), message["data"])

    def _attached(self, channel: str) -> None:
        if channel != CONTROL:
            topic = self.topics.get(Stream.parse(channel))
            if topic is not None:
                topic.attached.set()

    async def _heard(self, channel: str, data: bytes) -> None:
        """A message nobody can read is dropped: the journal has what it stood for."""
        try:
            payload = orjson.loads(data)
            if channel == CONTROL:
                if self.on_control is not None:
                    await self.on_control(payload)
                return
            topic = self.topics.get(Stream.parse(channel))
            if topic is None:
                return
            whole = "type" in payload
            passed = topic.offer(Event.of_json(payload), len(data)) if whole else False
        except Exception as error:
            logger.warning("A message of the bus was not understood.", extra=_why(error))
            return
        if not passed:
            self._start(topic.try_to_catch_up)

    async def _compare(self) -> None:
        while True:
            await anyio.sleep(COMPARE_SECONDS)
            if not self.topics:
                continue
            try:
                async with self.database.begin() as work:
                    heads = await queries.heads(work.session, [stream.id for stream in self.topics])
            except Unavailable:
                logger.warning("Postgres does not answer; streams are compared again in a second.")
                continue
            except Exception:
                logger.exception("Comparing the streams failed; it is tried again in a second.")
                continue
            for stream, topic in list(self.topics.items()):
                if topic.head is not None and heads.get(stream.id, 0) > topic.head:
                    self._start(topic.try_to_catch_up)

    def _catch_all_up(self, place: int) -> None:
        for topic in self._topics_at(place):
            self._start(topic.try_to_catch_up)

    def _start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        if self._group is not None:
            self._group.start_soon(work)

    def _topics_at(self, place: int) -> list[Topic]:
        return [topic for stream, topic in self.topics.items() if self.bus.place_of(stream.channel) == place]

    def _channels(self, place: int) -> list[str]:
        return [topic.stream.channel for topic in self._topics_at(place)]


def _why(error: Exception) -> dict[str, str]:
    return {"error": type(error).__name__}
