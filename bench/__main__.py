"""`python -m bench [--short]`: every benchmark, one after the other, as tables."""

import argparse
import asyncio
import sys

from rich.console import Console

from bench import webhook


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer runs: a first impression in half a minute")
    chosen = parser.parse_args()
    console = Console(highlight=False)
    asyncio.run(webhook.measure(console, runs=20 if chosen.short else 100))
    return 0


if __name__ == "__main__":
    sys.exit(main())
