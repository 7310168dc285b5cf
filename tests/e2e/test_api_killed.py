"""`kill -9` of the API while clients watch, and its graceful end: they go on from their cursor at the other one."""

import signal

import anyio
import pytest

from domain.training.status import RunStatus
from tests.e2e.harness import Run, Tenant, World, observed
from tests.e2e.ledger import check_run
from tests.e2e.watching import Watcher, Watchers, watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

KILLS = 2
RESTART = "1012"


async def test_readers_resume_elsewhere(world: World, tenant: Tenant) -> None:
    runs = [await tenant.start(f"model-{number}", epochs=800, layers=64) for number in range(2)]
    async with watching(tenant, runs, world.stack.api_urls) as watchers:
        for watcher in watchers.all:
            await watcher.until_seen(status=RunStatus.TRAINING)
        for turn in range(KILLS):
            process = world.apis[turn % 2]
            await world.kill(process)
            await _grow(watchers.all)  # at the other one
            await world.begin(process)
            await world.api_ready(turn % 2)
        await _all_end(world, tenant, runs, watchers)
        drops = [drop.reason for watcher in watchers.all for drop in watcher.drops]
    assert len(drops) >= KILLS
    observed(
        "API killed while clients watch",
        kills=KILLS,
        readers=len(watchers.all),
        cuts=len(drops),
        messages=sum(len(watcher.messages) for watcher in watchers.all),
        twice_or_missing=0,
    )


async def test_a_graceful_end_sends_readers_to_the_other_api(world: World, tenant: Tenant) -> None:
    run = await tenant.start("model", epochs=800, layers=64)
    async with watching(tenant, [run], world.stack.api_urls) as watchers:
        for watcher in watchers.all:
            await watcher.until_seen(status=RunStatus.TRAINING)
        seconds = await world.stop(world.apis[0])
        assert world.apis[0].exit_code in (0, -signal.SIGTERM), "It did not end by itself"
        first, second = watchers.all
        assert [drop.reason[:16] for drop in first.drops][:1] == [f"closed with {RESTART}"]
        assert second.drops == []
        await world.begin(world.apis[0])
        await _all_end(world, tenant, [run], watchers)
    observed("API asked to end while clients watch", ended_after=seconds, close_code=RESTART)


async def _grow(watchers: list[Watcher]) -> None:
    """Every reader whose run goes on gets another message."""
    before = [len(watcher.messages) for watcher in watchers]
    with anyio.fail_after(20):
        for watcher, count in zip(watchers, before, strict=True):
            while len(watcher.messages) == count and not watcher.ended.is_set():
                await anyio.sleep(0.01)


async def _all_end(world: World, tenant: Tenant, runs: list[Run], watchers: Watchers) -> None:
    await watchers.until_ended()
    for run in runs:
        await check_run(world, tenant, run, watchers=watchers.of(run))
