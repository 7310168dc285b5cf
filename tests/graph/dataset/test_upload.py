"""`PUT /datasets/{id}/content`: kept whole and judged, or refused without a trace."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import anyio
import pytest

from db.unit_of_work import Database
from domain.base import new_id
from domain.dataset.model import Dataset, DatasetFormat, DatasetStatus
from domain.events import time_text
from domain.viewer import Scope, Viewer
from graph.dataset.pace import Pace
from graph.ids import global_id
from tests.factories import make_api_key, make_dataset, make_user
from tests.graph.dataset.conftest import CONTENT, SHA256, Room, app_of

pytestmark = pytest.mark.anyio

LIMIT = 4 * 1024**2


@pytest.fixture
async def viewer(database: Database) -> Viewer:
    return await make_user(database)


@pytest.fixture
async def empty(database: Database, viewer: Viewer) -> Dataset:
    return await make_dataset(database, viewer, status=DatasetStatus.EMPTY)


def digest_of(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


async def slices(content: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


async def test_an_upload_makes_the_dataset_ready(room: Room, viewer: Viewer, empty: Dataset) -> None:
    answer = await room.upload(viewer, empty, Content_Digest=digest_of(CONTENT))
    assert answer.status_code == 200
    now = time_text(empty.created_at)
    assert answer.json() == {
        "id": global_id("Dataset", empty.id),
        "name": "digits.csv",
        "format": "CSV",
        "status": "READY",
        "bytes": len(CONTENT),
        "sha256": SHA256,
        "rowCount": 100,
        "columns": [
            {"name": "pixel", "kind": "INTEGER", "missing": 0, "distinct": 17, "isDistinctExact": True,
             "minimum": 0.0, "maximum": 16.0, "mean": 7.85, "examples": ["0", "1", "2"]},
            {"name": "digit", "kind": "INTEGER", "missing": 0, "distinct": 10, "isDistinctExact": True,
             "minimum": 0.0, "maximum": 9.0, "mean": 4.5, "examples": ["0", "1", "2"]},
        ],
        "createdAt": now,
        "uploadedAt": now,
    }  # fmt: skip
    row = await room.row(empty.id)
    assert (row.status, row.bytes, row.sha256, row.row_count) == (DatasetStatus.READY, len(CONTENT), SHA256, 100)
    assert room.files() == {str(empty.id): CONTENT}


async def test_the_global_id_a_key_and_chunks_do_as_well(
    room: Room, database: Database, viewer: Viewer, empty: Dataset
) -> None:
    content = CONTENT * 3000  # more than a block; its repeated headers are rows of text
    _, key = await make_api_key(database, viewer, scopes=frozenset({Scope.DATASETS_WRITE}))
    async with room.client() as client:
        answer = await client.put(
            f"/datasets/{global_id('Dataset', empty.id)}/content",
            content=slices(content, 50_000),
            headers={"Authorization": f"Bearer {key.reveal()}"},
        )
    assert (answer.status_code, answer.json()["rowCount"]) == (200, 101 * 3000 - 1)
    assert room.files() == {str(empty.id): content}


@pytest.mark.parametrize(
    ("credential", "status", "code"),
    [
        ({}, 401, "NOT_SIGNED_IN"),
        ({"Authorization": "Bearer nonsense"}, 401, "TOKEN_INVALID"),
        ({"Authorization": "Basic eDp5"}, 401, "CREDENTIAL_MALFORMED"),
        ({"Authorization": "Bearer rwk_" + "x" * 43}, 401, "TOKEN_INVALID"),
    ],
)
async def test_a_credential_is_needed(
    room: Room, empty: Dataset, credential: dict[str, str], status: int, code: str
) -> None:
    async with room.client() as client:
        answer = await client.put(f"/datasets/{empty.id}/content", content=CONTENT, headers=credential)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    await room.assert_untouched(empty)


async def test_a_key_needs_the_scope(room: Room, database: Database, viewer: Viewer, empty: Dataset) -> None:
    _, key = await make_api_key(database, viewer, scopes=frozenset({Scope.DATASETS_READ}))
    async with room.client() as client:
        headers = {"Authorization": f"Bearer {key.reveal()}"}
        answer = await client.put(f"/datasets/{empty.id}/content", content=CONTENT, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "SCOPE_MISSING")
    await room.assert_untouched(empty)


async def test_foreign_unknown_and_malformed_ids_are_the_same(
    room: Room, database: Database, viewer: Viewer, empty: Dataset
) -> None:
    stranger = await make_user(database)
    deleted = await make_dataset(database, stranger, status=DatasetStatus.EMPTY, deleted_at=empty.created_at)
    ids = [
        str(empty.id), str(new_id()), str(deleted.id), global_id("Dataset", empty.id),
        global_id("TrainingRun", new_id()), "..", "%2e%2e%2f..%2fetc", "x", "0" * 200, "%00",
    ]  # fmt: skip
    answers = []
    async with room.client() as client:
        for id in ids:
            answer = await client.put(f"/datasets/{id}/content", content=CONTENT, headers=room.bearer(stranger))
            answers.append((answer.status_code, answer.text))
    by_route = {answer for answer in answers if '"code"' in answer[1]}
    assert {status for status, _ in answers} == {404}
    assert len(by_route) == 1
    await room.assert_untouched(empty)


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"", {}, 422, "EMPTY_FILE"),
        (b"a,b\n", {}, 422, "NO_ROWS"),
        (b"a,b\n1\n", {}, 422, "RAGGED_ROW"),
        (b"a,b\n1,\xff\n", {}, 422, "NOT_UTF8"),
        (b"PK\x03\x04 no table", {}, 422, "BAD_COLUMN_NAME"),
        (b"x" * (LIMIT + 1), {}, 413, "UPLOAD_TOO_LARGE"),
        (CONTENT, {"Content_Digest": digest_of(b"else")}, 422, "CHECKSUM_MISMATCH"),
        (CONTENT, {"Content_Digest": "sha-256=:AAAA:"}, 400, "BAD_CONTENT_DIGEST"),
        (CONTENT, {"Content_Digest": "sha-256=AAAA"}, 400, "BAD_CONTENT_DIGEST"),
        (CONTENT, {"Content_Encoding": "gzip"}, 415, "ENCODED_UPLOAD"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_what_cannot_be_kept_leaves_nothing(
    room: Room, viewer: Viewer, empty: Dataset, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await room.upload(viewer, empty, content, **headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"code", "message", "field", "retryAfterSeconds", "params"}
    await room.assert_untouched(empty)
    assert (await room.upload(viewer, empty)).status_code == 200  # the next try is not hindered


async def test_a_body_of_unknown_length_is_counted(room: Room, viewer: Viewer, empty: Dataset) -> None:
    answer = await room.upload(viewer, empty, slices(b"x" * (LIMIT + 1), 300_000))
    assert (answer.status_code, answer.json()["code"]) == (413, "UPLOAD_TOO_LARGE")
    assert answer.headers["connection"] == "close"
    await room.assert_untouched(empty)


async def test_the_refusal_is_told_in_the_readers_language(room: Room, viewer: Viewer, empty: Dataset) -> None:
    answer = await room.upload(viewer, empty, b"a,b\n1\n", Accept_Language="pt-BR,en;q=0.5")
    assert answer.json() == {
        "code": "RAGGED_ROW",
        "message": "A linha 2 tem 1 valores, mas o cabeçalho tem 2 colunas; corrija essa linha.",
        "field": None,
        "retryAfterSeconds": None,
        "params": {"line": 2, "found": 1, "expected": 2},
    }


async def test_silence_is_not_waited_for(room: Room, viewer: Viewer, empty: Dataset) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield CONTENT[:20]
        await anyio.Event().wait()

    impatient = replace(room, app=app_of(room.services, room.store, Pace(idle_seconds=0.05)))
    answer = await impatient.upload(viewer, empty, body())
    assert (answer.status_code, answer.json()["code"]) == (408, "UPLOAD_STALLED")
    await room.assert_untouched(empty)


async def test_a_full_disk_is_said_before_anything_is_written(room: Room, viewer: Viewer, empty: Dataset) -> None:
    room.free_bytes[0] = 1000
    answer = await room.upload(viewer, empty)
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (507, "DISK_FULL", "300")
    await room.assert_untouched(empty)


async def test_the_same_content_again_is_fine(room: Room, viewer: Viewer, empty: Dataset) -> None:
    first = await room.upload(viewer, empty)
    again = await room.upload(viewer, empty)
    assert (again.status_code, again.json()) == (200, first.json())


@pytest.mark.parametrize("content", [CONTENT + b"1,2\n", CONTENT.replace(b"16", b"61"), CONTENT[:-4], b""])
async def test_other_content_is_a_conflict(room: Room, viewer: Viewer, empty: Dataset, content: bytes) -> None:
    await room.upload(viewer, empty)
    for body in (content, slices(content, 100)):
        answer = await room.upload(viewer, empty, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "DATASET_ALREADY_UPLOADED")
    assert (await room.row(empty.id)).sha256 == SHA256
    assert room.files() == {str(empty.id): CONTENT}


async def test_of_two_uploads_at_once_one_wins(room: Room, viewer: Viewer, empty: Dataset) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield CONTENT[:20]
        begun.set()
        await go_on.wait()
        yield CONTENT[20:]

    first = asyncio.create_task(room.upload(viewer, empty, slow()))
    await begun.wait()
    second = await room.upload(viewer, empty, CONTENT + b"1,2\n")
    go_on.set()
    assert (second.status_code, second.json()["code"]) == (409, "DATASET_BEING_UPLOADED")
    assert (await first).status_code == 200
    assert room.files() == {str(empty.id): CONTENT}


async def test_a_client_that_leaves_leaves_nothing(room: Room, viewer: Viewer, empty: Dataset) -> None:
    messages: list[Any] = [
        {"type": "http.request", "body": CONTENT, "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await room.app(scope_of(f"/datasets/{empty.id}/content", room.bearer(viewer)), receive, send)
    assert sent[0]["status"] == 400
    await room.assert_untouched(empty)


async def test_a_request_that_is_cancelled_leaves_nothing(room: Room, viewer: Viewer, empty: Dataset) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield CONTENT
        task.cancel()
        await anyio.Event().wait()

    task = asyncio.create_task(room.upload(viewer, empty, body()))
    with pytest.raises(asyncio.CancelledError):
        await task
    await room.assert_untouched(empty)


async def test_deleted_while_its_bytes_came(room: Room, database: Database, viewer: Viewer, empty: Dataset) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield CONTENT[:20]
        async with database.begin(viewer) as work:
            row = await work.session.get(Dataset, empty.id)
            assert row is not None
            row.deleted_at = work.now
        yield CONTENT[20:]

    answer = await room.upload(viewer, empty, body())
    assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND")
    assert (await room.row(empty.id)).status is DatasetStatus.EMPTY
    assert room.files() == {}


async def test_no_transaction_is_open_while_bytes_flow(
    room: Room, database: Database, viewer: Viewer, empty: Dataset
) -> None:
    seen: list[int] = []

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 100):
            seen.append(database.engine.pool.checkedout())  # type: ignore[attr-defined]  # of the pool that engines have
            yield CONTENT[start : start + 100]

    assert (await room.upload(viewer, empty, body())).status_code == 200
    assert set(seen) == {0}


@pytest.mark.parametrize("format", [DatasetFormat.JSONL, DatasetFormat.ZIP])
async def test_the_format_is_the_datasets_whatever_the_file_is(
    room: Room, database: Database, viewer: Viewer, format: DatasetFormat
) -> None:
    dataset = await make_dataset(database, viewer, status=DatasetStatus.EMPTY, format=format)
    answer = await room.upload(viewer, dataset, CONTENT, Content_Type="text/csv")
    assert answer.status_code == 422
    await room.assert_untouched(dataset)


def scope_of(path: str, headers: dict[str, str]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "PUT",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": ("192.0.2.7", 4711),
        "server": ("runwire.test", 80),
        "scheme": "http",
        "root_path": "",
    }
