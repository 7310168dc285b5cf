"""What stands before every route: an id for the request, limits of what is read, headers that all answers carry, and
one log line. Pure ASGI, so that streams pass through untouched.

    app = Guards(app, body_limit_of=lambda path: None if path.endswith("/content") else MIB)
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from domain.secret import masked

logger = logging.getLogger("runwire.access")

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]
BodyLimitOf: TypeAlias = Callable[[str], int | None]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}\Z")
_LONGEST_LOGGED_PATH = 500
_SWALLOW_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Limits of a request. Sizes are in bytes, times in seconds."""

    body_bytes: int = 1024 * 1024
    """For paths that no override speaks of."""
    body_seconds: float = 15
    """How long a bounded body may take to arrive, all of it: one byte now and then is no progress."""
    uri_bytes: int = 16 * 1024
    headers: int = 100
    header_bytes: int = 32 * 1024


class Refusal(Exception):
    """A request that no route gets to see, or to see the rest of."""

    def __init__(self, status: int, code: str, message: str) -> None:
        self.status = status
        self.code = code
        super().__init__(message)


class Guards:
    """The outermost app. `body_limit_of` gives a path's own limit, or None where the route streams the body and
    counts for itself."""

    def __init__(
        self, app: App, settings: GuardSettings | None = None, *, body_limit_of: BodyLimitOf | None = None
    ) -> None:
        self.app = app
        self.settings = settings or GuardSettings()
        self.body_limit_of = body_limit_of or (lambda path: self.settings.body_bytes)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        answer = _Answer(scope, receive, send, request_id)
        try:
            self._check_head(scope)
            if scope["type"] == "http":
                receive = self._bounded(scope, receive, answer)
            await self.app(scope, receive, answer.send)
        except Refusal as refusal:
            await answer.refuse(refusal)
        except Exception:
            if not answer.refused:  # what a route makes of a body that was cut off is of no interest
                raise
        finally:
            answer.log()

    def _check_head(self, scope: Any) -> None:
        uri = len(scope.get("raw_path") or scope["path"].encode()) + len(scope.get("query_string", b""))
        if uri > self.settings.uri_bytes:
            raise Refusal(414, "URI_TOO_LONG", f"The address may have at most {self.settings.uri_bytes} bytes.")
        headers = scope["headers"]
        if len(headers) > self.settings.headers:
            raise Refusal(431, "TOO_MANY_HEADERS", f"At most {self.settings.headers} headers are allowed.")
        if sum(len(name) + len(value) for name, value in headers) > self.settings.header_bytes:
            most = self.settings.header_bytes
            raise Refusal(431, "HEADERS_TOO_LARGE", f"The headers may have at most {most} bytes.")

    def _bounded(self, scope: Any, receive: Receive, answer: "_Answer") -> Receive:
        most = self.body_limit_of(scope["path"])
        if most is None:
            return receive
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if any(len(length) > 18 or (length.isdigit() and int(length) > most) for length in lengths):
            raise _too_large(most)
        return _BoundedBody(receive, answer, most, self.settings.body_seconds).receive


class _BoundedBody:
    """A body that is refused when it grows too large or comes too slowly; the route sees its client leave then."""

    def __init__(self, receive: Receive, answer: "_Answer", most: int, seconds: float) -> None:
        self.transport_receive = receive
        self.answer = answer
        self.most = most
        self.seconds = seconds
        self.read = 0
        self.complete = False
        self.until: float | None = None

    async def receive(self) -> Message:
        if self.answer.refused:
            return {"type": "http.disconnect"}
        if self.complete:  # what comes now is the client's leaving, and may take as long as it likes
            return await self.transport_receive()
        loop = asyncio.get_running_loop()
        if self.until is None:
            self.until = loop.time() + self.seconds
        try:
            async with asyncio.timeout_at(self.until):
                message = await self.transport_receive()
        except TimeoutError:
            return await self._refuse(Refusal(408, "BODY_TOO_SLOW", "The body did not arrive in time."))
        self.read += len(message.get("body", b""))
        if self.read > self.most:
            return await self._refuse(_too_large(self.most))
        self.complete = not message.get("more_body", False)
        return message

    async def _refuse(self, refusal: Refusal) -> Message:
        await self.answer.refuse(refusal)
        return {"type": "http.disconnect"}


class _Answer:
    """What goes back, with the headers of every answer, and what the log is told of it."""

    def __init__(self, scope: Any, receive: Receive, send: Send, request_id: str) -> None:
        self.scope = scope
        self.transport_receive = receive
        self.transport_send = send
        self.request_id = request_id
        self.status = 0
        self.refused = False
        self.started_at = time.perf_counter()

    async def send(self, message: Message) -> None:
        """The route's `send`; mute once the request was refused."""
        if not self.refused:
            await self._send(message)

    async def _send(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start" | "websocket.http.response.start":
                self.status = message["status"]
                message = {**message, "headers": self._headers(list(message.get("headers", [])))}
            case "websocket.accept":
                self.status = 101
                added = (b"x-request-id", self.request_id.encode())
                message = {**message, "headers": [*message.get("headers", []), added]}
            case "websocket.close" if self.status == 101:
                self.status = message.get("code", 1000)
        await self.transport_send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer in place of the route, unless it has begun to answer."""
        self.refused = True
        if self.status:
            return
        kind = "http.response" if self.scope["type"] == "http" else "websocket.http.response"
        body = orjson.dumps({"errors": [{"message": str(refusal), "extensions": {"code": refusal.code}}]})
        headers = [
            (b"content-type", b"application/json; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await self._send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
        if self.scope["type"] == "http":
            await self._send({"type": f"{kind}.body", "body": body, "more_body": True})
            await self._swallow()
            body = b""
        await self._send({"type": f"{kind}.body", "body": body})

    async def _swallow(self) -> None:
        """Read on for a moment: closing while the client still writes would reset the connection, and the reset would
        take our answer with it."""
        try:
            async with asyncio.timeout(_SWALLOW_SECONDS):
                more = True
                while more:
                    message = await self.transport_receive()
                    more = message["type"] == "http.request" and message.get("more_body", False)
        except TimeoutError:
            return

    def log(self) -> None:
        path = masked(self.scope["path"])[:_LONGEST_LOGGED_PATH]
        path = "".join(character if character.isprintable() else "?" for character in path)
        client = self.scope.get("client")
        facts = {
            "request_id": self.request_id,
            "kind": self.scope["type"],
            "method": self.scope.get("method", "GET"),
            "path": path,
            "status": self.status,
            "milliseconds": round((time.perf_counter() - self.started_at) * 1000, 1),
            "client": client[0] if client else "",
        }
        logger.info("A request was answered", extra=facts)

    def _headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name.lower() for name, _ in headers}
        own = (
            (b"x-request-id", self.request_id.encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cache-control", b"no-store"),
        )
        return [*headers, *((name, value) for name, value in own if name not in names)]


def _request_id(headers: Any) -> str:
    sent: list[str] = [value.decode("latin-1") for name, value in headers if name == b"x-request-id"]
    if len(sent) == 1 and _REQUEST_ID.match(sent[0]):
        return sent[0]
    return secrets.token_hex(16)


def _too_large(most: int) -> Refusal:
    return Refusal(413, "BODY_TOO_LARGE", f"A request may have at most {most} bytes.")
