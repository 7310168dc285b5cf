"""`python -m jobs`: one worker process."""

import asyncio

from db.logs import configure_logging
from db.settings import read_settings
from jobs.worker import work


def main() -> None:
    settings = read_settings()
    configure_logging(settings)
    asyncio.run(work(settings))


if __name__ == "__main__":
    main()
