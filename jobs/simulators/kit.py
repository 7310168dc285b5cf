"""What the simulators share: a movable clock, a journal of requests, accounts, scenarios, faults on the wire."""

import asyncio
import contextlib
import random
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Protocol

import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

LARGEST_BODY_BYTES = 64 * 1024 * 1024
_KEY = re.compile(r"[a-z0-9]+_sim_(?P<account>[A-Za-z0-9-]{1,64})(?:\.(?P<scenario>[a-z0-9_]{1,64}))?")


class SimulatorClock:
    """Goes on by itself, `speed` times as fast as real time, and can be moved ahead. Never goes back."""

    def __init__(self, start: datetime | None = None, *, speed: float = 1.0) -> None:
        self._start = start or datetime.now(UTC)
        self._real = time.monotonic()
        self._ahead = 0.0
        self.speed = speed

    def now(self) -> datetime:
        elapsed = (time.monotonic() - self._real) * self.speed + self._ahead
        return self._start + timedelta(seconds=elapsed)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


@dataclass(frozen=True, slots=True)
class Heard:
    """One request that a simulator got, for assertions."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    """Names in small letters; credentials left out."""
    body: bytes
    at: datetime
    account: str | None
    status: int | None = None
    """None while it is answered, or when the answer was withheld."""


@dataclass(slots=True)
class Journal:
    """Every request in order; bounded, so that a simulator may run for days."""

    entries: list[Heard] = field(default_factory=list)
    most: int = 100_000

    def add(self, heard: Heard) -> None:
        if len(self.entries) >= self.most:
            del self.entries[: self.most // 2]
        self.entries.append(heard)

    def of(self, method: str, pattern: str) -> list[Heard]:
        """The requests with this method whose path matches the whole pattern."""
        return [one for one in self.entries if one.method == method and re.fullmatch(pattern, one.path)]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks a simulator, by the key that was shown.

    A simulator's key is `<vendor's prefix>sim_<account>` or `<vendor's prefix>sim_<account>.<scenario>`, for instance
    `r8_sim_acme.success`. Both of them open the same account; the scenario is that of what is created with the key.
    """

    account: str
    scenario: str | None

    @classmethod
    def of_key(cls, key: str) -> "Caller | None":
        """None for every other key: then the simulator refuses as the vendor would."""
        found = _KEY.fullmatch(key)
        return cls(found["account"], found["scenario"]) if found else None


@dataclass(frozen=True, slots=True)
class Truth:
    """What really happened to one resource, to compare the product's rows with."""

    provider: str
    account: str
    reference: str
    tag: str
    """The name, title or metadata by which its creator can find it."""
    scenario: str
    state: str
    """`queued`, `preparing`, `training`, `succeeded`, `failed`, `canceled` or `gone`."""
    is_alive: bool
    """Whether it can still cost money."""
    created_at: datetime
    ended_at: datetime | None
    billed_seconds: float
    price_micros_per_hour: int
    cost_micros: int


class Simulator(Protocol):
    """What every vendor's simulator has."""

    scenarios: ClassVar[Mapping[str, str]]
    """What it can play: name → what happens, in a sentence."""
    journal: Journal

    @property
    def app(self) -> ASGIApp: ...

    def truths(self) -> list[Truth]:
        """Everything that was ever created."""
        ...

    async def run(self) -> None:
        """What it does by itself, until cancelled."""
        ...


class WireFault(Exception):
    """Raised by a route: the connection is cut instead of answering, whatever was done before."""


class Door:
    """Wraps a simulator's app: writes the journal, bounds bodies, and cuts the connection on `WireFault`."""

    def __init__(self, app: ASGIApp, journal: Journal, clock: SimulatorClock, key_of: Callable[[Request], str]) -> None:
        self.app = app
        self.journal = journal
        self.clock = clock
        self.key_of = key_of

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope, receive)
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY_BYTES:
                raise WireFault("A body of more than 64 MiB")
        caller = Caller.of_key(self.key_of(request))
        status: int | None = None
        read = False

        async def again() -> Any:
            nonlocal read
            if read:
                return await receive()
            read = True
            return {"type": "http.request", "body": bytes(body), "more_body": False}

        async def told(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        at = self.clock.now()
        try:
            await self.app(scope, again, told)
        except WireFault:
            status = None
            # Headers that promise a body, and no body: the server cuts the connection, and the client sees no answer.
            if scope.get("server") is not None:
                await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000000")]})
        finally:
            headers = {name: value for name, value in request.headers.items() if name not in _CREDENTIALS}
            self.journal.add(
                Heard(
                    method=request.method,
                    path=_path_of(scope),
                    query=request.url.query,
                    headers=headers,
                    body=bytes(body),
                    at=at,
                    account=caller.account if caller else None,
                    status=status,
                )
            )


_CREDENTIALS = frozenset({"authorization", "x-api-key", "x-access-token"})


def _path_of(scope: AsgiScope) -> str:
    """The path within the simulator, wherever it is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


class Due:
    """What a simulator does by itself at a time of its clock, such as sending a webhook; run by `run`."""

    def __init__(self, clock: SimulatorClock) -> None:
        self.clock = clock
        self._waiting: list[tuple[datetime, int, Callable[[], Awaitable[None]]]] = []
        self._count = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def at(self, when: datetime, do: Callable[[], Awaitable[None]]) -> None:
        self._count += 1
        self._waiting.append((when, self._count, do))

    async def run(self) -> None:
        """Until cancelled. What fails is the caller's trouble: each deed sees to its own errors."""
        try:
            while True:
                now = self.clock.now()
                ready = sorted(one for one in self._waiting if one[0] <= now)
                self._waiting = [one for one in self._waiting if one[0] > now]
                for _, _, do in ready:
                    task = asyncio.ensure_future(_quietly(do))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
                await asyncio.sleep(0.02)
        finally:
            for task in self._tasks:
                task.cancel()


async def _quietly(do: Callable[[], Awaitable[None]]) -> None:
    with contextlib.suppress(Exception):
        await do()


def seeded(seed: int, *words: object) -> random.Random:
    """Randomness that is the same for the same seed and words."""
    return random.Random(f"{seed}:{':'.join(map(str, words))}")


@asynccontextmanager
async def serving(app: ASGIApp, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The app on a port, in this event loop, with its lifespan; gives its base address without a slash at the end."""
    # The protocol is named: asyncio switches Nagle's algorithm off for TCP only, and with it each answer waits 40 ms.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    server = uvicorn.Server(
        uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server._serve([listening]))  # `serve` would take the process's signals
    try:
        while not server.started:
            if task.done():
                task.result()
                raise RuntimeError("The simulator ended before it had begun.")
            await asyncio.sleep(0.01)
        yield f"http://{host}:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        with contextlib.suppress(Exception):
            await asyncio.wait_for(task, 5)
        listening.close()
