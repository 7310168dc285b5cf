"""Commands for who runs it: serve, worker, db, schema. Each is the module of the same duty, run in this process."""

import os
import runpy
import sys
from typing import Annotated, Literal

import typer
from pydantic import ValidationError

from domain.errors import DomainError
from graph.cli.errors import ClientError, Exit, Usage
from graph.cli.output import command, console


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
        Literal["upgrade", "current", "new-epoch", "check", "operator"],
        typer.Argument(
            help="upgrade: to the newest schema · current: which it has · check: whether it is the newest "
            "· new-epoch: after a backup was restored · operator: who looks after the whole installation."
        ),
    ],
    email: Annotated[
        str | None, typer.Argument(help="With operator: the address that the user signed up with.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="With operator: no longer.")] = False,
) -> int:
    """Look after the database at DATABASE_URL, as `python -m db` does.

    [bold]Examples[/]

    DATABASE_URL=postgresql://… runwire db upgrade

    DATABASE_URL=postgresql://… runwire db check || echo behind

    DATABASE_URL=postgresql://… runwire db operator ada@example.com
    """
    if (email is not None) is not (action == "operator") or (remove and action != "operator"):
        raise Usage("Give the user's e-mail address with `runwire db operator`, and with nothing else.")
    return _become("db", action, *([email] if email else []), *(["--remove"] if remove else []))


def simulate(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="On which port.", min=1, max=65535)] = 8090,
    names: Annotated[bool, typer.Option("--list", help="Only list what can be played.")] = False,
) -> int:
    """Run the simulators of Replicate, RunPod, Astria and E2B: each vendor's wire protocol, free of charge.

    An API whose SIMULATORS_URL names them has a test mode. Keys look like r8_sim_me.success: an account, and what is to
    be played. `runwire up` has simulators of its own.

    [bold]Examples[/]

    runwire simulate --list

    runwire simulate --port 8090
    """
    from jobs.simulators.server import KEY_PREFIXES, scenarios

    for provider, plays in scenarios().items():
        where = f"http://{host}:{port}/{provider.value.lower()}"
        console.print(f"[bold]{provider.value}[/]  {where}  [dim]key {KEY_PREFIXES[provider]}sim_me.success[/]")
        if names:
            for name, sentence in plays.items():
                console.print(f"  {name:<26} {sentence}", markup=False, soft_wrap=True)
    if names:
        return Exit.DONE
    console.print("Ctrl-C stops them.")
    return _become("jobs.simulators", "--host", host, "--port", str(port))


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
    for function in (serve, worker, db, simulate, schema):
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
