"""`kill -9` of real workers at 20 random instants of runs; another one, or the next one, goes on.

The instants come from a seed: FAULT_SEED=<number> repeats one.
"""

import os
import random
import time
from uuid import UUID

import anyio
import pytest

from domain.training.status import RunStatus
from graph.cli.processes import Process
from graph.ids import uuid_of
from tests.e2e.harness import Rows, Run, Tenant, World, observed, until
from tests.e2e.ledger import check_run
from tests.e2e.watching import watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

KILLS = 20
MOVING_AT_ONCE = 2
"""Runs, beside those that wait for the lease of a dead worker to run out."""
LONGEST_WAIT_SECONDS = 1.0
"""Between a worker's first lease and its death, at most."""
DEPLOYED = 4
"""Each fourth run is served."""
GOES_ON_SECONDS = 30.0
HELD = """
    SELECT run.id FROM training_runs run JOIN workers worker ON worker.id = run.lease_owner
    WHERE worker.pid = $1 AND run.user_id = $2 AND run.status NOT IN ('READY', 'FAILED', 'CANCELED')
"""
MOVING = """
    SELECT count(*) FROM training_runs run LEFT JOIN workers worker ON worker.id = run.lease_owner
    WHERE run.user_id = $2 AND run.status NOT IN ('READY', 'FAILED', 'CANCELED')
    AND (run.lease_until IS NULL OR run.lease_until < now() OR worker.pid = ANY($1))
"""


class Reaper:
    """Kills workers while they look after runs, and starts them again at once."""

    def __init__(self, world: World, user_id: UUID, seed: int) -> None:
        self.world = world
        self.user_id = user_id
        self.chance = random.Random(seed)
        self.killed_at: list[tuple[float, set[UUID]]] = []
        """When, and which runs the worker held."""

    @property
    def is_done(self) -> bool:
        return len(self.killed_at) >= KILLS

    async def haunt(self, process: Process) -> None:
        """Kill this worker again and again, until there were enough deaths."""
        async with self.world.database() as rows:
            while not self.is_done:
                await self._held(rows, process)
                await anyio.sleep(self.chance.uniform(0, LONGEST_WAIT_SECONDS))
                held = set(await rows.column(HELD, process.pid, self.user_id))
                if held and not self.is_done:
                    self.killed_at.append((time.time(), held))
                    await self.world.kill(process)
                    await self.world.begin(process)

    async def _held(self, rows: Rows, process: Process) -> None:
        """Wait until the worker looks after a run."""

        async def holds() -> bool:
            return self.is_done or bool(await rows.column(HELD, process.pid, self.user_id))

        await until(f"{process.name} looks after a run", holds, limit_seconds=60)


async def test_runs_go_on_after_twenty_kills(world: World, tenant: Tenant) -> None:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(10**6))
    print(f"\nFAULT_SEED={seed}")
    async with world.database() as rows:
        user_id = await rows.value("SELECT user_id FROM datasets WHERE id = $1", uuid_of(tenant.dataset_id, "Dataset"))
    reaper = Reaper(world, user_id, seed)
    runs: list[Run] = []

    async with watching(tenant) as watchers:
        async with world.database() as rows, anyio.create_task_group() as group:
            for process in world.workers:
                group.start_soon(reaper.haunt, process)
            while not reaper.is_done:
                if await rows.value(MOVING, [process.pid for process in world.workers], user_id) < MOVING_AT_ONCE:
                    number = len(runs)
                    size = {"epochs": reaper.chance.choice((20, 200)), "layers": reaper.chance.choice((8, 128))}
                    runs.append(await tenant.start(f"model-{number}", deploy=number % DEPLOYED == 0, **size))
                    watchers.add(runs[-1], [world.url(number % 2)])
                await anyio.sleep(0.1)
        await watchers.until_ended()
        for number, run in enumerate(runs):
            await check_run(world, tenant, run, deploy=number % DEPLOYED == 0, watchers=watchers.of(run))
    async with world.database() as rows:
        found = [await _until_it_went_on(rows, run_id, at, reaper) for at, held in reaper.killed_at for run_id in held]
    waits = [seconds for seconds in found if seconds is not None]
    assert max(waits) < GOES_ON_SECONDS
    observed(
        f"worker killed at {KILLS} random instants (seed {seed})",
        kills=len(reaper.killed_at),
        runs=len(runs),
        times_that_a_run_lost_its_worker=len(found),
        went_on_after_median=sorted(waits)[len(waits) // 2],
        went_on_after_at_most=max(waits),
    )


async def _until_it_went_on(rows: Rows, run_id: UUID, at: float, reaper: Reaper) -> float | None:
    """Seconds from then to the run's next event; None where its next worker was killed before, or nothing was left."""
    query = "SELECT min(extract(epoch FROM at)) FROM run_events WHERE run_id = $1 AND at > to_timestamp($2)"
    next_at = await rows.value(query, run_id, at)
    if next_at is None:
        assert await rows.status(run_id) is RunStatus.READY
        return None
    again = [later for later, held in reaper.killed_at if at < later < next_at and run_id in held]
    return None if again else float(next_at) - at
