"""Where the servers of a running `runwire up` are, for the commands beside it that an operator gives."""

import json
from collections.abc import Mapping
from pathlib import Path

from graph.cli.session import write_private

FILE = "environment.json"
NAMES = ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "APPS_URL", "HOST", "PORT")


def write_environment(data_dir: Path, environment: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Keep the addresses that we chose, readable by this user only. What was given to us may hold a password: never."""
    chosen = {name: environment[name] for name in NAMES if name in environment and not given.get(name)}
    write_private(data_dir / FILE, json.dumps(chosen, indent=2) + "\n")


def read_environment(data_dir: Path) -> dict[str, str]:
    """What is there; empty when nothing runs."""
    try:
        found = json.loads((data_dir / FILE).read_text())
    except (OSError, ValueError):
        return {}
    return {name: str(found[name]) for name in NAMES if name in found} if isinstance(found, dict) else {}


def remove_environment(data_dir: Path) -> None:
    (data_dir / FILE).unlink(missing_ok=True)
