"""`kill -9` of the worker just before and just after each commit and each provider call of a run's life.

First two runs are traced, one that is deployed and one that is canceled: they tell which points there are. Then every
point ends a worker. A few runs live through many such deaths each, far apart in their lives, side by side; what a run
did not come by, because a death before had changed its way, is given to a fresh run.
"""

import time
from pathlib import Path

import anyio
import pytest

from domain.training.status import RunStatus
from tests.e2e.doomed import DoomedWorkers, doomed_workers
from tests.e2e.harness import END_SECONDS, Rows, Run, Tenant, World, observed, until
from tests.e2e.ledger import check_run

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

RUNS = 6
"""That share the points among them."""
ROUNDS = 4
LAST_WORDS_SECONDS = 1.0
"""How long a worker may go on after its run has ended."""


class Life:
    """A run whose workers die one after the other."""

    def __init__(self, world: World, tenant: Tenant, workers: DoomedWorkers, *, canceled: bool) -> None:
        self.world = world
        self.tenant = tenant
        self.workers = workers
        self.canceled = canceled
        self.died_at: list[str] = []
        self.missed: list[str] = []
        self.run: Run
        self.seconds = 0.0

    @property
    def end(self) -> RunStatus:
        return RunStatus.CANCELED if self.canceled else RunStatus.READY

    async def live(self, name: str, deaths: list[str], trace: Path | None = None) -> None:
        """From the start to the end; a worker for each death, and a last one that finishes."""
        began = time.monotonic()
        # Long enough to be met in each stage.
        size = {"epochs": 600, "layers": 256} if self.canceled else {"epochs": 200, "layers": 64}
        self.run = await self.tenant.start(name, deploy=not self.canceled, **size)
        async with self.world.database() as rows, anyio.create_task_group() as group:
            if self.canceled:
                group.start_soon(self._cancel)
            while deaths and (point := await self._death(rows, deaths)):
                deaths.remove(point)
                self.died_at.append(point)
            self.missed = deaths
            last = await self.workers.order(self.run, trace=trace)
            await rows.until_status(self.run.row, self.end)
            with anyio.move_on_after(LAST_WORDS_SECONDS if trace else 0):
                await last.gone.wait()
            last.kill()
        self.seconds = time.monotonic() - began

    async def _death(self, rows: Rows, points: list[str]) -> str | None:
        """Where the next worker died; None once the run has ended and its worker has said all."""
        worker = await self.workers.order(self.run, die_at=points)
        deadline = time.monotonic() + END_SECONDS
        while not worker.gone.is_set() and not (await rows.status(self.run.row)).is_final:
            assert time.monotonic() < deadline, f"{await rows.why(self.run.row)}; still to die at: {points}"
            with anyio.move_on_after(0.1):
                await worker.gone.wait()
        with anyio.move_on_after(LAST_WORDS_SECONDS):
            await worker.gone.wait()
        worker.kill()
        await worker.gone.wait()
        return worker.died_at

    async def _cancel(self) -> None:
        async with self.world.database() as rows:
            await rows.until_status(self.run.row, RunStatus.TRAINING)
        await self.tenant.cancel(self.run)


async def test_a_run_goes_on_wherever_its_worker_dies(world: World, tenant: Tenant, tmp_path: Path) -> None:
    for process in world.workers:
        await world.stop(process)
    lives: list[Life] = []
    async with doomed_workers(world) as workers:

        async def live_all(plans: list[tuple[bool, list[str]]]) -> list[Life]:
            """Lives side by side; each plan says whether it is canceled, and where its workers die."""
            new = [Life(world, tenant, workers, canceled=canceled) for canceled, _ in plans]
            async with anyio.create_task_group() as group:
                for number, (life, (_, deaths)) in enumerate(zip(new, plans, strict=True), start=len(lives)):
                    group.start_soon(life.live, f"model-{number}", deaths)
            lives.extend(new)
            return new

        points = await _points(world, tenant, workers, tmp_path)
        plans = [(canceled, deaths) for canceled, some in points.items() for deaths in _dealt(some)]
        for _ in range(ROUNDS):
            done = await live_all(plans)
            plans = [(life.canceled, [point]) for life in done for point in life.missed]
        assert plans == [], "These points were never reached"
    for process in world.workers:
        await world.begin(process)
    for life in lives:
        await check_run(world, tenant, life.run, status=life.end, deploy=not life.canceled)
    wanted = {(canceled, point) for canceled, some in points.items() for point in some}
    assert {(life.canceled, point) for life in lives for point in life.died_at} == wanted
    observed(
        "worker killed before and after each commit and provider call",
        points=len(wanted),
        deaths=sum(len(life.died_at) for life in lives),
        runs=len(lives),
        longest_life_seconds=max(life.seconds for life in lives),
    )


async def test_what_a_sleeping_worker_starts_too_late_is_ended(world: World, tenant: Tenant) -> None:
    """A machine is suspended just before it starts a training, and wakes up when the run is long canceled."""
    for process in world.workers:
        await world.stop(process)
    run = await tenant.start("model", epochs=2000, layers=64)
    async with doomed_workers(world) as workers, world.database() as rows:
        sleeper = await workers.order(run, sleep_at="before LocalTrainer.start")
        await sleeper.until_asleep()
        await tenant.cancel(run)
        for process in world.workers:
            await world.begin(process)
        await rows.until_status(run.row, RunStatus.CANCELED)
        await until("its resource is ended", lambda: _is_ended(rows, run))
        sleeper.wake()
        await until("what it started is known", lambda: _has_reference(rows, run))
        await until("its resource is ended again", lambda: _is_ended(rows, run))
        await check_run(world, tenant, run, status=RunStatus.CANCELED)
        sleeper.kill()
    observed("worker asleep while its run is canceled, then awake", left=0)


async def _is_ended(rows: Rows, run: Run) -> bool:
    return bool(await rows.value("SELECT status = 'ENDED' FROM provider_resources WHERE run_id = $1", run.row))


async def _has_reference(rows: Rows, run: Run) -> bool:
    return bool(await rows.value("SELECT reference IS NOT NULL FROM run_attempts WHERE run_id = $1", run.row))


async def _points(world: World, tenant: Tenant, workers: DoomedWorkers, folder: Path) -> dict[bool, list[str]]:
    """The points of a run that is deployed, and those that only a canceled one has, in the order of life."""
    found: dict[bool, list[str]] = {}
    async with anyio.create_task_group() as group:
        for canceled in (False, True):
            life = Life(world, tenant, workers, canceled=canceled)
            group.start_soon(life.live, f"traced-{canceled}", [], folder / str(canceled))
    for canceled in (False, True):
        found[canceled] = (folder / str(canceled)).read_text(encoding="utf-8").splitlines()
    found[True] = [point for point in found[True] if point not in found[False]]
    # What is trained elsewhere or here is ended by the same steps, so few are left that only a canceled run has.
    assert len(found[False]) >= 50 and len(found[True]) >= 2
    return found


def _dealt(points: list[str]) -> list[list[str]]:
    """Dealt out like cards, so that each hand has points from all over a life."""
    hands = min(RUNS, max(1, len(points) // 2))
    return [points[first::hands] for first in range(hands)]
