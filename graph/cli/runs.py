"""Commands about runs: train, watch, logs, cancel, sync, status; and upload, which gives them data."""

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from domain.training.rules import RuleAction
from domain.training.status import Provider, WarningCode
from graph.cli import documents
from graph.cli.client import Client
from graph.cli.errors import ClientError, Exit, Usage
from graph.cli.options import DATA_DIR, DataDir, RunId, Token, Url, id_of
from graph.cli.output import Json, command, console, print_json
from graph.cli.session import connect
from graph.cli.stream import SNAPSHOTS
from graph.cli.watching import ENDED, end_text, screen_for, seconds_text
from graph.cli.watching import watch as watch_run

T = TypeVar("T")

FORMATS = {".csv": "CSV", ".jsonl": "JSONL", ".ndjson": "JSONL", ".zip": "ZIP"}
LOG_PAGE_LINES = 500


def train(
    data: Annotated[
        str,
        typer.Argument(metavar="DATA", help="A CSV, JSONL or ZIP file, or a dataset's id; `-` for recipes without."),
    ],
    name: Annotated[str, typer.Option("--name", "-n", help="The model's name; made if you have none of it.")],
    recipe: Annotated[str, typer.Option(help="What to train.")] = "tabular-classification",
    target: Annotated[str | None, typer.Option(help="The column to predict; else `target` or `label`.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="NAME=VALUE", help="A hyperparameter; may be repeated.")
    ] = None,
    tags: Annotated[list[str] | None, typer.Option("--tag", help="A word to find the run by; may be repeated.")] = None,
    provider: Annotated[str, typer.Option(help="Who does the work.")] = "LOCAL",
    gpus: Annotated[
        list[str] | None, typer.Option("--gpu", help="A GPU type, the best first; may be repeated. RUNPOD only.")
    ] = None,
    image: Annotated[str | None, typer.Option(help="The machine image. RUNPOD only.")] = None,
    fallbacks: Annotated[
        list[str] | None,
        typer.Option("--fallback", metavar="PROVIDER", help="Where to go when no machine is free; may be repeated."),
    ] = None,
    budget: Annotated[
        float | None, typer.Option(metavar="DOLLARS", help="Stop the run before it costs more.", min=0)
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option("--rule", metavar="WARNING=ACTION", help="Such as NAN_LOSS=STOP; may be repeated."),
    ] = None,
    scenario: Annotated[
        str | None, typer.Option(help="What the simulator plays; with an API key of test mode only.")
    ] = None,
    quote: Annotated[bool, typer.Option("--quote", help="Only ask what it would cost and how long it takes.")] = False,
    time_limit: Annotated[int | None, typer.Option(metavar="SECONDS", help="Stop the training after so long.")] = None,
    deploy: Annotated[bool, typer.Option(help="Serve the model afterwards.")] = True,
    key: Annotated[
        str | None, typer.Option("--idempotency-key", help="Asking again with the same word gives the same run.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch/--no-watch", help="Watch it until it ends.")] = True,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Train a model on your data, and watch it.

    [bold]Examples[/]

    runwire train houses.csv --name prices --recipe tabular-regression --target price

    runwire train reviews.jsonl -n mood --recipe text-classification -s epochs=20 --no-watch --json

    runwire train houses.csv -n prices --provider runpod --gpu "NVIDIA A40" --fallback e2b --budget 0.5 --quote
    """
    wish = {
        "modelName": name,
        "recipe": recipe,
        "provider": _one_of(Provider, provider, "--provider"),
        "hyperparameters": _hyperparameters(settings or [], target),
        "tags": tags or [],
        "timeLimitSeconds": time_limit,
        "deploy": deploy,
        "idempotencyKey": key,
        "gpuTypes": gpus,
        "image": image,
        "fallbacks": [{"provider": _one_of(Provider, word, "--fallback")} for word in fallbacks or []],
        "budgetMicros": round(budget * 1_000_000) if budget is not None else None,
        "rules": [_rule(text) for text in rules or []],
        "scenario": scenario,
    }
    wish = {name: value for name, value in wish.items() if value not in (None, [])}

    async def work(client: Client) -> int:
        path = Path(data)
        is_file = await asyncio.to_thread(path.is_file)
        if not is_file and path.suffix.lower() in FORMATS:
            raise Usage(f"There is no file {data}.")
        dataset_id = None if is_file or data == "-" else id_of(data, "Dataset")
        if is_file and key:  # the same run needs the same dataset
            dataset_id = await _uploaded_before(client, path)
        if dataset_id is None and data != "-":
            dataset_id = (await upload_file(client, path, path.name, quiet=as_json))["id"]
        try:
            if quote:
                found = await client.ask(documents.QUOTE_RUN, input={**wish, "datasetId": dataset_id})
                _tell_quote(found, as_json=as_json)
                if is_file and not as_json:
                    again = f"The file is uploaded: `runwire train {dataset_id} …` starts the run without sending it."
                    console.print(again, style="dim", soft_wrap=True, highlight=False)
                return Exit.DONE
            run = await client.ask(documents.START_RUN, input={**wish, "datasetId": dataset_id})
        except ClientError as error:
            if is_file:
                error.hint = f"The file is uploaded: `runwire train {dataset_id} …` tries again without sending it."
            raise
        if not follow:
            return _tell_run(run, as_json=as_json)
        return await _watch(client, run["id"], name=name, as_json=as_json)

    return _with_client(work, url, token, data_dir)


def watch(
    run: RunId,
    after: Annotated[str | None, typer.Option(metavar="CURSOR", help="Begin behind this event.")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Watch a run live until it ends. Exit code: 0 READY, 1 FAILED, 3 CANCELED.

    A lost connection is resumed where it was: each event comes once. With --json each event is one line.

    [bold]Examples[/]

    runwire watch VHJhaW5pbmdSdW46…

    runwire watch 019f3a52-… --json | jq -r 'select(.__typename == "RunMeasured").readings[]'
    """

    async def work(client: Client) -> int:
        return await _watch(client, id_of(run, "TrainingRun"), after=after, as_json=as_json)

    return _with_client(work, url, token, data_dir)


def logs(
    run: RunId,
    last: Annotated[int, typer.Option(min=0, max=1000, help="Lines from the end; 0 for the whole log.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until the run ends.")] = False,
    level: Annotated[str | None, typer.Option(help="Only lines at least this loud.")] = None,
    search: Annotated[str | None, typer.Option(help="Only lines that hold this.")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Print what the trainer wrote.

    [bold]Examples[/]

    runwire logs VHJhaW5pbmdSdW46… --follow

    runwire logs VHJhaW5pbmdSdW46… --last 0 --level ERROR --search memory
    """
    if follow and (level or search):
        raise Usage("--follow shows every line; leave --level and --search out.")

    def show(line: dict[str, Any]) -> None:
        print_json(line) if as_json else print(line["text"], flush=True)

    async def work(client: Client) -> int:
        run_id = id_of(run, "TrainingRun")
        chosen = {"id": run_id, "level": level.upper() if level else None, "search": search}
        shown = 0
        async for line in _log_lines(client, chosen, last):
            show(line)
            shown = line["line"]
        if follow:
            async for line in _new_lines(client, run_id, shown):
                show(line)
        return Exit.DONE

    return _with_client(work, url, token, data_dir)


def cancel(
    run: RunId,
    wait: Annotated[bool, typer.Option("--wait", help="Return when the provider has confirmed.")] = False,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Stop a run. It is CANCELING until its provider confirms that nothing of it is left.

    [bold]Example[/]

    runwire cancel VHJhaW5pbmdSdW46… --wait
    """

    async def work(client: Client) -> int:
        canceled = await client.ask(documents.CANCEL_RUN, id=id_of(run, "TrainingRun"))
        if not wait:
            return _tell_run(canceled, as_json=as_json)
        code = await _watch(client, canceled["id"], name=canceled["model"]["name"], as_json=as_json)
        return Exit.DONE if code == Exit.CANCELED else code

    return _with_client(work, url, token, data_dir)


def sync(run: RunId, url: Url = None, token: Token = None, data_dir: DataDir = DATA_DIR, as_json: Json = False) -> int:
    """Have a run's provider asked again now, in case its last word was missed.

    [bold]Example[/]

    runwire sync VHJhaW5pbmdSdW46…
    """

    async def work(client: Client) -> int:
        return _tell_run(await client.ask(documents.SYNC_RUN, id=id_of(run, "TrainingRun")), as_json=as_json)

    return _with_client(work, url, token, data_dir)


def status(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run; without it, your latest ones.")] = None,
    first: Annotated[int, typer.Option(min=1, max=100, help="How many of the latest.")] = 10,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Tell where a run stands, or where your latest runs do.

    For one run the exit code is 0, or 1 when it FAILED and 3 when it was CANCELED.

    [bold]Examples[/]

    runwire status

    runwire status VHJhaW5pbmdSdW46… --json | jq .deploymentUrl
    """

    async def work(client: Client) -> int:
        if run is not None:
            found = await client.ask(documents.RUN, id=id_of(run, "TrainingRun"))
            _tell_run(found, as_json=as_json)
            return ENDED.get(found["status"], Exit.DONE)
        page = await client.ask(documents.RUNS, first=first)
        runs = [edge["node"] for edge in page["edges"]]
        if as_json:
            for found in runs:
                print_json(found)
        elif runs:
            _print_table(_table(runs))
        else:
            console.print("There are no runs yet. `runwire train FILE --name NAME` starts one.")
        return Exit.DONE

    return _with_client(work, url, token, data_dir)


def upload(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True, help="CSV, JSONL or ZIP.")],
    name: Annotated[str | None, typer.Option("--name", "-n", help="The dataset's name; else the file's.")] = None,
    url: Url = None,
    token: Token = None,
    data_dir: DataDir = DATA_DIR,
    as_json: Json = False,
) -> int:
    """Upload a dataset, for runs to train on.

    [bold]Example[/]

    runwire upload houses.csv --name houses
    """

    async def work(client: Client) -> int:
        dataset = await upload_file(client, file, name or file.name, quiet=as_json)
        if as_json:
            print_json(dataset)
        else:
            rows = f"{dataset['rowCount']:,} rows, " if dataset["rowCount"] is not None else ""
            console.print(f"[green]✓[/] {escape(dataset['name'])}: {rows}{dataset['bytes']:,} bytes")
            console.print(dataset["id"], soft_wrap=True)
        return Exit.DONE

    return _with_client(work, url, token, data_dir)


async def upload_file(client: Client, path: Path, name: str, *, quiet: bool) -> dict[str, Any]:
    """A new dataset with the file's content, as the API tells it afterwards. Raises `ClientError`."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise Usage(f"{path.name} must end in one of {', '.join(FORMATS)}, so that it is known how to read it.")
    dataset = await client.ask(documents.CREATE_DATASET, input={"name": name, "format": kind})
    columns = (TextColumn("Uploading"), BarColumn(), DownloadColumn())
    total = (await asyncio.to_thread(path.stat)).st_size
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task("upload", total=total)
        await client.upload(dataset["id"], path, on_progress=lambda sent: progress.update(task, completed=sent))
    found = await client.ask(documents.DATASET, id=dataset["id"])
    assert isinstance(found, dict)
    return found


async def _uploaded_before(client: Client, path: Path) -> str | None:
    """The first dataset of this name and content, so that the answer stays the same however many follow."""

    def digest() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    wanted = {"name": path.name, "status": "READY", "sha256": await asyncio.to_thread(digest)}
    found: str | None = None
    after = None
    while True:
        page = await client.ask(documents.DATASETS, after=after)
        for edge in page["edges"]:  # newest first
            if wanted.items() <= edge["node"].items():
                found = edge["node"]["id"]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    panel = "Runs"
    for function in (train, watch, logs, cancel, sync, status, upload):
        app.command(rich_help_panel=panel)(command(function))


def _with_client(work: Callable[[Client], Awaitable[int]], url: str | None, token: str | None, data_dir: Path) -> int:
    async def main() -> int:
        async with connect(url, token, data_dir) as client:
            return await work(client)

    return asyncio.run(main())


async def _watch(client: Client, run_id: str, *, as_json: bool, name: str = "", after: str | None = None) -> int:
    view = await watch_run(client, run_id, screen_for(console, as_json=as_json), name=name, after=after)
    if not as_json:
        console.print(end_text(view), soft_wrap=True)
    return view.exit_code


Lines = AsyncGenerator[dict[str, Any], None]


async def _log_lines(client: Client, chosen: dict[str, Any], last: int) -> Lines:
    """The last lines, or all for 0."""
    if last:
        page = (await client.ask(documents.LOGS, **chosen, last=last))["logs"]
        for edge in page["edges"]:
            yield edge["node"]
        return
    async for line in _lines_after(client, chosen, None):
        yield line


async def _lines_after(client: Client, chosen: dict[str, Any], after: str | None) -> Lines:
    """All lines that are there behind the cursor."""
    while True:
        page = (await client.ask(documents.LOGS, **chosen, first=LOG_PAGE_LINES, after=after))["logs"]
        for edge in page["edges"]:
            yield edge["node"]
            after = edge["cursor"]
        if not page["pageInfo"]["hasNextPage"]:
            return


async def _new_lines(client: Client, run_id: str, shown: int) -> Lines:
    """Lines after number `shown`, as they are written; what an event does not carry is read."""
    async with aclosing(client.follow(run_id)) as messages:
        async for message in messages:
            lines = message.get("lines") or []
            if message["__typename"] in SNAPSHOTS or message.get("toLine", 0) > shown + len(lines):
                lines = [line async for line in _lines_after(client, {"id": run_id}, str(shown))]
            for line in lines:
                if line["line"] > shown:
                    yield line
                    shown = line["line"]


def _hyperparameters(settings: list[str], target: str | None) -> dict[str, Any]:
    """`epochs=20` is a number, `model=linear` a text, `hiddenLayers=[64,32]` a list: JSON where it is JSON."""
    chosen: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not name or not equals:
            raise Usage(f"--set takes NAME=VALUE, such as epochs=20; {setting!r} is none.")
        try:
            chosen[name] = json.loads(text)
        except ValueError:
            chosen[name] = text
    return {**chosen, "targetColumn": target} if target else chosen


def _rule(text: str) -> dict[str, str]:
    warning, equals, action = text.partition("=")
    if not equals:
        raise Usage(f"{text!r} is no rule; write it as NAN_LOSS=STOP.")
    return {"warning": _one_of(WarningCode, warning, "--rule"), "action": _one_of(RuleAction, action, "--rule")}


def _one_of(kind: type[StrEnum], text: str, option: str) -> str:
    """The word as the API writes it; said here, before a file is uploaded for nothing. Raises `Usage`."""
    word = text.strip().upper()
    if word not in kind.__members__:
        raise Usage(f"{option} knows no {text.strip()}; there are {', '.join(kind.__members__)}.")
    return word


def _tell_quote(quote: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(quote)
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("Provider", "GPU", "Price", "Expected", "Takes", "Free"):
        table.add_column(heading, no_wrap=True)
    for option in quote["options"]:
        eta = option["eta"]
        table.add_row(
            option["provider"],
            option["gpuType"] or "",
            _price(option),
            _dollars(option["expectedMicros"]),
            seconds_text(eta["seconds"]) if eta else "",
            option["problem"] or {True: "yes", False: "no"}.get(option["isAvailable"], ""),
        )
    _print_table(table)
    if quote["testMode"]:
        console.print("[dim]Test mode: simulators would do it, and nobody would be charged.[/]")


def _price(option: dict[str, Any]) -> str:
    if option["flatMicros"] is not None:
        return _dollars(option["flatMicros"])
    return f"{_dollars(option['priceMicrosPerHour'])}/h" if option["priceMicrosPerHour"] is not None else ""


def _dollars(micros: int | None) -> str:
    return f"${micros / 1_000_000:,.4f}" if micros is not None else ""


def _tell_run(run: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        print_json(run)
        return Exit.DONE
    console.print(f"[bold]{escape(run['model']['name'])}[/]  [cyan]{run['status']}[/]  {run['progress']:.1f} %")
    if run["errorMessage"]:
        console.print(f"{run['endReason']}: {run['errorMessage']}", markup=False, soft_wrap=True)
    if run["deploymentUrl"]:
        console.print(run["deploymentUrl"], markup=False, soft_wrap=True)
    console.print(run["id"], markup=False, soft_wrap=True)
    return Exit.DONE


def _print_table(table: Table) -> None:
    """Each row in one line, however narrow the terminal: an id in pieces cannot be copied, or read by a program."""
    width = Measurement.get(console, console.options.update(max_width=1000), table).maximum
    console.print(table, width=max(width, console.width), crop=False, soft_wrap=True)


def _table(runs: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("Model", "Status", "Progress", "Took", "Begun", "Run"):
        table.add_column(heading, no_wrap=True)
    for run in runs:
        took = seconds_text(run["durationSeconds"]) if run["durationSeconds"] is not None else ""
        begun = datetime.fromisoformat(run["createdAt"]).astimezone().strftime("%b %d %H:%M")
        name, state = escape(run["model"]["name"]), run["status"]
        table.add_row(name, state, f"{run['progress']:.0f} %", took, begun, run["id"])
    return table
