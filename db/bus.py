"""The bus: Redis pub/sub, which carries events to every API process, at once and without a promise."""

import logging
import zlib
from collections.abc import Sequence
from uuid import UUID

import anyio
import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.redis import Patience, redis_of
from domain.events import Event

logger = logging.getLogger("runwire.db")

CONTROL = "control"
"""The channel of revocations: `{"credential": "<uuid>"}`."""
LARGEST_PAYLOAD = 32 * 1024
"""Bytes; an event over this travels as its number only, and readers fetch it from the journal."""
PUBLISH_SECONDS = 1


def payload_of(event: Event) -> bytes:
    """The event as JSON, or only its number where it is large."""
    payload = orjson.dumps(event.as_json())
    if len(payload) > LARGEST_PAYLOAD:
        return orjson.dumps({"v": 1, "stream": str(event.stream), "seq": event.seq})
    return payload


class RedisBus:
    """Publishes to one of several Redis servers, chosen by the hash of the stream."""

    def __init__(self, urls: Sequence[str]) -> None:
        self.urls = tuple(urls)
        self.clients: tuple[Redis, ...] = tuple(redis_of(url) for url in self.urls)
        self._patience = tuple(Patience() for _ in self.urls)

    def place_of(self, channel: str) -> int:
        """Which of the servers carries this channel; readers ask too."""
        return zlib.crc32(channel.encode()) % len(self.clients)

    async def publish(self, events: list[Event]) -> None:
        """Send all events, in order, in one round trip per server."""
        by_place: dict[int, list[Event]] = {}
        for event in events:
            by_place.setdefault(self.place_of(event.stream.channel), []).append(event)
        failure: Exception | None = None
        for place, ours in by_place.items():
            pipeline = self.clients[place].pipeline(transaction=False)
            for event in ours:
                pipeline.publish(event.stream.channel, payload_of(event))
            try:
                with self._patience[place].within(PUBLISH_SECONDS):
                    await pipeline.execute()
            except Exception as error:  # the other servers get theirs all the same
                failure = error
        if failure is not None:
            raise failure

    async def revoke(self, credential_id: UUID) -> None:
        """Tell all API processes that a credential ended. They also compare with the database, every few seconds."""
        message = orjson.dumps({"credential": str(credential_id)})
        try:
            with anyio.fail_after(PUBLISH_SECONDS):
                await self.clients[0].publish(CONTROL, message)
        except (RedisError, OSError) as error:  # TimeoutError is an OSError
            logger.warning(
                "A revocation was not told; it is found by comparing.", extra={"error": type(error).__name__}
            )

    async def ping(self) -> bool:
        """Whether every server of the bus answers."""
        with anyio.move_on_after(PUBLISH_SECONDS):
            for client in self.clients:
                await client.ping()
            return True
        return False

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
