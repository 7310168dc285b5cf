"""`python -m db upgrade | current | check | new-epoch | operator`: the operator's commands, as the owner of the
database."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from db.operators import NoSuchUser, name_operator
from db.postgres import owner_engine
from db.settings import Settings
from db.upgrade import current_revision, newest_revision, upgrade

USAGE = """Usage: python -m db COMMAND

  upgrade                    bring the database to the newest schema
  current                    print the revision that it has
  check                      succeed if that is the newest
  new-epoch                  after a backup was restored: clients must not trust the cursors they hold
  operator EMAIL [--remove]  let a user look after the whole installation, or no longer

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


async def operator(engine: AsyncEngine, email: str, *, remove: bool) -> int:
    try:
        changed = await name_operator(engine, email, remove=remove)
    except NoSuchUser as error:
        print(error, file=sys.stderr)
        return 1
    if remove:
        print(f"{email} is no operator any more." if changed else f"{email} was no operator.")
    else:
        print(f"{email} is an operator now." if changed else f"{email} is an operator already.")
    return 0


Command: TypeAlias = Callable[[AsyncEngine], Awaitable[int]]
COMMANDS: dict[str, Command] = {
    "upgrade": bring_up_to_date,
    "current": print_current,
    "check": check,
    "new-epoch": new_epoch,
}


async def run(command: Command, settings: Settings) -> int:
    """The exit code of one command."""
    engine = owner_engine(settings)
    try:
        return await command(engine)
    except (OSError, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        print(f"The database cannot be used: {cause}", file=sys.stderr)
        return 1
    finally:
        await engine.dispose()


def command_of(arguments: list[str]) -> Command | None:
    """What these arguments ask for; None where they ask for nothing that there is."""
    match arguments:
        case [name] if name in COMMANDS:
            return COMMANDS[name]
        case ["operator", email] if not email.startswith("-"):
            return lambda engine: operator(engine, email, remove=False)
        case ["operator", email, "--remove"] | ["operator", "--remove", email] if not email.startswith("-"):
            return lambda engine: operator(engine, email, remove=True)
    return None


def main() -> None:
    arguments = sys.argv[1:]
    if arguments in (["--help"], ["-h"]):
        print(USAGE)
        sys.exit(0)
    command = command_of(arguments)
    if command is None:
        print(USAGE, file=sys.stderr)
        sys.exit(2)
    settings = Settings()
    if not settings.database_url:
        print("DATABASE_URL is not set: give the address of the database, as its owner.", file=sys.stderr)
        sys.exit(2)
    sys.exit(asyncio.run(run(command, settings)))


if __name__ == "__main__":
    main()
