"""Leases: each due run is looked after by one worker, and by another once that one is gone."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import httpx2
import pytest

from db.settings import Settings
from db.unit_of_work import Database
from domain.clock import FixedClock
from domain.errors import Unavailable
from domain.training import queries
from domain.training.model import TrainingRun
from domain.training.status import FINAL, EndReason, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.runner import AGAIN_AFTER_ERROR_SECONDS, LEASE_SECONDS, MOST_FAILURES, MOST_RUNS, Runner
from tests.factories import make_model, make_run
from tests.jobs.support import context_of

pytestmark = pytest.mark.anyio

SOON_SECONDS = 5


@dataclass
class Caretaker:
    """Notes whom it looks after, and stays until it is let go."""

    taken: list[UUID] = field(default_factory=list)
    woken: int = 0
    error: Exception | None = None
    stays: bool = True

    async def __call__(self, context: JobContext, run_id: UUID, wake: Callable[[float], Awaitable[None]]) -> float:
        self.taken.append(run_id)
        if self.error is not None:
            raise self.error
        while self.stays:
            await wake(600)
            self.woken += 1
        return 30.0


@pytest.fixture
def others(settings: Settings, worker_database: Database, http: httpx2.AsyncClient) -> JobContext:
    """Another worker process."""
    return context_of(settings, worker_database, http)


@asynccontextmanager
async def running(context: JobContext, caretaker: Caretaker) -> AsyncIterator[Runner]:
    runner = Runner(context, caretaker=caretaker)
    async with anyio.create_task_group() as group:
        group.start_soon(runner.run)
        yield runner
        group.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(SOON_SECONDS):
        while not condition():
            await anyio.sleep(0.01)


async def row_of(context: JobContext, run_id: UUID) -> TrainingRun:
    async with context.begin() as work:
        return await work.session.get_one(TrainingRun, run_id)


async def claim(context: JobContext, **more: Any) -> list[UUID]:
    async with context.begin() as work:
        return await queries.claim_due(
            work.session,
            worker_id=context.worker_id,
            now=context.clock.now(),
            lease_seconds=LEASE_SECONDS,
            **{"count": 10, **more},
        )


class TestClaims:
    async def test_only_what_is_due_and_goes_on(self, database: Database, worker: JobContext, ada: Viewer) -> None:
        model = await make_model(database, ada)
        due = [
            (await make_run(database, ada, model=model, status=status)).id
            for status in RunStatus
            if status not in FINAL
        ]
        for status in FINAL:
            await make_run(database, ada, model=model, status=status)
        await make_run(database, ada, model=model, next_check_at=worker.clock.now() + timedelta(seconds=1))
        assert sorted(await claim(worker)) == sorted(due)

    async def test_a_lease_keeps_others_away_until_it_runs_out(
        self, database: Database, worker: JobContext, others: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await make_run(database, ada)
        assert await claim(worker) == [run.id]
        assert await claim(others) == []
        clock.at += timedelta(seconds=LEASE_SECONDS)
        assert await claim(others) == []
        clock.at += timedelta(milliseconds=1)
        assert await claim(others) == [run.id]
        assert (await row_of(worker, run.id)).lease_owner == others.worker_id

    async def test_a_lease_is_renewed_by_its_holder_only(
        self, database: Database, worker: JobContext, others: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await make_run(database, ada)
        await claim(worker)
        clock.at += timedelta(seconds=LEASE_SECONDS - 1)
        for context, renewed in ((others, set()), (worker, {run.id})):
            async with context.begin() as work:
                assert renewed == await queries.renew_leases(
                    work.session,
                    worker_id=context.worker_id,
                    run_ids=[run.id],
                    now=clock.at,
                    lease_seconds=LEASE_SECONDS,
                )
        assert (await row_of(worker, run.id)).lease_until == clock.at + timedelta(seconds=LEASE_SECONDS)

    async def test_the_longest_due_come_first_and_no_more_than_asked_for(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        now = worker.clock.now()
        runs = [await make_run(database, ada, next_check_at=now - timedelta(seconds=seconds)) for seconds in (1, 3, 2)]
        assert sorted(await claim(worker, count=2)) == sorted([runs[1].id, runs[2].id])

    async def test_two_who_claim_at_once_share(
        self, database: Database, worker: JobContext, others: JobContext, ada: Viewer
    ) -> None:
        model = await make_model(database, ada)
        runs = {(await make_run(database, ada, model=model)).id for _ in range(20)}
        claimed: list[UUID] = []

        async def take(context: JobContext) -> None:
            while found := await claim(context, count=3):
                claimed.extend(found)

        async with anyio.create_task_group() as group:
            group.start_soon(take, worker)
            group.start_soon(take, others)
        assert len(claimed) == 20 and set(claimed) == runs


class TestRunner:
    async def test_two_workers_look_after_each_run_once(
        self, database: Database, worker: JobContext, others: JobContext, ada: Viewer
    ) -> None:
        model = await make_model(database, ada)
        runs = sorted([(await make_run(database, ada, model=model)).id for _ in range(8)])
        one, other = Caretaker(), Caretaker()
        async with running(worker, one), running(others, other):
            await until(lambda: len(one.taken + other.taken) == len(runs))
        assert sorted(one.taken + other.taken) == runs

    async def test_who_stops_hands_over_at_once(
        self, database: Database, worker: JobContext, others: JobContext, ada: Viewer
    ) -> None:
        run = await make_run(database, ada)
        first, second = Caretaker(), Caretaker()
        async with running(worker, first):
            await until(lambda: first.taken == [run.id])
        row = await row_of(worker, run.id)
        assert (row.lease_owner, row.lease_until, row.next_check_at) == (None, None, worker.clock.now())
        async with running(others, second):
            await until(lambda: second.taken == [run.id])

    async def test_who_was_killed_is_missed_after_the_lease(
        self, database: Database, worker: JobContext, others: JobContext, clock: FixedClock, ada: Viewer
    ) -> None:
        """A killed worker gives nothing back: its lease just stays."""
        run = await make_run(database, ada)
        await claim(worker)
        second = Caretaker()
        async with running(others, second) as runner:
            await runner.ring(run.id)
            await anyio.sleep(0.05)
            assert second.taken == []
            clock.at += timedelta(seconds=LEASE_SECONDS + 1)
            await runner.ring(run.id)
            await until(lambda: second.taken == [run.id])

    async def test_a_ring_wakes_the_caretaker(self, database: Database, worker: JobContext, ada: Viewer) -> None:
        run = await make_run(database, ada)
        caretaker = Caretaker()
        async with running(worker, caretaker) as runner:
            await until(lambda: caretaker.taken == [run.id])
            await runner.ring(run.id)
            await until(lambda: caretaker.woken == 1)
            await runner.ring(run.id)
            await until(lambda: caretaker.woken == 2)

    async def test_a_ring_for_a_new_run_makes_it_be_claimed(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        caretaker = Caretaker()
        async with running(worker, caretaker) as runner:
            run = await make_run(database, ada)
            await runner.ring(run.id)
            await until(lambda: caretaker.taken == [run.id])

    async def test_what_its_caretaker_lets_go_is_due_when_that_says(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await make_run(database, ada)
        async with running(worker, Caretaker(stays=False)) as runner:
            with anyio.fail_after(SOON_SECONDS):
                while (row := await row_of(worker, run.id)).next_check_at == run.next_check_at:
                    await anyio.sleep(0.01)
            assert runner.bells == {}
        assert row.lease_owner is None
        assert row.next_check_at == worker.clock.now() + timedelta(seconds=30)

    @pytest.mark.parametrize(
        ("error", "seconds"), [(RuntimeError("a fault of ours"), AGAIN_AFTER_ERROR_SECONDS), (Unavailable(), 1.0)]
    )
    async def test_a_failure_is_tried_again_and_hurts_no_other_run(
        self, database: Database, worker: JobContext, ada: Viewer, error: Exception, seconds: float
    ) -> None:
        run = await make_run(database, ada)
        caretaker = Caretaker(error=error)
        async with running(worker, caretaker) as runner:
            await until(lambda: caretaker.taken == [run.id])
            caretaker.error = None
            other = await make_run(database, ada)
            await runner.ring(other.id)
            await until(lambda: other.id in caretaker.taken)
            row = await row_of(worker, run.id)
        assert row.lease_owner is None
        assert row.next_check_at == worker.clock.now() + timedelta(seconds=seconds)

    async def test_what_fails_again_and_again_is_the_run_s_end(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        runner = Runner(worker, caretaker=Caretaker(error=ValueError("broken")))
        for _ in range(MOST_FAILURES):
            assert (await row_of(worker, run.id)).status is RunStatus.TRAINING
            runner.bells[run.id] = anyio.Event()
            await runner._care(run.id)
        row = await row_of(worker, run.id)
        assert (row.status, row.end_reason) == (RunStatus.FAILED, EndReason.PROVIDER_ERROR)
        assert row.error_message is not None and "broken" not in row.error_message
        assert runner.failures == {}

    async def test_a_worker_takes_no_more_than_it_can(
        self, database: Database, worker: JobContext, ada: Viewer
    ) -> None:
        model = await make_model(database, ada)
        for _ in range(MOST_RUNS + 2):
            await make_run(database, ada, model=model)
        caretaker = Caretaker()
        async with running(worker, caretaker) as runner:
            await until(lambda: len(caretaker.taken) == MOST_RUNS)
            await runner.ring(UUID(int=0))
            await anyio.sleep(0.05)
            assert len(caretaker.taken) == MOST_RUNS
