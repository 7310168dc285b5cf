"""From the end of a training at its provider to the subscriber's socket, over everything in between.

A training ends at Replicate's simulator; its final webhook goes to the API, is stored, applied by a worker, published
and sent to the WebSocket of a client that follows the run. The second row loses every webhook, so that polling finds
the end. The clock starts when the simulator's training ends and stops when the client has the message.
"""

import asyncio
import secrets
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from graph.cli import documents
from graph.cli.client import Client, Credential, last_of
from graph.cli.pictures import write_pictures
from graph.cli.session import ALL_SCOPES, sign_in
from graph.cli.stack import Stack
from graph.ids import uuid_of
from jobs.simulators.kit import serving
from jobs.simulators.server import Simulators

SCENARIOS = {"success": "webhook delivered", "webhook_lost": "every webhook lost: polling"}
STARTED_APART_SECONDS = 0.15
"""As users do: not all at once."""
USER_RUNS = 40
"""A user may have fifty that have not ended."""


@dataclass(frozen=True, slots=True)
class Row:
    """What one scenario showed."""

    words: str
    seconds: Sequence[float]
    cpu_seconds: float
    """Of all API and worker processes together."""


async def measure(console: Console, *, runs: int) -> None:
    """Run both rows and print them."""
    rows = []
    with TemporaryDirectory(prefix="runwire-bench-") as folder:
        simulators = Simulators(seed=1)
        async with serving(simulators.app) as url:
            environment = {"ENVIRONMENT": "test", "SIMULATORS_URL": url, "PORT": "0", "PATH": "/usr/bin:/bin"}
            stack = Stack(Path(folder) / "data", environment=environment, durable=False)
            await asyncio.to_thread(stack.start)
            try:
                for scenario, words in SCENARIOS.items():
                    before = _cpu_seconds(stack)
                    seconds = await _scenario(stack, simulators, Path(folder), scenario, runs)
                    rows.append(Row(words, seconds, _cpu_seconds(stack) - before))
            finally:
                await asyncio.to_thread(stack.stop)
    console.print(_table(rows, runs))


async def _scenario(stack: Stack, simulators: Simulators, folder: Path, scenario: str, runs: int) -> list[float]:
    seconds: list[float] = []
    for start in range(0, runs, USER_RUNS):
        async with Client(stack.api_url) as client:
            dataset_id = await _tenant(client, folder)
            count = min(USER_RUNS, runs - start)
            tasks = []
            async with asyncio.TaskGroup() as group:
                for number in range(count):
                    name = f"{scenario}-{start + number}"
                    tasks.append(group.create_task(_one(client, simulators, dataset_id, scenario, name)))
                    await asyncio.sleep(STARTED_APART_SECONDS)
            seconds.extend(task.result() for task in tasks)
    return seconds


async def _tenant(client: Client, folder: Path) -> str:
    """A new user in test mode; gives the id of a dataset of theirs."""
    email = f"bench-{secrets.token_hex(4)}@runwire.local"
    await sign_in(client, email, secrets.token_urlsafe(24), sign_up=True)
    wish = {"name": "bench", "scopes": list(ALL_SCOPES), "testMode": True}
    client.credential = Credential((await client.ask(documents.CREATE_API_KEY, input=wish))["token"])
    path = folder / "digits.zip"
    await asyncio.to_thread(write_pictures, path)
    dataset = await client.ask(documents.CREATE_DATASET, input={"name": path.name, "format": "ZIP"})
    await client.upload(dataset["id"], path)
    return str(dataset["id"])


async def _one(client: Client, simulators: Simulators, dataset_id: str, scenario: str, name: str) -> float:
    """Seconds from the end at the provider to the message on the socket."""
    wish: dict[str, Any] = {
        "modelName": name,
        "recipe": "flux-lora",
        "datasetId": dataset_id,
        "provider": "REPLICATE",
        "scenario": scenario,
    }
    run = await client.ask(documents.START_RUN, input=wish)
    last = await last_of(client.follow(run["id"]))
    arrived = time.time()
    if last is None or last["status"] != "READY":
        raise RuntimeError(f"A run ended as {last and last['status']}.")
    tag = f"run-{uuid_of(run['id'], 'TrainingRun').hex}-1"
    (truth,) = [truth for truth in simulators.replicate.truths() if truth.tag == tag]
    if truth.ended_at is None:
        raise RuntimeError("The simulator's training has not ended.")
    return arrived - truth.ended_at.timestamp()


def _cpu_seconds(stack: Stack) -> float:
    spent = 0.0
    for process in (*stack.apis, *stack.workers):
        times = psutil.Process(process.pid).cpu_times()
        spent += times.user + times.system
    return spent


def _table(rows: Sequence[Row], runs: int) -> Table:
    table = Table(
        title=f"End of a training at its provider → subscriber's socket ({runs} runs per row)", title_justify="left"
    )
    for heading in ("", "median", "p95", "p99", "to delivered", "server CPU per run"):
        table.add_column(heading, justify="left" if not heading else "right")
    base = statistics.median(rows[0].seconds)
    for row in rows:
        cuts = statistics.quantiles(row.seconds, n=100, method="inclusive")
        median = statistics.median(row.seconds)
        table.add_row(
            row.words,
            f"{1000 * median:.0f} ms",
            f"{1000 * cuts[94]:.0f} ms",
            f"{1000 * cuts[98]:.0f} ms",
            f"{median / base:.1f} ×",
            f"{1000 * row.cpu_seconds / runs:.0f} ms",
        )
    return table
