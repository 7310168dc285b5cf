"""A request's body as it comes: in blocks, with limits, and an answer that survives the rest of it."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from domain.dataset.errors import BadContentDigest, EncodedUpload, UploadStalled, UploadTooLarge

BLOCK_BYTES = 1024**2
SWALLOW_SECONDS = 1.0
_SHA256 = re.compile(r"\s*sha-256\s*=\s*:([A-Za-z0-9+/=]*):\s*", re.ASCII)


class ClientLeft(Exception):
    """Whoever sent the body is gone; nobody reads an answer."""


class Reader:
    """A request's `receive` that knows whether the body was read to its end."""

    def __init__(self, receive: Receive) -> None:
        self.is_done = False
        self._receive = receive

    async def __call__(self) -> Message:
        message = await self._receive()
        self.is_done = message["type"] != "http.request" or not message.get("more_body", False)
        return message


class Body:
    """The body of one upload.

    Raises `EncodedUpload`, `BadContentDigest` and `UploadTooLarge` for what its headers say already."""

    def __init__(
        self, headers: Headers, receive: Reader, *, limit_bytes: int, idle_seconds: float, slowest: int = 0
    ) -> None:
        """`slowest` is how many bytes a second must come on average, once the first `idle_seconds` are over."""
        self._receive = receive
        self._limit_bytes = limit_bytes
        self._idle_seconds = idle_seconds
        self._slowest = slowest
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise EncodedUpload
        self.sha256 = announced_sha256(headers.getlist("content-digest"))
        """Hex, if it was announced."""
        length = headers.get("content-length", "")
        self.length = int(length[:20]) if length.isascii() and length.isdecimal() else 0
        """Announced bytes; 0 if the length was not."""
        if self.length > limit_bytes:
            raise UploadTooLarge(limit_bytes)

    async def blocks(self) -> AsyncIterator[bytes]:
        """About a megabyte each, the last one less. Raises `UploadTooLarge`, `UploadStalled` and `ClientLeft`."""
        block = bytearray()
        count = 0
        more = True
        loop = asyncio.get_running_loop()
        began = loop.time()
        while more:
            try:
                async with asyncio.timeout(self._idle_seconds):
                    message = await self._receive()
            except TimeoutError:
                raise UploadStalled(self._idle_seconds) from None
            if message["type"] == "http.disconnect":
                raise ClientLeft
            more = message.get("more_body", False)
            piece = message.get("body", b"")
            count += len(piece)
            if count > self._limit_bytes:
                raise UploadTooLarge(self._limit_bytes)
            if more and count < (loop.time() - began - self._idle_seconds) * self._slowest:
                raise UploadStalled(self._idle_seconds)
            block += piece
            if len(block) >= BLOCK_BYTES or (block and not more):
                yield bytes(block)
                block.clear()


class EarlyAnswer:
    """An answer that may come before the body has: the rest is read on for a moment, since closing while the client
    still writes would reset the connection, and the reset would take the answer with it."""

    def __init__(self, response: Response, reader: Reader) -> None:
        self.response = response
        self.reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_early(message: Any) -> None:
            if message["type"] != "http.response.body":
                return await send(message)
            await send({**message, "more_body": True})
            await self._swallow()
            await send({"type": "http.response.body", "body": b""})

        if self.reader.is_done:
            return await self.response(scope, receive, send)
        self.response.headers["Connection"] = "close"
        await self.response(scope, receive, send_early)

    async def _swallow(self) -> None:
        try:
            async with asyncio.timeout(SWALLOW_SECONDS):
                while not self.reader.is_done:
                    await self.reader()
        except TimeoutError:
            return


def announced_sha256(headers: list[str]) -> str | None:
    """The SHA-256 that `Content-Digest` announces, in hex; None without one. Raises `BadContentDigest`.

    Other algorithms beside it are left alone, as RFC 9530 has it."""
    entries = [entry for header in headers for entry in header.split(",")]
    found = [match for entry in entries if (match := _SHA256.fullmatch(entry)) is not None]
    if not found:
        if any(entry.strip().lower().startswith("sha-256") for entry in entries):
            raise BadContentDigest
        return None
    try:
        digest = base64.b64decode(found[0][1], validate=True)
    except binascii.Error:
        raise BadContentDigest from None
    if len(found) > 1 or len(digest) != 32:
        raise BadContentDigest
    return digest.hex()
