"""Operations over server-sent events: `graphql-sse` in its mode of distinct connections.

Each event is `event: next` with a GraphQL response, and `event: complete` says that nothing more comes. A comment goes
out at each heartbeat. A stream that the server has to end early says why: `event: refused` when the credential was
revoked or has expired, `event: slow` when the reader could not follow. At a restart it just ends: readers take an end
without `complete` for a cut, and come back.

https://github.com/enisdenjo/graphql-sse/blob/master/PROTOCOL.md
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing
from typing import Any, TypeAlias

import orjson

from graph.live.connections import CloseCode, CloseSocket, Connection
from graph.operations import Answer
from graph.transport import TransportSettings

logger = logging.getLogger("runwire.graph")

Message: TypeAlias = MutableMapping[str, Any]
EventIdOf: TypeAlias = Callable[[dict[str, Any]], str | None]

MEDIA_TYPE = "text/event-stream"
HEARTBEAT = b":\n\n"
COMPLETE = b"event: complete\ndata:\n\n"
_ENDINGS: dict[int, str] = {CloseCode.REFUSED: "refused", CloseCode.TOO_SLOW_TO_READ: "slow", CloseCode.BUSY: "busy"}


def find_cursor(payload: dict[str, Any]) -> str | None:
    """The `cursor` of the payload's only root field: what a reader resumes from, and so the event's id."""
    data = payload.get("data")
    if not isinstance(data, dict) or len(data) != 1:
        return None
    event = next(iter(data.values()))
    cursor = event.get("cursor") if isinstance(event, dict) else None
    return cursor if isinstance(cursor, str) else None


class EventStream:
    """One response body. Its owner task waits for the end; a writer, a heartbeat and a watch on the client live in its
    group and never outlive it."""

    heartbeat: bytes = HEARTBEAT
    """What goes out at each interval."""
    complete: bytes = COMPLETE

    def __init__(
        self,
        connection: Connection,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
        *,
        settings: TransportSettings,
        event_id_of: EventIdOf,
    ) -> None:
        self.connection = connection
        self.receive = receive
        self.transport_send = send
        self.settings = settings
        self.event_id_of = event_id_of
        self.writing = asyncio.Lock()

    async def run(self, answers: AsyncGenerator[Answer, None], headers: list[tuple[bytes, bytes]]) -> None:
        """Answer with all that `answers` yields. Returns after its clean-up, whoever ended the stream."""
        started = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"x-accel-buffering", b"no"), *headers]
        await self.transport_send({"type": "http.response.start", "status": 200, "headers": started})
        await self._send(HEARTBEAT)  # makes proxies pass the headers on before there is an event
        async with asyncio.TaskGroup() as group:
            helpers = [
                group.create_task(self._write(answers)),
                group.create_task(self._beat()),
                group.create_task(self._watch_client()),
            ]
            ending = await self.connection.ended()
            for helper in helpers:
                helper.cancel()
            if ending.code is not None:
                await self._finish(ending.code, ending.reason)

    async def _write(self, answers: AsyncGenerator[Answer, None]) -> None:
        try:
            async with aclosing(answers):
                async for answer in answers:
                    await self._send(self._event(answer.payload))
                    # Neither a source with a backlog nor a transport with room gives way to others by itself.
                    await asyncio.sleep(0)
            await self._send(self.complete)
            self.connection.close(CloseCode.NORMAL)
        except CloseSocket as wish:
            self.connection.close(wish.close_code, wish.close_reason)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.settings.heartbeat_seconds)
            if not self.writing.locked():
                await self._send(self.heartbeat)

    async def _watch_client(self) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.connection.close(None)

    def _event(self, payload: dict[str, Any]) -> bytes:
        event = b"event: next\ndata: " + orjson.dumps(payload) + b"\n\n"
        id = self.event_id_of(payload)
        if id is None or any(character in id for character in "\r\n\0"):
            return event
        return b"id: " + id.encode() + b"\n" + event

    async def _send(self, chunk: bytes) -> None:
        async with self.writing:
            if self.connection.ending is not None:
                return
            try:
                async with asyncio.timeout(self.settings.send_seconds):
                    await self.transport_send({"type": "http.response.body", "body": chunk, "more_body": True})
            except TimeoutError:
                self.connection.close(None)
            except OSError:
                self.connection.close(None)

    async def _finish(self, code: int, reason: str) -> None:
        name = _ENDINGS.get(code)
        last = b""
        if name is not None:
            last = b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"code": int(code), "reason": reason}))
        try:
            async with asyncio.timeout(self.settings.close_seconds):
                await self.transport_send({"type": "http.response.body", "body": last, "more_body": False})
        except (OSError, TimeoutError):
            logger.debug("A stream was gone before it could be ended")
