"""What a crash, a lost message or time leaves behind is found in rows and put in order."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from db.artifacts import ArtifactStore
from db.unit_of_work import Database
from domain.account.model import RefreshToken, UserSession
from domain.clock import FixedClock
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.journal.model import FeedEvent, RunEvent
from domain.training import service
from domain.training.model import LogLine, RunAttempt, TrainingRun
from domain.training.report import LogChunk, LogText, Outcome, Reading, Report
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.base import ProviderBusy, ProviderLost
from jobs.tasks import upkeep
from tests.domain.deployment.support import make_artifact
from tests.factories import make_run, make_session
from tests.fakes import Told
from tests.jobs.support import ScriptedTrainer

pytestmark = pytest.mark.anyio


async def make_resource(database: Database, viewer: Viewer, run: TrainingRun, **facts: Any) -> Resource:
    given: dict[str, Any] = {
        "kind": ResourceKind.TRAINING,
        "provider": Provider.LOCAL,
        "tag": f"run-{run.id.hex}-1",
        "reference": f"ref-{run.id.hex}",
        "status": ResourceStatus.ALIVE,
    }
    async with database.begin(viewer) as work:
        resource = Resource(created_at=work.now, user_id=run.user_id, run_id=run.id, **given | facts)
        work.session.add(resource)
    return resource


async def row_of(worker: JobContext, resource: Resource) -> Resource:
    async with worker.begin() as work:
        return await work.session.get_one(Resource, resource.id)


async def count(worker: JobContext, table: str) -> int:
    async with worker.begin() as work:
        found = await (await work.session.connection()).execute(sa.text(f"SELECT count(*) FROM {table}"))
        number: int = found.scalar_one()
    return number


class TestEndResources:
    async def test_what_a_run_left_behind_is_ended_and_told(
        self,
        database: Database,
        worker: JobContext,
        trainer: ScriptedTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.FAILED)
        resource = await make_resource(database, ada, run, cost_micros=12, last_error="not yet")
        clock.at += timedelta(seconds=90)
        assert await upkeep.end_resources(worker) == 1
        row = await row_of(worker, resource)
        assert (row.status, row.ended_at, row.age_seconds, row.last_error) == (
            ResourceStatus.ENDED,
            clock.at,
            90.0,
            None,
        )
        assert trainer.stopped == [resource.reference]
        assert told.types() == ["resource.ended"]
        assert told.events[0].data["resourceId"] == str(resource.id) and told.events[0].data["costMicros"] == 12
        assert await upkeep.end_resources(worker) == 0
        assert told.types() == ["resource.ended"]

    async def test_what_a_run_needs_stays(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        await make_resource(database, ada, run)
        app = await make_run(database, ada, status=RunStatus.READY)
        await make_resource(database, ada, app, kind=ResourceKind.APP, tag="app-1")
        assert await upkeep.end_resources(worker) == 0
        assert trainer.stopped == []

    async def test_what_an_earlier_attempt_left_behind_is_ended(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING, attempts=2)
        old = await make_resource(database, ada, run)
        new = await make_resource(database, ada, run, tag=f"run-{run.id.hex}-2", reference="ref-2")
        assert await upkeep.end_resources(worker) == 1
        assert (await row_of(worker, old)).status is ResourceStatus.ENDED
        assert (await row_of(worker, new)).status is ResourceStatus.ALIVE

    async def test_one_that_was_never_created_ends_without_a_stop(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.CANCELED)
        resource = await make_resource(database, ada, run, reference=None, status=ResourceStatus.INTENDED)
        assert await upkeep.end_resources(worker) == 1
        assert (await row_of(worker, resource)).status is ResourceStatus.ENDED
        assert trainer.stopped == []

    async def test_one_that_the_provider_does_not_know_is_gone(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.FAILED)
        resource = await make_resource(database, ada, run)
        trainer.failing = ProviderLost("Never heard of it.")
        assert await upkeep.end_resources(worker) == 1
        assert (await row_of(worker, resource)).status is ResourceStatus.ENDED

    async def test_one_that_will_not_end_is_tried_again_and_says_why(
        self,
        database: Database,
        worker: JobContext,
        trainer: ScriptedTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.FAILED)
        stubborn = await make_resource(database, ada, run)
        trainer.failing = ProviderBusy("Come back later.")
        assert await upkeep.end_resources(worker) == 0
        row = await row_of(worker, stubborn)
        assert (row.status, row.last_error, row.ended_at) == (ResourceStatus.ENDING, "Come back later.", None)
        trainer.failing, trainer.stops = None, False
        assert await upkeep.end_resources(worker) == 0 and trainer.stopped == []  # it is asked again later
        clock.at += timedelta(seconds=5)
        assert await upkeep.end_resources(worker) == 0 and trainer.stopped == [stubborn.reference]
        assert told.events == []
        trainer.stops = True
        clock.at += timedelta(seconds=1)
        assert await upkeep.end_resources(worker) == 1


class TestRetention:
    async def story(self, database: Database, worker: JobContext, viewer: Viewer) -> TrainingRun:
        """A run from its first word to its end."""
        run = await make_run(database, viewer, attempts=1)
        at = worker.clock.now()
        for said in (
            {"stage": RunStage.TRAINING},
            {"percent": 40.0, "log": LogChunk(0, 1, (LogText("hello", at),))},
            {"readings": (Reading("loss", 1, 0.5, at),)},
            {"outcome": Outcome(EndReason.CODE_ERROR, "boom")},
        ):
            async with worker.begin() as work:
                given: dict[str, Any] = {"source": ReportSource.POLL, "attempt": 1, "at": at, **said}
                await service.record(work, run.id, Report(**given))
        return run

    async def types(self, worker: JobContext, run: TrainingRun) -> list[str]:
        async with worker.begin() as work:
            statement = select(RunEvent.type).where(RunEvent.run_id == run.id).order_by(col(RunEvent.seq))
            return list((await work.session.exec(statement)).all())

    async def test_a_month_after_its_end_a_run_keeps_its_story_only(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await self.story(database, worker, ada)
        whole = await self.types(worker, run)
        assert "run.logged" in whole and "run.measured" in whole
        clock.at += timedelta(days=30)
        assert await upkeep.forget_old_events(worker) == 0
        assert await self.types(worker, run) == whole
        clock.at += timedelta(seconds=1)
        assert await upkeep.forget_old_events(worker) > 0
        assert await self.types(worker, run) == ["run.stage_changed", "run.status_changed", "run.status_changed"]
        assert (await count(worker, "run_logs"), await count(worker, "feed_events")) == (0, 0)
        assert await count(worker, "run_metrics") == 1  # few, and what people come back for

    async def test_a_run_that_goes_on_for_a_month_keeps_everything(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        async with worker.begin() as work:
            chunk = LogChunk(0, 1, (LogText("hello", work.now),))
            await service.record(work, run.id, Report(source=ReportSource.POLL, attempt=1, at=work.now, log=chunk))
        clock.at += timedelta(days=60)
        await upkeep.forget_old_events(worker)
        assert await self.types(worker, run) == ["run.logged", "run.progressed"]
        assert await count(worker, "run_logs") == 1

    async def test_more_than_a_batch_goes_in_one_sweep(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.FAILED)
        lines = upkeep.BATCH * 2 + 1
        async with worker.begin() as work:
            await work.session.exec(
                sa.insert(LogLine),
                params=[
                    {"run_id": run.id, "line": n, "user_id": run.user_id, "attempt": 1, "at": work.now}
                    | {"level": "INFO", "text": "x"}
                    for n in range(lines)
                ],
            )
        clock.at += timedelta(days=31)
        assert await upkeep.forget_old_events(worker) == lines

    async def test_sessions_are_forgotten_a_month_after_their_end(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        now = clock.now()
        ended = await make_session(database, ada, expires_at=now - timedelta(days=31))
        revoked = await make_session(database, ada, revoked_at=now - timedelta(days=31))
        kept = [
            await make_session(database, ada, expires_at=now - timedelta(days=29)),
            await make_session(database, ada, revoked_at=now - timedelta(days=29)),
            await make_session(database, ada),
        ]
        async with database.begin(ada) as work:
            for session in (ended, kept[0]):
                token = RefreshToken(
                    hash=session.id.bytes, user_id=session.user_id, session_id=session.id, created_at=now
                )
                work.session.add(token)
        await upkeep.forget_old_sessions(worker)
        async with worker.begin() as work:
            ids = set((await work.session.exec(select(UserSession.id))).all())
            tokens = list((await work.session.exec(select(RefreshToken.session_id))).all())
        assert {ended.id, revoked.id} & ids == set()
        assert {session.id for session in kept} <= ids
        assert tokens == [kept[0].id]

    async def test_used_refresh_tokens_of_a_living_session_are_forgotten_in_time(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        session = await make_session(database, ada, expires_at=clock.now() + timedelta(days=365))
        old = clock.now() - timedelta(days=31)
        async with database.begin(ada) as work:
            for name, used in ((b"used", old), (b"unused", None)):
                token = RefreshToken(
                    hash=name, user_id=session.user_id, session_id=session.id, created_at=old, used_at=used
                )
                work.session.add(token)
        await upkeep.forget_old_sessions(worker)
        async with worker.begin() as work:
            assert list((await work.session.exec(select(RefreshToken.hash))).all()) == [b"unused"]


async def test_a_feed_is_forgotten_by_age_alone(
    database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
) -> None:
    run = await make_run(database, ada, attempts=1)
    async with worker.begin() as work:
        report = Report(source=ReportSource.POLL, attempt=1, at=work.now, stage=RunStage.TRAINING)
        await service.record(work, run.id, report)
    clock.at += timedelta(days=31)
    await upkeep.forget_old_events(worker)
    async with worker.begin() as work:
        assert (await work.session.exec(select(FeedEvent))).all() == []
        assert len((await work.session.exec(select(RunEvent))).all()) == 2


class TestArtifacts:
    async def keep(self, worker: JobContext, run: TrainingRun) -> str:
        """A file of the run's first attempt; gives the attempt's tag."""
        async with worker.begin() as work:
            attempt = (await work.session.exec(select(RunAttempt).where(RunAttempt.run_id == run.id))).one()

        async def chunks() -> AsyncIterator[bytes]:
            yield b"weights"

        store = ArtifactStore.of(worker.settings)
        await store.keep(attempt.tag, "model.bin", chunks(), limit_bytes=100)
        return attempt.tag

    async def test_files_that_lead_to_nothing_go_after_an_hour(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        failed = await self.keep(worker, await make_run(database, ada, status=RunStatus.FAILED))
        ready = await self.keep(worker, await make_run(database, ada, status=RunStatus.READY))
        going = await self.keep(worker, await make_run(database, ada, status=RunStatus.TRAINING))
        whole = await make_run(database, ada, status=RunStatus.FAILED)
        kept = await self.keep(worker, whole)
        await make_artifact(worker.database, whole)
        assert await upkeep.remove_old_artifacts(worker) == []
        clock.at += timedelta(hours=1, seconds=1)
        assert await upkeep.remove_old_artifacts(worker) == [failed]
        assert ArtifactStore.of(worker.settings).tags() == sorted([ready, going, kept])
