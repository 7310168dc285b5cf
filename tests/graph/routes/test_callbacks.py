"""Providers' doors: a call is kept as it came, once, and answered at once; what nobody knows is answered the same."""

import hashlib
import logging
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from db import postgres
from db.settings import Settings
from db.unit_of_work import Database
from domain.callback.model import CallbackSource, CallbackStatus
from domain.clock import FixedClock
from domain.commands import ApplyCallback
from domain.training.model import PodTokenKind
from domain.training.status import RunStatus
from domain.viewer import Viewer
from graph.guards import GuardSettings
from tests.factories import make_run, make_user
from tests.fakes import Told
from tests.graph.routes.calling import Doors, opened

pytestmark = pytest.mark.anyio

SIGNED = {"webhook_id": "msg_1", "webhook_timestamp": "1768478400", "webhook_signature": "v1,c2lnbmVk"}


@pytest.fixture
async def doors(settings: Settings, database: Database, worker_database: Database) -> AsyncIterator[Doors]:
    async with opened(settings, database, worker_database) as doors:
        yield doors


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database)


class TestReplicate:
    async def test_a_call_is_kept_raw_with_what_proves_it(
        self, doors: Doors, database: Database, told: Told, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        body = b'{"id": "k3v9", "logs": "\xff\x00 not even UTF-8"'
        answer = await doors.call(
            "POST", f"/webhooks/replicate?run=runwire-{run.id}-1", body, content_type="application/json", **SIGNED
        )
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        (row,) = await doors.callbacks()
        assert (row.source, row.run_id, row.attempt, row.body) == (CallbackSource.REPLICATE, run.id, 1, body)
        assert row.event_id == hashlib.sha256(b"msg_1." + body).hexdigest()
        assert row.headers == {
            "webhook-id": "msg_1",
            "webhook-timestamp": "1768478400",
            "webhook-signature": "v1,c2lnbmVk",
            "content-type": "application/json",
            "user-agent": row.headers["user-agent"],
        }
        assert told.commands == [ApplyCallback(row.id)]

    async def test_the_same_one_is_answered_the_same_and_kept_once(self, doors: Doors, told: Told) -> None:
        answers = [await doors.call("POST", "/webhooks/replicate?run=x", b"{}", **SIGNED) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {200}
        assert len(await doors.callbacks()) == 1 and len(told.commands) == 1

    async def test_thirty_doubles_at_once_are_one(self, doors: Doors, told: Told) -> None:
        statuses: list[int] = []

        async def call() -> None:
            statuses.append((await doors.call("POST", "/webhooks/replicate?run=x", b"{}", **SIGNED)).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(30):
                tasks.start_soon(call)
        assert statuses == [200] * 30
        assert len(await doors.callbacks()) == 1 and len(told.commands) == 1

    async def test_a_forged_copy_with_the_same_id_keeps_the_true_one_not_out(self, doors: Doors) -> None:
        await doors.call("POST", "/webhooks/replicate?run=x", b'{"status": "failed"}', **SIGNED)
        await doors.call("POST", "/webhooks/replicate?run=x", b'{"status": "succeeded"}', **SIGNED)
        assert [row.body for row in await doors.callbacks()] == [b'{"status": "failed"}', b'{"status": "succeeded"}']

    async def test_about_what_nobody_knows_it_is_kept_too(self, doors: Doors) -> None:
        for query in ("", "?run=run-of-somebody-else-1", "?run=%00", "?run=%ED%A0%80", "?run=" + "x" * 5000):
            answer = await doors.call("POST", f"/webhooks/replicate{query}", query.encode(), **SIGNED)
            assert answer.status_code == 200
        assert [row.run_id for row in await doors.callbacks()] == [None] * 5

    @pytest.mark.parametrize("id", [None, "", "x" * 1001])
    async def test_without_an_id_it_is_none_of_theirs(self, doors: Doors, id: str | None) -> None:
        headers = {} if id is None else {"webhook_id": id}
        answer = await doors.call("POST", "/webhooks/replicate?run=x", b"{}", **headers)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_CALLBACK")
        assert await doors.callbacks() == []

    async def test_control_characters_of_headers_are_not_kept(self, doors: Doors) -> None:
        await doors.call("POST", "/webhooks/replicate?run=x", b"{}", **{**SIGNED, "webhook_signature": "v1,\x01\x7fx"})
        (row,) = await doors.callbacks()
        assert row.headers["webhook-signature"] == "v1,??x"

    async def test_tokens_in_headers_are_not_kept(self, doors: Doors) -> None:
        token = "rwp_" + "a1B2" * 10
        headers = {**SIGNED, "webhook_signature": f"v1,{token}", "user_agent": f"curl/{token}"}
        await doors.call("POST", "/webhooks/replicate?run=x", b"{}", **headers)
        (row,) = await doors.callbacks()
        assert token not in str(row.headers) and row.headers["webhook-signature"] == "v1,rwp_•••"


class TestSizes:
    async def test_ten_megabytes_are_taken_and_not_a_byte_more(self, doors: Doors) -> None:
        body = b"x" * (10 * 1024**2)
        assert (await doors.call("POST", "/webhooks/replicate?run=x", body, **SIGNED)).status_code == 200
        for content in (body + b"x", _chunks(body + b"x")):
            answer = await doors.call("POST", "/webhooks/replicate?run=x", content, **SIGNED)
            assert answer.status_code == 413
            assert answer.json()["errors"][0]["extensions"]["code"] == "BODY_TOO_LARGE"
        (row,) = await doors.callbacks()
        assert len(row.body) == 10 * 1024**2

    @pytest.mark.parametrize("path", ["/webhooks/replicate?run=x", "/webhooks/astria/x", "/webhooks/e2b"])
    async def test_nothing_is_unpacked(self, doors: Doors, path: str) -> None:
        answer = await doors.call("POST", path, b"\x1f\x8b", content_encoding="gzip", **SIGNED)
        assert (answer.status_code, answer.json()["code"]) == (415, "ENCODED_CALLBACK")
        assert await doors.callbacks() == []

    async def test_a_body_that_does_not_come_is_not_waited_for(
        self, settings: Settings, database: Database, worker_database: Database
    ) -> None:
        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await anyio.sleep(5)
            yield b"}"

        guards = GuardSettings(body_seconds=0.1)
        async with opened(settings, database, worker_database, guards=guards) as doors:
            answer = await doors.call("POST", "/webhooks/replicate?run=x", slow(), **SIGNED)
            assert answer.status_code == 408
            assert await doors.callbacks() == []

    async def test_a_flood_about_one_training_is_told_to_wait(self, doors: Doors) -> None:
        answers = [
            await doors.call("POST", "/webhooks/replicate?run=flood", str(number).encode(), **SIGNED)
            for number in range(125)
        ]
        assert [answer.status_code for answer in answers] == [200] * 120 + [429] * 5
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["code"] == "TOO_MANY_CALLS"
        other = await doors.call("POST", "/webhooks/replicate?run=another", b"{}", **SIGNED)
        assert other.status_code == 200
        assert len(await doors.callbacks()) == 121


class TestAstria:
    async def test_the_address_says_whose_it_is(
        self, doors: Doors, database: Database, told: Told, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING, attempts=2)
        token = await doors.token(run, attempt=2, kind=PodTokenKind.CALLBACK)
        answer = await doors.call("POST", f"/webhooks/astria/{token}", b'{"tune": {"id": 1}}')
        assert (answer.status_code, answer.json()) == (200, {"received": True})
        (row,) = await doors.callbacks()
        assert (row.source, row.run_id, row.attempt, row.event_id) == (CallbackSource.ASTRIA, run.id, 2, None)
        assert token not in str(row) and told.commands == [ApplyCallback(row.id)]

    async def test_one_that_waits_is_enough(self, doors: Doors, database: Database, ada: Viewer) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        token = await doors.token(run, kind=PodTokenKind.CALLBACK)
        for number in range(3):
            answer = await doors.call("POST", f"/webhooks/astria/{token}", str(number).encode())
            assert answer.status_code == 200
        assert [row.body for row in await doors.callbacks()] == [b"0"]

    async def test_an_address_that_opens_nothing_is_answered_the_same(
        self, doors: Doors, database: Database, clock: FixedClock, ada: Viewer
    ) -> None:
        going = await make_run(database, ada, status=RunStatus.TRAINING, attempts=2)
        ended = await make_run(database, ada, status=RunStatus.FAILED)
        shown = [
            "rwp_" + "x" * 43,
            "garbage",
            "rwp_%00",
            await doors.token(going, attempt=2),  # a script's, not a provider's
            await doors.token(going, attempt=1, kind=PodTokenKind.CALLBACK),
            await doors.token(ended, kind=PodTokenKind.CALLBACK),
        ]
        expired = await doors.token(going, attempt=2, kind=PodTokenKind.CALLBACK)
        known = await doors.call("POST", f"/webhooks/astria/{expired}", b"{}")
        clock.at += timedelta(days=2)
        for token in [*shown, expired]:
            answer = await doors.call("POST", f"/webhooks/astria/{token}", b"{}")
            assert (answer.status_code, answer.content) == (200, known.content)
        assert len(await doors.callbacks()) == 1  # of before it had expired

    @pytest.mark.parametrize("token", ["rwp_" + "s" * 43, "anything-that-somebody-put-there"])
    async def test_the_address_is_in_no_log(self, doors: Doors, caplog: pytest.LogCaptureFixture, token: str) -> None:
        with caplog.at_level(logging.DEBUG):
            await doors.call("POST", f"/webhooks/astria/{token}", b"{}")
        paths = [record.__dict__["path"] for record in caplog.records if "path" in record.__dict__]
        assert paths == ["/webhooks/astria/•••"]
        assert not any(token in str(record.__dict__) for record in caplog.records if record.name.startswith("runwire"))


class TestE2B:
    async def test_a_call_is_a_hint_that_is_kept_once(self, doors: Doors) -> None:
        body = b'{"sandboxId": "isb1", "type": "sandbox.lifecycle.killed"}'
        for _ in range(2):
            answer = await doors.call("POST", "/webhooks/e2b", body, e2b_delivery_id="d1", e2b_signature="s")
            assert answer.status_code == 200
        await doors.call("POST", "/webhooks/e2b", body, e2b_delivery_id="d2")
        first, second = await doors.callbacks()
        assert (first.source, first.status, first.run_id) == (CallbackSource.E2B, CallbackStatus.RECEIVED, None)
        assert (first.headers["e2b-delivery-id"], first.headers["e2b-signature"]) == ("d1", "s")
        assert second.headers["e2b-delivery-id"] == "d2"


class TestServersAway:
    async def test_without_postgres_they_are_told_to_come_again(
        self, settings: Settings, worker_database: Database, tmp_path: Path
    ) -> None:
        engine = postgres.engine_of(f"postgresql://x@/none?host={tmp_path}", role=None, name="tests")
        database = Database(engine)
        async with opened(settings, database, worker_database) as doors:
            for path in ("/webhooks/replicate?run=x", "/webhooks/astria/rwp_" + "x" * 43, "/webhooks/e2b"):
                answer = await doors.call("POST", path, b"{}", **SIGNED)
                assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
                assert answer.json()["code"] == "UNAVAILABLE"
        await database.close()

    async def test_without_redis_they_are_taken_all_the_same(
        self, settings: Settings, database: Database, worker_database: Database, tmp_path: Path
    ) -> None:
        redis_url = f"unix://{tmp_path}/nothing.sock?db=0"
        async with opened(settings, database, worker_database, redis_url=redis_url) as doors:
            answer = await doors.call("POST", "/webhooks/replicate?run=x", b"{}", **SIGNED)
            assert answer.status_code == 200
            assert len(await doors.callbacks()) == 1


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1024**2):
        yield body[start : start + 1024**2]
