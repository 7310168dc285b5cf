"""Scripts' doors: who may speak, how often, how much; what they are told; and the program that they fetch."""

import hashlib
import io
import json
import logging
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from limits import RateLimitItemPerHour

from db import postgres
from db.settings import Settings
from db.unit_of_work import Database
from domain.base import new_id
from domain.callback.model import CallbackSource, CallbackStatus
from domain.clock import FixedClock
from domain.commands import ApplyCallback
from domain.training.model import PodTokenKind, TrainingRun
from domain.training.recipes import checked_hyperparameters
from domain.training.status import EndReason, RunStatus
from domain.viewer import Viewer
from graph import limiter
from graph.guards import GuardSettings
from graph.ids import global_id
from graph.limiter import REPORT_UNIT_BYTES, CallKind
from tests.factories import make_dataset, make_run, make_user
from tests.fakes import Told
from tests.graph.routes.calling import Doors, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def doors(settings: Settings, database: Database, worker_database: Database) -> AsyncIterator[Doors]:
    async with opened(settings, database, worker_database) as doors:
        yield doors


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database)


@pytest.fixture
async def run(database: Database, ada: Viewer) -> TrainingRun:
    return await make_run(database, ada, status=RunStatus.TRAINING, attempts=2)


class TestReports:
    async def test_a_batch_is_kept_under_its_number(self, doors: Doors, run: TrainingRun, told: Told) -> None:
        token = await doors.token(run, attempt=2)
        said: dict[str, Any] = {"sequence": 7, "stage": "TRAINING", "points": []}
        answer = await doors.report(run, token, **said)
        assert (answer.status_code, answer.json()) == (200, {"accepted": 7, "stop": False})
        assert answer.headers["cache-control"] == "no-store"
        (row,) = await doors.callbacks()
        assert (row.source, row.run_id, row.attempt, row.sequence) == (CallbackSource.POD, run.id, 2, 7)
        assert (row.status, row.event_id, row.headers) == (CallbackStatus.RECEIVED, f"{run.id}:2:7", {})
        assert orjson.loads(row.body) == said
        assert told.commands == [ApplyCallback(row.id)]

    async def test_the_global_id_does_as_well(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run, attempt=2)
        path = f"/runs/{global_id('TrainingRun', run.id)}/reports"
        assert (await doors.call("POST", path, b'{"sequence": 1}', token)).status_code == 200

    async def test_a_number_that_comes_twice_is_taken_once(self, doors: Doors, run: TrainingRun, told: Told) -> None:
        token = await doors.token(run, attempt=2)
        for percent in (10, 20):
            answer = await doors.report(run, token, percent=percent)
            assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        (row,) = await doors.callbacks()
        assert orjson.loads(row.body)["percent"] == 10 and len(told.commands) == 1

    async def test_thirty_doubles_at_once_are_one(self, doors: Doors, run: TrainingRun) -> None:
        tokens = [await doors.token(run, attempt=2) for _ in range(3)]
        statuses: list[int] = []

        async def call(token: str) -> None:
            statuses.append((await doors.report(run, token)).status_code)

        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(call, tokens[number % 3])
        assert statuses == [200] * 30
        assert len(await doors.callbacks()) == 1

    @pytest.mark.parametrize(
        ("facts", "stop"),
        [
            ({"status": RunStatus.PREPARING}, False),
            ({"status": RunStatus.CANCELING}, True),
            ({"status": RunStatus.TRAINING, "stop_reason": EndReason.OUT_OF_BUDGET}, True),
        ],
    )
    async def test_the_answer_says_whether_to_stop(
        self, doors: Doors, database: Database, ada: Viewer, facts: dict[str, Any], stop: bool
    ) -> None:
        run = await make_run(database, ada, attempts=1, **facts)
        answer = await doors.report(run, await doors.token(run))
        assert answer.json() == {"accepted": 1, "stop": stop}

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"not JSON",
            b"null",
            b"[1]",
            b'"sequence"',
            b"{}",
            b'{"sequence": null}',
            b'{"sequence": true}',
            b'{"sequence": "1"}',
            b'{"sequence": 1.0}',
            b'{"sequence": 0}',
            b'{"sequence": -1}',
            b'{"sequence": 2147483648}',
            b'{"sequence": 1e400}',
            b'{"sequence": 1, "percent": NaN}',
            b'{"sequence": 1' + b"0" * 5000 + b"}",
            b'{"sequence": 1, "x": "\xff"}',
            b'{"sequence": 1, "x": ' + b"[" * 100_000,
        ],
    )
    async def test_what_has_no_number_is_refused(self, doors: Doors, run: TrainingRun, body: bytes) -> None:
        token = await doors.token(run, attempt=2)
        answer = await doors.call("POST", f"/runs/{run.id}/reports", body, token)
        assert (answer.status_code, answer.json()["code"]) == (400, "BAD_CALLBACK")
        assert await doors.callbacks() == []

    async def test_nothing_else_is_looked_at(self, doors: Doors, run: TrainingRun) -> None:
        """What a worker cannot read, it keeps and shows."""
        token = await doors.token(run, attempt=2)
        body = b'{"sequence": 1, "points": 7, "log": [[]], "end": "yes"}'
        assert (await doors.call("POST", f"/runs/{run.id}/reports", body, token)).status_code == 200


class TestWhoMaySpeak:
    async def test_a_token_that_opens_nothing_is_refused(
        self, doors: Doors, database: Database, run: TrainingRun, ada: Viewer, clock: FixedClock
    ) -> None:
        other = await make_run(database, ada, status=RunStatus.TRAINING)
        good = await doors.token(run, attempt=2)
        refused = [
            None,
            "rwp_" + "x" * 43,
            good[:-1],
            good + "x",
            good.replace("rwp_", "rwk_"),
            await doors.token(other),
            await doors.token(run, attempt=2, kind=PodTokenKind.CALLBACK),
        ]
        assert (await doors.report(run, good)).status_code == 200
        clock.at += timedelta(days=2)
        for token in [*refused, good]:
            answer = await doors.report(run, token, sequence=2)
            assert (answer.status_code, answer.json()["code"]) == (401, "POD_TOKEN_REFUSED")
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert len(await doors.callbacks()) == 1

    async def test_the_path_must_be_of_its_run(
        self, doors: Doors, database: Database, run: TrainingRun, ada: Viewer
    ) -> None:
        other = await make_run(database, ada, status=RunStatus.TRAINING)
        token = await doors.token(run, attempt=2)
        for id in (other.id, new_id(), "x", global_id("Dataset", run.id)):
            answer = await doors.call("POST", f"/runs/{id}/reports", b'{"sequence": 1}', token)
            assert (answer.status_code, answer.json()["code"]) == (401, "POD_TOKEN_REFUSED")

    async def test_an_attempt_that_is_over_is_told_so(
        self, doors: Doors, database: Database, run: TrainingRun, ada: Viewer
    ) -> None:
        ended = await make_run(database, ada, status=RunStatus.CANCELED)
        for one, token in ((run, await doors.token(run, attempt=1)), (ended, await doors.token(ended))):
            answer = await doors.report(one, token)
            assert (answer.status_code, answer.json()["code"]) == (410, "ATTEMPT_OVER")
        assert await doors.callbacks() == []

    async def test_one_header_with_one_token(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run, attempt=2)
        path = f"/runs/{run.id}/reports"
        async with doors.client() as client:
            for headers in (
                [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")],
                [("authorization", f"Basic {token}")],
                [("authorization", token)],
                [("x-token", token)],
            ):
                assert (await client.post(path, content=b'{"sequence": 1}', headers=headers)).status_code == 401
            assert (await client.post(f"{path}?token={token}", content=b'{"sequence": 1}')).status_code == 401

    async def test_the_token_is_in_no_log(
        self, doors: Doors, run: TrainingRun, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = await doors.token(run, attempt=2)
        with caplog.at_level(logging.DEBUG):
            await doors.report(run, token)
            await doors.call("POST", f"/runs/{run.id}/reports?token={token}", b"{}")
        ours = [record for record in caplog.records if record.name.startswith("runwire")]
        assert ours and not any(token in str(record.__dict__) for record in ours)


class TestHowMuch:
    async def test_one_a_second_and_ten_at_once(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run, attempt=2)
        answers = [await doors.report(run, token, sequence=number) for number in range(1, 21)]
        assert [answer.status_code for answer in answers] == [200] * 10 + [429] * 10
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 10
        assert answers[-1].json()["code"] == "TOO_MANY_CALLS"
        assert [row.sequence for row in await doors.callbacks()] == list(range(1, 11))
        again = await doors.token(run, attempt=2)
        assert (await doors.report(run, again, sequence=11)).status_code == 200

    async def test_of_large_ones_an_attempt_sends_so_many_an_hour_whatever_tokens_it_has(
        self, doors: Doors, run: TrainingRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(limiter.CALLS, CallKind.REPORT_BYTES, RateLimitItemPerHour(3))
        tokens = [await doors.token(run, attempt=2) for _ in range(2)]
        large = "x" * REPORT_UNIT_BYTES
        answers = [await doors.report(run, tokens[n % 2], sequence=n, more=large) for n in range(1, 6)]
        assert [answer.status_code for answer in answers] == [200] * 3 + [429] * 2
        assert (await doors.report(run, tokens[0], sequence=4)).status_code == 200  # a sign of life gets through

    async def test_a_flood_without_a_right_asks_the_database_ten_times(self, doors: Doors, run: TrainingRun) -> None:
        answers = [await doors.report(run, "rwp_" + "x" * 43) for _ in range(20)]
        assert [answer.status_code for answer in answers] == [401] * 10 + [429] * 10

    async def test_a_batch_has_a_megabyte_at_most(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run, attempt=2)
        body = b'{"sequence": 1, "x": "' + b"x" * 1024**2 + b'"}'
        answer = await doors.call("POST", f"/runs/{run.id}/reports", body, token)
        assert answer.status_code == 413
        assert await doors.callbacks() == []

    async def test_a_body_that_does_not_come_is_not_waited_for(
        self, settings: Settings, database: Database, worker_database: Database, run: TrainingRun
    ) -> None:
        async def slow() -> AsyncIterator[bytes]:
            yield b"{"
            await anyio.sleep(5)
            yield b"}"

        async with opened(settings, database, worker_database, guards=GuardSettings(body_seconds=0.1)) as doors:
            token = await doors.token(run, attempt=2)
            answer = await doors.call("POST", f"/runs/{run.id}/reports", slow(), token)
            assert answer.status_code == 408
            assert await doors.callbacks() == []

    async def test_nothing_is_unpacked(self, doors: Doors, run: TrainingRun) -> None:
        token = await doors.token(run, attempt=2)
        answer = await doors.call("POST", f"/runs/{run.id}/reports", b"\x1f\x8b", token, content_encoding="gzip")
        assert (answer.status_code, answer.json()["code"]) == (415, "ENCODED_CALLBACK")


class TestServersAway:
    async def test_without_postgres_scripts_are_told_to_come_again(
        self, settings: Settings, worker_database: Database, run: TrainingRun, tmp_path: Path
    ) -> None:
        database = Database(postgres.engine_of(f"postgresql://x@/none?host={tmp_path}", role=None, name="tests"))
        async with opened(settings, database, worker_database) as doors:
            answer = await doors.report(run, "rwp_" + "x" * 43)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        await database.close()

    async def test_without_redis_they_are_heard_all_the_same(
        self, settings: Settings, database: Database, worker_database: Database, run: TrainingRun, tmp_path: Path
    ) -> None:
        redis_url = f"unix://{tmp_path}/nothing.sock?db=0"
        async with opened(settings, database, worker_database, redis_url=redis_url) as doors:
            token = await doors.token(run, attempt=2)
            answers = [await doors.report(run, token, sequence=number) for number in range(1, 4)]
            assert [answer.status_code for answer in answers] == [200] * 3
            assert len(await doors.callbacks()) == 3


class TestProgram:
    async def files(self, doors: Doors, run: TrainingRun, token: str) -> dict[str, bytes]:
        answer = await doors.call("GET", f"/runs/{run.id}/program", token=token)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/gzip")
        with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as archive:
            members = archive.getmembers()
            assert all(member.isfile() and not member.name.startswith(("/", "..")) for member in members)
            return {member.name: _read(archive, member) for member in members}

    async def test_a_recipe_is_files_and_two_scripts(self, doors: Doors, database: Database, ada: Viewer) -> None:
        dataset = await make_dataset(database, ada)
        run = await make_run(
            database, ada, status=RunStatus.PREPARING, dataset=dataset, hyperparameters={"targetColumn": "digit"}
        )
        files = await self.files(doors, run, await doors.token(run))
        assert {"order.json", "prepare.sh", "command.sh", "requirements.lock", "recipes/train.py"} <= set(files)
        assert json.loads(files["order.json"]) == {
            "runId": str(run.id),
            "attempt": 1,
            "recipe": "tabular-classification",
            "hyperparameters": {"targetColumn": "digit"},
            "dataset": {"format": "CSV", "bytes": 2048, "sha256": dataset.sha256},
        }

    async def test_it_trains_on_the_data_that_its_machine_has_fetched(
        self, doors: Doors, database: Database, ada: Viewer, tmp_path: Path
    ) -> None:
        rows = "".join(f"{row % 5},{row % 3},{'even' if row % 2 == 0 else 'odd'}\n" for row in range(60))
        data = f"width,height,kind\n{rows}".encode()
        dataset = await make_dataset(database, ada, bytes=len(data), sha256=_sha256(data))
        run = await make_run(
            database,
            ada,
            status=RunStatus.PREPARING,
            dataset=dataset,
            hyperparameters=checked_hyperparameters(
                "tabular-classification", {"targetColumn": "kind", "epochs": 5}, None
            ),
        )
        for name, content in (await self.files(doors, run, await doors.token(run))).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_bytes(content)
        command = [sys.executable, "-s", "-m", "recipes.train"]

        empty = await anyio.to_thread.run_sync(lambda: _run(command, tmp_path))
        assert '"reason": "DATA_ERROR"' in empty
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / "content").write_bytes(data)
        said = await anyio.to_thread.run_sync(lambda: _run(command, tmp_path))
        assert '"reason": "SUCCEEDED"' in said, said
        assert (tmp_path / "artifact" / "artifact.json").exists()

    async def test_a_command_is_what_its_owner_gave(self, doors: Doors, database: Database, ada: Viewer) -> None:
        wanted = {"command": "python3 train.py", "files": {"train.py": "print(1)"}, "requirements": ["numpy"]}
        run = await make_run(database, ada, status=RunStatus.PREPARING, recipe="command", hyperparameters=wanted)
        files = await self.files(doors, run, await doors.token(run))
        assert files["command.sh"] == b"python3 train.py" and files["train.py"] == b"print(1)"
        assert files["requirements.txt"] == b"numpy\n" and b"-r requirements.txt" in files["prepare.sh"]
        assert "dataset" not in json.loads(files["order.json"])

    async def test_the_same_attempt_is_the_same_bytes(self, doors: Doors, database: Database, run: TrainingRun) -> None:
        token = await doors.token(run, attempt=2)
        answers = [await doors.call("GET", f"/runs/{run.id}/program", token=token) for _ in range(2)]
        assert answers[0].content == answers[1].content

    @pytest.mark.parametrize(
        "files", [{"../../etc/cron.d/x": "x"}, {"/etc/passwd": "x"}, {"command.sh": "x"}, {"order.json": "{}"}]
    )
    async def test_a_path_that_leads_out_makes_no_program(
        self, doors: Doors, database: Database, ada: Viewer, files: dict[str, str]
    ) -> None:
        wanted = {"command": "true", "files": files}
        run = await make_run(database, ada, status=RunStatus.PREPARING, recipe="command", hyperparameters=wanted)
        answer = await doors.call("GET", f"/runs/{run.id}/program", token=await doors.token(run))
        assert (answer.status_code, answer.json()["code"]) == (409, "NO_PROGRAM")

    async def test_a_dataset_that_is_gone_makes_none_either(
        self, doors: Doors, database: Database, ada: Viewer, clock: FixedClock
    ) -> None:
        dataset = await make_dataset(database, ada, deleted_at=clock.now())
        run = await make_run(database, ada, status=RunStatus.PREPARING, dataset=dataset)
        answer = await doors.call("GET", f"/runs/{run.id}/program", token=await doors.token(run))
        assert (answer.status_code, answer.json()["code"]) == (409, "NO_PROGRAM")

    async def test_nobody_else_is_given_it(self, doors: Doors, run: TrainingRun) -> None:
        assert (await doors.call("GET", f"/runs/{run.id}/program")).status_code == 401
        over = await doors.token(run, attempt=1)
        assert (await doors.call("GET", f"/runs/{run.id}/program", token=over)).status_code == 410


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _run(command: list[str], folder: Path) -> str:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False).stdout
