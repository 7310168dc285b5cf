"""A real server of sockets that follows a script: they are cut where the test says."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response


def message(seq: int, *, kind: str = "RunProgressed", first: int | None = None, **fields: Any) -> dict[str, Any]:
    """A message of a run's stream whose cursor is `c<seq>`."""
    return {
        "__typename": kind,
        "runId": "run",
        "seq": seq,
        "firstSeq": seq if first is None else first,
        "cursor": f"c{seq}",
        "at": "2026-01-31T12:00:00.000000Z",
        "attempt": 1,
        "status": "TRAINING",
        "stage": "TRAINING",
        "progress": 50.0,
        "progressEstimated": False,
        "etaSeconds": 3,
        "message": None,
        "run": {"id": "run", "endReason": None, "errorMessage": None, "deploymentUrl": None},
        **fields,
    }


class Visit:
    """One socket as the script sees it, after the handshake."""

    def __init__(self, socket: ServerConnection, authorization: str | None) -> None:
        self.socket = socket
        self.authorization = authorization
        self.after: str | None = None
        self.query = ""

    async def send(self, kind: str, payload: Any = None, id: str | None = "1") -> None:
        frame = {"type": kind, "id": id, "payload": payload}
        await self.socket.send(json.dumps({name: value for name, value in frame.items() if value is not None}))

    async def tell(self, event: dict[str, Any]) -> None:
        await self.send("next", {"data": {"trainingRun": event}})

    async def complete(self) -> None:
        await self.send("complete")
        await self.socket.wait_closed()

    async def receive(self) -> dict[str, Any]:
        frame = json.loads(await self.socket.recv())
        assert isinstance(frame, dict)
        return frame

    async def cut(self) -> None:
        """End the connection without a close frame, as a dying process does."""
        self.socket.transport.abort()
        await self.socket.wait_closed()


Script = Callable[[Visit], Awaitable[None]]


class ScriptedApi:
    """`script` plays each socket from its `subscribe` on."""

    def __init__(self, script: Script | None = None) -> None:
        self.script = script
        self.visits: list[Visit] = []
        self.refuse_init: Callable[[str | None], tuple[int, str] | None] = lambda authorization: None
        self.refuse_handshake: list[int] = []
        """HTTP statuses for the next handshakes, instead of a socket."""
        self.server: Server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{next(iter(self.server.sockets)).getsockname()[1]}"

    @classmethod
    @asynccontextmanager
    async def play(cls, script: Script) -> AsyncIterator[Self]:
        api = cls(script)
        async with serve(
            api._socket,
            "127.0.0.1",
            0,
            process_request=api._handshake,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]  # a NewType of str
            close_timeout=1,
        ) as api.server:
            yield api

    def _handshake(self, connection: ServerConnection, request: Request) -> Response | None:
        if self.refuse_handshake:
            return Response(self.refuse_handshake.pop(0), "no", Headers({"Content-Length": "0"}), b"")
        return None

    async def _socket(self, socket: ServerConnection) -> None:
        init = json.loads(await socket.recv())
        authorization = init.get("payload", {}).get("authorization")
        visit = Visit(socket, authorization)
        self.visits.append(visit)
        if refusal := self.refuse_init(authorization):
            await socket.close(*refusal)
            return
        await visit.send("connection_ack", {}, id=None)
        subscribe = await visit.receive()
        visit.after = subscribe["payload"]["variables"]["after"]
        visit.query = subscribe["payload"]["query"]
        assert self.script is not None
        await self.script(visit)
