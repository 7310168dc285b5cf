"""Uploads and downloads over real connections: cut, resumed, refused in the middle."""

import asyncio
import contextlib
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import pytest

from db.unit_of_work import Database
from domain.dataset.model import Dataset, DatasetStatus
from domain.training.status import RunStatus
from domain.viewer import Viewer
from graph.dataset.pace import Pace
from graph.server import Server, server_config
from jobs.recipes import fetch
from jobs.recipes.fetch import Download
from tests.factories import make_dataset, make_run, make_user
from tests.graph.dataset.conftest import CONTENT, Room, app_of
from tests.graph.transport.toy import free_socket, until

pytestmark = pytest.mark.anyio

BLOCKS = Pace(check_seconds=0.0, block_bytes=64 * 1024)
"""Megabytes are not sent in a hundred thousand pieces, each with a look at the database."""
LARGE = b"pixel,digit\n" + b"".join(b"%d,%d\n" % (row % 17, row % 10) for row in range(250_000))
SHA256 = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
async def port(room: Room) -> AsyncIterator[int]:
    """Where a real server serves the room."""

    async def drain() -> None:
        return None

    with contextlib.closing(free_socket()) as listening:
        listening.listen()
        app = app_of(room.services, room.store, BLOCKS)
        config = server_config(app, host="127.0.0.1", port=0)
        config.lifespan = "off"
        server = Server(config, drain=drain)
        running = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started)
        yield listening.getsockname()[1]
        server.should_exit = True
        await running


@pytest.fixture
async def viewer(database: Database) -> Viewer:
    return await make_user(database)


@pytest.fixture
async def empty(database: Database, viewer: Viewer) -> Dataset:
    return await make_dataset(database, viewer, status=DatasetStatus.EMPTY)


async def test_a_large_upload_arrives_whole(room: Room, port: int, viewer: Viewer, empty: Dataset) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.put(
            f"http://127.0.0.1:{port}/datasets/{empty.id}/content", content=LARGE, headers=room.bearer(viewer)
        )
    assert (answer.status_code, answer.json()["rowCount"], answer.json()["sha256"]) == (200, 250_000, SHA256)
    assert room.files() == {str(empty.id): LARGE}


async def test_a_refusal_reaches_a_client_that_is_still_sending(
    room: Room, port: int, viewer: Viewer, empty: Dataset
) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.put(
            f"http://127.0.0.1:{port}/datasets/{empty.id}/content", content=LARGE * 5, headers=room.bearer(viewer)
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "UPLOAD_TOO_LARGE")
    await room.assert_untouched(empty)


async def test_an_upload_that_is_cut_leaves_nothing(room: Room, port: int, viewer: Viewer, empty: Dataset) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    head = f"PUT /datasets/{empty.id}/content HTTP/1.1\r\nHost: runwire.test\r\nContent-Length: {2 * len(LARGE)}\r\n"
    writer.write(f"{head}Authorization: {room.bearer(viewer)['Authorization']}\r\n\r\n".encode() + LARGE)
    await writer.drain()
    await until(lambda: any(len(content) >= 1024**2 for content in room.files().values()))
    writer.transport.abort()
    await until(lambda: room.files() == {})
    await room.assert_untouched(empty)
    assert (await room.upload(viewer, empty)).status_code == 200


async def test_a_download_that_is_cut_is_counted_as_far_as_it_came(
    room: Room, port: int, database: Database, viewer: Viewer
) -> None:
    content = LARGE * 12  # more than the buffers on the way hold
    dataset = await room.stored_dataset(viewer, content)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await room.granted(run)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /datasets/download HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    await reader.readexactly(len(content) // 4)
    writer.transport.abort()
    async with asyncio.timeout(10):
        while not (receipts := await room.receipts()) or receipts[0].ended_at is None:  # a row, not an event
            await anyio.sleep(0.01)
    assert not receipts[0].is_complete
    assert 0 < receipts[0].bytes_sent < len(content)


async def test_the_recipes_own_download_resumes_after_each_cut(
    room: Room,
    port: int,
    database: Database,
    viewer: Viewer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The program that trainers run, through a relay that cuts each connection after so many bytes."""
    monkeypatch.setattr(fetch, "FIRST_PAUSE_SECONDS", 0.01)
    dataset = await room.stored_dataset(viewer)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await room.granted(run)
    cuts = [700, 600]

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        outer.write(await reader.readuntil(b"\r\n\r\n"))
        head = await inner.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        answer = head + await inner.readexactly(int(length[1]))
        writer.write(answer[: cuts.pop(0)] if cuts else answer)
        await writer.drain()
        writer.close()
        outer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as between:
        address = f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}/datasets/download"
        target = tmp_path / "content"
        download = Download(address, token, dataset.bytes, dataset.sha256 or "", target)
        await anyio.to_thread.run_sync(download.run)
    assert target.read_bytes() == CONTENT
    starts = [receipt.range_start for receipt in await room.receipts()]
    assert (len(starts), starts[0], starts == sorted(starts)) == (3, 0, True)
    assert starts[1] > 0
