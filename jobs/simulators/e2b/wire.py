"""The Connect protocol with JSON, as the agent in a sandbox speaks it: framing, error shapes, and streams that notice
when nobody listens any more."""

import asyncio
import json
import struct
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

STATUSES = {
    "invalid_argument": 400,
    "unauthenticated": 401,
    "permission_denied": 403,
    "not_found": 404,
    "already_exists": 409,
    "failed_precondition": 400,
    "resource_exhausted": 429,
    "canceled": 499,
    "internal": 500,
    "unimplemented": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
END_OF_STREAM = 2


class ConnectFault(Exception):
    """What an RPC answers instead of a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def body(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message}

    def response(self) -> Response:
        return JSONResponse(self.body, STATUSES[self.code])


class StreamBroken(Exception):
    """The stream stops without its end frame: the connection is whole, the protocol is not."""


async def unary_message(request: Request) -> dict[str, Any]:
    """The request's message. Raises `ConnectFault`."""
    kind = _kind_of(request)
    if kind != "application/json":
        raise ConnectFault("invalid_argument", f"unsupported content type {kind!r} for a unary call")
    return _message(await request.body())


async def stream_message(request: Request) -> dict[str, Any]:
    """The one message that opens a server stream. Raises `ConnectFault`."""
    body = await request.body()
    if len(body) < 5:
        raise ConnectFault("invalid_argument", "protocol error: incomplete envelope")
    flags, length = struct.unpack(">BI", body[:5])
    if flags or len(body) != 5 + length:
        raise ConnectFault("invalid_argument", "protocol error: promised another number of bytes in the envelope")
    return _message(body[5:])


def is_stream(request: Request) -> bool:
    return _kind_of(request) == "application/connect+json"


def frame(message: Mapping[str, Any], flags: int = 0) -> bytes:
    body = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(body)) + body


class ConnectStream:
    """A server stream as an ASGI response: ends when its messages do, or as soon as the client has gone."""

    def __init__(self, messages: AsyncGenerator[Mapping[str, Any], None]) -> None:
        self.messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/connect+json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        speaking = asyncio.ensure_future(self._speak(send))
        listening = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({speaking, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (speaking, listening):
                task.cancel()
            await asyncio.wait({speaking, listening})
            await self.messages.aclose()
        if not speaking.cancelled() and (error := speaking.exception()) is not None:
            if isinstance(error, OSError):
                return  # the client went in the middle of a message
            raise error

    async def _speak(self, send: Send) -> None:
        end: dict[str, Any] = {}
        try:
            async for message in self.messages:
                await send({"type": "http.response.body", "body": frame(message), "more_body": True})
        except ConnectFault as fault:
            end = {"error": fault.body}
        except StreamBroken:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        await send({"type": "http.response.body", "body": frame(end, END_OF_STREAM), "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _message(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body or b"{}")
    except ValueError:
        raise ConnectFault("invalid_argument", "unmarshal message: invalid JSON") from None
    if not isinstance(message, dict):
        raise ConnectFault("invalid_argument", "unmarshal message: unexpected token")
    return message


def _kind_of(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()
