"""A whole API process inside the test: `graph.app.Api` behind the product's own uvicorn, on a free port.

Its database, Redis and settings are the test's own; its clock is the real one, moved ahead by as much as a test wants.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import orjson
from starlette.types import ASGIApp
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from db import postgres
from db.bus import RedisBus
from db.settings import Settings
from db.unit_of_work import Database
from domain.commands import Command
from domain.events import Event
from domain.training import service
from domain.training.model import TrainingRun
from domain.training.report import Report
from domain.training.status import ReportSource
from domain.viewer import Viewer
from domain.work import Queue
from graph.app import Api
from graph.server import Server, server_config
from tests.graph.transport.toy import Client, free_socket, until

SOON_SECONDS = 5


class MovingClock:
    """The real time, and what the test adds to it."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def move(self, **by: float) -> None:
        self.ahead += timedelta(**by)


@dataclass
class Overheard:
    """The process's bus and queue, and what went through them."""

    bus: RedisBus
    queue: Queue
    events: list[Event] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    async def publish(self, events: list[Event]) -> None:
        self.events.extend(events)
        await self.bus.publish(events)

    async def enqueue(self, commands: list[Command]) -> None:
        self.commands.extend(commands)
        await self.queue.enqueue(commands)


@dataclass
class Served:
    """A running API process, seen from outside; `api` and the databases are its inside."""

    api: Api
    port: int
    clock: MovingClock
    overheard: Overheard
    worker: Database
    """As a worker reaches the database, on the same bus: what providers say comes in here."""
    http: httpx2.AsyncClient

    @property
    def database(self) -> Database:
        """As the API reaches it."""
        return self.api.database

    def token_of(self, viewer: Viewer) -> str:
        """An access token of the session that `make_user` gave the viewer."""
        assert viewer.user_id is not None and viewer.credential_id is not None
        token, _ = self.api.services.authentication.access_token(viewer.user_id, viewer.credential_id)
        return token.reveal()

    def stream_token_of(self, viewer: Viewer, run_id: UUID | None = None) -> str:
        """What `createStreamToken` gives, for all runs or one."""
        return self.api.services.authentication.stream_token(viewer, run_id)[0].reveal()

    async def ask(
        self, document: str, token: str | None = None, *, headers: dict[str, str] | None = None, **variables: Any
    ) -> Any:
        """The payload of one operation by POST."""
        response = await self.respond(document, token, headers=headers, **variables)
        return response.json()

    async def respond(
        self, document: str, token: str | None = None, *, headers: dict[str, str] | None = None, **variables: Any
    ) -> httpx2.Response:
        body = orjson.dumps({"query": document, "variables": variables})
        sent = {"content-type": "application/json", **bearer(token), **(headers or {})}
        return await self.http.post("/graphql", content=body, headers=sent)

    async def data(self, document: str, token: str | None = None, **variables: Any) -> Any:
        """The data of an operation that must succeed."""
        payload = await self.ask(document, token, **variables)
        assert "errors" not in payload, payload
        return payload["data"]

    async def get(self, path: str, token: str | None = None, **headers: str) -> httpx2.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.get(path, headers={**bearer(token), **sent})

    @asynccontextmanager
    async def socket(self, token: str | None = None) -> AsyncIterator[Client]:
        """A socket that was let in."""
        protocol = Subprotocol("graphql-transport-ws")
        async with connect(f"ws://127.0.0.1:{self.port}/graphql", compression=None, subprotocols=[protocol]) as raw:
            client = Client(raw)
            await client.say({"type": "connection_init", "payload": bearer(token)})
            assert (await client.hear())["type"] == "connection_ack"
            yield client

    @asynccontextmanager
    async def events(self, path: str, token: str | None = None, **headers: str) -> AsyncIterator["EventReader"]:
        """A plain event stream that was let in."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.stream("GET", path, headers={**bearer(token), **sent}) as response:
            assert response.status_code == 200, await response.aread()
            yield EventReader(response)

    async def tell(self, run_id: UUID, *, attempt: int = 1, **said: Any) -> TrainingRun:
        """What a provider says of a run, through the one door; no worker is needed."""
        given = {"source": ReportSource.POLL, "attempt": attempt, "at": self.clock.now(), **said}
        async with self.worker.begin() as work:
            after = await service.record(work, run_id, Report(**given))
        assert after is not None
        return after


class EventReader:
    """Reads `text/event-stream`, event by event."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.lines = response.aiter_lines()

    async def next(self) -> dict[str, str]:
        """The next event: its `event`, `id` and `data`. Comments and empty events are skipped."""
        found: dict[str, str] = {}
        async with asyncio.timeout(SOON_SECONDS):
            async for line in self.lines:
                if not line:
                    if found:
                        return found
                elif not line.startswith(":"):
                    name, _, value = line.partition(":")
                    found[name] = value.removeprefix(" ")
        raise EOFError("The stream has ended.")

    async def rest(self) -> list[dict[str, str]]:
        """All events until the end."""
        found = []
        while True:
            try:
                found.append(await self.next())
            except EOFError:
                return found


def bearer(token: str | None) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def data_of(event: dict[str, str]) -> Any:
    return orjson.loads(event["data"])


@asynccontextmanager
async def serving(settings: Settings, app_of: Callable[[Api], ASGIApp] = lambda api: api.app) -> AsyncIterator[Served]:
    """An API process with its loops, until the block ends."""
    clock = MovingClock()
    api = Api(settings, clock=clock)
    overheard = Overheard(api.bus, api.queue)
    api.database.bus = api.database.queue = overheard
    worker = Database(postgres.worker_engine(settings), bus=overheard, queue=overheard, clock=clock)
    listening = free_socket()
    server = Server(
        server_config(app_of(api), host="127.0.0.1", port=0), drain=lambda: api.connections.drain(pause_seconds=0)
    )
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await until(lambda: server.started)
        port = listening.getsockname()[1]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=15) as http:
            yield Served(api, port, clock, overheard, worker, http)
    finally:
        server.should_exit = True
        await task
        await worker.close()
