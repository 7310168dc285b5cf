"""A run is canceled at each stage of its life: it ends as CANCELED, and no process of it is left.

Stages that pass too fast to be met are held: by freezing the workers, or the API from which the training fetches its
data and through which a deployment is proved. The cancel then goes to the other API.
"""

import signal
import time

import anyio
import pytest

from domain.training.status import RunStage, RunStatus
from tests.e2e.harness import Rows, Run, Tenant, World, observed, until
from tests.e2e.ledger import check_run
from tests.e2e.watching import watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

CANCELED_SECONDS = 10.0


async def test_before_a_worker_took_it_up(world: World, tenant: Tenant) -> None:
    for process in world.workers:
        process.kill(signal.SIGSTOP)
    run = await tenant.start("model")
    async with watching(tenant, [run], world.stack.api_urls) as watchers, world.database() as rows:
        seconds = await _canceled(rows, tenant, run)
        for process in world.workers:
            process.kill(signal.SIGCONT)
        await watchers.until_ended()
        await check_run(world, tenant, run, status=RunStatus.CANCELED, watchers=watchers.all)
        assert await rows.value("SELECT count(*) FROM provider_resources WHERE run_id = $1", run.row) == 0
    observed("canceled while QUEUED", seconds=seconds)


@pytest.mark.parametrize("stage", [RunStage.DOWNLOADING_DATA, RunStage.DEPLOYING])
async def test_while_it_waits_for_the_first_api(world: World, stage: RunStage) -> None:
    async with world.tenant(api=1) as tenant, world.database() as rows:
        if stage is RunStage.DOWNLOADING_DATA:
            world.apis[0].kill(signal.SIGSTOP)
        run = await tenant.start("model", deploy=True)
        async with watching(tenant, [run], [world.url(1)]) as watchers:
            await _until_stage(rows, run, stage)
            world.apis[0].kill(signal.SIGSTOP)
            await anyio.sleep(0.5)  # so that it is in the midst of it
            assert await rows.value("SELECT stage FROM training_runs WHERE id = $1", run.row) == stage
            seconds = await _canceled(rows, tenant, run)
            await watchers.until_ended()
            await check_run(world, tenant, run, status=RunStatus.CANCELED, watchers=watchers.all)
        assert await rows.value("SELECT count(*) FROM deployments WHERE run_id = $1 AND status = 'LIVE'", run.row) == 0
    observed(f"canceled while {stage}", seconds=seconds)


async def test_while_it_trains(world: World, tenant: Tenant) -> None:
    run = await tenant.start("model", epochs=10_000, layers=256)
    async with watching(tenant, [run], world.stack.api_urls) as watchers, world.database() as rows:
        await _until_stage(rows, run, RunStage.TRAINING)
        await anyio.sleep(0.5)
        seconds = await _canceled(rows, tenant, run)
        await watchers.until_ended()
        await check_run(world, tenant, run, status=RunStatus.CANCELED, watchers=watchers.all)
    observed("canceled while TRAINING", seconds=seconds)


async def _until_stage(rows: Rows, run: Run, stage: RunStage) -> None:
    async def is_there() -> bool:
        return bool(await rows.value("SELECT stage = $2 FROM training_runs WHERE id = $1", run.row, stage))

    await until(f"the run is {stage}", is_there)


async def _canceled(rows: Rows, tenant: Tenant, run: Run) -> float:
    """Cancel it; gives the seconds until its provider confirmed that nothing is left."""
    asked = time.monotonic()
    await tenant.cancel(run)
    await rows.until_status(run.row, RunStatus.CANCELED, limit_seconds=CANCELED_SECONDS)
    return time.monotonic() - asked
