"""`python -m db upgrade | current | check | new-epoch`: the operator's commands, as the owner of the database."""

import asyncio
import sys

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.postgres import owner_engine
from db.settings import Settings
from db.upgrade import current_revision, newest_revision, upgrade

USAGE = """Usage: python -m db COMMAND

  upgrade     bring the database to the newest schema
  current     print the revision that it has
  check       succeed if that is the newest
  new-epoch   after a backup was restored: clients must not trust the cursors they hold

DATABASE_URL is the address of the database, as its owner."""


async def bring_up_to_date(engine: AsyncEngine) -> int:
    before = await current_revision(engine)
    await upgrade(engine)
    after = await current_revision(engine)
    print(
        f"The database is at {after}." if before == after else f"The database went from {before or 'empty'} to {after}."
    )
    return 0


async def print_current(engine: AsyncEngine) -> int:
    print(await current_revision(engine) or "empty")
    return 0


async def check(engine: AsyncEngine) -> int:
    current, newest = await current_revision(engine), newest_revision()
    if current == newest:
        print(f"The database is at {current}, the newest.")
        return 0
    print(f"The database is at {current or 'empty'}, this version needs {newest}: run `python -m db upgrade`.")
    return 1


async def new_epoch(engine: AsyncEngine) -> int:
    """Numbers of events may be given out again after a restore; a new epoch makes every older cursor a gap."""
    async with engine.begin() as connection:
        epoch = await connection.scalar(sa.text("UPDATE journal_epoch SET epoch = epoch + 1 RETURNING epoch"))
    print(f"The journal is in epoch {epoch}. Restart the API processes, and clients begin with a snapshot.")
    return 0


COMMANDS = {"upgrade": bring_up_to_date, "current": print_current, "check": check, "new-epoch": new_epoch}


async def run(name: str, settings: Settings) -> int:
    """The exit code of one command."""
    engine = owner_engine(settings)
    try:
        return await COMMANDS[name](engine)
    except (OSError, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        print(f"The database cannot be used: {cause}", file=sys.stderr)
        return 1
    finally:
        await engine.dispose()


def main() -> None:
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(USAGE)
        sys.exit(0)
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    settings = Settings()
    if not settings.database_url:
        print("DATABASE_URL is not set: give the address of the database, as its owner.", file=sys.stderr)
        sys.exit(2)
    sys.exit(asyncio.run(run(arguments[0], settings)))


if __name__ == "__main__":
    main()
