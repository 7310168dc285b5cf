"""One server for all tests of a module, on which each test puts its own app: starting and ending one takes a while."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.kit import serving
from jobs.simulators.runpod import RunPodSimulator


@dataclass
class Stage:
    """Where the app of the moment is reached."""

    url: str = ""
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        assert self.app is not None
        await self.app(scope, receive, send)

    @asynccontextmanager
    async def playing(self, simulator: RunPodSimulator) -> AsyncIterator[str]:
        """The simulator is served and does what it does by itself; gives its address."""
        self.app = simulator.app
        task = asyncio.create_task(simulator.run())
        try:
            yield self.url
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            self.app = None


@asynccontextmanager
async def stage_served() -> AsyncIterator[Stage]:
    """A stage on a port."""
    stage = Stage()
    async with serving(stage) as stage.url:
        yield stage
