"""How commands speak: to people on the terminal, to programs as JSON, and of errors with the right exit code."""

import functools
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.markup import escape

from graph.cli.errors import ClientError, Exit

Parameters = ParamSpec("Parameters")

PIPED_WIDTH = 160
"""Columns where nobody looks at a terminal: ids and addresses stay whole for the programs that read them."""

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)
errors = Console(stderr=True, highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Speak JSON to programs instead of words to people.")]


def print_json(value: Any) -> None:
    """One JSON value on one line, out at once."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def tell_error(error: ClientError, *, as_json: bool) -> None:
    """Say why it was not done: on standard error to people, on standard output as JSON."""
    if as_json:
        return print_json(error.as_json())
    field = f" [dim]({escape('.'.join(error.field))})[/]" if error.field else ""
    errors.print(f"[bold red]✗[/] {escape(error.message)}{field}", soft_wrap=True)
    if error.hint:
        errors.print(f"  {escape(error.hint)}", soft_wrap=True)
    if error.retry_after_seconds:
        errors.print(f"  Try again in {error.retry_after_seconds:g} seconds.")


def command(function: Callable[Parameters, int | None]) -> Callable[Parameters, None]:
    """A command that returns its exit code, or raises `ClientError`. Ctrl-C is 130."""

    @functools.wraps(function)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        try:
            code = function(*args, **kwargs) or Exit.DONE
        except ClientError as error:
            tell_error(error, as_json=bool(kwargs.get("as_json")))
            code = error.exit_code
        except KeyboardInterrupt:
            code = Exit.INTERRUPTED
        except BrokenPipeError:  # the reader, such as `head`, has enough
            sys.stderr.close()
            code = Exit.DONE
        raise typer.Exit(int(code))

    return run
