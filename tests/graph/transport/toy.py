"""A schema that does what the transport has to cope with, and a real server for it on a free port."""

import asyncio
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import orjson
import strawberry
from strawberry.types import Info
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from domain.clock import FixedClock
from domain.errors import Invalid, LimitReached, NotSignedIn
from domain.viewer import Viewer, ViewerKind
from graph.endpoint import GraphQLEndpoint
from graph.executor import Schema
from graph.guards import Guards, GuardSettings
from graph.limits import DocumentLimits
from graph.live.connections import CloseCode, CloseSocket, Connections, CredentialRefused
from graph.server import Server, server_config
from graph.transport import RequestFacts, TransportSettings

ALICE = UUID("0192a000-0000-7000-8000-00000000000a")
BOB = UUID("0192a000-0000-7000-8000-00000000000b")
ALICES_SESSION = UUID("0192a000-0000-7000-8000-0000000000a1")
BOBS_SESSION = UUID("0192a000-0000-7000-8000-0000000000b1")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@dataclass
class Trace:
    """What happened behind the wire."""

    opened: int = 0
    cleaned: int = 0
    hanging: asyncio.Event = field(default_factory=asyncio.Event)
    produced: int = 0
    contexts: int = 0


@dataclass
class ToyContext:
    viewer: Viewer
    facts: RequestFacts
    trace: Trace
    loaded: int = 0

    def fresh(self) -> "ToyContext":
        self.trace.contexts += 1
        return ToyContext(self.viewer, self.facts, self.trace)


ToyInfo = Info[ToyContext, None]


@strawberry.type
class Nest:
    @strawberry.field
    def name(self, shout: bool = False) -> str:
        return "NEST" if shout else "nest"

    @strawberry.field
    def nest(self) -> "Nest":
        return Nest()


@strawberry.type
class Query:
    nest: Nest = strawberry.field(resolver=Nest)

    @strawberry.field
    def hello(self, name: str = "you") -> str:
        return f"hello {name}"

    @strawberry.field
    def double(self, number: int) -> int:
        return number * 2

    @strawberry.field
    def who(self, info: ToyInfo) -> str:
        return str(info.context.viewer.user_id)

    @strawberry.field
    def language(self, info: ToyInfo) -> str:
        return info.context.viewer.locale.value

    @strawberry.field
    def request_id(self, info: ToyInfo) -> str:
        return info.context.facts.request_id

    @strawberry.field
    def boom(self) -> str | None:
        raise RuntimeError("the password is hunter2")

    @strawberry.field
    def boom_required(self) -> str:
        raise RuntimeError("the password is hunter2")

    @strawberry.field
    def refused(self) -> str | None:
        raise Invalid("Give a number.", "Informe um número.", field=("input", "number"), least=1)

    @strawberry.field
    def limited(self) -> str | None:
        raise LimitReached(retry_after_seconds=7)

    @strawberry.field
    def private(self) -> str | None:
        raise NotSignedIn

    @strawberry.field
    def down(self) -> str | None:
        raise ConnectionRefusedError("postgres://secret@db")

    @strawberry.field
    def down_required(self) -> str:
        raise ConnectionRefusedError("postgres://secret@db")

    @strawberry.field
    async def nap(self) -> str:
        print("napping", flush=True)
        await asyncio.sleep(0.3)
        return "rested"

    @strawberry.field
    async def hang(self, info: ToyInfo) -> str:
        info.context.trace.hanging.set()
        await asyncio.Event().wait()
        return "never"


@strawberry.type
class Mutation:
    @strawberry.mutation
    def touch(self, info: ToyInfo) -> int:
        info.context.trace.produced += 1
        return info.context.trace.produced

    @strawberry.mutation
    def renew(self, info: ToyInfo, seconds: int) -> bool:
        connection = info.context.facts.connection
        assert connection is not None
        connection.renew(alice(NOW + timedelta(seconds=seconds)))
        return True


@strawberry.type
class Tick:
    cursor: str
    number: int
    text: str = ""

    @strawberry.field
    def loads(self, info: ToyInfo) -> int:
        info.context.loaded += 1
        return info.context.loaded


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self, to: int = 3) -> AsyncGenerator[int, None]:
        for number in range(1, to + 1):
            yield number

    @strawberry.subscription
    async def ticks(self, info: ToyInfo, to: int = 3, bytes: int = 0) -> AsyncGenerator[Tick, None]:
        for number in range(1, to + 1):
            info.context.trace.produced = number
            yield Tick(cursor=f"c{number}", number=number, text="x" * bytes)

    @strawberry.subscription
    async def hang(self, info: ToyInfo) -> AsyncGenerator[int, None]:
        trace = info.context.trace
        trace.opened += 1
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            trace.cleaned += 1

    @strawberry.subscription
    async def refused(self) -> AsyncGenerator[int, None]:
        raise NotSignedIn
        yield 1

    @strawberry.subscription
    async def breaks(self, info: ToyInfo) -> AsyncGenerator[int, None]:
        yield 1
        raise RuntimeError("the password is hunter2")

    @strawberry.subscription
    async def slow(self) -> AsyncGenerator[int, None]:
        yield 1
        raise CloseSocket(CloseCode.TOO_SLOW_TO_READ, "Slow: resume from your cursor")


def toy_schema() -> Schema:
    return Schema(query=Query, mutation=Mutation, subscription=Subscription)


def alice(expires_at: datetime | None = None) -> Viewer:
    return Viewer(ViewerKind.USER, user_id=ALICE, credential_id=ALICES_SESSION, expires_at=expires_at)


def bob() -> Viewer:
    return Viewer(ViewerKind.USER, user_id=BOB, credential_id=BOBS_SESSION)


async def authenticate(authorization: str | None) -> Viewer:
    """Alice and Bob by name; `hang` never answers, `down` fails as a lost database does."""
    match authorization:
        case None:
            return Viewer.nobody()
        case "Bearer alice":
            return alice()
        case "Bearer alice-for-a-minute":
            return alice(NOW + timedelta(minutes=1))
        case "Bearer bob":
            return bob()
        case "Bearer limited":
            raise LimitReached(retry_after_seconds=9)
        case "Bearer down":
            raise ConnectionRefusedError("postgres://secret@db")
        case "Bearer hang":
            await asyncio.Event().wait()
    raise CredentialRefused("This access token is not valid.")


@dataclass
class Toy:
    """A running server and what is behind it."""

    port: int
    server: Server
    endpoint: GraphQLEndpoint[ToyContext]
    connections: Connections
    clock: FixedClock
    trace: Trace

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/graphql"

    async def post(self, body: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
        """One request. Bytes go out as they are."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        async with httpx2.AsyncClient(timeout=10) as client:
            sent = {"content-type": "application/json", **(headers or {})}
            return await client.post(self.url, content=content, headers=sent)

    @asynccontextmanager
    async def socket(
        self, authorization: str | None = None, *, init: bool = True, **options: Any
    ) -> AsyncIterator["Client"]:
        options.setdefault("subprotocols", [Subprotocol("graphql-transport-ws")])
        async with connect(f"ws://127.0.0.1:{self.port}/graphql", compression=None, **options) as raw:
            client = Client(raw)
            if init:
                payload = {"authorization": authorization} if authorization else {}
                await client.say({"type": "connection_init", "payload": payload})
                assert (await client.hear())["type"] == "connection_ack"
            yield client


@dataclass
class Client:
    raw: ClientConnection

    async def say(self, message: Any) -> None:
        await self.raw.send(message if isinstance(message, str | bytes) else orjson.dumps(message).decode())

    async def hear(self) -> Any:
        async with asyncio.timeout(5):
            return orjson.loads(await self.raw.recv())

    async def closed(self) -> tuple[int | None, str | None]:
        """The code and reason that the server closes with, after whatever it still has to say."""
        async with asyncio.timeout(5):
            try:
                while True:
                    await self.raw.recv()
            except ConnectionClosed:
                await self.raw.wait_closed()
        return self.raw.close_code, self.raw.close_reason


def free_socket() -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", 0))
    return listening


@asynccontextmanager
async def serving(
    settings: TransportSettings | None = None,
    *,
    limits: DocumentLimits | None = None,
    guards: GuardSettings | None = None,
) -> AsyncIterator[Toy]:
    settings = settings or TransportSettings()
    trace = Trace()
    clock = FixedClock(NOW)
    connections = Connections(
        clock,
        per_principal=settings.connections_per_principal,
        unauthenticated_per_address=settings.unauthenticated_per_address,
    )
    endpoint = GraphQLEndpoint(
        toy_schema(),
        authenticate=authenticate,
        context_of=lambda viewer, facts: ToyContext(viewer, facts, trace),
        connections=connections,
        limits=limits,
        settings=settings,
    )
    listening = free_socket()
    config = server_config(Guards(endpoint, guards), host="127.0.0.1", port=0)
    config.lifespan = "off"
    server = Server(config, drain=lambda: connections.drain(pause_seconds=0))
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await until(lambda: server.started)
        yield Toy(listening.getsockname()[1], server, endpoint, connections, clock, trace)
    finally:
        server.should_exit = True
        await task


async def until(condition: Any, seconds: float = 5) -> None:
    """Wait until something is so, at most for so long."""
    async with asyncio.timeout(seconds):
        while not condition():  # what is waited for is a fact, not an event
            await asyncio.sleep(0.005)
