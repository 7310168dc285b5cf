"""Real servers for the proxy's tests: our own door on a free port, and an app behind it that says what it was asked."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp

from db.settings import Settings
from db.unit_of_work import Database
from graph.auth import Authentication
from graph.context import Services
from graph.guards import Guards
from graph.routes.app_origin import with_apps
from graph.routes.apps import AppProxy
from graph.server import Server, server_config

Answer = Callable[["Asked", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Unlimited:
    """Counts nothing."""

    async def check(self, *_: Any, **__: Any) -> None:
        pass

    async def check_reads(self, *_: Any, **__: Any) -> None:
        pass


def services_of(settings: Settings, database: Database) -> Services:
    """The services of a process in which nothing is live."""
    missing: Any = None
    unlimited: Any = Unlimited()
    return Services(
        settings=settings,
        database=database,
        bus=missing,
        hub=missing,
        authentication=Authentication(settings, database),
        attempts=unlimited,
    )


@dataclass
class Door:
    """Our own server."""

    url: str
    proxy: AppProxy


async def _api(scope: Any, receive: Any, send: Any) -> None:
    """Stands for everything that is not an app."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"the API"})


@asynccontextmanager
async def serving_apps(
    settings: Settings, database: Database, *, listening: socket.socket | None = None, api: ASGIApp = _api
) -> AsyncIterator[Door]:
    """The proxy behind the guards, in front of an API that is none."""
    listening = listening or free_socket()
    proxy = AppProxy(services_of(settings, database), remembered_seconds=0)
    app = Guards(with_apps(api, proxy, settings), body_limit_of=lambda path: None)
    config = server_config(app, host="127.0.0.1", port=0)
    config.lifespan = "off"
    server = Server(config, drain=_nothing)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with asyncio.timeout(5):
            while not server.started:  # uvicorn sets a flag, and no event
                await asyncio.sleep(0.005)
        yield Door(f"http://127.0.0.1:{listening.getsockname()[1]}", proxy)
    finally:
        server.should_exit = True
        await task
        await proxy.close()


def free_socket() -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    return listening


@dataclass
class Asked:
    """One request as it came over the wire."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass
class SomeApp:
    """Somebody's program: keeps what it was asked and answers with given bytes."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    head: str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
    body: bytes = b"hello"
    answer: Answer | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once a caller has left."""
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                if self.answer is not None:
                    await self.answer(asked, reader, writer)
                    return
                writer.write(f"{self.head}Content-Length: {len(self.body)}\r\n\r\n".encode("latin-1"))
                writer.write(b"" if asked.method == "HEAD" else self.body)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone.set()
            self.writers.discard(writer)
            writer.close()


@asynccontextmanager
async def some_app(**facts: Any) -> AsyncIterator[SomeApp]:
    app = SomeApp(**facts)
    server = await asyncio.start_server(app._serve, "127.0.0.1", app.port)
    app.port = server.sockets[0].getsockname()[1]
    try:
        yield app
    finally:
        server.close()
        for writer in app.writers:
            writer.close()
        await server.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    head = await reader.readuntil(b"\r\n\r\n") if not reader.at_eof() else b""
    if not head:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    method, target, _ = first.split(" ")
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    asked = Asked(method, target, headers)
    if (length := asked.header("content-length")) is not None:
        asked.body = await reader.readexactly(int(length))
    elif asked.header("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\n"), 16):
            asked.body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return asked


async def _nothing() -> None:
    """There is nothing to drain."""
