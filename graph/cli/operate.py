"""Commands for who runs it: serve, worker, db, schema. Each is the module of the same duty, run in this process."""

import os
import runpy
import sys
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from domain.errors import DomainError
from graph.cli.errors import ClientError, Exit, Usage
from graph.cli.output import command


def serve() -> int:
    """Run one API process, as `python -m graph serve` does. Settings come from the environment.

    [bold]Example[/]

    DATABASE_URL=postgresql://… REDIS_URL=redis://… PUBLIC_URL=https://api.example.com PORT=8000 runwire serve
    """
    return _become("graph", "serve")


def worker() -> int:
    """Run one worker process, as `python -m jobs` does. Settings come from the environment.

    [bold]Example[/]

    DATABASE_URL=postgresql://… REDIS_URL=redis://… runwire worker
    """
    return _become("jobs")


def db(
    action: Annotated[
        Literal["upgrade", "current", "new-epoch", "check"],
        typer.Argument(
            help="upgrade: to the newest schema · current: which it has · check: whether it is the newest "
            "· new-epoch: after a backup was restored."
        ),
    ],
) -> int:
    """Look after the database at DATABASE_URL, as `python -m db` does.

    [bold]Examples[/]

    DATABASE_URL=postgresql://… runwire db upgrade

    DATABASE_URL=postgresql://… runwire db check || echo behind
    """
    return _become("db", action)


def schema() -> int:
    """Print the GraphQL schema.

    [bold]Example[/]

    runwire schema > schema.graphql
    """
    from graph.schema import schema as graphql_schema

    sys.stdout.write(graphql_schema.as_str().rstrip("\n") + "\n")
    return Exit.DONE


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for function in (serve, worker, db, schema):
        app.command(rich_help_panel="Operate")(command(function))


def _become(module: str, *arguments: str) -> int:
    """Run a package's `__main__` here, so that signals reach it as they would."""
    os.environ.pop("RUNWIRE_TOKEN", None)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except DomainError as refusal:
        raise ClientError(refusal.message(), code=refusal.code) from refusal
    except ValidationError as error:
        first = error.errors()[0]
        raise Usage(f"{'.'.join(map(str, first['loc'])).upper()}: {first['msg']}.") from error
    return Exit.DONE
