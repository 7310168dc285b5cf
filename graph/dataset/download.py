"""Sends a dataset to the run that holds a grant: any part of it, resumable, with a receipt of what was sent.

The database is asked before, at times in between, and after; never while bytes flow.
"""

import asyncio
import base64
import contextlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

import anyio
import anyio.to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from db.storage import DatasetStore, FileMissing
from db.unit_of_work import Database
from domain.dataset import queries, service
from domain.dataset.errors import DownloadNotFound
from domain.dataset.model import Dataset, DownloadGrant
from domain.errors import DomainError
from domain.viewer import Viewer, ViewerKind
from graph.dataset.pace import Pace
from graph.dataset.ranges import Part, Unsatisfiable, disposition_of, part_of

logger = logging.getLogger("runwire.download")

_TOKEN = re.compile(r"rwg_[A-Za-z0-9_-]{43}", re.ASCII)
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)
SAFE_HEADERS = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def token_of(request: Request, *, in_address: bool = True) -> str:
    """The token that was shown, in the header or, where allowed, in the address. Raises `DownloadNotFound`."""
    shown = request.headers.getlist("authorization")
    found = [match[1] for value in shown if (match := _BEARER.fullmatch(value)) is not None]
    if in_address and not shown:
        found = request.query_params.getlist("token")
    if len(found) != 1 or _TOKEN.fullmatch(found[0]) is None:
        raise DownloadNotFound
    return found[0]


@dataclass(frozen=True, slots=True)
class Downloads:
    """Sends datasets for one process."""

    database: Database
    store: DatasetStore
    grant_seconds: int
    pace: Pace

    async def owner_of(self, token: str) -> Viewer:
        """A viewer who sees what the grant's owner does. Raises `DownloadNotFound`."""
        async with self.database.begin() as work:
            found = await queries.find_grant(work.session, token)
        if found is None:
            raise DownloadNotFound
        return Viewer(kind=ViewerKind.POD, user_id=found.user_id, run_id=found.run_id)

    async def renew(self, token: str) -> DownloadGrant:
        """The grant, with a new end. Raises `DownloadNotFound`."""
        async with self.database.begin(await self.owner_of(token)) as work:
            return await service.renew_grant(work, token, seconds=self.grant_seconds)

    async def answer(self, request: Request) -> "Response | Sending":
        """What a GET or HEAD is answered with. Raises `DownloadNotFound`, whatever the reason."""
        token = token_of(request)
        owner = await self.owner_of(token)
        async with self.database.begin(owner) as work:
            dataset = await service.dataset_to_download(work, token)
        headers = _headers_of(dataset)
        try:
            part = part_of(
                request.headers.getlist("range") if request.method == "GET" else [],
                request.headers.get("if-range"),
                etag=headers["ETag"],
                size=dataset.bytes,
            )
        except Unsatisfiable:
            return Response(status_code=416, headers={**SAFE_HEADERS, "Content-Range": f"bytes */{dataset.bytes}"})
        file = await self._open(dataset)
        try:
            headers["Content-Length"] = str(part.length)
            if part.is_partial:
                headers["Content-Range"] = part.content_range(dataset.bytes)
            if request.method == "HEAD":
                file.close()
                return _HeadAnswer(headers)
            async with self.database.begin(owner) as work:
                receipt = await service.start_download(work, token, range_start=part.start)
        except BaseException:
            file.close()
            raise
        return Sending(self.database, owner, receipt.id, file, part, headers, self.pace)

    async def _open(self, dataset: Dataset) -> BinaryIO:
        try:
            file = await anyio.to_thread.run_sync(self.store.open, dataset.id)
        except FileMissing:
            logger.error("A dataset's file is not in the store", extra={"dataset_id": str(dataset.id)})
            raise DownloadNotFound from None
        if await anyio.to_thread.run_sync(file.seek, 0, 2) != dataset.bytes:
            file.close()
            logger.error("A dataset's file has another size than was received", extra={"dataset_id": str(dataset.id)})
            raise DownloadNotFound
        return file


def _headers_of(dataset: Dataset) -> dict[str, str]:
    sha256 = bytes.fromhex(dataset.sha256 or "")
    return {
        **SAFE_HEADERS,
        "Content-Type": "application/octet-stream",
        "Content-Disposition": disposition_of(dataset.name, f".{dataset.format.value.lower()}"),
        "Accept-Ranges": "bytes",
        "ETag": f'"{dataset.sha256}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(sha256).decode()}:",
    }


class _HeadAnswer(Response):
    """The headers of the whole, without it."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=200, headers=dict(headers))


class Sending:
    """One download under way. As an ASGI answer it ends by writing its receipt, also when the client leaves."""

    def __init__(
        self,
        database: Database,
        owner: Viewer,
        receipt_id: UUID,
        file: BinaryIO,
        part: Part,
        headers: Mapping[str, str],
        pace: Pace,
    ) -> None:
        self.database = database
        self.owner = owner
        self.receipt_id = receipt_id
        self.file = file
        self.part = part
        self.headers = headers
        self.pace = pace
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        leaving = asyncio.create_task(_left(receive))
        is_complete = False
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": 206 if self.part.is_partial else 200,
                    "headers": [(key.lower().encode(), value.encode("latin-1")) for key, value in self.headers.items()],
                }
            )
            is_complete = await self._send_part(send, leaving)
        finally:
            leaving.cancel()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.file.close)
                await self._record(is_complete)

    async def _send_part(self, send: Send, leaving: "asyncio.Task[None]") -> bool:
        """Whether all of it was handed over while the client was there."""
        loop = asyncio.get_running_loop()
        check_at = loop.time() + self.pace.check_seconds
        await anyio.to_thread.run_sync(self.file.seek, self.part.start)
        while self.sent < self.part.length and not leaving.done():
            wanted = min(self.pace.block_bytes, self.part.length - self.sent)
            block = await anyio.to_thread.run_sync(self.file.read, wanted)
            if not block:
                logger.error("A dataset's file ended early", extra={"receipt_id": str(self.receipt_id)})
                break
            more = self.sent + len(block) < self.part.length
            try:
                async with asyncio.timeout(self.pace.send_seconds):
                    await send({"type": "http.response.body", "body": block, "more_body": more})
            except (TimeoutError, OSError):
                break
            self.sent += len(block)
            if more and loop.time() >= check_at:
                check_at = loop.time() + self.pace.check_seconds
                if not await self._may_continue():
                    break
        return self.sent == self.part.length and not leaving.done()

    async def _may_continue(self) -> bool:
        try:
            async with self.database.begin(self.owner) as work:
                return await service.continue_download(work, self.receipt_id, bytes_sent=self.sent)
        except DomainError:
            return True  # a database that is away for a moment stops nobody who has begun

    async def _record(self, is_complete: bool) -> None:
        try:
            async with self.database.begin(self.owner) as work:
                await service.record_download(work, self.receipt_id, bytes_sent=self.sent, is_complete=is_complete)
        except DomainError:
            logger.warning("A download's receipt stays open", extra={"receipt_id": str(self.receipt_id)})


async def _left(receive: Receive) -> None:
    """Returns once the client has gone."""
    with contextlib.suppress(OSError):
        while (await receive())["type"] != "http.disconnect":
            pass
