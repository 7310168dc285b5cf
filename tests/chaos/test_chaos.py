"""One seed with twenty runs, as part of `make test`: CHAOS_SEED=<number> plays another one."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.plan import Plan
from tests.chaos.play import plan_of, play, stage
from tests.chaos.simulating import SimulatorsProcess
from tests.e2e.harness import World

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(300),
    # An API that is killed while somebody connects leaves a socket that nobody could close.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

RUNS = 20


@pytest.fixture
def plan() -> Plan:
    return plan_of(int(os.environ.get("CHAOS_SEED") or 1), RUNS, with_long_ones=False)


@pytest.fixture
def staged(plan: Plan) -> Iterator[tuple[World, SimulatorsProcess]]:
    # On the disk that holds the packages: the sandboxes' environment is then linked, not copied.
    with (
        TemporaryDirectory(prefix="runwire-chaos-", ignore_cleanup_errors=True) as folder,
        stage(plan, Path(folder)) as (world, simulators),
    ):
        yield world, simulators


async def test_the_truth_is_told_whatever_is_killed(plan: Plan, staged: tuple[World, SimulatorsProcess]) -> None:
    world, simulators = staged
    outcome = await play(plan, world, simulators)
    print("\n".join([*outcome.lines(), *outcome.every_run()]))
    if outcome.findings:
        print(world.last_words())
    assert outcome.findings == []
    assert len(outcome.cases) == RUNS
    assert sum(outcome.accidents.values()) > 0
