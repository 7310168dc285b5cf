"""A subscriber on a socket, for tests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.graph.served import Served
from tests.graph.transport.toy import Client

CORE = "__typename seq firstSeq cursor status stage progress"
FOLLOW = f"""subscription ($id: ID!, $after: Cursor) {{
  trainingRun(id: $id, after: $after) {{
    {CORE} message run {{ id status endReason }}
    ... on RunLogged {{ lines {{ line text }} }}
    ... on RunMeasured {{ readings {{ name step value }} }}
    ... on Gap {{ from to snapshot {{ id status }} }}
  }}
}}"""
ACTIVITY = """subscription ($after: Cursor) {
  activity(after: $after) {
    __typename seq firstSeq cursor
    ... on ActivitySnapshot { activeRuns { id status } }
    ... on ActivityGap { activeRuns { id status } }
    ... on RunEvent { runId progress }
    ... on ModelStatusChanged { modelId status model { name } }
  }
}"""


@dataclass
class Follower:
    """One operation on a socket."""

    socket: Client
    id: str

    async def message(self) -> Any:
        """The next message of the subscription's only field."""
        while True:
            heard = await self.socket.hear()
            if heard["type"] == "next" and heard["id"] == self.id:
                assert "errors" not in heard["payload"], heard
                (value,) = heard["payload"]["data"].values()
                return value
            assert heard["type"] == "ping", heard

    async def completed(self) -> None:
        """The server says that nothing more comes."""
        assert await self.socket.hear() == {"id": self.id, "type": "complete"}

    async def kinds(self, count: int) -> list[str]:
        return [(await self.message())["__typename"] for _ in range(count)]


async def follow(socket: Client, document: str, id: str = "1", /, **variables: Any) -> Follower:
    payload = {"query": document, "variables": variables}
    await socket.say({"id": id, "type": "subscribe", "payload": payload})
    return Follower(socket, id)


@asynccontextmanager
async def following(served: Served, token: str, document: str, /, **variables: Any) -> AsyncIterator[Follower]:
    """A follower on a socket of its own."""
    async with served.socket(token) as socket:
        yield await follow(socket, document, **variables)
