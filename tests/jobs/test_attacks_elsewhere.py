"""Attacks on runs at providers elsewhere: hostile orders of events, budgets too small, things that will not end."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from db.unit_of_work import Database
from domain.callback.model import CallbackSource, CallbackStatus
from domain.clock import FixedClock
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.training import service
from domain.training.model import TrainingRun
from domain.training.report import Outcome, Report, Warned
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus, WarningCode
from domain.viewer import Viewer
from jobs import reporting
from jobs.context import JobContext
from jobs.providers.base import CredentialRefused, Pace, Position, ProviderBusy, Quote
from jobs.running import look_at
from jobs.tasks import callback as tasks
from jobs.tasks import strays
from jobs.tasks.upkeep import end_resources
from tests.domain.callback.support import keep, make_token
from tests.factories import make_run, make_user
from tests.jobs.calling import row_of as callback_of
from tests.jobs.calling import started
from tests.jobs.support import ScriptedTrainer
from tests.jobs.test_running_elsewhere import PLACES, PRICE, resources_of, row_of, saying, start

pytestmark = pytest.mark.anyio


@dataclass
class Stubborn(ScriptedTrainer):
    """A provider that cannot be read when it says so, and some of whose things will not end."""

    is_deaf: bool = False
    pressed: list[str] = field(default_factory=list)

    async def report(self, reference: str, position: Position, now: Any) -> Report:
        if self.is_deaf:
            raise ProviderBusy("The quota for reading is used up.", 600)
        return await super().report(reference, position, now)

    async def stop(self, reference: str) -> bool:
        if reference.startswith("stuck"):
            self.pressed.append(reference)
            raise CredentialRefused("The key is wrong.")
        if reference.startswith("odd"):
            self.pressed.append(reference)
            raise RuntimeError("Nobody has thought of this.")
        return await super().stop(reference)


@pytest.fixture
def trainer() -> Stubborn:
    return Stubborn(pace=Pace(5.0, 60.0), bills_from_creation=True, price_micros_per_hour=PRICE)


@pytest.fixture
def worker(worker: JobContext, trainer: Stubborn) -> JobContext:
    """A worker whose every provider is the stubborn one."""
    return replace(worker, trainers=dict.fromkeys(Provider, trainer))


async def say(worker: JobContext, run: TrainingRun, source: ReportSource = ReportSource.POLL, **said: Any) -> None:
    """A report about the run's first attempt, as if it had come just now."""
    async with worker.begin() as work:
        await service.record(work, run.id, Report(source, 1, work.now, **said))


async def have(database: Database, viewer: Viewer, run: TrainingRun, *names: str, **facts: Any) -> None:
    """Things of the run at the provider, each under its name."""
    async with database.begin(viewer) as work:
        for name in names:
            given: dict[str, Any] = {
                "created_at": work.now,
                "user_id": run.user_id,
                "run_id": run.id,
                "status": ResourceStatus.ALIVE,
            }
            given |= {"kind": ResourceKind.TRAINING, "provider": Provider.RUNPOD, "tag": name, "reference": name}
            work.session.add(Resource(**given | facts))


class TestOrder:
    async def test_what_is_inferred_after_a_success_is_old_news(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        """A read that began before the script told its success finds the machine gone: nothing is trained again."""
        run = await start(database, ada, deploy=True)
        await look_at(worker, run.id)
        await say(worker, run, ReportSource.POD, outcome=Outcome(EndReason.SUCCEEDED))
        assert (await row_of(worker, run)).status is RunStatus.DEPLOYING
        await say(worker, run, vanished=True)
        await say(worker, run, suspicion="The pod is gone.")
        row = await row_of(worker, run)
        assert (row.status, row.attempt, row.suspected_at) == (RunStatus.DEPLOYING, 1, None)

    @pytest.mark.parametrize("said", [{"vanished": True}, {"outcome": Outcome(EndReason.NO_CAPACITY, "none")}])
    async def test_a_run_that_is_to_be_stopped_has_no_next_attempt(
        self, database: Database, worker: JobContext, ada: Viewer, said: dict[str, Any]
    ) -> None:
        run = await start(database, ada, places=PLACES, rules={"NAN_LOSS": "STOP"})
        await look_at(worker, run.id)
        await say(worker, run, ReportSource.POD, warnings=(Warned(WarningCode.NAN_LOSS, "loss is nan"),))
        await say(worker, run, **said)
        row = await row_of(worker, run)
        assert (row.attempt, row.status, row.end_reason, row.error_message) == (
            1,
            RunStatus.FAILED,
            EndReason.DIVERGED,
            "loss is nan",
        )


class TestBudget:
    async def test_a_machine_is_kept_no_longer_than_the_budget_lasts_although_its_cost_was_read_long_ago(
        self, database: Database, worker: JobContext, trainer: Stubborn, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada, budget_micros=200_000, keep_seconds=3600)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0, cost_micros=0)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        clock.at += timedelta(seconds=100)
        await say(worker, run, ReportSource.POD, outcome=Outcome(EndReason.SUCCEEDED))
        assert (await row_of(worker, run)).status is RunStatus.READY
        while not await end_resources(worker):
            clock.at += timedelta(seconds=5)
        (resource,) = await resources_of(worker, run)
        assert 185_000 <= resource.cost_micros <= 200_000

    async def test_what_would_be_used_up_before_it_could_be_stopped_is_not_started(
        self, database: Database, worker: JobContext, trainer: Stubborn, ada: Viewer
    ) -> None:
        run = await start(database, ada, budget_micros=5_000)
        trainer.quoted = [Quote(None, PRICE, None, None, None)]
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, trainer.started) == (RunStatus.FAILED, EndReason.OUT_OF_BUDGET, {})
        assert await end_resources(worker) == 1

    async def test_what_has_no_price_is_not_started_with_one(
        self, database: Database, worker: JobContext, trainer: Stubborn, ada: Viewer
    ) -> None:
        """Whoever names hardware that is in no list would have a budget that nothing ever reaches."""
        run = await start(database, ada, budget_micros=50_000)
        trainer.quoted = [Quote("gpu-unheard-of", None, None, None, None)]
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).end_reason is EndReason.OUT_OF_BUDGET and trainer.started == {}

    async def test_the_attempt_after_one_that_used_it_up_is_not_started(
        self, database: Database, worker: JobContext, trainer: Stubborn, ada: Viewer
    ) -> None:
        run = await start(database, ada, budget_micros=50_000)
        trainer.quoted = [Quote(None, PRICE, None, None, None)]
        await look_at(worker, run.id)
        trainer.says = saying(vanished=True, cost_micros=48_000)
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).attempt == 2
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).end_reason is EndReason.OUT_OF_BUDGET and len(trainer.started) == 1

    @pytest.mark.parametrize(
        ("facts", "reason", "longest"),
        [
            ({"budget_micros": 60_000}, EndReason.OUT_OF_BUDGET, 60),
            ({"time_limit_seconds": 60}, EndReason.TIMED_OUT, 121),
        ],
    )
    async def test_limits_are_kept_while_the_provider_cannot_be_read(
        self,
        database: Database,
        worker: JobContext,
        trainer: Stubborn,
        clock: FixedClock,
        ada: Viewer,
        facts: dict[str, Any],
        reason: EndReason,
        longest: float,
    ) -> None:
        run = await start(database, ada, **facts)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        began = clock.at
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        trainer.is_deaf = True
        for _ in range(20):
            look = await look_at(worker, run.id)
            if look.again_after_seconds is None:
                break
            clock.at += timedelta(seconds=look.again_after_seconds)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason, len(trainer.stopped)) == (RunStatus.FAILED, reason, 1)
        assert (clock.at - began).total_seconds() <= longest


class TestNothingHangs:
    async def test_what_its_key_cannot_stop_any_more_ends_after_a_while(
        self, database: Database, worker: JobContext, trainer: Stubborn, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada, rules={"NAN_LOSS": "STOP"})
        trainer.says = saying(stage=RunStage.TRAINING, warnings=(Warned(WarningCode.NAN_LOSS, "nan"),))
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        trainer.failing = CredentialRefused("The key is wrong.")
        for _ in range(5):
            await look_at(worker, run.id)
            clock.at += timedelta(seconds=30)
        row = await row_of(worker, run)
        assert (row.status, row.end_reason) == (RunStatus.FAILED, EndReason.DIVERGED)
        await end_resources(worker)
        (resource,) = await resources_of(worker, run)
        assert (resource.status, resource.last_error) == (ResourceStatus.ENDING, "The key is wrong.")

    async def test_a_key_that_is_missing_for_a_minute_ends_nothing(
        self, database: Database, worker: JobContext, trainer: Stubborn, clock: FixedClock, ada: Viewer
    ) -> None:
        """As when a worker is started without one of its settings."""
        run = await start(database, ada)
        trainer.says = saying(stage=RunStage.TRAINING, percent=1.0)
        await look_at(worker, run.id)
        await look_at(worker, run.id)
        careless = replace(worker, trainers={})
        for _ in range(3):
            await look_at(careless, run.id)
            clock.at += timedelta(seconds=20)
        assert (await row_of(worker, run)).status is RunStatus.TRAINING
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.suspected_at) == (RunStatus.TRAINING, None)

    async def test_each_attempt_waits_in_the_queue_for_itself(
        self, database: Database, worker: JobContext, trainer: Stubborn, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await start(database, ada)
        await look_at(worker, run.id)
        clock.at += timedelta(seconds=worker.settings.queue_limit_seconds + 60)
        await say(worker, run, vanished=True)
        trainer.failing = ProviderBusy("Too many requests.", 1)
        await look_at(worker, run.id)
        row = await row_of(worker, run)
        assert (row.status, row.attempt) == (RunStatus.QUEUED, 2)
        clock.at += timedelta(seconds=worker.settings.queue_limit_seconds + 1)
        await look_at(worker, run.id)
        assert (await row_of(worker, run)).end_reason is EndReason.QUEUE_TIMED_OUT


class TestSweeps:
    async def test_what_will_not_end_keeps_nothing_else_alive(
        self, database: Database, worker: JobContext, trainer: Stubborn, clock: FixedClock, ada: Viewer
    ) -> None:
        """Keys that were changed at the provider, machines that are kept, faults of ours: more than one sweep takes."""
        run = await make_run(database, ada, status=RunStatus.FAILED)
        await have(database, ada, run, *(f"stuck-{number}" for number in range(50)))
        await have(database, ada, run, "odd-1", "odd-2")
        later = clock.at + timedelta(hours=1)
        await have(database, ada, run, *(f"kept-{number}" for number in range(50)), keep_until=later)
        await have(database, ada, run, *(f"free-{number}" for number in range(10)))
        for _ in range(3):
            await end_resources(worker)
            clock.at += timedelta(seconds=5)
        assert sorted(trainer.stopped) == [f"free-{number}" for number in range(10)]
        assert len(trainer.pressed) == 52  # once each: none is asked again at once

    async def test_two_workers_do_not_ask_about_the_same(
        self, database: Database, worker: JobContext, trainer: Stubborn, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.FAILED)
        await have(database, ada, run, "stuck-1")
        await end_resources(worker)
        await end_resources(worker)
        assert trainer.pressed == ["stuck-1"]

    async def test_the_operators_account_is_looked_through_however_many_others_there_are(
        self, database: Database, worker: JobContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(strays, "MOST_ACCOUNTS", 2)
        for _ in range(12):
            user = await make_user(database)
            run = await make_run(database, user, status=RunStatus.TRAINING)
            await have(database, user, run, f"test-{run.id.hex}", is_test=True)
            await have(database, user, run, f"real-{run.id.hex}")
        found = [[account.user_id for account in await strays._accounts(worker)] for _ in range(20)]
        assert all(len(users) == 2 and users[0] is None for users in found)
        assert len({users[1] for users in found}) > 2  # and of the others each has its turn


class TestPoison:
    async def test_a_sandbox_named_by_what_no_row_holds_is_one_that_nobody_knows(
        self, database: Database, worker: JobContext
    ) -> None:
        for number, name in enumerate((b"a\\u0000", b"x" * 10_000, b"\\ud83d\\ude00")):
            body = b'{"sandboxId": "%s"}' % name
            id = await keep(database, body, source=CallbackSource.E2B, event_id=str(number))
            assert id is not None
            await tasks.apply_callback(worker, id)
            assert (await callback_of(worker, id)).status is CallbackStatus.MOOT

    async def test_a_report_that_breaks_the_transaction_holds_up_none_behind_it(
        self, database: Database, worker: JobContext, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = await started(database, ada, provider=Provider.RUNPOD)
        token = await make_token(worker.database, run)
        ids = []
        for number in (1, 2):
            facts: dict[str, Any] = {
                "source": CallbackSource.POD,
                "token": token,
                "event_id": str(number),
                "sequence": number,
            }
            id = await keep(database, b'{"sequence": %d}' % number, **facts)
            assert id is not None
            ids.append(id)
        fold = reporting._fold

        async def broken(work: Any, run: Any, attempt: Any, callback: Any, *read: Any) -> None:
            if callback.sequence == 1:
                await (await work.session.connection()).execute(sa.text("SELECT 1 / 0"))
            await fold(work, run, attempt, callback, *read)

        monkeypatch.setattr(reporting, "_fold", broken)
        await tasks.apply_callback(worker, ids[1])
        found = [(await callback_of(worker, id)).status for id in ids]
        assert found == [CallbackStatus.UNREADABLE, CallbackStatus.APPLIED]
