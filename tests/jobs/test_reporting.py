"""Scripts' reports become truth: in the order of their numbers, once each, whatever stands in them."""

import hashlib
import json
import random
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

import anyio
import orjson
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select

from db.artifacts import ArtifactStore
from db.unit_of_work import Database
from domain.callback.model import CallbackSource, CallbackStatus
from domain.callback.service import MOST_WHOLE
from domain.clock import FixedClock
from domain.commands import CheckRun
from domain.training import keeping
from domain.training.model import Artifact, LogLine, MetricPoint, TrainingRun
from domain.training.status import EndReason, Provider, RunStage, RunStatus
from domain.viewer import Viewer
from jobs import reporting
from jobs.context import JobContext
from jobs.pod_artifacts import LeftBehind
from jobs.programs import COMMAND_RECIPE
from jobs.tasks import callback as tasks
from tests.domain.callback.support import callbacks, keep, make_token
from tests.fakes import Told
from tests.jobs.calling import attempt_of, row_of, run_of, started

pytestmark = pytest.mark.anyio


class TestReports:
    async def reported(
        self, database: Database, worker: JobContext, run: TrainingRun, *reports: dict[str, Any], apply: bool = True
    ) -> list[UUID]:
        token = await make_token(worker.database, run)
        ids = []
        for said in reports:
            event_id = f"{run.id}:1:{said['sequence']}"
            given: dict[str, Any] = {"source": CallbackSource.POD, "token": token, "sequence": said["sequence"]}
            id = await keep(database, orjson.dumps(said), event_id=event_id, **given)
            if id is not None:
                ids.append(id)
                if apply:
                    await tasks.apply_callback(worker, id)
        return ids

    async def statuses(self, worker: JobContext) -> list[CallbackStatus]:
        return [row.status for row in await callbacks(worker.database)]

    async def pod(self, database: Database, viewer: Viewer, **facts: Any) -> TrainingRun:
        return await started(database, viewer, **{"provider": Provider.RUNPOD, "status": RunStatus.PREPARING, **facts})

    async def test_a_batch_becomes_lines_points_progress_and_a_sign_of_life(
        self, database: Database, worker: JobContext, clock: FixedClock, told: Told, ada: Viewer
    ) -> None:
        run = await self.pod(database, ada)
        await self.reported(
            database,
            worker,
            run,
            {
                "sequence": 1,
                "stage": "TRAINING",
                "percent": 50,
                "points": [{"name": "loss", "step": 3, "value": 0.25, "at": None}],
                "log": {"start": 0, "end": 6, "text": "hello\n"},
            },
        )
        after, attempt = await run_of(worker, run), await attempt_of(worker, run)
        assert (after.status, after.stage, after.progress, after.log_lines) == (
            RunStatus.TRAINING,
            RunStage.TRAINING,
            52.5,
            1,
        )
        assert (attempt.report_sequence, attempt.heard_at, attempt.log_offset) == (1, clock.now(), 6)
        async with worker.begin() as work:
            points = [(one.name, one.step, one.value) for one in (await work.session.exec(select(MetricPoint))).all()]
        assert points == [("loss", 3, 0.25)]
        assert {"run.logged", "run.measured", "run.status_changed"} <= set(told.types())
        assert CheckRun(run.id) in told.commands
        assert await self.statuses(worker) == [CallbackStatus.APPLIED]

    async def test_one_ring_applies_all_that_wait(self, database: Database, worker: JobContext, ada: Viewer) -> None:
        run = await self.pod(database, ada)
        reports = [{"sequence": number, "percent": number} for number in range(1, 6)]
        ids = await self.reported(database, worker, run, *reports, apply=False)
        await tasks.apply_callback(worker, ids[3])
        assert await self.statuses(worker) == [CallbackStatus.APPLIED] * 5
        assert (await attempt_of(worker, run)).report_sequence == 5

    async def test_thirty_workers_at_once_apply_each_once(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await self.pod(database, ada)
        reports = [
            {"sequence": number, "log": {"start": 2 * number - 2, "end": 2 * number, "text": f"{number % 10}\n"}}
            for number in range(1, 11)
        ]
        ids = await self.reported(database, worker, run, *reports, apply=False)
        async with anyio.create_task_group() as group:
            for id in ids * 3:
                group.start_soon(tasks.apply_callback, worker, id)
        assert await self.statuses(worker) == [CallbackStatus.APPLIED] * 10
        assert await self.lines(worker, run) == [str(number % 10) for number in range(1, 11)]

    async def lines(self, worker: JobContext, run: TrainingRun) -> list[str]:
        async with worker.begin() as work:
            statement = select(LogLine.text).where(LogLine.run_id == run.id).order_by(col(LogLine.line))
            return list((await work.session.exec(statement)).all())

    async def test_a_later_one_waits_for_the_one_before_it(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await self.pod(database, ada)
        await self.reported(database, worker, run, {"sequence": 1}, {"sequence": 3, "percent": 30})
        assert (await attempt_of(worker, run)).report_sequence == 1
        assert await self.statuses(worker) == [CallbackStatus.APPLIED, CallbackStatus.RECEIVED]
        await self.reported(database, worker, run, {"sequence": 2, "percent": 20})
        assert (await attempt_of(worker, run)).report_sequence == 3
        assert await self.statuses(worker) == [CallbackStatus.APPLIED] * 3

    async def test_but_not_for_ever_and_what_comes_then_is_old(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await self.pod(database, ada)
        await self.reported(database, worker, run, {"sequence": 1}, {"sequence": 3, "percent": 30}, {"sequence": 4})
        clock.at += timedelta(seconds=9)
        await tasks.sweep_callbacks(worker)
        assert (await attempt_of(worker, run)).report_sequence == 1
        clock.at += timedelta(seconds=6)
        await tasks.sweep_callbacks(worker)
        assert (await attempt_of(worker, run)).report_sequence == 4
        (late,) = await self.reported(database, worker, run, {"sequence": 2, "percent": 90})
        assert (await row_of(worker, late)).status is CallbackStatus.MOOT
        assert (await run_of(worker, run)).progress < 90

    async def test_junk_does_not_hold_up_the_rest(self, database: Database, worker: JobContext, ada: Viewer) -> None:
        run = await self.pod(database, ada)
        junk = {
            "points": [{"name": "loss", "step": n, "value": n} for n in range(10_000)],
            "log": [[[]]],
            "percent": 1e9,
        }
        await self.reported(
            database, worker, run, {"sequence": 1, **junk, "stage": "TRAINING"}, {"sequence": 2, "percent": 50}
        )
        first, second = await callbacks(worker.database)
        assert (first.status, second.status) == (CallbackStatus.UNREADABLE, CallbackStatus.APPLIED)
        assert first.error is not None and "more than 100 points" in first.error and "'log'" in first.error
        after = await run_of(worker, run)
        assert (after.status, after.progress) == (RunStatus.TRAINING, 52.5)

    async def test_who_sends_junk_without_end_fills_nothing(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await self.pod(database, ada)
        reports = [{"sequence": number, "stage": "junk", "percent": 10.0} for number in range(1, MOST_WHOLE + 6)]
        await self.reported(database, worker, run, *reports)
        assert await self.statuses(worker) == [CallbackStatus.UNREADABLE] * MOST_WHOLE + [CallbackStatus.APPLIED] * 5
        assert {row.error for row in await callbacks(worker.database)} == {
            "Applied without what was wrong in it: 'stage' is none that a script can be in."
        }

    async def test_a_log_ends_at_its_limit(
        self, database: Database, worker: JobContext, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keeping, "LONGEST_LOG", 20)
        run = await self.pod(database, ada)
        logs = [
            {"sequence": n + 1, "log": {"start": n * 8, "end": n * 8 + 8, "text": f"line  {n}\n"}} for n in range(6)
        ]
        await self.reported(database, worker, run, *logs)
        async with worker.begin() as work:
            texts = (await work.session.exec(select(LogLine.text).where(LogLine.run_id == run.id))).all()
        assert list(texts) == ["line  0", "line  1", "line  2", keeping.LOG_IS_FULL]
        assert (await attempt_of(worker, run)).log_offset == 48

    async def test_a_log_is_no_longer_than_its_offsets_say(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        """Else its limit would be none."""
        run = await self.pod(database, ada)
        await self.reported(database, worker, run, {"sequence": 1, "log": {"start": 0, "end": 3, "text": "long\n" * 9}})
        assert await self.statuses(worker) == [CallbackStatus.UNREADABLE]
        assert (await run_of(worker, run)).log_lines == 0

    async def test_what_the_database_refuses_does_not_hold_up_the_rest(
        self,
        database: Database,
        worker: JobContext,
        owner_engine: AsyncEngine,
        ada: Viewer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Whatever gets by the reading; here a trigger that does not want to hear of step 13."""
        run = await self.pod(database, ada)
        async with owner_engine.begin() as connection:
            await connection.execute(
                sa.text(
                    "CREATE FUNCTION unlucky() RETURNS trigger LANGUAGE plpgsql AS"
                    " $$ BEGIN IF NEW.step = 13 THEN RAISE EXCEPTION 'unlucky'; END IF; RETURN NEW; END $$"
                )
            )
            await connection.execute(
                sa.text("CREATE TRIGGER unlucky BEFORE INSERT ON run_metrics FOR EACH ROW EXECUTE FUNCTION unlucky()")
            )
        points = [[{"name": "loss", "step": step, "value": 1}] for step in (12, 13, 14)]
        await self.reported(
            database, worker, run, *({"sequence": number, "points": points[number - 1]} for number in (1, 2, 3))
        )
        assert await self.statuses(worker) == [
            CallbackStatus.APPLIED,
            CallbackStatus.UNREADABLE,
            CallbackStatus.APPLIED,
        ]
        assert (await attempt_of(worker, run)).report_sequence == 3
        (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
        error = (await callbacks(worker.database))[1].error
        assert error is not None and record.__dict__["error_id"] in error

    async def test_any_order_with_any_doubles_comes_to_the_same_end(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        chance = random.Random(20260115)
        ends: list[tuple[Any, ...]] = []
        for _ in range(4):
            run = await self.pod(database, ada)
            reports: list[dict[str, Any]] = [
                {
                    "sequence": number,
                    "stage": "INSTALLING" if number < 3 else "TRAINING",
                    "percent": 10 * number,
                    "points": [{"name": "loss", "step": number, "value": 1 / number}],
                    "log": {"start": 7 * number - 7, "end": 7 * number, "text": f"line {number}\n"},
                }
                for number in range(1, 8)
            ]
            reports[-1]["end"] = {"reason": "DIVERGED", "message": "too far"}
            arriving = [*reports, *chance.choices(reports, k=5)] if ends else reports
            if ends:
                chance.shuffle(arriving)
            await self.reported(database, worker, run, *arriving)
            after, attempt = await run_of(worker, run), await attempt_of(worker, run)
            async with worker.begin() as work:
                statement = select(MetricPoint.step, MetricPoint.value).where(MetricPoint.run_id == run.id)
                points = sorted((await work.session.exec(statement)).all())
            ends.append(
                (
                    after.status,
                    after.end_reason,
                    after.error_message,
                    after.progress,
                    attempt.report_sequence,
                    attempt.log_offset,
                    await self.lines(worker, run),
                    points,
                )
            )
        assert ends[0][:4] == (RunStatus.FAILED, EndReason.DIVERGED, "too far", 69.5)
        assert ends[0][6] == [f"line {number}" for number in range(1, 8)]
        assert all(end == ends[0] for end in ends)

    async def test_after_the_end_nothing_is_applied(self, database: Database, worker: JobContext, ada: Viewer) -> None:
        run = await self.pod(database, ada)
        end = {"reason": "CODE_ERROR", "message": "It broke.", "exitCode": 1, "line": 3}
        ids = await self.reported(
            database, worker, run, {"sequence": 1, "end": end}, {"sequence": 2, "percent": 90}, apply=False
        )
        await tasks.apply_callback(worker, ids[0])
        after = await run_of(worker, run)
        assert (after.status, after.end_reason, after.error_message) == (
            RunStatus.FAILED,
            EndReason.CODE_ERROR,
            "It broke.",
        )
        assert await self.statuses(worker) == [CallbackStatus.APPLIED, CallbackStatus.MOOT]

    async def test_a_gpu_that_idles_is_told_of_once(
        self, database: Database, worker: JobContext, clock: FixedClock, told: Told, ada: Viewer
    ) -> None:
        run = await self.pod(database, ada, status=RunStatus.TRAINING)
        for number in range(1, 15):
            await self.reported(database, worker, run, {"sequence": number, "system": {"gpuPercent": 0}})
            clock.at += timedelta(minutes=1)
        warned = [event for event in told.events if event.type == "run.warned" and event.stream.id == run.id]
        assert [event.data["reason"] for event in warned] == ["IDLE_GPU"]


class TestWhatWasLeft:
    RECEIPT: ClassVar[dict[str, Any]] = {"name": "model.joblib", "details": {"metrics": {"accuracy": 0.9}}}

    async def finished(
        self, database: Database, worker: JobContext, viewer: Viewer, files: dict[str, bytes], **facts: Any
    ) -> TrainingRun:
        """A pod's run that has uploaded these files and says that it succeeded."""
        given: dict[str, Any] = {"provider": Provider.RUNPOD, "status": RunStatus.TRAINING, "deploy": True}
        run = await started(database, viewer, **given | facts)
        store = ArtifactStore.of(worker.settings)
        for name, content in files.items():
            await store.keep(f"runwire-{run.id}-1", name, _chunks(content), limit_bytes=2**30)
        token = await make_token(worker.database, run)
        body = b'{"sequence": 1, "end": {"reason": "SUCCEEDED", "message": "", "exitCode": 0, "line": null}}'
        id = await keep(database, body, source=CallbackSource.POD, token=token, sequence=1, event_id=f"{run.id}:1:1")
        assert id is not None
        await tasks.apply_callback(worker, id)
        assert (await row_of(worker, id)).status is CallbackStatus.APPLIED
        return await run_of(worker, run)

    def receipt(self, content: bytes, **facts: Any) -> bytes:
        return json.dumps({**self.RECEIPT, "sha256": hashlib.sha256(content).hexdigest(), **facts}).encode()

    async def artifacts(self, worker: JobContext, run: TrainingRun) -> list[Artifact]:
        async with worker.begin() as work:
            statement = select(Artifact).where(Artifact.run_id == run.id).order_by(col(Artifact.name))
            return list((await work.session.exec(statement)).all())

    async def test_a_model_that_is_what_its_receipt_says_is_deployed(
        self, database: Database, worker: JobContext, told: Told, ada: Viewer
    ) -> None:
        files = {"model.joblib": b"weights", "artifact.json": self.receipt(b"weights")}
        run = await self.finished(database, worker, ada, files)
        assert (run.status, run.stage) == (RunStatus.DEPLOYING, RunStage.DEPLOYING)
        (artifact,) = await self.artifacts(worker, run)
        assert (artifact.name, artifact.bytes, artifact.details) == (
            "model.joblib",
            7,
            {"metrics": {"accuracy": 0.9}},
        )
        store = ArtifactStore.of(worker.settings)
        assert artifact.location == str(store.path_of(f"runwire-{run.id}-1", "model.joblib"))
        assert "run.artifact_stored" in told.types() and CheckRun(run.id) in told.commands

    @pytest.mark.parametrize(
        "files",
        [
            {},
            {"model.joblib": b"weights"},
            {"artifact.json": b"weights"},
            {"artifact.json": b"[]"},
            {"artifact.json": b"[" * 10_000},
            {"artifact.json": b'{"name": "model.joblib"}', "model.joblib": b"weights"},
        ],
    )
    async def test_one_of_our_recipes_has_not_succeeded_without_one(
        self, database: Database, worker: JobContext, ada: Viewer, files: dict[str, bytes]
    ) -> None:
        run = await self.finished(database, worker, ada, files)
        assert (run.status, run.end_reason, run.error_message) == (
            RunStatus.FAILED,
            EndReason.CODE_ERROR,
            "The training ended well but left no whole model.",
        )
        assert await self.artifacts(worker, run) == []

    @pytest.mark.parametrize(
        "facts",
        [
            {"sha256": "0" * 64},
            {"name": "../../model.joblib/../other"},
            {"name": "artifact.json.missing"},
            {"details": "none"},
            {"sha256": 7},
        ],
    )
    async def test_nor_with_a_receipt_that_is_wrong(
        self, database: Database, worker: JobContext, ada: Viewer, facts: dict[str, Any]
    ) -> None:
        files = {"model.joblib": b"weights", "artifact.json": self.receipt(b"weights", **facts)}
        run = await self.finished(database, worker, ada, files)
        assert (run.status, run.end_reason) == (RunStatus.FAILED, EndReason.CODE_ERROR)

    async def test_details_are_kept_as_far_as_they_can_be(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        details = {"classes": ["a\0b", "\ud800"], "huge": 10**40, "nan": float("nan")}
        files = {"model.joblib": b"weights", "artifact.json": self.receipt(b"weights", details=details)}
        run = await self.finished(database, worker, ada, files)
        assert run.status is RunStatus.DEPLOYING
        (artifact,) = await self.artifacts(worker, run)
        assert artifact.details == {"classes": ["a\ufffdb", "\ufffd"], "huge": str(10**40), "nan": None}

    async def test_gigabytes_are_read_once_however_many_reports_come_behind(
        self, database: Database, worker: JobContext, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = await started(database, ada, provider=Provider.RUNPOD, recipe=COMMAND_RECIPE)
        token = await make_token(worker.database, run)
        reports: list[dict[str, Any]] = [{"sequence": 1, "end": {"reason": "SUCCEEDED"}}]
        reports += [{"sequence": number} for number in range(2, 7)]
        ids = []
        for said in reports:
            given: dict[str, Any] = {"source": CallbackSource.POD, "token": token, "sequence": said["sequence"]}
            ids.append(await keep(database, orjson.dumps(said), event_id=str(said["sequence"]), **given))
        readings = 0

        def read(store: ArtifactStore, tag: str) -> LeftBehind:
            nonlocal readings
            readings += 1
            time.sleep(0.3)
            return LeftBehind(None, ())

        monkeypatch.setattr(reporting, "left_behind", read)
        async with anyio.create_task_group() as tasks_of_workers:
            for id in ids:
                assert id is not None
                tasks_of_workers.start_soon(tasks.apply_callback, worker, id)
                await anyio.sleep(0.03)
        assert readings == 1
        assert (await run_of(worker, run)).status is RunStatus.READY

    async def test_a_command_has_succeeded_with_whatever_it_left(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        files = {"lora.safetensors": b"weights", "notes.txt": b"hello"}
        run = await self.finished(database, worker, ada, files, recipe="command", deploy=False)
        assert (run.status, run.progress) == (RunStatus.READY, 100.0)
        assert [(one.name, one.bytes) for one in await self.artifacts(worker, run)] == [
            ("lora.safetensors", 7),
            ("notes.txt", 5),
        ]
        run = await self.finished(database, worker, ada, {}, recipe="command", deploy=False)
        assert run.status is RunStatus.READY and await self.artifacts(worker, run) == []

    async def test_what_is_canceled_is_canceled_whatever_it_left(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await self.finished(database, worker, ada, {}, status=RunStatus.CANCELING)
        assert run.status is RunStatus.CANCELED


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    yield content
