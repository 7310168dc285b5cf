"""What a machine elsewhere is given so that it can train: files, packages to install, and the command to run.

The machine runs `prepare` and then `command` with bash, in the folder that holds the files. A program finds its data at
`data/content` (a recipe fetches it itself, if it is not there), leaves its result in the folder `artifact`, and speaks
through its output: `::runwire {…}` lines, or any trainer's own log.
"""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.providers.base import ProviderRefused, TrainingOrder
from jobs.providers.local.environments import RECIPES, REQUIREMENTS

COMMAND_RECIPE = "command"
PREPARE = f"python3 prepare.py {sys.version_info.major}.{sys.version_info.minor}"
"""The same Python as ours, since a trained model is served here too."""
TRAIN = '"$(cat python)" -s -u -m recipes.train'
INSTALL = "python3 -m pip install --quiet --disable-pip-version-check -r requirements.txt"


@dataclass(frozen=True, slots=True)
class Program:
    """A training as files. Paths are relative and stay inside the folder."""

    files: Mapping[str, bytes]
    prepare: str
    """For bash, before the command; empty where nothing is to be installed."""
    command: str
    """For bash."""


def program_of(order: TrainingOrder) -> Program:
    """The program of an order. `order.json` holds the grant, so the files are secret."""
    files = {"order.json": json.dumps(order_content(order)).encode()}
    if order.recipe == COMMAND_RECIPE:
        wanted = order.hyperparameters
        for name, text in dict(wanted.get("files") or {}).items():
            files[_inside(name)] = str(text).encode()
        packages = [str(one) for one in wanted.get("requirements") or ()]
        if packages:
            files["requirements.txt"] = "".join(f"{one}\n" for one in packages).encode()
        return Program(files, INSTALL if packages else "", str(wanted["command"]))
    files["prepare.py"] = Path(__file__).with_name("prepare.py").read_bytes()
    files["requirements.lock"] = REQUIREMENTS.read_bytes()
    for source in sorted(RECIPES.iterdir()):
        if source.suffix in (".py", ".html"):
            files[f"recipes/{source.name}"] = source.read_bytes()
    return Program(files, PREPARE, TRAIN)


def order_content(order: TrainingOrder) -> dict[str, Any]:
    """`order.json`, as the recipes' programs read it."""
    content: dict[str, Any] = {
        "runId": str(order.run_id),
        "attempt": order.attempt,
        "recipe": order.recipe,
        "hyperparameters": {name: value for name, value in order.hyperparameters.items() if _is_plain(value)},
    }
    if order.dataset is not None:
        content["dataset"] = {
            "format": order.dataset.format,
            "bytes": order.dataset.bytes,
            "sha256": order.dataset.sha256,
        }
        if order.dataset.url:  # else whoever runs the program has fetched the data already
            content["dataset"] |= {"url": order.dataset.url, "token": order.dataset.token.reveal()}
    return content


def _inside(name: str) -> str:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name or path.name == "order.json":
        raise ProviderRefused("A file of the command's program has a path that leads out of its folder.")
    return path.as_posix()


def _is_plain(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
