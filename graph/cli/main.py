"""`runwire`: all commands, put together."""

import sys
from typing import TYPE_CHECKING

from graph.cli.errors import Exit

if TYPE_CHECKING:
    from typer import Typer

HELP = """
Start, watch and ship AI training runs.

[bold]runwire demo[/] shows all of it in a minute: it trains a real model on this machine and calls it.
[bold]runwire up[/] starts the product here; the other commands then find it by themselves, or take --url and --token.

Exit codes: 0 done or READY · 1 FAILED or refused · 2 usage · 3 CANCELED · 4 not found · 5 not allowed · 6 limit ·
7 unreachable · 130 Ctrl-C
"""


def application() -> "Typer":
    """All commands. Imported here, since that takes longer than a person at Ctrl-C waits."""
    import typer

    from graph.cli import check, demo, operate, runs, token, up

    app = typer.Typer(
        name="runwire",
        help=HELP,
        rich_markup_mode="rich",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_show_locals=False,  # locals hold tokens
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    for part in (demo, up, runs, token, operate, check):
        part.register(app)
    return app


def main() -> None:
    """The entry point."""
    try:
        app = application()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    app()
