"""Runs at providers elsewhere: no free machine, budgets, limits and rules; whoever does the work."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest
from sqlmodel import col, select

from db.unit_of_work import Database
from domain.ai_model.model import AIModel, AIModelStatus
from domain.clock import FixedClock
from domain.deployment.model import Resource, ResourceStatus
from domain.integration.model import Integration, IntegrationStatus
from domain.training import service
from domain.training.choices import Choice
from domain.training.model import EtaPrediction, RunAttempt, TrainingRun
from domain.training.recording import open_attempt
from domain.training.report import HostedModel, Outcome, Reading, Report, Warned
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus, WarningCode
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.base import (
    CredentialRefused,
    NoCapacity,
    Pace,
    Position,
    ProviderBusy,
    ProviderLost,
    Quote,
    Started,
)
from jobs.retry import CAPACITY_TRIES
from jobs.running import Look, look_at
from jobs.tasks.upkeep import end_resources
from tests.factories import make_model
from tests.fakes import Told
from tests.jobs.support import ScriptedTrainer

pytestmark = pytest.mark.anyio

PRICE = 3_600_000
"""A thousand micro-dollars a second."""
PLACES = (Choice(Provider.RUNPOD, "A"), Choice(Provider.RUNPOD, "B"), Choice(Provider.E2B))


@pytest.fixture
def trainer() -> ScriptedTrainer:
    return ScriptedTrainer(pace=Pace(5.0, 60.0), bills_from_creation=True, price_micros_per_hour=PRICE)


@pytest.fixture
def worker(worker: JobContext, trainer: ScriptedTrainer) -> JobContext:
    """A worker whose every provider is the scripted one."""
    return replace(worker, trainers=dict.fromkeys(Provider, trainer))


async def start(
    database: Database, ada: Viewer, *, places: tuple[Choice, ...] = PLACES[:1], **facts: Any
) -> TrainingRun:
    """A run that waits for its first attempt."""
    assert ada.user_id is not None
    model = await make_model(database, ada, name=f"model {len(places)}")
    async with database.begin(ada) as work:
        given: dict[str, Any] = {
            "recipe": "command",
            "hyperparameters": {},
            "time_limit_seconds": 3600,
            "deploy": False,
        }
        run = TrainingRun(
            created_at=work.now,
            user_id=ada.user_id,
            model_id=model.id,
            provider=places[0].provider,
            choices=[place.as_json() for place in places],
            next_check_at=work.now,
            **given | facts,
        )
        work.session.add(run)
        await work.session.flush()
        await open_attempt(work, run)
    return run


async def row_of(worker: JobContext, run: TrainingRun) -> TrainingRun:
    async with worker.begin() as work:
        return await work.session.get_one(TrainingRun, run.id)


async def attempts_of(worker: JobContext, run: TrainingRun) -> list[RunAttempt]:
    async with worker.begin() as work:
        statement = select(RunAttempt).where(RunAttempt.run_id == run.id).order_by(col(RunAttempt.number))
        return list((await work.session.exec(statement)).all())


async def resources_of(worker: JobContext, run: TrainingRun) -> list[Resource]:
    async with worker.begin() as work:
        statement = select(Resource).where(Resource.run_id == run.id).order_by(col(Resource.id))
        return list((await work.session.exec(statement)).all())


def saying(**said: Any) -> Any:
    return lambda position, now: Report(source=ReportSource.POLL, attempt=position.attempt, at=now, **said)


class TestRefused:
    async def test_nothing_was_made_with_a_key_that_is_refused(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada)
        trainer.failing = CredentialRefused("The key is wrong.")
        assert await look_at(worker, run.id) == Look(None)
        assert (await row_of(worker, run)).end_reason is EndReason.PROVIDER_REFUSED
        assert [resource.status for resource in await resources_of(worker, run)] == [ResourceStatus.ENDED]

    async def test_what_may_have_been_made_before_is_looked_for_until_it_is_confirmed(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada)
        trainer.failing = ProviderBusy("The answer was lost.")
        await look_at(worker, run.id)
        trainer.failing = CredentialRefused("The key is wrong.")
        assert await look_at(worker, run.id) == Look(None)
        assert [resource.status for resource in await resources_of(worker, run)] == [ResourceStatus.INTENDED]


class TestNoCapacity:
    async def test_each_place_has_its_tries_and_then_the_next_one_its_turn(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada, places=PLACES)
        trainer.failing = NoCapacity("No instances are available.")
        looks = [await look_at(worker, run.id) for _ in range(3 * CAPACITY_TRIES)]
        waits = [look.again_after_seconds for look in looks]
        assert [wait for wait in waits if wait is not None and not 8 <= wait <= 12] == [0, 0, 0]
        tried = [(attempt.provider, attempt.gpu_type, attempt.end_reason) for attempt in await attempts_of(worker, run)]
        assert tried == [
            (Provider.RUNPOD, "A", EndReason.NO_CAPACITY),
            (Provider.RUNPOD, "B", EndReason.NO_CAPACITY),
            (Provider.E2B, None, EndReason.NO_CAPACITY),
        ]
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, row.error_message) == (
            RunStatus.FAILED,
            EndReason.NO_CAPACITY,
            "No instances are available.",
        )
        assert {resource.status for resource in await resources_of(worker, run)} == {ResourceStatus.ENDED}
        assert trainer.stopped == []

    async def test_a_machine_that_is_found_meanwhile_is_taken(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada, places=PLACES)
        trainer.failing = NoCapacity("None.")
        for _ in range(CAPACITY_TRIES + 1):
            await look_at(worker, run.id)
        trainer.failing = None
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.attempt, row.provider) == (RunStatus.PREPARING, 2, Provider.RUNPOD)
        assert [order.gpu_type for order in trainer.started.values()] == ["B"]


class TestBudget:
    async def test_a_run_is_stopped_before_its_budget_is_passed(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        """A thousand micro-dollars a second, sixty thousand allowed: it lives for less than a minute."""
        run = await start(database, ada, budget_micros=60_000)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        began = clock.at
        await look_at(worker, run.id)
        look: Look | None = None
        for _ in range(40):
            look = await look_at(worker, run.id)
            if look.again_after_seconds is None:
                break
            clock.at += timedelta(seconds=look.again_after_seconds)
        assert look == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.FAILED, EndReason.OUT_OF_BUDGET)
        assert len(trainer.stopped) == 1
        lived = (clock.at - began).total_seconds()
        assert 40 <= lived <= 60
        assert row.cost_micros <= 60_000
        (resource,) = await resources_of(worker, run)
        assert (resource.status, resource.cost_micros) == (ResourceStatus.ENDED, row.cost_micros)
        assert row.cost_micros == round(lived * 1000)

    async def test_what_had_ended_by_itself_before_it_was_stopped_for_it_has_its_own_end(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada, budget_micros=20_000)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        await look_at(worker, run.id)
        clock.at += timedelta(seconds=10)
        for _ in range(2):
            await look_at(worker, run.id)
        assert (await row_of(worker, run)).stop_reason is EndReason.OUT_OF_BUDGET
        trainer.says = saying(outcome=Outcome(EndReason.SUCCEEDED), hosted=HostedModel("version", None))
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.READY, EndReason.SUCCEEDED)

    async def test_what_is_to_be_paid_is_asked_for_again_once_it_has_ended(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        """Where only the provider's own word tells: what it had cost before it was stopped is not all."""
        trainer.bills_from_creation = False
        run = await start(database, ada)
        trainer.says = lambda position, now: Report(
            ReportSource.POLL, position.attempt, now, cost_micros=200 if trainer.stopped else 100
        )
        await look_at(worker, run.id)
        async with database.begin(ada) as work:
            await service.cancel_run(work, ada, run_id=run.id)
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.cost_micros) == (RunStatus.CANCELED, 200)
        assert [resource.cost_micros for resource in await resources_of(worker, run)] == [200]

    async def test_a_provider_that_does_not_answer_carries_no_run_beyond_it(
        self,
        database: Database,
        worker: JobContext,
        trainer: ScriptedTrainer,
        clock: FixedClock,
        ada: Viewer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A call hangs while the money goes: it is let be in time, and the run is stopped."""
        run = await start(database, ada, budget_micros=60_000)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        answer = trainer.report

        async def hang(reference: str, position: Position, now: Any) -> Report:
            clock.at += timedelta(seconds=50)
            await anyio.sleep(30)
            return await answer(reference, position, now)

        monkeypatch.setattr(trainer, "report", hang)
        clock.at += timedelta(seconds=49)
        with anyio.fail_after(20):
            assert await look_at(worker, run.id) == Look(0)
            assert (await row_of(worker, run)).stop_reason is EndReason.OUT_OF_BUDGET
            assert await look_at(worker, run.id) == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, len(trainer.stopped)) == (RunStatus.FAILED, EndReason.OUT_OF_BUDGET, 1)

    async def test_a_flat_price_beyond_it_is_not_even_started(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada, budget_micros=1_000_000)
        trainer.quoted = [Quote(None, None, 1_500_000, None, None)]
        assert await look_at(worker, run.id) == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, trainer.started) == (RunStatus.FAILED, EndReason.OUT_OF_BUDGET, {})


class TestLimits:
    async def test_what_goes_on_beyond_its_time_is_stopped(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada, time_limit_seconds=100)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        clock.at += timedelta(seconds=200)
        assert (await look_at(worker, run.id)).again_after_seconds == 0
        assert await look_at(worker, run.id) == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.FAILED, EndReason.TIMED_OUT)

    async def test_what_never_begins_is_stopped(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada)
        trainer.says = saying(stage=RunStage.CREATING_SANDBOX)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        clock.at += timedelta(seconds=worker.settings.preparing_limit_seconds + 1)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, len(trainer.stopped)) == (RunStatus.FAILED, EndReason.PROVIDER_ERROR, 1)

    async def test_an_end_is_written_when_the_provider_has_confirmed_it(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada, rules={"NAN_LOSS": "STOP"})
        trainer.says = saying(stage=RunStage.TRAINING, warnings=(Warned(WarningCode.NAN_LOSS, "loss=nan"),))
        trainer.stops = False
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        assert (await look_at(worker, run.id)).again_after_seconds == 1
        assert (await row_of(worker, run)).status is RunStatus.TRAINING
        trainer.stops = True
        assert await look_at(worker, run.id) == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, row.error_message) == (RunStatus.FAILED, EndReason.DIVERGED, "loss=nan")


class TestRules:
    async def test_a_warning_is_told_once_in_an_attempt(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, told: Told, ada: Viewer
    ) -> None:
        run = await start(database, ada, rules={"IDLE_GPU": "IGNORE"})
        warnings = (Warned(WarningCode.NAN_LOSS, "nan"), Warned(WarningCode.IDLE_GPU, "idle"))
        trainer.says = saying(stage=RunStage.TRAINING, warnings=warnings)
        for _ in range(4):
            await look_at(worker, run.id)
        warned = [event.data for event in told.events if event.type == "run.warned" and event.stream.kind == "run"]
        assert warned == [{"reason": "NAN_LOSS", "message": "nan", "action": "WARN"}]
        assert (await row_of(worker, run)).status is RunStatus.TRAINING


class TestSilence:
    @pytest.mark.parametrize(("rule", "status"), [("WARN", RunStatus.TRAINING), ("STOP", RunStatus.FAILED)])
    async def test_a_script_that_falls_silent_is_told_or_stopped(
        self,
        database: Database,
        worker: JobContext,
        trainer: ScriptedTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
        rule: str,
        status: RunStatus,
    ) -> None:
        run = await start(database, ada, rules={"SILENCE": rule})
        trainer.says = saying(suspicion="No heartbeat.")
        await look_at(worker, run.id)
        async with worker.begin() as work:
            word = Report(source=ReportSource.POD, attempt=1, at=clock.at, stage=RunStage.TRAINING)
            await service.record(work, run.id, word, report_sequence=1)
        clock.at += timedelta(seconds=91)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert row.status is status
        assert row.end_reason is (EndReason.LOST if rule == "STOP" else None)
        warned = [event.data["reason"] for event in told.events if event.type == "run.warned"]
        assert warned == ["SILENCE", "SILENCE"]  # in the run's stream and in its owner's feed


class TestEnds:
    async def test_a_model_that_stays_at_its_provider_makes_the_run_ready(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada, deploy=True)
        trainer.says = saying(
            hosted=HostedModel("acme/cat:9f", "https://weights"), outcome=Outcome(EndReason.SUCCEEDED)
        )
        await look_at(worker, run.id)
        assert await look_at(worker, run.id) == Look(None)
        async with worker.begin() as work:
            model = await work.session.get_one(AIModel, run.model_id)
        assert (await row_of(worker, run)).status is RunStatus.READY
        assert (model.status, model.provider_version, model.model_url, model.provider) == (
            AIModelStatus.READY,
            "acme/cat:9f",
            "https://weights",
            Provider.RUNPOD,
        )
        assert trainer.stopped != []

    async def test_what_is_canceled_before_it_has_a_name_is_looked_for(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        """The answer to the creation was lost: its name finds it, and it is ended."""
        run = await start(database, ada)

        def lost() -> None:
            raise NoAnswer

        trainer.on_start = lost
        with pytest.raises(NoAnswer):
            await look_at(worker, run.id)
        async with database.begin(ada) as work:
            await service.cancel_run(work, ada, run_id=run.id)
        assert (await row_of(worker, run)).status is RunStatus.CANCELING
        assert await look_at(worker, run.id) == Look(None)
        assert (await row_of(worker, run)).status is RunStatus.CANCELED
        assert trainer.stopped == list(trainer.started)

    async def test_a_key_that_is_refused_keeps_nothing_from_being_canceled(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        """Whether anything was made is not known and cannot be asked; who looks after resources goes on trying."""
        run = await start(database, ada)
        trainer.failing = ProviderBusy("The answer was lost.")
        await look_at(worker, run.id)
        async with database.begin(ada) as work:
            await service.cancel_run(work, ada, run_id=run.id)
        trainer.failing = CredentialRefused("The key is wrong.")
        assert await look_at(worker, run.id) == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.CANCELED, EndReason.CANCELED_BY_USER)
        assert [resource.status for resource in await resources_of(worker, run)] == [ResourceStatus.INTENDED]

    async def test_what_costs_by_the_hour_is_canceled_without_another_question(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada)
        await look_at(worker, run.id)
        clock.at += timedelta(seconds=7)
        async with database.begin(ada) as work:
            await service.cancel_run(work, ada, run_id=run.id)
        assert await look_at(worker, run.id) == Look(None)
        assert trainer.asked == []
        assert (await row_of(worker, run)).cost_micros == 7_000

    async def test_what_was_found_by_its_name_is_paid_since_it_was_made(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada)

        def lost() -> None:
            raise NoAnswer

        trainer.on_start = lost
        with pytest.raises(NoAnswer):
            await look_at(worker, run.id)
        made_at = clock.at
        clock.at += timedelta(seconds=30)
        found = Started(f"ref-run-{run.id.hex}-1", price_micros_per_hour=PRICE, began_at=made_at)
        trainer.finds = lambda tag: found
        async with database.begin(ada) as work:
            await service.cancel_run(work, ada, run_id=run.id)
        assert await look_at(worker, run.id) == Look(None)
        (resource,) = await resources_of(worker, run)
        assert (resource.reference, resource.cost_micros) == (found.reference, 30_000)
        assert (await row_of(worker, run)).cost_micros == 30_000

    async def test_what_was_made_is_gone_again_and_the_next_attempt_begins(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        run = await start(database, ada)

        def gone() -> None:
            raise ProviderLost("It is gone.")

        trainer.on_start = gone
        for _ in range(3):
            await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, row.attempt) == (RunStatus.FAILED, EndReason.LOST, 3)

    async def test_what_its_script_spoke_for_is_not_made_a_second_time(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        """Its maker died before it could write the name down, and the machine has ended itself since."""
        run = await start(database, ada)

        def lost() -> None:
            raise NoAnswer

        trainer.on_start = lost
        with pytest.raises(NoAnswer):
            await look_at(worker, run.id)
        async with worker.begin() as work:
            await service.record(work, run.id, Report(ReportSource.POD, 1, clock.at, stage=RunStage.TRAINING))
        trainer.finds = lambda tag: None
        assert await look_at(worker, run.id) == Look(1.0, let_go=True)
        assert len(trainer.started) == 1
        assert (await row_of(worker, run)).suspected_at == clock.at
        clock.at += timedelta(seconds=90)
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, len(trainer.started)) == (RunStatus.FAILED, EndReason.LOST, 1)

    async def test_who_comes_second_with_another_name_is_not_followed(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        """Two workers have started it, since one of them stood still for longer than its lease; it ends its own."""
        run = await start(database, ada)

        async def other_was_faster() -> None:
            async with worker.begin() as work:
                assert await service.note_started(work, run.id, attempt=1, reference="first")

        trainer.before_start = other_was_faster
        await look_at(worker, run.id)
        (attempt,), (resource,) = await attempts_of(worker, run), await resources_of(worker, run)
        assert attempt.reference == resource.reference == "first"
        assert trainer.stopped == [f"ref-run-{run.id.hex}-1"]

    async def test_what_was_expected_is_compared_with_the_end(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada)
        await look_at(worker, run.id)
        for percent in (0, 20, 40, 60, 80):
            at = clock.at
            readings = (Reading("loss", percent, 1.0 / (1 + percent), at),)
            trainer.says = saying(stage=RunStage.TRAINING, percent=float(percent), readings=readings)
            await look_at(worker, run.id)
            clock.at += timedelta(seconds=20)
        trainer.says = saying(outcome=Outcome(EndReason.SUCCEEDED))
        await look_at(worker, run.id)
        async with worker.begin() as work:
            statement = (
                select(EtaPrediction).where(EtaPrediction.run_id == run.id).order_by(col(EtaPrediction.checkpoint))
            )
            kept = list((await work.session.exec(statement)).all())
        assert [(one.checkpoint, one.actual_seconds) for one in kept] == [
            (10, 80.0),
            (25, 60.0),
            (50, 40.0),
            (75, 20.0),
        ]
        for one in kept[1:]:
            assert one.low_seconds <= 20 * (100 - one.checkpoint) / 20 + 20
            assert one.predicted_seconds >= 0


class TestRefusedKeys:
    async def integration(self, database: Database, ada: Viewer) -> Integration:
        assert ada.user_id is not None
        async with database.begin(ada) as work:
            row = Integration(
                created_at=work.now,
                updated_at=work.now,
                tested_at=work.now,
                user_id=ada.user_id,
                provider=Provider.RUNPOD,
                name="mine",
                secret=b"sealed",
            )
            work.session.add(row)
        return row

    async def test_one_at_the_start_ends_the_run_and_is_shown(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
    ) -> None:
        key = await self.integration(database, ada)
        run = await start(database, ada, places=(Choice(Provider.RUNPOD, "A", key.id),))
        trainer.failing = CredentialRefused("RunPod refuses the key.")
        assert await look_at(worker, run.id) == Look(None)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.FAILED, EndReason.PROVIDER_REFUSED)
        async with worker.begin() as work:
            shown = await work.session.get_one(Integration, key.id)
        assert (shown.status, shown.error_message) == (IntegrationStatus.REFUSED, "RunPod refuses the key.")

    async def test_one_in_the_middle_makes_the_run_suspect_and_what_it_has_is_asked_to_end_again(
        self, database: Database, worker: JobContext, trainer: ScriptedTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        key = await self.integration(database, ada)
        run = await start(database, ada, places=(Choice(Provider.RUNPOD, "A", key.id),))
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        trainer.failing = CredentialRefused("RunPod refuses the key.")
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert row.status is RunStatus.TRAINING and row.suspected_at is not None
        clock.at += timedelta(seconds=91)
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.FAILED, EndReason.LOST)
        (resource,) = await resources_of(worker, run)
        assert (resource.status, resource.last_error) == (ResourceStatus.ENDING, "RunPod refuses the key.")
        trainer.failing = None
        clock.at += timedelta(seconds=60)
        assert await end_resources(worker) == 1
        (resource,) = await resources_of(worker, run)
        assert resource.status is ResourceStatus.ENDED


class NoAnswer(Exception):
    """The connection was cut."""


async def test_a_position_tells_what_is_known(
    database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer
) -> None:
    run = await start(database, ada, hyperparameters={"steps": 7})
    seen: list[Position] = []

    def say(position: Position, now: Any) -> Report:
        seen.append(position)
        return Report(source=ReportSource.POLL, attempt=position.attempt, at=now)

    trainer.says = say
    await look_at(worker, run.id)
    await look_at(worker, run.id)
    assert (seen[0].tag, seen[0].hyperparameters, seen[0].price_micros_per_hour) == (
        f"run-{run.id.hex}-1",
        {"steps": 7},
        PRICE,
    )
