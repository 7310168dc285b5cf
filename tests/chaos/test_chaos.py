"""One seed with twenty runs, as part of `make test`: CHAOS_SEED=<number> plays another one."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.play import plan_of, play, stage

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

RUNS = 20


async def test_the_truth_is_told_whatever_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("CHAOS_SEED") or 1)
    plan = plan_of(seed, RUNS, with_long_ones=False)
    # On the disk that holds the packages: the sandboxes' environment is then linked, not copied.
    with (
        TemporaryDirectory(prefix="runwire-chaos-", ignore_cleanup_errors=True) as folder,
        stage(plan, Path(folder)) as (world, simulators),
    ):
        outcome = await play(plan, world, simulators)
        print("\n".join([*outcome.lines(), *outcome.every_run()]))
        if outcome.findings:
            print(world.last_words())
    assert outcome.findings == []
    assert len(outcome.cases) == RUNS
    assert sum(outcome.accidents.values()) > 0
