"""`runwire demo`: the product's main job on real data, from nothing to a live model that answers, in one command."""

import asyncio
import csv
import os
import secrets
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from graph.cli import documents
from graph.cli.client import Client
from graph.cli.errors import ClientError, Exit, Usage
from graph.cli.output import Json, command, console, print_json
from graph.cli.runs import upload_file
from graph.cli.session import sign_in
from graph.cli.stack import Stack
from graph.cli.up import running
from graph.cli.watching import end_text, screen_for, watch

DATA_DIR = Path(".runwire")
HELD_OUT_ROWS = 360
BATCH_ROWS = 60
SHOWN_ROWS = 6
ACCURACY_NEEDED = 0.9
MODEL = "handwritten-digits"
SPLIT_SEED = 20
DARK = 7.0
"""Of 16."""
HALVES = {(False, False): " ", (True, False): "▀", (False, True): "▄", (True, True): "█"}


@dataclass(frozen=True, slots=True)
class Digits:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 pixels each: what is uploaded, and what nobody is shown."""

    path: Path
    uploaded_rows: int
    held_out: list[dict[str, float]]
    truths: list[int]


class NotGoodEnough(ClientError):
    """The model predicts too badly."""


def demo(
    provider: Annotated[str, typer.Option(envvar="PROVIDER", help="Who trains; this version: LOCAL.")] = "LOCAL",
    prompt: Annotated[str, typer.Option(envvar="PROMPT", help="What to build instead; not in this version.")] = "",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where it keeps its data. Default: DATA_DIR/demo.", file_okay=False),
    ] = None,
    as_json: Json = False,
) -> int:
    """Train a real model on this machine, watch it live, and ask it about data it never saw. Takes about a minute.

    It needs no account, no key and no server: it starts everything, uses it through the public API as a partner would,
    and stops it again.

    [bold]Example[/]

    runwire demo
    """
    if provider.strip().upper() not in ("", "LOCAL"):
        raise Usage(f"The demo trains on LOCAL, which is this machine. {provider} is not offered by this version.")
    if prompt.strip():
        raise Usage("The demo trains on handwritten digits; building from a prompt is not offered by this version.")
    teller = Console(stderr=True, highlight=False) if as_json else console
    folder = data_dir or Path(os.environ.get("DATA_DIR") or DATA_DIR) / "demo"
    began = time.monotonic()
    teller.print("[bold]Runwire demo[/]: train on real handwritten digits, watch it live, call the model.\n")
    with ThreadPoolExecutor(1) as beside:
        digits = beside.submit(write_digits, folder / "digits.csv")  # takes as long as the servers do
        with running(folder, teller) as stack:
            done(teller, "PostgreSQL, Redis, an API and a worker are up", began, stack.api_url)
            asyncio.run(_main_job(stack, digits, teller, as_json=as_json))
    teller.print(f"\n[bold green]✓[/] Done in {time.monotonic() - began:.1f} s; everything is stopped again.")
    teller.print("  [bold]make up[/] or [bold]runwire up[/] starts it to stay, with a playground to look around in.")
    return Exit.DONE


async def _main_job(stack: Stack, writing: Future[Digits], teller: Console, *, as_json: bool) -> None:
    async with Client(stack.api_url) as client:
        begun = time.monotonic()
        email = f"demo-{secrets.token_hex(4)}@runwire.local"
        await sign_in(client, email, secrets.token_urlsafe(24), sign_up=True)
        done(teller, f"Signed up {email} through the GraphQL API", begun)

        begun = time.monotonic()
        digits = await asyncio.wrap_future(writing)
        dataset = await upload_file(client, digits.path, digits.path.name, quiet=as_json)
        facts = f"{digits.uploaded_rows:,} of 1,797 real rows, {dataset['bytes']:,} bytes"
        done(teller, f"Uploaded {digits.path.name}: {facts}; {len(digits.truths)} rows stay here", begun)

        begun = time.monotonic()
        wish = {
            "modelName": MODEL,
            "recipe": "tabular-classification",
            "datasetId": dataset["id"],
            "provider": "LOCAL",
            "tags": ["demo"],
        }
        run = await client.ask(documents.START_RUN, input=wish)
        done(teller, "Started a training run; following it over the public WebSocket subscription", begun)
        view = await watch(client, run["id"], screen_for(teller, as_json=as_json), name=MODEL)
        if view.status != "READY" or view.deployment_url is None:
            why = view.error_message or view.end_reason
            raise ClientError(f"The run ended as {view.status}: {why}. Logs are in {stack.data_dir / 'logs'}.")
        teller.print(end_text(view), soft_wrap=True)

        begun = time.monotonic()
        address = view.deployment_url.rstrip("/") + "/predict"
        predictions = await ask_model(client, address, digits.held_out)
        right = sum(is_same(*pair) for pair in zip(predictions, digits.truths, strict=True))
        accuracy = right / len(digits.truths)
        teller.print(_table(predictions, digits))
        done(teller, f"The live model read {right} of {len(digits.truths)} rows that it never saw", begun, address)
        teller.print(f"  [bold]accuracy {accuracy:.1%}[/]")
        if as_json:
            facts_of_run = {"runId": run["id"], "deploymentUrl": view.deployment_url}
            print_json({**facts_of_run, "heldOutRows": len(digits.truths), "right": right, "accuracy": accuracy})
        if accuracy < ACCURACY_NEEDED:
            raise NotGoodEnough(f"An accuracy of {accuracy:.1%} is below the {ACCURACY_NEEDED:.0%} that it must reach.")


async def ask_model(client: Client, address: str, rows: list[dict[str, float]]) -> list[Any]:
    """The predictions for the rows, asked in batches. Raises `ClientError`."""
    predictions: list[Any] = []
    for start in range(0, len(rows), BATCH_ROWS):
        answer = await client.post_json(address, {"rows": rows[start : start + BATCH_ROWS]})
        predictions.extend(answer["predictions"])
    return predictions


def write_digits(path: Path) -> Digits:
    """Write the rows to be uploaded as CSV; as many of each digit are held out as there are of it."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, targets = load_digits(return_X_y=True)
    uploaded, held_out, uploaded_targets, truths = train_test_split(
        pixels, targets, test_size=HELD_OUT_ROWS, stratify=targets, random_state=SPLIT_SEED
    )
    names = [f"pixel_{number}" for number in range(pixels.shape[1])]
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "target"])
        for row, target in zip(uploaded, uploaded_targets, strict=True):
            writer.writerow([*map(int, row), int(target)])
    return Digits(
        path=path,
        uploaded_rows=len(uploaded_targets),
        held_out=[dict(zip(names, map(float, row), strict=True)) for row in held_out],
        truths=[int(truth) for truth in truths],
    )


def is_same(prediction: Any, truth: int) -> bool:
    """Classes may be told as numbers or as texts."""
    try:
        return float(prediction) == truth
    except (TypeError, ValueError):
        return False


def done(teller: Console, words: str, begun: float, address: str = "") -> None:
    """A step that is behind us, with its time."""
    where = f"  [dim]{escape(address)}[/]" if address else ""
    teller.print(f"[green]✓[/] {escape(words)} [dim]({time.monotonic() - begun:.1f} s)[/]{where}", soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel="Start here")(command(demo))


def _table(predictions: list[Any], digits: Digits) -> Table:
    """Some digits as they look, with what the model says and what is true."""
    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    shown = range(min(SHOWN_ROWS, len(predictions)))
    table.add_row("", *(_drawing(digits.held_out[number]) for number in shown))
    table.add_row("  [dim]model[/]", *(_verdict(predictions[number], digits.truths[number]) for number in shown))
    table.add_row("  [dim]truth[/]", *(f"   {digits.truths[number]}" for number in shown))
    return table


def _drawing(row: dict[str, float]) -> str:
    """The 8 × 8 pixels in four lines, each sign two pixels, one above the other."""
    pixels = [value >= DARK for value in row.values()]
    lines = []
    for top in range(0, len(pixels), 16):
        pairs = zip(pixels[top : top + 8], pixels[top + 8 : top + 16], strict=True)
        lines.append("".join(HALVES[pair] for pair in pairs))
    return "\n".join(lines)


def _verdict(prediction: Any, truth: int) -> str:
    style = "bold green" if is_same(prediction, truth) else "bold red"
    return f"   [{style}]{escape(str(prediction))}[/]"
