"""Clients that keep everything they are answered: HTTP with its headers, sockets frame by frame."""

import contextlib
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

_OPERATION = re.compile(rb"\b(?:mutation|query|subscription)\s+(\w+)")
_LONG = re.compile(r"[^/?&=]{20,}")
_TITLE: ContextVar[str] = ContextVar("title", default="")
NAME = "recorded_as"
"""The extension of a response that holds the name of the kept answer."""
SOCKET = Subprotocol("graphql-transport-ws")


@dataclass
class Answer:
    """One answer, or one socket's frames."""

    name: str
    content: bytearray = field(default_factory=bytearray)


@dataclass
class Recording:
    """Everything that was heard, in order."""

    answers: list[Answer] = field(default_factory=list)
    frames: int = 0
    """How many frames came over sockets."""

    @contextmanager
    def titled(self, title: str) -> Iterator[None]:
        """Name what is asked meanwhile by whoever calls this."""
        before = _TITLE.set(title)
        try:
            yield
        finally:
            _TITLE.reset(before)

    def begin(self, what: str) -> Answer:
        answer = Answer(f"answer {len(self.answers) + 1} ({_TITLE.get() or what})")
        self.answers.append(answer)
        return answer

    def parts(self) -> list[tuple[str, bytes]]:
        return [(answer.name, bytes(answer.content)) for answer in self.answers]


class RecordingTransport(httpx2.AsyncBaseTransport):
    """Carries requests, and keeps the answers as they are read."""

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.inner = httpx2.AsyncHTTPTransport(trust_env=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.headers["accept-encoding"] = "identity"
        answer = self.recording.begin(_name_of(request))
        response = await self.inner.handle_async_request(request)
        head = [f"{name}: {value}" for name, value in response.headers.multi_items()]
        answer.content += "\n".join([str(response.status_code), *head, "", ""]).encode()
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Kept(response.stream, answer)
        response.extensions[NAME] = answer.name
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


class _Kept(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, answer: Answer) -> None:
        self.inner = inner
        self.answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.inner:
            self.answer.content += chunk
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()


def _name_of(request: httpx2.Request) -> str:
    """The operation's name, else method and path without anything that could be a token."""
    with contextlib.suppress(httpx2.RequestNotRead):
        found = _OPERATION.search(request.content)
        if found is not None:
            return found[1].decode()
    return f"{request.method} {_LONG.sub('…', request.url.path)}"


async def follow_socket(
    recording: Recording,
    url: str,
    title: str,
    init: dict[str, Any],
    document: str,
    variables: dict[str, Any],
    *,
    limit_seconds: float,
) -> None:
    """Subscribe over a socket and keep every frame, and its close, until the stream completes or the limit."""
    with recording.titled(title):
        answer = recording.begin(title)
    address = "ws" + url.removeprefix("http") + "/graphql"
    try:
        with anyio.move_on_after(limit_seconds):
            async with connect(
                address, subprotocols=[SOCKET], ping_interval=None, close_timeout=1, proxy=None
            ) as socket:
                await socket.send(json.dumps({"type": "connection_init", "payload": init}))
                wish = {"query": document, "variables": variables}
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": wish}))
                async for frame in socket:
                    recording.frames += 1
                    answer.content += (frame if isinstance(frame, bytes) else frame.encode()) + b"\n"
                    if json.loads(frame)["type"] in ("complete", "error"):
                        return
                answer.content += f"closed: {socket.close_code} {socket.close_reason}\n".encode()
    except ConnectionClosed as closed:
        answer.content += f"closed: {closed}\n".encode()
    except InvalidStatus as refused:
        answer.content += f"{refused.response.status_code}\n".encode() + (refused.response.body or b"")
    except InvalidHandshake as refused:
        answer.content += f"refused: {refused}\n".encode()


async def follow_events(http: httpx2.AsyncClient, url: str, *, limit_seconds: float, **options: Any) -> None:
    """Read an event stream to its end; what comes is kept by the client's transport."""
    with anyio.move_on_after(limit_seconds):
        async with http.stream("GET", url, **options) as response, aclosing(response.aiter_bytes()) as chunks:
            async for _ in chunks:
                pass
