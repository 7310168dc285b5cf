"""`make chaos SEEDS=n [SEED=first] [RUNS=200]`: so many storms, each of a seed that is printed and can be replayed."""

import argparse
import random
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.chaos.outcome import Outcome
from tests.chaos.play import plan_of, play, stage

SEEDS_BELOW = 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--seed", type=int, help="the first one; else chance")
    parser.add_argument("--runs", type=int, default=200, help="runs of each")
    parser.add_argument("--quick", action="store_true", help="without scenarios that take a minute and more")
    parser.add_argument("--verbose", action="store_true", help="a line for each run")
    parser.add_argument("--keep", type=Path, help="a folder to keep the logs and the database in")
    chosen = parser.parse_args()
    first = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(SEEDS_BELOW)
    found = 0
    for seed in range(first, first + chosen.seeds):
        print(f"SEED={seed} RUNS={chosen.runs}", flush=True)
        outcome = _play(seed, chosen)
        print("\n".join([*outcome.lines(), *(outcome.every_run() if chosen.verbose else ())]), flush=True)
        if outcome.findings:
            print(f"  again: make chaos SEEDS=1 SEED={seed} RUNS={chosen.runs} (--keep FOLDER keeps logs and rows)")
        found += len(outcome.findings)
    return 1 if found else 0


def _play(seed: int, chosen: argparse.Namespace) -> Outcome:
    plan = plan_of(seed, chosen.runs, with_long_ones=not chosen.quick)
    with TemporaryDirectory(prefix="runwire-chaos-", ignore_cleanup_errors=True) as temporary:
        folder = Path(temporary)
        if chosen.keep is not None:
            folder = chosen.keep / f"seed-{seed}-{time.time():.0f}"
            folder.mkdir(parents=True)
        with stage(plan, folder) as (world, simulators):
            return anyio.run(lambda: play(plan, world, simulators, tell=lambda line: print(line, flush=True)))


if __name__ == "__main__":
    sys.exit(main())
