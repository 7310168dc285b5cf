"""What a sandbox is given so that it can train or serve: the recipes' programs, an order, an environment."""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jobs.providers.local.environments import RECIPES, python_of
from jobs.providers.local.sandbox import Program, write_private

MOST_THREADS = 4


def program(
    module: str,
    environment: Path,
    *,
    memory_limit_bytes: int,
    disk_limit_bytes: int,
    time_limit_seconds: float | None,
    mask: Sequence[str] = (),
    nice: int = 5,
) -> Program:
    """`python -m recipes.<module>` in an environment, with nothing of this process's own environment."""
    # A training takes at most half of the machine's cores, so that its neighbours can go on.
    threads = str(max(1, min(MOST_THREADS, (os.cpu_count() or 2) // 2)))
    return Program(
        argv=[os.fspath(python_of(environment)), "-s", "-m", f"recipes.{module}"],
        environment={
            "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "JOBLIB_MULTIPROCESSING": "0",
        },
        memory_limit_bytes=memory_limit_bytes,
        disk_limit_bytes=disk_limit_bytes,
        time_limit_seconds=time_limit_seconds,
        mask=mask,
        nice=nice,
    )


def put_recipes(home: Path) -> None:
    """Copy the recipes' programs into a sandbox, which then never changes, whatever is installed later."""
    target = home / "recipes"
    target.mkdir(mode=0o700)
    for source in RECIPES.iterdir():
        if source.suffix in (".py", ".html"):
            shutil.copyfile(source, target / source.name)


def put_order(home: Path, order: Mapping[str, Any]) -> None:
    """Write `order.json`; only the sandbox's owner can read it."""
    write_private(home / "order.json", json.dumps(order))
