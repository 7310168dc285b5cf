"""One server for the apps of many tests, each under a path of its own: a server per test would take a while to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.kit import serving


class Stage:
    """Gives each app an address, as long as it is on."""

    def __init__(self) -> None:
        self._url = ""
        self._apps: dict[str, ASGIApp] = {}
        self._count = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
            return
        prefix = "/" + scope["path"].split("/", 2)[1]
        app = self._apps.get(prefix, PlainTextResponse("Nobody is here.", 404))
        await app({**scope, "root_path": prefix}, receive, send)

    @asynccontextmanager
    async def shows(self, app: ASGIApp, run: Callable[[], Awaitable[None]] | None = None) -> AsyncIterator[str]:
        """The app's base address, while `run` runs beside it."""
        self._count += 1
        prefix = f"/{self._count}"
        self._apps[prefix] = app
        running = asyncio.ensure_future(run()) if run is not None else None
        try:
            yield self._url + prefix
        finally:
            del self._apps[prefix]
            if running is not None:
                running.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await running


@asynccontextmanager
async def stage_of() -> AsyncIterator[Stage]:
    stage = Stage()
    async with serving(stage) as url:
        stage._url = url
        yield stage
