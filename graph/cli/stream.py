"""A numbered stream over `graphql-transport-ws` that survives its connections.

The rules that a client needs, in the order they matter:

1. Keep the cursor of the last message. After a cut, connect again and subscribe with `after: <cursor>`.
2. A message stands for the numbers `firstSeq … seq`. `firstSeq` must be the last `seq` plus one; what is not newer is
   dropped, and a hole is cured by resuming. A snapshot or a gap sets the number anew.
3. `complete` is the end. Every other end of a connection is a cut, except those that say that we do not speak the
   protocol. 4403 asks for a new token, the reason of 1013 says how many seconds to wait.
4. Wait a random time before coming back, longer each time, so that many clients do not return in one instant.
5. Silence is a cut too: the server pings every 20 seconds.
"""

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

from graph.cli import documents
from graph.cli.errors import BrokenStream, NotAllowed, Unreachable, of_graphql

if TYPE_CHECKING:
    from graph.cli.client import Client

SUBPROTOCOL = Subprotocol("graphql-transport-ws")
OPERATION = "1"
CONNECT_SECONDS = 10.0
MESSAGE_LIMIT_BYTES = 8 * 1024 * 1024

BUSY = 1013
NEW_TOKEN = 4403
NO_CLOSE_FRAME = 1006
SPOKEN_WRONGLY = frozenset({1002, 1003, 1007, 1009, 4400, 4401, 4406, 4409, 4429})
SNAPSHOTS = frozenset({"Snapshot", "Gap"})
"""Messages that tell the state as it is now, and from which number on to count."""
TRANSIENT = frozenset({"UNAVAILABLE", "INTERNAL"})


@dataclass(frozen=True, slots=True)
class Pace:
    """How long to wait between attempts, and for how long to try. Seconds."""

    first: float = 0.25
    longest: float = 10.0
    patience: float = 120.0
    """How long nobody may have answered before it is given up."""
    silence: float = 60.0
    """How long an open socket may say nothing: three of the server's pings."""

    def wait(self, failures: int) -> float:
        """A random time up to `first · 2^(failures - 1)`, or the longest."""
        return random.uniform(0, min(self.longest, self.first * 2.0 ** min(failures - 1, 30)))


@dataclass(frozen=True, slots=True)
class Drop:
    """A connection that was lost, and when the next one is tried."""

    reason: str
    wait_seconds: float
    cursor: str | None


class Stream:
    """One subscription whose messages have `seq`, `firstSeq` and `cursor`, and take the variable `after`."""

    def __init__(
        self,
        client: "Client",
        document: str,
        variables: dict[str, Any],
        *,
        after: str | None = None,
        on_drop: Callable[[Drop], None] | None = None,
        pace: Pace | None = None,
    ) -> None:
        self.client = client
        self.document = document
        self.variables = variables
        self.cursor = after
        self.seq: int | None = None
        self.on_drop = on_drop
        self.pace = pace or Pace()
        self._failures = 0
        self._failing_since: float | None = None
        self._renewed = False
        """Whether a token was renewed since the server last accepted one."""
        self._saw_hole = False

    async def messages(self) -> AsyncGenerator[dict[str, Any], None]:
        """Every message once and in order, until the stream completes. Raises `ClientError`."""
        while True:
            try:
                async with aclosing(self._over_one_socket()) as arriving:
                    async for message in arriving:
                        if self._is_next(message):
                            yield message
                return
            except _Cut as cut:
                await self._recover(cut)

    def _is_next(self, message: dict[str, Any]) -> bool:
        """Whether to pass it on; remembers the place. Raises `_Cut` for a hole, `BrokenStream` for a second one."""
        if message["__typename"] not in SNAPSHOTS and self.seq is not None:
            if message["seq"] <= self.seq:
                return False
            if message["firstSeq"] > self.seq + 1:
                missing = f"Message {self.seq + 1} is missing before {message['firstSeq']}"
                if self._saw_hole:
                    raise BrokenStream(f"{missing}, also after the stream was resumed.", code="HOLE")
                self._saw_hole = True
                raise _Cut(missing)
        self.seq, self.cursor = message["seq"], message["cursor"]
        self._saw_hole = False
        self._failures = 0
        return True

    async def _recover(self, cut: "_Cut") -> None:
        """Return when it is time to connect again. Raises `NotAllowed` or `Unreachable` when there is no use in it."""
        if cut.code == NEW_TOKEN:
            shown = self.client.credential
            if self._renewed or shown is None or not await self.client.renew(shown.token):
                raise NotAllowed(f"The API ended the connection: {cut.reason}", code="UNAUTHENTICATED")
            self._renewed = True
        now = time.monotonic()
        self._failures += 1
        self._failing_since = self._failing_since or now
        if now - self._failing_since > self.pace.patience:
            raise Unreachable(f"The connection to {self.client.url} was lost and does not come back: {cut.reason}.")
        wait = self.pace.wait(self._failures) + (cut.wait_seconds or 0.0)
        if self.on_drop:
            self.on_drop(Drop(cut.reason, wait, self.cursor))
        await asyncio.sleep(wait)

    async def _over_one_socket(self) -> AsyncGenerator[dict[str, Any], None]:
        """Messages until the stream completes. Raises `_Cut` when the connection ends before, or `ClientError`."""
        was_accepted = False
        try:
            async with connect(
                self.client.socket_url,
                subprotocols=[SUBPROTOCOL],
                open_timeout=CONNECT_SECONDS,
                close_timeout=1,
                ping_interval=None,  # the protocol has pings of its own
                max_size=MESSAGE_LIMIT_BYTES,
                proxy=None if self.client.is_on_this_machine else True,
            ) as socket:
                await self._introduce(socket)
                was_accepted = True
                variables = {**self.variables, "after": self.cursor}
                await _send(socket, "subscribe", OPERATION, {"query": self.document, "variables": variables})
                async with aclosing(self._receive(socket)) as arriving:
                    async for message in arriving:
                        yield message
        except ConnectionClosed as closed:
            if was_accepted:  # somebody is there, though nothing happened that could be told
                self._failing_since = None
            raise _cut_of(closed) from closed
        except InvalidStatus as refused:
            raise _of_handshake(refused.response.status_code, self.client.socket_url) from refused
        except (OSError, TimeoutError, EOFError, InvalidHandshake) as error:
            raise _Cut(f"{type(error).__name__} while connecting") from error

    async def _introduce(self, socket: ClientConnection) -> None:
        authorization = self.client.authorization
        payload = {"authorization": authorization} if authorization else {}
        await _send(socket, "connection_init", None, payload)
        async with asyncio.timeout(CONNECT_SECONDS):
            while (await _next_frame(socket))["type"] != "connection_ack":
                pass
        self._renewed = False

    async def _receive(self, socket: ClientConnection) -> AsyncGenerator[dict[str, Any], None]:
        deadline = time.monotonic() + self.pace.silence
        renewals = 0
        while True:
            left = deadline - time.monotonic()
            renew_in = self.client.credential.renew_in_seconds() if self.client.credential else None
            try:
                async with asyncio.timeout(left if renew_in is None else min(left, renew_in)):
                    frame = await _next_frame(socket)
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise _Cut(f"Nothing was heard for {self.pace.silence:g} seconds") from None
                renewals += 1
                await self._renew(socket, f"renew-{renewals}")
                continue
            deadline = time.monotonic() + self.pace.silence
            match frame:
                case {"type": "next", "id": "1", "payload": payload}:
                    if payload.get("errors"):
                        raise _failure(payload["errors"])
                    self._failing_since = None
                    yield next(iter(payload["data"].values()))
                case {"type": "complete", "id": "1"}:
                    return
                case {"type": "error", "id": "1", "payload": errors}:
                    raise _failure(errors)
                case {"type": "ping"}:
                    self._failing_since = None
                    await _send(socket, "pong", None, frame.get("payload"))

    async def _renew(self, socket: ClientConnection, id: str) -> None:
        """Show a fresh token on the same socket, so that the stream goes on. A refusal comes as a close, with 4403."""
        shown = self.client.credential
        if shown is None or not await self.client.renew(shown.token) or self.client.credential is None:
            raise NotAllowed("The session has ended. Sign in again.", code="UNAUTHENTICATED")
        variables = {"accessToken": self.client.credential.token}
        await _send(socket, "subscribe", id, {"query": documents.RENEW_CONNECTION, "variables": variables})


class _Cut(Exception):
    """The connection ended, and the stream did not."""

    def __init__(self, reason: str, *, code: int | None = None, wait_seconds: float | None = None) -> None:
        self.reason = reason
        self.code = code
        self.wait_seconds = wait_seconds
        super().__init__(reason)


async def _send(socket: ClientConnection, kind: str, id: str | None, payload: Any) -> None:
    frame = {"type": kind, "id": id, "payload": payload}
    await socket.send(json.dumps({name: value for name, value in frame.items() if value is not None}))


async def _next_frame(socket: ClientConnection) -> dict[str, Any]:
    try:
        frame = json.loads(await socket.recv())
    except ValueError as error:
        raise BrokenStream("The API sent a frame that is no JSON.") from error
    if not isinstance(frame, dict) or "type" not in frame:
        raise BrokenStream("The API sent a frame that is not of graphql-transport-ws.")
    return frame


def _failure(errors: list[dict[str, Any]]) -> Exception:
    error = of_graphql(errors)
    return _Cut(error.message, wait_seconds=error.retry_after_seconds) if error.code in TRANSIENT else error


def _cut_of(closed: ConnectionClosed) -> Exception:
    frame = closed.rcvd or closed.sent
    code = frame.code if frame else NO_CLOSE_FRAME
    reason = (frame.reason if frame else "") or "no reason given"
    if code in SPOKEN_WRONGLY:
        return BrokenStream(f"The API closed the connection with {code}: {reason}.", code=f"CLOSED_{code}")
    if code == BUSY:
        wait = float(reason) if reason.isdigit() else None
        return _Cut("The API is busy (1013)", code=code, wait_seconds=wait)
    return _Cut(reason if code == NEW_TOKEN else f"closed with {code}: {reason}", code=code)


def _of_handshake(status: int, url: str) -> Exception:
    if status in (401, 403):
        return NotAllowed(f"{url} refuses the connection (HTTP {status}).")
    if status == 429 or status >= 500:
        return _Cut(f"HTTP {status} while connecting")
    return BrokenStream(f"{url} is no GraphQL endpoint (HTTP {status}).")
