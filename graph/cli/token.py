"""`runwire token`: an API key for programs."""

import asyncio
import os
from typing import Annotated

import typer

from graph.cli.client import Client
from graph.cli.errors import Exit, Usage
from graph.cli.options import DATA_DIR, DataDir, Token, Url
from graph.cli.output import Json, command, console, errors, print_json
from graph.cli.session import ALL_SCOPES, address, connect, create_key, sign_in


def token(
    name: Annotated[str, typer.Option("--name", "-n", help="What the key is for.")] = "runwire token",
    scopes: Annotated[
        list[str] | None, typer.Option("--scope", help="What it may do, such as runs:read; else everything.")
    ] = None,
    test_mode: Annotated[
        bool, typer.Option("--test-mode", help="Its runs are played by simulators of the providers, free of charge.")
    ] = False,
    email: Annotated[
        str | None, typer.Option(help="Sign in as; the password is asked, or in RUNWIRE_PASSWORD.")
    ] = None,
    sign_up: Annotated[bool, typer.Option("--sign-up", help="Make the account if there is none.")] = False,
    url: Url = None,
    key: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Make an API key and print it, once.

    Without --email it is a key of the user that `runwire up` made here.

    [bold]Examples[/]

    export RUNWIRE_TOKEN=$(runwire token --name laptop)

    runwire token --scope runs:read --name dashboard

    runwire token --test-mode --name partner

    runwire token --url https://api.example.com --email me@example.com
    """
    wanted = tuple(scope.upper().replace(":", "_") for scope in scopes or ALL_SCOPES)
    if unknown := sorted(set(wanted) - set(ALL_SCOPES)):
        known = ", ".join(scope.lower().replace("_", ":") for scope in ALL_SCOPES)
        raise Usage(f"There is no scope {unknown[0].lower().replace('_', ':')}. There are: {known}.")
    client = Client(address(url, data_dir)) if email else connect(url, key, data_dir)
    password = _password() if email else ""

    async def work() -> str:
        async with client:
            if email:
                await sign_in(client, email, password, sign_up=sign_up)
            return await create_key(client, name, wanted, test_mode=test_mode)

    made = asyncio.run(work())
    if as_json:
        print_json({"token": made, "url": client.url})
    else:
        print(made)
        if console.is_terminal:
            errors.print("[dim]It is not shown again.[/]")
    return Exit.DONE


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel="Operate")(command(token))


def _password() -> str:
    given = os.environ.get("RUNWIRE_PASSWORD")
    return given if given is not None else str(typer.prompt("Password", hide_input=True, err=True))
