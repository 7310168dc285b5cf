"""Callbacks become truth: applied once, in order, through the one door; or kept with the reason why not."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
from sqlmodel import select

from db.unit_of_work import Database
from domain.callback.model import Callback, CallbackSource, CallbackStatus
from domain.callback.service import MOST_WHOLE
from domain.clock import FixedClock
from domain.commands import ApplyCallback, CheckRun
from domain.training import queries
from domain.training.model import PodToken, PodTokenKind, TrainingRun
from domain.training.report import HostedModel, LogChunk, LogText, Outcome, Report
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.base import (
    CallbackBody,
    CallbackForged,
    CallbackUnreadable,
    CredentialRefused,
    Position,
    ProviderBusy,
)
from jobs.runner import Runner
from jobs.tasks import callback as tasks
from jobs.worker import doorbell_functions
from tests.domain.callback.support import callbacks, keep, make_token
from tests.factories import make_run
from tests.fakes import Told
from tests.jobs.calling import called, row_of, run_of, started
from tests.jobs.support import ScriptedTrainer

pytestmark = pytest.mark.anyio


@dataclass
class HearingTrainer(ScriptedTrainer):
    """A provider that calls, and says of each call what the test gives it."""

    heard_with: list[tuple[CallbackBody, str, Position]] = field(default_factory=list)
    hears: Callable[[CallbackBody, Position], Report | None] = lambda body, position: None

    async def heard(self, callback: CallbackBody, reference: str, position: Position) -> Report | None:
        self._check()
        self.heard_with.append((callback, reference, position))
        return self.hears(callback, position)


@pytest.fixture
def replicate() -> HearingTrainer:
    return HearingTrainer()


@pytest.fixture
def worker(worker: JobContext, replicate: HearingTrainer) -> JobContext:
    trainers = {**worker.trainers, Provider.REPLICATE: replicate, Provider.E2B: ScriptedTrainer()}
    return replace(worker, trainers=trainers)


def says(**facts: Any) -> Callable[[CallbackBody, Position], Report]:
    def hears(body: CallbackBody, position: Position) -> Report:
        given: dict[str, Any] = {"source": ReportSource.WEBHOOK, "attempt": position.attempt, "at": body.received_at}
        return Report(**given | facts)

    return hears


class TestReplicate:
    async def test_what_it_says_is_folded_into_the_run(
        self,
        database: Database,
        worker: JobContext,
        replicate: HearingTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run, b'{"status": "processing"}')
        received_at = clock.now()
        clock.at += timedelta(seconds=3)
        replicate.hears = says(percent=50.0, log=LogChunk(0, 5, (LogText("hello", clock.now()),), {"x": 1}))
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert (row.status, row.applied_at, row.error, row.tries) == (CallbackStatus.APPLIED, clock.now(), None, 1)
        ((body, reference, position),) = replicate.heard_with
        assert body == CallbackBody({"webhook-id": "m"}, b'{"status": "processing"}', received_at)
        assert (reference, position.attempt, position.tag, position.offset) == ("ref-1", 1, f"runwire-{run.id}-1", 0)
        after = await run_of(worker, run)
        assert (after.progress, after.log_lines) == (52.5, 1)
        assert "run.logged" in told.types() and "run.progressed" in told.types()

    async def test_it_has_no_second_effect(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, told: Told, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)
        replicate.hears = says(percent=50.0)
        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(tasks.apply_callback, worker, id)
        assert len(replicate.heard_with) == 1
        assert told.types().count("run.progressed") == 2  # in the run's stream, and in its owner's feed

    async def test_its_last_word_ends_the_run(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)
        hosted = HostedModel("acme/cat:9f0c", "https://replicate.delivery/x.tar")
        replicate.hears = says(outcome=Outcome(EndReason.SUCCEEDED), hosted=hosted)
        await tasks.apply_callback(worker, id)
        after = await run_of(worker, run)
        assert (after.status, after.end_reason) == (RunStatus.READY, EndReason.SUCCEEDED)
        late = await called(database, run, b"late")
        await tasks.apply_callback(worker, late)
        row = await row_of(worker, late)
        assert (row.status, row.error) == (CallbackStatus.MOOT, "The run, or that attempt of it, was over.")
        assert len(replicate.heard_with) == 1

    async def test_what_opens_another_step_is_looked_at_now(
        self,
        database: Database,
        worker: JobContext,
        replicate: HearingTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
    ) -> None:
        run = await started(
            database, ada, status=RunStatus.PREPARING, next_check_at=clock.now() + timedelta(seconds=50)
        )
        told.forget()
        replicate.hears = says(stage=RunStage.TRAINING)
        await tasks.apply_callback(worker, await called(database, run))
        assert CheckRun(run.id) in told.commands
        assert (await run_of(worker, run)).next_check_at == clock.now()
        told.forget()
        replicate.hears = says(percent=10.0)
        await tasks.apply_callback(worker, await called(database, run, b"2"))
        assert CheckRun(run.id) not in told.commands

    async def test_a_forged_one_changes_nothing_and_is_kept(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, told: Told, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run, b"forged")

        def hears(body: CallbackBody, position: Position) -> Report:
            raise CallbackForged("No valid signature.")

        replicate.hears = hears
        told.forget()
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert (row.status, row.error, row.body) == (CallbackStatus.REJECTED, "No valid signature.", b"forged")
        assert await run_of(worker, run) == run and told.events == [] and told.commands == []

    async def test_of_many_forged_ones_little_is_kept(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, ada: Viewer
    ) -> None:
        run = await started(database, ada)

        def hears(body: CallbackBody, position: Position) -> Report:
            raise CallbackForged("No valid signature.")

        replicate.hears = hears
        ids = [await called(database, run, b"%05d" % number + b"x" * 10_000) for number in range(MOST_WHOLE + 5)]
        for id in ids:
            await tasks.apply_callback(worker, id)
        sizes = [len((await row_of(worker, id)).body) for id in ids]
        assert sizes == [10_005] * MOST_WHOLE + [4096] * 5

    async def test_an_unreadable_one_is_kept_with_what_was_expected(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)

        def hears(body: CallbackBody, position: Position) -> Report:
            raise CallbackUnreadable("JSON with a training was expected.")

        replicate.hears = hears
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert (row.status, row.error) == (CallbackStatus.UNREADABLE, "JSON with a training was expected.")

    async def test_a_busy_provider_is_asked_again_more_and_more_slowly_and_not_for_ever(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)
        replicate.failing = ProviderBusy("Replicate is away.", 3.0)
        waits = []
        for _ in range(tasks.MOST_TRIES):
            await tasks.sweep_callbacks(worker)
            row = await row_of(worker, id)
            waits.append((row.next_try_at - clock.now()).total_seconds())
            clock.at = row.next_try_at
        assert waits[:-1] == [3.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 300.0]
        row = await row_of(worker, id)
        assert (row.status, row.error, row.tries) == (CallbackStatus.UNREADABLE, "Replicate is away.", 10)

    async def test_one_that_could_not_be_applied_is_applied_once_it_can(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)
        replicate.failing = ProviderBusy("Replicate is away.", 3.0)
        await tasks.apply_callback(worker, id)
        replicate.failing, replicate.hears = None, says(percent=50.0)
        await tasks.sweep_callbacks(worker)
        assert (await row_of(worker, id)).status is CallbackStatus.RECEIVED  # not yet
        clock.at += timedelta(seconds=3)
        await tasks.sweep_callbacks(worker)
        assert (await row_of(worker, id)).status is CallbackStatus.APPLIED

    async def test_a_key_that_is_refused_leaves_it_to_whoever_operates_this(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)
        replicate.failing = CredentialRefused("The key was refused.")
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert (row.status, row.error) == (CallbackStatus.UNREADABLE, "The key was refused.")

    async def test_a_fault_of_ours_is_tried_again(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)

        def hears(body: CallbackBody, position: Position) -> Report:
            raise RuntimeError("a secret detail")

        replicate.hears = hears
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert row.status is CallbackStatus.RECEIVED and row.next_try_at > clock.now()
        assert row.error is not None and "secret" not in row.error

    async def test_one_that_comes_before_the_answer_to_the_creation_waits_for_it(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await started(database, ada, reference=None)
        id = await called(database, run)
        replicate.hears = says(percent=50.0)
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert row.status is CallbackStatus.RECEIVED and replicate.heard_with == []
        assert 0 < (row.next_try_at - clock.now()).total_seconds() <= 1
        async with worker.begin() as work:
            attempt = await queries.attempt_of(work.session, run.id, 1)
            assert attempt is not None
            attempt.reference = "ref-1"
        clock.at = row.next_try_at
        await tasks.sweep_callbacks(worker)
        assert (await row_of(worker, id)).status is CallbackStatus.APPLIED
        assert (await run_of(worker, run)).progress == 52.5

    async def test_and_is_a_hint_where_that_never_comes(
        self,
        database: Database,
        worker: JobContext,
        replicate: HearingTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
    ) -> None:
        run = await started(database, ada, reference=None)
        id = await called(database, run)
        began = clock.now()
        told.forget()
        for _ in range(tasks.REFERENCE_TRIES):
            await tasks.sweep_callbacks(worker)
            clock.at = (await row_of(worker, id)).next_try_at
        row = await row_of(worker, id)
        assert row.status is CallbackStatus.APPLIED and told.commands == [CheckRun(run.id)]
        assert replicate.heard_with == [] and clock.at - began < timedelta(seconds=60)


class TestHints:
    async def test_a_provider_that_says_nothing_is_read_again(
        self,
        database: Database,
        worker: JobContext,
        replicate: HearingTrainer,
        clock: FixedClock,
        told: Told,
        ada: Viewer,
    ) -> None:
        run = await started(database, ada, next_check_at=clock.now() + timedelta(seconds=50))
        id = await called(database, run)
        told.forget()
        await tasks.apply_callback(worker, id)
        assert (await row_of(worker, id)).status is CallbackStatus.APPLIED
        assert (await run_of(worker, run)).next_check_at == clock.now() and told.commands == [CheckRun(run.id)]
        assert told.events == []

    async def test_astrias_body_is_not_looked_at(
        self, database: Database, worker: JobContext, clock: FixedClock, told: Told, ada: Viewer
    ) -> None:
        run = await started(database, ada, provider=Provider.ASTRIA, next_check_at=clock.now() + timedelta(seconds=50))
        token = await make_token(worker.database, run, kind=PodTokenKind.CALLBACK)
        id = await keep(database, b"\xff\x00 not even JSON", source=CallbackSource.ASTRIA, token=token)
        assert id is not None
        told.forget()
        await tasks.apply_callback(worker, id)
        assert (await row_of(worker, id)).status is CallbackStatus.APPLIED
        assert (await run_of(worker, run)).next_check_at == clock.now() and told.commands == [CheckRun(run.id)]

    async def test_e2b_is_matched_by_the_sandbox_that_it_names(
        self, database: Database, worker: JobContext, clock: FixedClock, told: Told, ada: Viewer
    ) -> None:
        run = await started(database, ada, provider=Provider.E2B, reference="isb1")
        await started(database, ada, provider=Provider.REPLICATE, reference="isb2")
        told.forget()
        ids = []
        for body in (b'{"sandboxId": "isb1"}', b'{"sandboxId": "isb2"}', b'{"sandboxId": 7}', b"[]", b"nonsense"):
            id = await keep(database, body, source=CallbackSource.E2B, event_id=body.decode())
            assert id is not None
            ids.append(id)
            await tasks.apply_callback(worker, id)
        statuses = [(await row_of(worker, id)).status for id in ids]
        assert statuses == [CallbackStatus.APPLIED, *[CallbackStatus.MOOT] * 4]
        assert [command for command in told.commands if isinstance(command, CheckRun)] == [CheckRun(run.id)]


class TestMoot:
    async def test_what_nobody_knows_is_kept_in_part(self, database: Database, worker: JobContext) -> None:
        id = await keep(database, b"x" * 100_000, event_id="e", tag="run-of-nobody-1")
        assert id is not None
        await tasks.apply_callback(worker, id)
        row = await row_of(worker, id)
        assert (row.status, row.error) == (CallbackStatus.MOOT, "It is about nothing that we know.")
        assert len(row.body) == 4096

    async def test_an_older_attempts_call_changes_nothing(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, ada: Viewer
    ) -> None:
        run = await started(database, ada, attempts=2)
        id = await called(database, run, number=1)
        await tasks.apply_callback(worker, id)
        assert (await row_of(worker, id)).status is CallbackStatus.MOOT and replicate.heard_with == []

    async def test_one_that_is_gone_is_passed_over_quietly(self, worker: JobContext) -> None:
        await tasks.apply_callback(worker, UUID(int=7))


class TestSweep:
    async def test_what_redis_lost_is_found(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, told: Told, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        ids = [await called(database, run, str(number).encode()) for number in range(60)]
        replicate.hears = says(percent=50.0)
        told.forget()  # nobody hears the bell
        await tasks.sweep_callbacks(worker)
        await tasks.sweep_callbacks(worker)
        assert {(await row_of(worker, id)).status for id in ids} == {CallbackStatus.APPLIED}

    async def test_what_a_killed_worker_had_claimed_is_found_later(
        self, database: Database, worker: JobContext, replicate: HearingTrainer, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await started(database, ada)
        id = await called(database, run)

        def hears(body: CallbackBody, position: Position) -> Report:
            raise anyio.get_cancelled_exc_class()

        replicate.hears = hears
        with anyio.CancelScope() as scope:
            scope.cancel()
            await tasks.apply_callback(worker, id)
        replicate.hears = says(percent=50.0)
        clock.at += timedelta(seconds=tasks.CLAIM_SECONDS + 1)
        await tasks.sweep_callbacks(worker)
        assert (await row_of(worker, id)).status is CallbackStatus.APPLIED


class TestRetention:
    async def test_reports_go_first_other_callbacks_later_and_dead_tokens_with_them(
        self, database: Database, worker: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        now = clock.now()
        kinds = [
            (CallbackSource.POD, CallbackStatus.APPLIED),
            (CallbackSource.POD, CallbackStatus.UNREADABLE),
            (CallbackSource.REPLICATE, CallbackStatus.APPLIED),
            (CallbackSource.REPLICATE, CallbackStatus.REJECTED),
        ]
        async with worker.begin() as work:
            work.session.add_all(
                Callback(
                    created_at=now - timedelta(days=age, seconds=1),
                    source=source,
                    status=status,
                    body=b"",
                    sha256="",
                    next_try_at=now,
                    event_id=f"{age}:{status}",
                )
                for age in (0, 1, 29, 30)
                for source, status in kinds
            )
        ended, going = await make_run(database, ada, status=RunStatus.FAILED), await started(database, ada)
        recent = await make_run(database, ada, status=RunStatus.FAILED, ended_at=now)
        for run, age in ((ended, 8), (recent, 6)):
            async with database.begin(ada) as work:
                row = await work.session.get_one(TrainingRun, run.id)
                row.ended_at = now - timedelta(days=age)
        for run in (ended, going, recent):
            await make_token(worker.database, run)
        assert await tasks.forget_old_callbacks(worker) == 7
        left = [((now - row.created_at).days, row.source, row.status) for row in await callbacks(worker.database)]
        assert left == [
            (age, source, status)
            for age in (0, 1, 29)
            for source, status in kinds
            if age == 0 or (source, status) != kinds[0]
        ]
        async with worker.begin() as work:
            owners = set((await work.session.exec(select(PodToken.run_id))).all())
        assert owners == {going.id, recent.id}
        assert await tasks.forget_old_callbacks(worker) == 0

    async def test_more_than_a_batch_goes_in_one_sweep(
        self, database: Database, worker: JobContext, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tasks, "BATCH", 3)
        for number in range(10):
            await keep(database, event_id=str(number))
        clock.at += timedelta(days=31)
        assert await tasks.forget_old_callbacks(worker) == 10


async def test_the_bell_of_a_kept_call_is_answered(
    database: Database, worker: JobContext, replicate: HearingTrainer, told: Told, ada: Viewer
) -> None:
    """What the door enqueues is what the worker's function takes."""
    run = await started(database, ada)
    id = await called(database, run)
    assert ApplyCallback(id) in told.commands
    functions = doorbell_functions(worker, Runner(worker))
    (function,) = [function for function in functions if function.name == ApplyCallback.name]
    await function.coroutine({}, callback_id=str(id))
    assert (await row_of(worker, id)).status is CallbackStatus.APPLIED
