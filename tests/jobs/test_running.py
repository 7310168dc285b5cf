"""One run's life as a worker leads it, with a provider that does as the test says."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import select

from db.unit_of_work import Database
from domain.clock import FixedClock
from domain.dataset.model import DownloadGrant
from domain.deployment.model import Resource, ResourceStatus
from domain.secret import digest_of
from domain.training import service
from domain.training.model import RunAttempt, TrainingRun
from domain.training.report import LogChunk, LogText, Outcome, Report
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.base import Position, ProviderBusy, ProviderLost, ProviderRefused
from jobs.running import look_at
from tests.factories import make_dataset, make_run
from tests.jobs.support import ScriptedTrainer, reference_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def run(database: Database, ada: Viewer) -> TrainingRun:
    """A run as `startTrainingRun` leaves it: QUEUED, with its first attempt."""
    return await fresh_run(database, ada)


async def fresh_run(database: Database, viewer: Viewer, **facts: object) -> TrainingRun:
    given: dict[str, object] = {"attempts": 1, "deploy": False, **facts}
    run = await make_run(database, viewer, **given)  # type: ignore[arg-type]  # facts of any column
    async with database.begin(viewer) as work:
        statement = sa.update(RunAttempt).where(sa.column("run_id") == run.id)
        await work.session.exec(statement.values(tag=f"run-{run.id.hex}-1"))
    return run


async def row_of(worker: JobContext, run: TrainingRun) -> TrainingRun:
    async with worker.begin() as work:
        return await work.session.get_one(TrainingRun, run.id)


async def resources_of(worker: JobContext, run: TrainingRun) -> list[Resource]:
    async with worker.begin() as work:
        return list((await work.session.exec(select(Resource).where(Resource.run_id == run.id))).all())


async def live(worker: JobContext, run: TrainingRun, most: int = 10) -> TrainingRun:
    """Look until there is nothing to do at once."""
    for _ in range(most):
        if (await look_at(worker, run.id)).again_after_seconds != 0:
            break
    return await row_of(worker, run)


def saying(**said: object) -> object:
    def report(position: Position, now: datetime) -> Report:
        given = {"source": ReportSource.POLL, "attempt": position.attempt, "at": now, **said}
        return Report(**given)  # type: ignore[arg-type]  # what the test says

    return report


class TestStarting:
    async def test_the_resource_is_written_down_before_it_is_created(
        self, worker: JobContext, trainer: ScriptedTrainer, run: TrainingRun
    ) -> None:
        trainer.failing = ProviderBusy("No answer came.")
        await look_at(worker, run.id)
        (resource,) = await resources_of(worker, run)
        assert (resource.status, resource.reference) == (ResourceStatus.INTENDED, None)
        assert resource.tag == f"run-{run.id.hex}-1"
        trainer.failing = None
        after = await live(worker, run)
        (resource,) = await resources_of(worker, run)
        assert (resource.status, resource.reference) == (ResourceStatus.ALIVE, reference_of(run.id))
        assert after.status is RunStatus.PREPARING

    async def test_a_training_whose_answer_was_lost_is_found_and_not_started_again(
        self, worker: JobContext, trainer: ScriptedTrainer, run: TrainingRun
    ) -> None:
        """The worker died between the provider's yes and writing it down."""

        def die() -> None:
            raise ConnectionResetError

        trainer.on_start = die
        with pytest.raises(ConnectionResetError):
            await look_at(worker, run.id)
        trainer.on_start = lambda: pytest.fail("It was started twice.")
        await live(worker, run)
        assert list(trainer.started) == [reference_of(run.id)]
        assert [resource.reference for resource in await resources_of(worker, run)] == [reference_of(run.id)]

    async def test_the_order_holds_a_grant_for_the_data_and_nothing_else_of_it(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        data = await make_dataset(database, ada)
        run = await fresh_run(database, ada, dataset=data)
        await live(worker, run)
        order = trainer.started[reference_of(run.id)]
        assert order.dataset is not None
        assert order.dataset.url == "http://runwire.test/datasets/download"
        async with worker.begin() as work:
            grant = (await work.session.exec(select(DownloadGrant))).one()
        assert grant.hash == digest_of(order.dataset.token.reveal())
        assert (grant.run_id, grant.attempt, grant.dataset_id) == (run.id, 1, data.id)

    async def test_no_more_than_the_machine_has_places_for(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        slots = worker.settings.local_slots
        runs = [await fresh_run(database, ada) for _ in range(slots + 1)]
        for one in runs:
            await live(worker, one)
        assert len(trainer.started) == slots
        waiting = await row_of(worker, runs[-1])
        assert (waiting.status, waiting.stage) == (RunStatus.QUEUED, RunStage.WAITING)
        async with worker.begin() as work:
            end = Report(source=ReportSource.POLL, attempt=1, at=work.now, outcome=Outcome(EndReason.SUCCEEDED))
            await service.record(work, runs[0].id, end)
        await live(worker, runs[-1])
        assert reference_of(runs[-1].id) in trainer.started

    @pytest.mark.parametrize("hours", [1, 7])
    async def test_a_run_waits_for_a_place_but_not_for_ever(
        self, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, run: TrainingRun, hours: int
    ) -> None:
        trainer.failing = ProviderBusy("No free machine.", retry_after_seconds=9)
        clock.at += timedelta(hours=hours)
        look = await look_at(worker, run.id)
        after = await row_of(worker, run)
        if hours == 1:
            assert (look.again_after_seconds, after.status) == (9, RunStatus.QUEUED)
        else:
            assert (look.again_after_seconds, after.status) == (None, RunStatus.FAILED)
            assert after.end_reason is EndReason.QUEUE_TIMED_OUT

    async def test_a_refusal_ends_the_run_in_its_words(
        self, worker: JobContext, trainer: ScriptedTrainer, run: TrainingRun
    ) -> None:
        trainer.failing = ProviderRefused("The image does not exist.")
        after = await live(worker, run)
        assert (after.status, after.end_reason) == (RunStatus.FAILED, EndReason.PROVIDER_REFUSED)
        assert after.error_message == "The image does not exist."

    async def test_a_provider_that_this_worker_does_not_have(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await fresh_run(database, ada, provider=Provider.RUNPOD)
        after = await live(worker, run)
        assert (after.status, after.end_reason) == (RunStatus.FAILED, EndReason.PROVIDER_REFUSED)


class TestAsking:
    @pytest.fixture
    async def run(self, database: Database, worker: JobContext, ada: Viewer) -> TrainingRun:
        """A run whose provider has it."""
        run = await fresh_run(database, ada)
        await look_at(worker, run.id)
        return run

    async def test_what_the_provider_says_is_written_down_once(
        self, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, run: TrainingRun
    ) -> None:
        lines = (LogText("one", clock.at), LogText("two", clock.at))
        trainer.says = saying(stage=RunStage.TRAINING, percent=50.0, log=LogChunk(0, 8, lines))  # type: ignore[assignment]
        for _ in range(3):  # the same words, as after a worker died before it could write them down
            await look_at(worker, run.id)
        after = await row_of(worker, run)
        assert (after.status, after.progress, after.log_lines) == (RunStatus.TRAINING, 52.5, 2)

    async def test_the_providers_word_ends_it(
        self, worker: JobContext, trainer: ScriptedTrainer, run: TrainingRun
    ) -> None:
        trainer.says = saying(outcome=Outcome(EndReason.SUCCEEDED))  # type: ignore[assignment]
        look = await look_at(worker, run.id)
        after = await row_of(worker, run)
        assert (look.again_after_seconds, after.status, after.progress) == (None, RunStatus.READY, 100.0)
        assert (await look_at(worker, run.id)).again_after_seconds is None
        assert len(trainer.asked) == 1

    async def test_a_provider_that_knows_nothing_makes_it_suspect_before_it_is_lost(
        self, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, run: TrainingRun
    ) -> None:
        trainer.failing = ProviderLost("There is no such training.")
        await look_at(worker, run.id)
        suspect = await row_of(worker, run)
        assert (suspect.status, suspect.suspected_at) == (RunStatus.PREPARING, clock.at)
        clock.at += timedelta(seconds=89)
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).status is RunStatus.PREPARING
        clock.at += timedelta(seconds=1)
        await look_at(worker, run.id)
        after = await row_of(worker, run)
        assert (after.status, after.end_reason) == (RunStatus.FAILED, EndReason.LOST)

    async def test_a_word_in_between_clears_the_suspicion(
        self, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, run: TrainingRun
    ) -> None:
        trainer.failing = ProviderLost("There is no such training.")
        await look_at(worker, run.id)
        trainer.failing = None
        clock.at += timedelta(seconds=80)
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).suspected_at is None


class TestCanceling:
    async def cancel(self, database: Database, viewer: Viewer, run: TrainingRun) -> None:
        async with database.begin(viewer) as work:
            await service.cancel_run(work, viewer, run_id=run.id)

    async def test_it_is_canceled_when_the_provider_says_so(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer, run: TrainingRun
    ) -> None:
        await live(worker, run)
        await self.cancel(database, ada, run)
        trainer.stops = False
        for _ in range(2):
            look = await look_at(worker, run.id)
            assert (look.again_after_seconds, (await row_of(worker, run)).status) == (1.0, RunStatus.CANCELING)
        trainer.stops = True
        await look_at(worker, run.id)
        after = await row_of(worker, run)
        assert (after.status, after.end_reason) == (RunStatus.CANCELED, EndReason.CANCELED_BY_USER)
        assert trainer.stopped == [reference_of(run.id)] * 3

    async def test_one_that_the_provider_does_not_know_is_canceled(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer, run: TrainingRun
    ) -> None:
        await live(worker, run)
        await self.cancel(database, ada, run)
        trainer.failing = ProviderLost("There is no such training.")
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).status is RunStatus.CANCELED

    async def test_one_that_was_wished_for_in_vain_is_looked_for_by_its_tag(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer, run: TrainingRun
    ) -> None:
        """Canceled while its start was on the way: whatever the provider has of it is ended."""

        def die() -> None:
            raise ConnectionResetError

        trainer.on_start = die
        with pytest.raises(ConnectionResetError):
            await look_at(worker, run.id)
        await self.cancel(database, ada, run)
        assert (await row_of(worker, run)).status is RunStatus.CANCELING
        await look_at(worker, run.id)
        assert trainer.stopped == [reference_of(run.id)]
        assert (await row_of(worker, run)).status is RunStatus.CANCELED
