"""`runwire demo`: the product's main job on real data, from nothing to a live model that answers, in one command.

With a remote provider the same job is done by the provider's simulator, through the vendor's own SDK and wire protocol.
"""

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
from graph.cli.client import Client, Credential
from graph.cli.errors import ClientError, Exit, Usage
from graph.cli.output import Json, command, console, print_json
from graph.cli.pictures import write_pictures
from graph.cli.runs import upload_file
from graph.cli.session import ALL_SCOPES, sign_in
from graph.cli.stack import Stack
from graph.cli.up import running
from graph.cli.watching import RunView, end_text, screen_for, watch

DATA_DIR = Path(".runwire")
HELD_OUT_ROWS = 360
BATCH_ROWS = 60
SHOWN_ROWS = 6
ACCURACY_NEEDED = 0.9
MODEL = "handwritten-digits"
SPLIT_SEED = 20
DARK = 7.0
"""Of 16."""
MACHINES = ("RUNPOD", "E2B")
"""Providers that run our own programs; each trains the same model as LOCAL."""
IMAGE_RECIPES: dict[str, dict[str, Any]] = {
    "REPLICATE": {"recipe": "flux-lora", "hyperparameters": {"triggerWord": "DIGIT", "steps": 300}},
    "ASTRIA": {"recipe": "image-tune", "hyperparameters": {"className": "style"}},
}
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
    provider: Annotated[
        str,
        typer.Option(envvar="PROVIDER", help="Who trains: LOCAL, or the simulator of REPLICATE, RUNPOD, ASTRIA, E2B."),
    ] = "LOCAL",
    prompt: Annotated[str, typer.Option(envvar="PROMPT", help="What to build instead; not in this version.")] = "",
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where it keeps its data. Default: DATA_DIR/demo.", file_okay=False),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="What the provider's simulator plays; `runwire simulate --list` has the names.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Train a real model on this machine, watch it live, and ask it about data it never saw. Takes about a minute.

    It needs no account, no key and no server: it starts everything, uses it through the public API as a partner would,
    and stops it again. With a remote provider it is the provider's simulator that does the work, in test mode.

    [bold]Examples[/]

    runwire demo

    runwire demo --provider runpod
    """
    name = provider.strip().upper() or "LOCAL"
    if name not in ("LOCAL", *IMAGE_RECIPES, *MACHINES):
        raise Usage(f"There is no provider {provider}. There are LOCAL, REPLICATE, RUNPOD, ASTRIA and E2B.")
    if prompt.strip():
        raise Usage("The demo trains on handwritten digits; building from a prompt is not offered by this version.")
    if scenario is not None and name == "LOCAL":
        raise Usage("LOCAL is this machine, and plays no scenarios; choose a provider that is simulated.")
    teller = Console(stderr=True, highlight=False) if as_json else console
    folder = data_dir or Path(os.environ.get("DATA_DIR") or DATA_DIR) / "demo"
    began = time.monotonic()
    teller.print("[bold]Runwire demo[/]: train on real handwritten digits, watch it live, call the model.\n")
    job = Job(name, scenario, folder, teller, as_json)
    with ThreadPoolExecutor(1) as beside:
        digits = beside.submit(write_digits, folder / "digits.csv")  # takes as long as the servers do
        with running(folder, teller) as stack:
            done(teller, "PostgreSQL, Redis, an API and a worker are up", began, stack.api_url)
            asyncio.run(_main_job(stack, digits, job))
    teller.print(f"\n[bold green]✓[/] Done in {time.monotonic() - began:.1f} s; everything is stopped again.")
    teller.print("  [bold]make up[/] or [bold]runwire up[/] starts it to stay, with a playground to look around in.")
    return Exit.DONE


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be shown."""

    provider: str
    scenario: str | None
    folder: Path
    teller: Console
    as_json: bool


async def _main_job(stack: Stack, writing: Future[Digits], job: Job) -> None:
    teller = job.teller
    async with Client(stack.api_url) as client:
        begun = time.monotonic()
        email = f"demo-{secrets.token_hex(4)}@runwire.local"
        await sign_in(client, email, secrets.token_urlsafe(24), sign_up=True)
        done(teller, f"Signed up {email} through the GraphQL API", begun)
        digits = await asyncio.wrap_future(writing)
        if job.provider != "LOCAL":
            begun = time.monotonic()
            await _enter_test_mode(client)
            done(
                teller, f"Made an API key of test mode: {job.provider}'s simulator does the work, free of charge", begun
            )
        if job.provider in IMAGE_RECIPES:
            return await _tune_images(stack, client, job)
        await _train_digits(stack, client, digits, job)


async def _enter_test_mode(client: Client) -> None:
    """Go on with a key whose runs simulators play."""
    wish = {"name": "demo", "scopes": list(ALL_SCOPES), "testMode": True}
    made = await client.ask(documents.CREATE_API_KEY, input=wish)
    client.credential = Credential(made["token"])


async def _train_digits(stack: Stack, client: Client, digits: Digits, job: Job) -> None:
    teller = job.teller
    begun = time.monotonic()
    dataset = await upload_file(client, digits.path, digits.path.name, quiet=job.as_json)
    facts = f"{digits.uploaded_rows:,} of 1,797 real rows, {dataset['bytes']:,} bytes"
    done(teller, f"Uploaded {digits.path.name}: {facts}; {len(digits.truths)} rows stay here", begun)
    wish = {
        "modelName": MODEL,
        "recipe": "tabular-classification",
        "datasetId": dataset["id"],
        "provider": job.provider,
        "tags": ["demo"],
        "scenario": job.scenario,
    }
    run, view = await _followed(stack, client, wish, job)
    if view.deployment_url is None:
        raise ClientError("The run is READY without an address.")
    begun = time.monotonic()
    address = view.deployment_url.rstrip("/") + "/predict"
    predictions = await ask_model(client, address, digits.held_out)
    right = sum(is_same(*pair) for pair in zip(predictions, digits.truths, strict=True))
    accuracy = right / len(digits.truths)
    teller.print(_table(predictions, digits))
    done(teller, f"The live model read {right} of {len(digits.truths)} rows that it never saw", begun, address)
    teller.print(f"  [bold]accuracy {accuracy:.1%}[/]")
    if job.as_json:
        facts_of_run = {"runId": run["id"], "deploymentUrl": view.deployment_url}
        print_json({**facts_of_run, "heldOutRows": len(digits.truths), "right": right, "accuracy": accuracy})
    if accuracy < ACCURACY_NEEDED:
        raise NotGoodEnough(f"An accuracy of {accuracy:.1%} is below the {ACCURACY_NEEDED:.0%} that it must reach.")


async def _tune_images(stack: Stack, client: Client, job: Job) -> None:
    """The image trainers: the model stays at the provider, which has an address for it."""
    teller = job.teller
    begun = time.monotonic()
    path = job.folder / "digits.zip"
    count = await asyncio.to_thread(write_pictures, path)
    dataset = await upload_file(client, path, path.name, quiet=job.as_json)
    done(teller, f"Uploaded {path.name}: {count} pictures of digits, {dataset['bytes']:,} bytes", begun)
    wish = {
        "modelName": MODEL,
        **IMAGE_RECIPES[job.provider],
        "datasetId": dataset["id"],
        "provider": job.provider,
        "tags": ["demo"],
        "scenario": job.scenario,
    }
    run, _ = await _followed(stack, client, wish, job)
    found = await client.ask(documents.MODEL, id=run["model"]["id"])
    words = f"The model stays at {job.provider} as {found['providerVersion']}"
    done(teller, words, begun, found["modelUrl"] or "")
    if job.as_json:
        print_json({"runId": run["id"], "providerVersion": found["providerVersion"], "modelUrl": found["modelUrl"]})


async def _followed(stack: Stack, client: Client, wish: dict[str, Any], job: Job) -> tuple[dict[str, Any], RunView]:
    """Start a run and follow it to a good end. Raises `ClientError` for another."""
    begun = time.monotonic()
    run = await client.ask(documents.START_RUN, input=wish)
    done(job.teller, "Started a training run; following it over the public WebSocket subscription", begun)
    view = await watch(client, run["id"], screen_for(job.teller, as_json=job.as_json), name=MODEL)
    if view.status != "READY":
        why = view.error_message or view.end_reason
        raise ClientError(f"The run ended as {view.status}: {why}. Logs are in {stack.data_dir / 'logs'}.")
    job.teller.print(end_text(view), soft_wrap=True)
    ended = await client.ask(documents.RUN, id=run["id"])
    if job.provider != "LOCAL":
        job.teller.print(f"  [dim]{job.provider} would have cost[/] {ended['costMicros'] / 1e6:.6f} dollars")
    return run, view


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
