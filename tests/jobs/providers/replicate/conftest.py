"""One simulated Replicate per test, on a stage that all tests of the folder share."""

from collections.abc import AsyncIterator

import pytest

from jobs.simulators.replicate import ReplicateSimulator
from tests.jobs.providers.replicate.stage import Stage, stage_of
from tests.jobs.providers.replicate.support import Bench, bench_of


@pytest.fixture(scope="package")
async def stage() -> AsyncIterator[Stage]:
    async with stage_of() as stage:
        yield stage


@pytest.fixture
async def bench(stage: Stage) -> AsyncIterator[Bench]:
    async with bench_of(stage, ReplicateSimulator(seed=3, late_reply_seconds=0.6)) as bench:
        yield bench
