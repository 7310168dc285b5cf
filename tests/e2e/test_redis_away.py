"""Redis hangs, or dies and forgets everything, for ten seconds: slower, never wrong, and live again afterwards."""

import os
import signal
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import anyio
import anyio.to_thread
import pytest

from domain.training.status import RunStatus
from tests.e2e.harness import Run, Tenant, World, observed
from tests.e2e.ledger import check_run
from tests.e2e.watching import Watcher, watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

AWAY_SECONDS = 10.0
DELAY_SECONDS = 2.5
"""Of an event, from its commit to its reader, while Redis is away."""
LIVE_SECONDS = 0.5
"""The median once Redis is back: it comes by the bus again, and not by the comparison each second."""
ANSWER_SECONDS = 5.0
START_SECONDS = 4.0
"""From the wish to a worker that took it up, by the sweep alone."""


@pytest.mark.parametrize("fault", ["hangs", "forgets"])
async def test_runs_go_on_without_redis(world: World, tenant: Tenant, fault: str) -> None:
    runs = [await tenant.start("before", epochs=1500, layers=64)]
    async with watching(tenant) as watchers:
        for url in world.stack.api_urls:
            await watchers.add(runs[0], [url]).until_seen(status=RunStatus.TRAINING)
        began = time.time()
        async with _away(world, fault):
            answered = []
            for name in ("meanwhile", "meanwhile too"):
                asked = time.monotonic()
                runs.append(await tenant.start(name, epochs=200, layers=32))
                answered.append(time.monotonic() - asked)
                watchers.add(runs[-1], [world.url(1)])
            await anyio.sleep(max(0.0, began + AWAY_SECONDS - time.time()))
        ended = time.time()
        runs.append(await tenant.start("after", epochs=200, layers=32))
        last = watchers.add(runs[-1], [world.url(0)])
        await watchers.until_ended()
        for run in runs:
            await check_run(world, tenant, run, watchers=watchers.of(run))
        during = [delay for one in watchers.all for delay in _delays(one, began, ended)]
        afterwards = _delays(last, ended + 1, time.time())
    starts = [await _seconds_to_start(world, run) for run in runs[1:-1]]
    observed(
        f"Redis {fault} for {ended - began:.1f} seconds",
        events_meanwhile=len(during),
        longest_delay=max(during),
        median_delay=statistics.median(during),
        startTrainingRun_answered_within=max(answered),
        started_within=max(starts),
        median_delay_afterwards=statistics.median(afterwards),
    )
    assert during and max(during) < DELAY_SECONDS
    assert statistics.median(afterwards) < LIVE_SECONDS
    assert max(answered) < ANSWER_SECONDS
    assert max(starts) < START_SECONDS


@asynccontextmanager
async def _away(world: World, fault: str) -> AsyncIterator[None]:
    """Redis does not answer within this block."""
    if fault == "hangs":
        pid = world.redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)
        return
    await world.redis_dies()
    try:
        yield
    finally:
        await anyio.to_thread.run_sync(world.redis.start)


def _delays(watcher: Watcher, began: float, ended: float) -> list[float]:
    """Seconds from each event's transaction to its arrival, for those that happened between."""
    return [
        arrived - at
        for message, arrived in zip(watcher.messages, watcher.arrived, strict=True)
        if message["__typename"] != "Snapshot"
        and began < (at := datetime.fromisoformat(message["at"]).timestamp()) < ended
    ]


async def _seconds_to_start(world: World, run: Run) -> float:
    async with world.database() as rows:
        return float(
            await rows.value(
                "SELECT extract(epoch FROM started_at - created_at) FROM run_attempts WHERE run_id = $1", run.row
            )
        )
