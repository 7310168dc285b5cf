"""What all drivers stand on: every simulator, and beside them the doors that trainings come to."""

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.e2b.control import Plan
from jobs.simulators.kit import SimulatorClock, serving
from jobs.simulators.server import Simulators


@dataclass
class Places:
    """One server for many apps, each under a path of its own."""

    url: str = ""
    apps: dict[str, ASGIApp] = field(default_factory=dict)

    def put(self, app: ASGIApp) -> str:
        """The app's base address, from now on."""
        prefix = f"/{len(self.apps) + 1}"
        self.apps[prefix] = app
        return self.url + prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        prefix = "/" + scope["path"].split("/", 2)[1]
        app = self.apps.get(prefix, PlainTextResponse("Nobody is here.", 404))
        await app({**scope, "root_path": prefix}, receive, send)


@dataclass
class Files:
    """The door at which trainings fetch their data."""

    contents: dict[str, bytes] = field(default_factory=dict)
    """By grant."""

    @property
    def app(self) -> ASGIApp:
        return Starlette(routes=[Route("/download", self._download)])

    async def _download(self, request: Request) -> Response:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        content = self.contents.get(shown or request.query_params.get("token", ""))
        return Response(content, headers={"etag": '"one"'}) if content is not None else Response(status_code=403)


@dataclass
class Ground:
    """The simulators' clock only moves when it is moved."""

    simulators: Simulators
    simulators_url: str
    places: Places
    files: Files
    files_url: str
    http: httpx2.AsyncClient
    folder: Path
    stack: AsyncExitStack

    @property
    def clock(self) -> SimulatorClock:
        return self.simulators.clock


@asynccontextmanager
async def ground_in(folder: Path) -> AsyncIterator[Ground]:
    """All of it, as long as the block lasts."""
    simulators = Simulators(
        clock=SimulatorClock(speed=0),
        runpod={"runs_scripts": False, "training_seconds": 3.0, "quotas": (9_000, 9_000, 9_000)},
        e2b={"plan": Plan(creations_per_second=50), "folder": folder / "e2b"},
    )
    places, files = Places(), Files()
    async with AsyncExitStack() as stack:
        simulators_url = await stack.enter_async_context(serving(simulators.app))
        places.url = await stack.enter_async_context(serving(places))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=10))
        trainers = await stack.enter_async_context(AsyncExitStack())  # closed before their servers are
        yield Ground(simulators, simulators_url, places, files, places.put(files.app), http, folder, trainers)


def nobody_url() -> str:
    """An address of this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
