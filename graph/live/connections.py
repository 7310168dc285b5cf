"""Every open socket and SSE stream of the process: who holds it, until when, and how to end it."""

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum
from typing import Any
from uuid import UUID

from domain.clock import Clock
from domain.errors import LimitReached
from domain.viewer import Viewer

logger = logging.getLogger("runwire.graph")

LONGEST_REASON_BYTES = 123
"""RFC 6455: a control frame carries 125 bytes, two of them the code."""


class CloseCode(IntEnum):
    """Why the server ends a connection."""

    NORMAL = 1000
    INTERNAL = 1011
    RESTART = 1012
    BUSY = 1013
    """The reason is the number of seconds after which another try makes sense."""
    BAD_MESSAGE = 4400
    NOT_INITIALISED = 4401
    REFUSED = 4403
    """The credential is wrong, was revoked or has expired: come back with another one."""
    WRONG_SUBPROTOCOL = 4406
    TOO_SLOW_TO_SPEAK = 4408
    """No `connection_init` came in time, or no answer to pings. Clients of graphql-ws reconnect after it."""
    OPERATION_EXISTS = 4409
    INITIALISED_TWICE = 4429
    TOO_SLOW_TO_READ = 4510
    """The reader could not follow: resume from your cursor."""


class ConnectionKind(StrEnum):
    SOCKET = "SOCKET"
    STREAM = "STREAM"


class CredentialRefused(Exception):
    """A credential was shown that nobody can come in with. `reason` is an English sentence without secrets."""

    def __init__(self, reason: str = "The credential is not valid.") -> None:
        self.reason = reason
        super().__init__(reason)


class CloseSocket(Exception):
    """Raised by the source of a subscription: the whole connection is to end, with this code and reason."""

    def __init__(self, code: int, reason: str) -> None:
        self.close_code = code
        self.close_reason = reason
        super().__init__(f"{code} {reason}")


class TooManyConnections(LimitReached):
    """One principal or address holds as many connections as it may."""

    en = "You hold {most} open connections, the most that is allowed. Close some, or share one."
    pt = "Você tem {most} conexões abertas, o máximo permitido. Feche algumas ou compartilhe uma."


@dataclass(frozen=True, slots=True)
class Ending:
    """How a connection ends. A code of None: the other side is gone already."""

    code: int | None
    reason: str = ""


class Connection:
    """One socket or stream. Its owner task waits for `ended()` and then does what is left to do."""

    def __init__(self, kind: ConnectionKind, address: str, opened_at: datetime, viewer: Viewer | None = None) -> None:
        self.kind = kind
        self.address = address
        self.opened_at = opened_at
        self.viewer = viewer or Viewer.nobody()
        self.ending: Ending | None = None
        self._ended = asyncio.Event()

    @property
    def credential_id(self) -> UUID | None:
        return self.viewer.credential_id

    @property
    def expires_at(self) -> datetime | None:
        return self.viewer.expires_at

    @property
    def principal(self) -> str:
        """What connections are counted by: the user, or the address of those who are nobody."""
        return f"user {self.viewer.user_id}" if self.viewer.user_id else f"address {self.address}"

    def close(self, code: int | None, reason: str = "") -> None:
        """Ask for the end and return at once; the first asker decides the code."""
        if self.ending is None:
            self.ending = Ending(code, reason)
            self._ended.set()

    async def ended(self) -> Ending:
        """How the connection is to end, once somebody asked for it."""
        await self._ended.wait()
        assert self.ending is not None
        return self.ending

    def renew(self, viewer: Viewer) -> None:
        """Go on with a newer credential of the same user; streams are kept. Raises `CredentialRefused`."""
        if viewer.user_id is None or viewer.user_id != self.viewer.user_id:
            raise CredentialRefused("A connection can be renewed by its own user only.")
        self.viewer = viewer


class Connections:
    """The registry. `watch` has to run for as long as the process serves."""

    def __init__(self, clock: Clock, *, per_principal: int = 100, unauthenticated_per_address: int = 20) -> None:
        self.clock = clock
        self.per_principal = per_principal
        self.unauthenticated_per_address = unauthenticated_per_address
        self.draining = False
        self._open: set[Connection] = set()
        self._held: Counter[str] = Counter()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        return iter(tuple(self._open))

    @contextmanager
    def opened(self, kind: ConnectionKind, address: str, viewer: Viewer | None = None) -> Iterator[Connection]:
        """A connection, registered for as long as the block runs. Raises `TooManyConnections`."""
        connection = Connection(kind, address, self.clock.now(), viewer)
        self._count(connection.principal, connection.viewer)
        self._open.add(connection)
        try:
            yield connection
        finally:
            self._open.discard(connection)
            self._discount(connection.principal)
            if not self._open:
                self._emptied.set()

    def identify(self, connection: Connection, viewer: Viewer) -> None:
        """Tell whose connection it is, once known. Raises `TooManyConnections`."""
        before = connection.principal
        self._discount(before)
        try:
            after = f"user {viewer.user_id}" if viewer.user_id else f"address {connection.address}"
            self._count(after, viewer)
        except TooManyConnections:
            self._held[before] += 1
            raise
        connection.viewer = viewer

    def counts(self) -> dict[str, int]:
        """Open connections by kind, for metrics."""
        found = Counter(connection.kind.value for connection in self._open)
        return {kind.value: found[kind.value] for kind in ConnectionKind}

    def credential_ids(self) -> set[UUID]:
        """The credentials that hold something open, to be compared with those that were revoked."""
        return {connection.credential_id for connection in self._open if connection.credential_id}

    def close_credential(self, credential_id: UUID, reason: str) -> int:
        """End everything that was opened with this credential, with 4403. Returns how many that were."""
        held = [connection for connection in self._open if connection.credential_id == credential_id]
        for connection in held:
            connection.close(CloseCode.REFUSED, reason)
        return len(held)

    def close_expired(self) -> int:
        """End what lives longer than its credential, with 4403. Returns how many that were."""
        now = self.clock.now()
        expired = [one for one in self._open if one.expires_at is not None and one.expires_at <= now]
        for connection in expired:
            connection.close(CloseCode.REFUSED, "The credential has expired: come back with a new one.")
        return len(expired)

    async def watch(self, interval_seconds: float = 1.0) -> None:
        """Close expired connections until cancelled."""
        while True:
            try:
                self.close_expired()
            except Exception:
                logger.exception("The watch over open connections stumbled, and goes on")
            await asyncio.sleep(interval_seconds)

    async def drain(self, *, batch: int = 500, pause_seconds: float = 0.2, limit_seconds: float = 20) -> None:
        """Take no new connection, and end all that are open with 1012, in batches so that their holders do not all
        come back in the same instant. Returns when the last has gone, or after the limit."""
        self.draining = True
        self._emptied.clear()
        waiting = list(self._open)
        for start in range(0, len(waiting), batch):
            for connection in waiting[start : start + batch]:
                connection.close(CloseCode.RESTART, "Service restart")
            await asyncio.sleep(pause_seconds)
        if self._open:
            try:
                async with asyncio.timeout(limit_seconds):
                    await self._emptied.wait()
            except TimeoutError:
                logger.warning("Some connections did not end in time", extra={"open": len(self._open)})

    def _count(self, principal: str, viewer: Viewer) -> None:
        most = self.unauthenticated_per_address if viewer.is_nobody else self.per_principal
        if self._held[principal] >= most:
            raise TooManyConnections(most=most, retry_after_seconds=30)
        self._held[principal] += 1

    def _discount(self, principal: str) -> None:
        self._held[principal] -= 1
        if self._held[principal] <= 0:
            del self._held[principal]


def close_reason(text: Any) -> str:
    """The text as a close frame can carry it: cut at 123 bytes, never within a character."""
    return str(text).encode("utf-8", "replace")[:LONGEST_REASON_BYTES].decode("utf-8", "ignore")
