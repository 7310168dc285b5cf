"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from graph.ids import global_id

Url = Annotated[
    str | None,
    typer.Option(
        "--url", envvar="RUNWIRE_URL", help="The API's address. Default: that of `runwire up`.", metavar="URL"
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        envvar="RUNWIRE_TOKEN",
        help="An API key or access token. Default: the key of `runwire up`.",
        metavar="TOKEN",
        show_envvar=True,
    ),
]
DataDir = Annotated[
    Path,
    typer.Option("--data-dir", envvar="DATA_DIR", help="Where `runwire up` keeps its data.", file_okay=False),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run: its id as the API gives it, or its UUID.")]

DATA_DIR = Path(".runwire")


def id_of(text: str, kind: str) -> str:
    """The id as GraphQL takes it; a plain UUID becomes one of that kind."""
    try:
        return global_id(kind, UUID(text))
    except ValueError:
        return text
