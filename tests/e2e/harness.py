"""The whole product in real processes, and the ways in which tests hurt it.

A `World` is servers, API processes and workers of its own; nothing restarts by itself, so that a test decides what is
there and when. A `Tenant` is a signed-up user with an uploaded dataset, who speaks to one of the APIs.
"""

import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
import asyncpg
import httpx2
from sklearn.datasets import load_iris

from db.embedded import EmbeddedPostgres, EmbeddedRedis
from domain.training.status import FINAL, RunStatus
from graph.cli import documents
from graph.cli.client import Client
from graph.cli.processes import Process
from graph.cli.session import sign_in
from graph.cli.stack import Stack
from graph.ids import global_id, uuid_of

SUPERUSER = "postgres"
"""Sees every tenant's rows, to look at what is really stored."""
DATABASE = "runwire"
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "UV_CACHE_DIR", "XDG_CACHE_HOME", "XDG_DATA_HOME")
LOOK_SECONDS = 0.02
END_SECONDS = 100.0
"""How long a run may take to end, with every fault of this folder."""
GONE_SECONDS = 5.0
FIRST_PORT = 20_000
PORTS = 10_000
"""Below those that the kernel gives to connections, so that an API finds its own port free when it is started again."""
STOP_DEPLOYMENT = "mutation ($id: ID!) { stopDeployment(id: $id) { __typename ... on Problem { code message } } }"


class World:
    """Two API processes and two workers, on servers of their own; `PUBLIC_URL` is the first API's address.

    `given` are further settings of theirs; `apis` and `workers` say if there are more or fewer of them."""

    def __init__(self, folder: Path, *, apis: int = 2, workers: int = 2, **given: str) -> None:
        environment = {
            **passed_on(),
            "ENVIRONMENT": "test",
            "PORT": str(FIRST_PORT + os.getpid() % PORTS),
            "LOCAL_SLOTS": "32",
            "SIGN_IN_ATTEMPTS_PER_MINUTE": "1000",
            **given,
        }
        self.stack = Stack(folder, apis=apis, workers=workers, environment=environment, durable=False, restart=False)

    @property
    def folder(self) -> Path:
        return self.stack.data_dir

    @property
    def postgres(self) -> EmbeddedPostgres:
        return self.stack.postgres

    @property
    def redis(self) -> EmbeddedRedis:
        return self.stack.redis

    @property
    def apis(self) -> list[Process]:
        return self.stack.apis

    @property
    def workers(self) -> list[Process]:
        return self.stack.workers

    def url(self, number: int) -> str:
        """The address of an API process."""
        return self.stack.api_urls[number]

    async def begin(self, process: Process) -> None:
        """Start a process; it needs a second until it works."""
        await anyio.to_thread.run_sync(self.stack.supervisor.start, process)

    async def kill(self, process: Process) -> None:
        """`kill -9`, and wait until it is gone."""
        process.kill(signal.SIGKILL)
        assert await anyio.to_thread.run_sync(process.wait, GONE_SECONDS), f"{process.name} survived SIGKILL"

    async def stop(self, process: Process, limit_seconds: float = 10.0) -> float:
        """SIGTERM; gives the seconds that it took to end."""
        asked = time.monotonic()
        process.kill(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(process.wait, limit_seconds), f"{process.name} did not end on SIGTERM"
        return time.monotonic() - asked

    async def redis_dies(self) -> None:
        """`kill -9`, and nothing of what it knew is left when it is started again."""
        await anyio.to_thread.run_sync(self.redis.kill)
        for file in (*(self.redis.folder / "appendonlydir").glob("*"), *self.redis.folder.glob("*.aof")):
            file.unlink()

    async def whole(self) -> None:
        """Everything runs and answers again, whatever the test before did."""
        await anyio.to_thread.run_sync(self.postgres.start)
        await anyio.to_thread.run_sync(self.redis.start)
        for process in (*self.apis, *self.workers):
            process.kill(signal.SIGCONT)
            if not process.is_running:
                await self.begin(process)
        for number in range(len(self.apis)):
            await self.api_ready(number)
        await until("every worker is seen", self._workers_seen)

    async def api_ready(self, number: int) -> None:
        """The API says at `/readyz` that it can work."""

        async def is_ready() -> bool:
            try:
                return (await http.get(f"{self.url(number)}/readyz")).is_success
            except httpx2.HTTPError:
                return False

        async with httpx2.AsyncClient(timeout=5, trust_env=False) as http:
            await until(f"API {number} is ready", is_ready)

    def last_words(self) -> str:
        """The end of every process's log, for who has to find out why a test failed."""
        logs = sorted((self.folder / "logs").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{_tail(log)}" for log in logs)

    @asynccontextmanager
    async def database(self) -> AsyncIterator["Rows"]:
        """What is really stored."""
        connection = await asyncpg.connect(self.postgres.address_of(DATABASE, SUPERUSER))
        try:
            yield Rows(connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def tenant(self, *, api: int = 0) -> AsyncIterator["Tenant"]:
        """A new user with a dataset."""
        async with Client(self.url(api)) as client:
            await sign_in(client, f"{uuid4().hex}@example.com", uuid4().hex, sign_up=True)
            dataset = await client.ask(documents.CREATE_DATASET, input={"name": "iris", "format": "CSV"})
            await client.upload(dataset["id"], await anyio.to_thread.run_sync(self.iris))
            yield Tenant(client, dataset["id"])

    def iris(self) -> Path:
        """The dataset of every tenant: 150 flowers."""
        path = self.folder / "iris.csv"
        if not path.exists():
            iris = load_iris()
            rows = [
                ",".join([*map(str, features), str(iris.target_names[kind])])
                for features, kind in zip(iris.data.tolist(), iris.target.tolist(), strict=True)
            ]
            path.write_text("\n".join(["a,b,c,d,target", *rows]) + "\n", encoding="utf-8")
        return path

    async def _workers_seen(self) -> bool:
        async with self.database() as rows:
            seen = set(await rows.column("SELECT pid FROM workers WHERE seen_at > now() - interval '8 seconds'"))
        return {process.pid for process in self.workers} <= seen


@dataclass(frozen=True, slots=True)
class Rows:
    """A connection that sees everything."""

    connection: Any

    async def all(self, query: str, *values: object) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.connection.fetch(query, *values)]

    async def one(self, query: str, *values: object) -> dict[str, Any]:
        (row,) = await self.all(query, *values)
        return row

    async def column(self, query: str, *values: object) -> list[Any]:
        return [row[0] for row in await self.connection.fetch(query, *values)]

    async def value(self, query: str, *values: object) -> Any:
        return await self.connection.fetchval(query, *values)

    async def status(self, run_id: UUID) -> RunStatus:
        return RunStatus(await self.value("SELECT status FROM training_runs WHERE id = $1", run_id))

    async def until_status(self, run_id: UUID, *wanted: RunStatus, limit_seconds: float = END_SECONDS) -> RunStatus:
        """The run's status, once it is one of these. A run that ended otherwise fails the test at once."""
        found = await self.status(run_id)
        deadline = time.monotonic() + limit_seconds
        while found not in wanted:
            assert not found.is_final, f"The run ended as {found}: {await self.why(run_id)}"
            assert time.monotonic() < deadline, f"The run is still {found}, not {'/'.join(wanted)}"
            await anyio.sleep(LOOK_SECONDS)
            found = await self.status(run_id)
        return found

    async def until_ended(self, run_id: UUID, limit_seconds: float = END_SECONDS) -> RunStatus:
        return await self.until_status(run_id, *FINAL, limit_seconds=limit_seconds)

    async def why(self, run_id: UUID) -> str:
        return str(
            await self.one("SELECT status, stage, end_reason, error_message FROM training_runs WHERE id = $1", run_id)
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A run, by the id that the outside knows, and by its row's."""

    id: str
    row: UUID


@dataclass(frozen=True, slots=True)
class Tenant:
    """A user, and what they can do."""

    client: Client
    dataset_id: str

    def at(self, url: str) -> Client:
        """The same user at another API process. To be closed by the caller."""
        return Client(url, self.client.credential)

    def wish(
        self, name: str, *, deploy: bool = False, epochs: int = 20, layers: int = 8, **more: Any
    ) -> dict[str, Any]:
        """The input for a small training; more epochs and wider layers make it longer."""
        return {
            "modelName": name,
            "recipe": "tabular-classification",
            "datasetId": self.dataset_id,
            "provider": "LOCAL",
            "hyperparameters": {"hiddenLayers": [layers], "epochs": epochs},
            "deploy": deploy,
            **more,
        }

    async def start(self, name: str, **options: Any) -> Run:
        """Start a small training; the options are those of `wish`."""
        return run_of(await self.client.ask(documents.START_RUN, input=self.wish(name, **options)))

    async def cancel(self, run: Run) -> None:
        await self.client.ask(documents.CANCEL_RUN, id=run.id)

    async def stop_deployment(self, deployment_id: UUID) -> None:
        await self.client.ask(STOP_DEPLOYMENT, id=global_id("Deployment", deployment_id))


def passed_on() -> dict[str, str]:
    """What of our own environment the processes get."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def run_of(answer: dict[str, Any]) -> Run:
    return Run(answer["id"], uuid_of(answer["id"], "TrainingRun"))


async def until(
    what: str, is_so: Callable[[], Awaitable[bool]], *, limit_seconds: float = 30.0, look_seconds: float = LOOK_SECONDS
) -> float:
    """Wait until it is so; gives the seconds that it took. Fails with `what` at the limit."""
    began = time.monotonic()
    while not await is_so():
        assert time.monotonic() - began < limit_seconds, f"Not within {limit_seconds:g} seconds: {what}"
        await anyio.sleep(look_seconds)
    return time.monotonic() - began


def observed(fault: str, **figures: object) -> None:
    """Print what was seen, for whoever runs the tests with `-s`."""
    words = ", ".join(
        f"{name.replace('_', ' ')} {value:.2f}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"
        for name, value in figures.items()
    )
    print(f"\n[observed] {fault}: {words}")


def _tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
