"""`GET /datasets/download`: a grant opens one dataset to one run, in any parts; all else looks alike."""

import asyncio
import base64
import hashlib
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest

from db.unit_of_work import Database
from domain.clock import FixedClock
from domain.dataset import service
from domain.dataset.model import Dataset
from domain.events import time_text
from domain.training.model import TrainingRun
from domain.training.status import RunStatus
from domain.viewer import Viewer
from tests.factories import make_run, make_user
from tests.fakes import Told
from tests.graph.dataset.conftest import CONTENT, SHA256, Room

pytestmark = pytest.mark.anyio

ETAG = f'"{SHA256}"'
SIZE = len(CONTENT)


@dataclass
class Granted:
    """A run that may fetch its dataset."""

    viewer: Viewer
    dataset: Dataset
    run: TrainingRun
    token: str


@pytest.fixture
async def granted(room: Room, database: Database, told: Told) -> Granted:
    viewer = await make_user(database)
    dataset = await room.stored_dataset(viewer)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await room.granted(run)
    told.forget()
    return Granted(viewer, dataset, run, token)


async def fetch(room: Room, token: str, method: str = "GET", path: str = "", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with room.client() as client:
        return await client.request(
            method, f"/datasets/download{path}", headers={"Authorization": f"Bearer {token}", **named}
        )


async def test_a_grant_opens_the_whole_file(room: Room, granted: Granted, told: Told, clock: FixedClock) -> None:
    answer = await fetch(room, granted.token)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    headers = {name: answer.headers[name] for name in answer.headers if name != "x-request-id"}
    assert headers == {
        "content-type": "application/octet-stream",
        "content-length": str(SIZE),
        "content-disposition": "attachment; filename=\"digits.csv\"; filename*=UTF-8''digits.csv",
        "accept-ranges": "bytes",
        "etag": ETAG,
        "repr-digest": f"sha-256=:{base64.b64encode(hashlib.sha256(CONTENT).digest()).decode()}:",
        "cache-control": "no-store",
        "referrer-policy": "no-referrer",
        "x-content-type-options": "nosniff",
    }
    [receipt] = await room.receipts()
    assert (receipt.range_start, receipt.bytes_sent, receipt.is_complete) == (0, SIZE, True)
    assert (receipt.run_id, receipt.sha256, receipt.ended_at) == (granted.run.id, SHA256, clock.now())
    [grant] = await room.grants()
    assert (grant.used_at, grant.download_count, grant.bytes_sent) == (clock.now(), 1, SIZE)
    assert told.types() == ["run.dataset_downloaded", "run.dataset_downloaded"]


async def test_the_token_may_stand_in_the_address(room: Room, granted: Granted) -> None:
    async with room.client() as client:
        answer = await client.get("/datasets/download", params={"token": granted.token})
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_a_cut_download_is_resumed(room: Room, granted: Granted, told: Told) -> None:
    first = await fetch(room, granted.token, Range="bytes=0-299")
    rest = await fetch(room, granted.token, Range="bytes=300-", If_Range=first.headers["etag"])
    assert (first.status_code, first.headers["content-range"]) == (206, f"bytes 0-299/{SIZE}")
    assert (rest.status_code, rest.headers["content-range"]) == (206, f"bytes 300-{SIZE - 1}/{SIZE}")
    assert first.content + rest.content == CONTENT
    assert [(r.range_start, r.bytes_sent) for r in await room.receipts()] == [(0, 300), (300, SIZE - 300)]
    assert told.types() == ["run.dataset_downloaded", "run.dataset_downloaded"]


async def test_an_old_part_is_not_joined_with_a_new_file(room: Room, granted: Granted) -> None:
    answer = await fetch(room, granted.token, Range="bytes=300-", If_Range='"another"')
    assert (answer.status_code, answer.content) == (200, CONTENT)


async def test_a_range_behind_the_end_counts_nothing(room: Room, granted: Granted) -> None:
    answer = await fetch(room, granted.token, Range=f"bytes={SIZE}-")
    assert (answer.status_code, answer.headers["content-range"], answer.content) == (416, f"bytes */{SIZE}", b"")
    assert answer.headers["cache-control"] == "no-store"
    assert await room.receipts() == []


async def test_head_tells_without_counting(room: Room, granted: Granted) -> None:
    answer = await fetch(room, granted.token, "HEAD", Range="bytes=5-9")
    assert (answer.status_code, answer.headers["content-length"], answer.headers["etag"]) == (200, str(SIZE), ETAG)
    assert answer.content == b""
    assert (await room.receipts(), (await room.grants())[0].used_at) == ([], None)


async def test_downloads_at_once_are_counted_right(room: Room, granted: Granted, told: Told) -> None:
    answers: list[httpx2.Response] = []

    async def one() -> None:
        answers.append(await fetch(room, granted.token))

    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(one)
    assert [answer.content == CONTENT for answer in answers] == [True] * 8
    [grant] = await room.grants()
    assert (grant.download_count, grant.bytes_sent) == (8, 8 * SIZE)
    assert told.types() == ["run.dataset_downloaded", "run.dataset_downloaded"]


async def end(room: Room, granted: Granted, clock: FixedClock, why: str) -> str:
    """Make the grant worthless in this way; the token to come with."""
    async with room.worker.begin() as work:
        run = await work.session.get(TrainingRun, granted.run.id)
        dataset = await work.session.get(Dataset, granted.dataset.id)
        assert run is not None and dataset is not None
        match why:
            case "expired":
                clock.at += timedelta(hours=2)
            case "revoked":
                await service.revoke_grants(work, run.id)
            case "canceling":
                run.status = RunStatus.CANCELING
            case "ended":
                run.status = RunStatus.CANCELED
            case "old attempt":
                run.attempt = 2
            case "deleted":
                dataset.deleted_at = work.now
            case "file gone":
                room.store.remove(dataset.id)
            case "file changed":
                (room.store.folder / str(dataset.id)).write_bytes(CONTENT + b"x")
            case "link":
                outside = room.store.folder.parent / "outside"
                outside.write_bytes(CONTENT)
                room.store.remove(dataset.id)
                (room.store.folder / str(dataset.id)).symlink_to(outside)
            case "unknown":
                return "rwg_" + "x" * 43
            case "short":
                return granted.token[:-1]
            case "other kind":
                return "rwk_" + granted.token[4:]
            case "access token":
                return room.bearer(granted.viewer)["Authorization"].removeprefix("Bearer ")
            case "path":
                return "../../etc/passwd"
    return granted.token


GONE = [
    "expired", "revoked", "canceling", "ended", "old attempt", "deleted", "file gone", "file changed", "link",
    "unknown", "short", "other kind", "access token", "path",
]  # fmt: skip


@pytest.mark.parametrize("why", GONE)
async def test_all_refusals_look_alike(room: Room, granted: Granted, clock: FixedClock, told: Told, why: str) -> None:
    token = await end(room, granted, clock, why)
    async with room.client() as client:
        answers = [
            await fetch(room, token),
            await fetch(room, token, Range="bytes=0-9"),
            await client.get("/datasets/download", params={"token": token}),
        ]
    for answer in answers:
        assert answer.status_code == 404
        assert answer.json() == {
            "code": "DOWNLOAD_NOT_FOUND",
            "message": "This token opens nothing: it is unknown, or its time or its run has ended.",
            "field": None,
            "retryAfterSeconds": None,
            "params": {"what": "Download"},
        }
        assert sorted(set(answer.headers) - {"x-request-id"}) == [
            "cache-control", "content-length", "content-type", "referrer-policy", "x-content-type-options",
        ]  # fmt: skip
        assert answer.headers["cache-control"] == "no-store"
    assert (await fetch(room, token, "HEAD")).status_code == 404
    assert (await room.receipts(), told.events) == ([], [])
    assert [(grant.used_at, grant.download_count) for grant in await room.grants()] == [(None, 0)]


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"Authorization": "Basic {token}"}, ""),
        ({"Authorization": "Bearer "}, ""),
        ({"Authorization": "Bearer nonsense"}, "?token={token}"),
        ({}, "?token={token}&token={token}"),
        ({}, "?access_token={token}"),
        ({}, "?token={token}%00"),
    ],
)
async def test_a_token_is_shown_once_and_plainly(
    room: Room, granted: Granted, headers: dict[str, str], query: str
) -> None:
    async with room.client() as client:
        answer = await client.get(
            "/datasets/download" + query.format(token=granted.token),
            headers={name: value.format(token=granted.token) for name, value in headers.items()},
        )
    assert (answer.status_code, answer.json()["code"]) == (404, "DOWNLOAD_NOT_FOUND")


async def test_no_log_line_holds_the_token(
    room: Room, granted: Granted, clock: FixedClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with room.client() as client:
            await client.get("/datasets/download", params={"token": granted.token})
            await client.post("/datasets/download/renewal", headers={"Authorization": f"Bearer {granted.token}"})
            await end(room, granted, clock, "file gone")
            await client.get("/datasets/download", params={"token": granted.token})
    ours = [record for record in caplog.records if record.name.startswith("runwire")]
    assert len(ours) >= 4
    assert not any(granted.token[4:] in str(vars(record)) for record in ours)


@dataclass
class Line:
    """A connection in slow motion: `send` gives each message away and goes on when it is told to."""

    messages: list[Any] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)
        if message["type"] == "http.response.body":
            self.arrived.set()
            await self.go_on.wait()

    def start(self, room: Room, token: str) -> "asyncio.Task[None]":
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/datasets/download", "raw_path": b"/datasets/download", "query_string": b"", "root_path": "",
            "headers": [(b"authorization", b"Bearer " + token.encode())], "client": None, "server": None,
        }  # fmt: skip
        return asyncio.create_task(room.app(scope, self.receive, self.send))

    @property
    def sent(self) -> int:
        return sum(len(message.get("body", b"")) for message in self.messages)


async def test_a_client_that_cuts_gets_a_receipt_of_what_was_sent(
    room: Room, granted: Granted, told: Told, database: Database
) -> None:
    line = Line()
    answer = line.start(room, granted.token)
    await line.arrived.wait()
    assert database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]  # of the pool that engines have
    [receipt] = await room.receipts()
    assert (receipt.ended_at, (await room.grants())[0].download_count) == (None, 1)
    line.gone.set()
    await asyncio.sleep(0)
    line.go_on.set()
    await answer
    [receipt] = await room.receipts()
    assert (receipt.bytes_sent, receipt.is_complete, receipt.ended_at is None) == (100, False, False)
    assert line.sent == 100
    assert told.events == []


async def test_a_download_ends_soon_after_its_grant_is_revoked(room: Room, granted: Granted, told: Told) -> None:
    line = Line()
    answer = line.start(room, granted.token)
    await line.arrived.wait()
    async with room.worker.begin() as work:
        await service.revoke_grants(work, granted.run.id)
    line.go_on.set()
    await answer
    assert line.sent == 100
    [receipt] = await room.receipts()
    assert (receipt.bytes_sent, receipt.is_complete) == (100, False)
    assert told.events == []


async def test_a_process_that_stops_writes_the_receipt(room: Room, granted: Granted) -> None:
    line = Line()
    answer = line.start(room, granted.token)
    await line.arrived.wait()
    answer.cancel()
    with pytest.raises(asyncio.CancelledError):
        await answer
    [receipt] = await room.receipts()
    assert (receipt.is_complete, receipt.ended_at is None) == (False, False)


async def renew(room: Room, token: str) -> httpx2.Response:
    return await fetch(room, token, "POST", "/renewal")


async def test_a_trainer_renews_its_grant(room: Room, granted: Granted, clock: FixedClock) -> None:
    clock.at += timedelta(hours=3)
    assert (await fetch(room, granted.token)).status_code == 404
    answer = await renew(room, granted.token)
    assert (answer.status_code, answer.json()) == (200, {"expiresAt": time_text(clock.now() + timedelta(hours=2))})
    assert answer.headers["cache-control"] == "no-store"
    assert (await fetch(room, granted.token)).content == CONTENT


@pytest.mark.parametrize("why", ["revoked", "canceling", "ended", "old attempt", "unknown", "short", "access token"])
async def test_what_is_over_is_not_renewed(room: Room, granted: Granted, clock: FixedClock, why: str) -> None:
    before = (await room.grants())[0].expires_at
    answer = await renew(room, await end(room, granted, clock, why))
    assert (answer.status_code, answer.json()["code"]) == (404, "DOWNLOAD_NOT_FOUND")
    assert (await room.grants())[0].expires_at == before


async def test_renewal_takes_no_token_from_the_address(room: Room, granted: Granted) -> None:
    async with room.client() as client:
        answer = await client.post("/datasets/download/renewal", params={"token": granted.token})
    assert answer.status_code == 404
