"""A worker that starts a sandbox and then does nothing: `python -m … <data dir> <tag> <code>`."""

import signal
import sys
from pathlib import Path

import anyio

from tests.jobs.providers.local.support import program_of, started


async def main() -> None:
    """Start, say so, wait to be killed."""
    await started(Path(sys.argv[1]), sys.argv[2], program_of(sys.argv[3]))
    print("started", flush=True)


if __name__ == "__main__":
    anyio.run(main)
    signal.pause()
