"""`python -m jobs.simulators [--host HOST] [--port PORT]`: the simulators, until SIGTERM or SIGINT."""

import argparse
import secrets
import sys

import uvicorn

from jobs.simulators.server import Simulators


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m jobs.simulators", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8090)
    chosen = parser.parse_args()
    uvicorn.run(
        # Another seed each time: ids that an earlier process gave out must not come again for something else.
        Simulators(seed=secrets.randbits(32)).app,
        # Under uvloop programs inherit each other's pipes: a command of a sandbox would last as long as what it has
        # left in the background.
        loop="asyncio",
        host=chosen.host,
        port=chosen.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
