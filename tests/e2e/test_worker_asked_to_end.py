"""SIGTERM for a worker: it gives back what it looks after, and another one goes on at once."""

import time

import anyio
import pytest

from domain.training.status import RunStatus
from tests.e2e.harness import Rows, Run, Tenant, World, observed, until
from tests.e2e.ledger import check_run
from tests.e2e.watching import watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

TAKEN_OVER_SECONDS = 3.0
"""Much sooner than a lease runs out."""
HOLDER = "SELECT worker.pid FROM training_runs run JOIN workers worker ON worker.id = run.lease_owner WHERE run.id = $1"


async def test_another_worker_goes_on_at_once(world: World, tenant: Tenant) -> None:
    run = await tenant.start("model", epochs=1500, layers=64)
    async with watching(tenant, [run], world.stack.api_urls) as watchers, world.database() as rows:
        await watchers.all[0].until_seen(status=RunStatus.TRAINING)
        holder = await rows.value(HOLDER, run.row)
        leaving = next(process for process in world.workers if process.pid == holder)
        asked = time.monotonic()
        async with anyio.create_task_group() as group:
            group.start_soon(world.stop, leaving)
            await until("another worker holds the run", lambda: _held_by_another(rows, run, holder))
            seconds = time.monotonic() - asked
        assert leaving.exit_code == 0
        assert await rows.value("SELECT count(*) FROM workers WHERE pid = $1", holder) == 0
        await watchers.until_ended()
        await check_run(world, tenant, run, watchers=watchers.all)
    observed("worker asked to end", taken_over_after=seconds)
    assert seconds < TAKEN_OVER_SECONDS


async def _held_by_another(rows: Rows, run: Run, before: int) -> bool:
    pid = await rows.value(HOLDER, run.row)
    return pid is not None and pid != before
