"""`runwire up`: the whole product on this machine, until Ctrl-C."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from db.embedded import EmbeddedServerError
from graph.cli.errors import ClientError, Exit
from graph.cli.installation import remove_environment, write_environment
from graph.cli.options import DATA_DIR, DataDir
from graph.cli.output import Json, command, console, errors, print_json
from graph.cli.processes import ProcessError
from graph.cli.session import LocalSession, sign_in_locally
from graph.cli.stack import AlreadyUp, DatabaseUnusable, Stack

STARTING_FAILED = (AlreadyUp, DatabaseUnusable, EmbeddedServerError, ProcessError, OSError)


class CannotStart(ClientError):
    """The product could not be started here."""


def up(
    data_dir: DataDir = DATA_DIR,
    port: Annotated[int, typer.Option(envvar="PORT", min=0, max=65535, help="The API's; else the next free.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, max=16, help="Worker processes.")] = 1,
    as_json: Json = False,
) -> int:
    """Start the API, a worker and their servers, print the addresses, and stay until Ctrl-C.

    PostgreSQL and Redis come with Runwire and keep their data in DATA_DIR; DATABASE_URL and REDIS_URL name servers of
    your own instead. Other commands find what is running here by themselves.

    [bold]Examples[/]

    runwire up

    runwire up --port 9000 --data-dir ~/runwire-data

    DATABASE_URL=postgresql://… REDIS_URL=redis://… runwire up
    """
    teller = Console(stderr=True, highlight=False) if as_json else console
    environment = {**os.environ, "PORT": str(port)}
    with running(data_dir, teller, workers=workers, environment=environment) as stack:
        write_environment(stack.data_dir, stack.environment, environment)
        try:
            return _stay(stack, teller, as_json=as_json)
        finally:
            remove_environment(stack.data_dir)


def _stay(stack: Stack, teller: Console, *, as_json: bool) -> int:
    """Tell the addresses, and return only when a process keeps dying."""
    session = asyncio.run(sign_in_locally(stack.api_urls[0], stack.data_dir))
    stack.name_operator(session.email)
    if as_json:
        print_json(_addresses(stack, session))
    else:
        _welcome(stack, session)
    stack.supervisor.gave_up.wait()
    for process in stack.processes:
        if process.gave_up:
            errors.print(str(process.problem("keeps dying")), markup=False, soft_wrap=True)
    teller.print("[bold red]✗[/] Giving up; everything is being stopped.")
    return Exit.REFUSED


@contextlib.contextmanager
def running(
    data_dir: Path, teller: Console, *, workers: int = 1, environment: dict[str, str] | None = None
) -> Iterator[Stack]:
    """The product, started, and stopped whatever happens. Signals end the block as Ctrl-C does.

    A second one, while it stops, ends everything at once. Raises `CannotStart`.
    """
    step = teller.status("Starting")
    stack = Stack(
        data_dir,
        workers=workers,
        environment=environment,
        on_step=lambda words: step.update(f"{words} …"),
        on_news=lambda news: teller.print(f"[yellow]![/] {escape(news)}"),
    )
    with _interruptible(), _stopping(stack, teller):
        try:
            with step:
                stack.start()
        except STARTING_FAILED as error:
            raise CannotStart(str(error), code=type(error).__name__.upper()) from error
        yield stack


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGTERM, and a terminal that is closed, interrupt as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [signal.SIGINT, signal.SIGTERM]  # shells ignore the first for what they start in the background
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # ignored already under nohup, and stays so
        heard.append(signal.SIGHUP)
    before = {number: signal.signal(number, interrupt) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _stopping(stack: Stack, teller: Console) -> Iterator[None]:
    def at_once(number: int, frame: FrameType | None) -> NoReturn:
        teller.show_cursor()
        teller.print("Stopping at once.")
        stack.kill()
        os._exit(Exit.INTERRUPTED)

    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, at_once)
        with teller.status("Stopping; Ctrl-C again stops at once …"):
            stack.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _addresses(stack: Stack, session: LocalSession) -> dict[str, str]:
    return {
        "url": stack.api_url,
        "graphql": f"{stack.api_url}/graphql",
        "playground": f"{stack.api_url}/playground",
        "apps": stack.apps_url,
        "token": session.token,
        "dataDir": str(stack.data_dir),
    }


def _command_to_type() -> str:
    """`runwire` where the PATH has it, else the path to it; `make` puts it into an environment that is not entered."""
    if shutil.which("runwire"):
        return "runwire"
    path = Path(sys.executable).parent / "runwire"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _welcome(stack: Stack, session: LocalSession) -> None:
    """The addresses. The token is in the part of the playground's address that no server is ever sent."""
    console.print("[bold green]✓[/] Runwire is up. Ctrl-C stops it; its data stays.\n")
    lines = {
        "Playground": f"{stack.api_url}/playground#token={session.token}",
        "Endpoint": f"{stack.api_url}/graphql",
        "Token": session.token,
        "Data and logs": str(stack.data_dir),
    }
    for title, value in lines.items():
        console.print(f"  [dim]{title:<14}[/]{escape(value)}", soft_wrap=True)
    typed = escape(_command_to_type())
    console.print(
        f"\n  In another terminal: [bold]{typed} train data.csv --name my-model[/], [bold]{typed} status[/], "
        f"[bold]{typed} --help[/]\n",
        soft_wrap=True,
    )
    sys.stdout.flush()


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel="Start here")(command(up))
