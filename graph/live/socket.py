"""The WebSocket door: `graphql-transport-ws`, complete and strict.

A socket climbs a ladder: origin and subprotocol are checked, it is accepted, `connection_init` says who comes, and then
operations run side by side until one side ends it. One task owns the socket and waits for its end; a reader, a pinger
and one task per operation live in its group and never outlive it.

A reader that takes nothing slows only what is sent to it: each sender waits until the transport has room, so a
subscription's source is asked for the next event only when the last one is out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC
from typing import Any, Generic, TypeAlias, TypeVar

from domain.errors import DomainError, LimitReached, Unavailable
from domain.viewer import Locale, Viewer
from graph.live import messages
from graph.live.connections import (
    CloseCode,
    CloseSocket,
    Connection,
    ConnectionKind,
    Connections,
    CredentialRefused,
    TooManyConnections,
    close_reason,
)
from graph.negotiation import is_origin_allowed
from graph.operations import AnswerKind, Operations, as_graphql_error, locale_of
from graph.transport import BadRequest, RequestFacts, TransportSettings, client_address, header, locale_asked

logger = logging.getLogger("runwire.graph")

ContextT = TypeVar("ContextT")
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Authenticate: TypeAlias = Callable[[str | None], Awaitable[Viewer]]

PINGS_UNANSWERED = 2
SLOW_READER = "Nothing was read for too long: resume from your cursor"


class TooManyOperations(LimitReached):
    """One socket runs as many operations as it may."""

    en = "This socket runs {most} operations, the most that is allowed. Complete some, or open another socket."
    pt = "Este socket executa {most} operações, o máximo permitido. Encerre algumas ou abra outro socket."


class Socket(Generic[ContextT]):
    """One socket from its handshake to its last clean-up."""

    def __init__(
        self,
        scope: Any,
        receive: Receive,
        send: Send,
        *,
        operations: Operations[ContextT],
        authenticate: Authenticate,
        connections: Connections,
        settings: TransportSettings,
        request_id: str,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.transport_send = send
        self.operations = operations
        self.authenticate = authenticate
        self.connections = connections
        self.settings = settings
        self.request_id = request_id
        self.connection: Connection
        self.locale = Locale.EN
        self.acknowledged = False
        self.initialised = False
        self.running: dict[str, asyncio.Task[None]] = {}
        """Operations by the id their client gave them."""
        self.tasks: set[asyncio.Task[None]] = set()
        """Their tasks, with those that still clean up after they were completed."""
        self.writing = asyncio.Lock()
        self.heard_at = 0.0

    async def run(self) -> None:
        """Serve the socket until it has ended and all of its tasks have."""
        if (await self.receive())["type"] != "websocket.connect":
            return
        if not is_origin_allowed(self.scope["headers"], self.settings.allowed_origins):
            return await self._refuse_handshake()
        if messages.SUBPROTOCOL not in self.scope.get("subprotocols", ()):
            await self.transport_send({"type": "websocket.accept"})
            return await self._send_close(CloseCode.WRONG_SUBPROTOCOL, "Subprotocol not acceptable")
        await self.transport_send({"type": "websocket.accept", "subprotocol": messages.SUBPROTOCOL})
        if self.connections.draining:
            return await self._send_close(CloseCode.RESTART, "Service restart")
        try:
            with self.connections.opened(ConnectionKind.SOCKET, client_address(self.scope)) as self.connection:
                await self._serve()
        except TooManyConnections as refusal:
            await self._send_close(CloseCode.BUSY, str(refusal.retry_after_seconds))
        except Exception as fault:
            self.operations.faults.of_exception(fault, self.locale, self.request_id)
            await self._send_close(CloseCode.INTERNAL, "Internal error")

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as group:
            self.heard_at = asyncio.get_running_loop().time()
            helpers = [group.create_task(self._read(group)), group.create_task(self._keep_alive())]
            ending = await self.connection.ended()
            for task in (*helpers, *self.tasks):
                task.cancel()
            if ending.code is not None:
                await self._send_close(ending.code, ending.reason)

    async def _read(self, group: asyncio.TaskGroup) -> None:
        while self.connection.ending is None:
            received = await self.receive()
            if received["type"] == "websocket.disconnect":
                return self.connection.close(None)
            self.heard_at = asyncio.get_running_loop().time()
            try:
                message = messages.read(received.get("text"), most_bytes=self.settings.message_bytes)
                await self._handle(message, group)
            except BadRequest as error:
                return self.connection.close(CloseCode.BAD_MESSAGE, str(error))

    async def _handle(self, message: messages.ClientMessage, group: asyncio.TaskGroup) -> None:
        match message:
            case messages.ConnectionInit():
                await self._initialise(message)
            case messages.Ping(payload):
                await self._send(messages.pong(payload))
            case messages.Pong():
                pass
            case messages.Subscribe():
                await self._subscribe(message, group)
            case messages.Complete(id):
                running = self.running.pop(id, None)
                if running is not None:
                    running.cancel()

    async def _initialise(self, message: messages.ConnectionInit) -> None:
        if self.initialised:
            return self.connection.close(CloseCode.INITIALISED_TWICE, "Too many initialisation requests")
        self.initialised = True
        headers = self.scope["headers"]
        try:
            viewer = await self.authenticate(message.authorization or header(headers, b"authorization"))
            self.connections.identify(self.connection, viewer)
        except CredentialRefused as refused:
            return self.connection.close(CloseCode.REFUSED, refused.reason)
        except (LimitReached, Unavailable) as refusal:
            return self.connection.close(CloseCode.BUSY, str(refusal.retry_after_seconds or 30))
        except DomainError as refusal:
            return self.connection.close(CloseCode.REFUSED, refusal.message())
        except BadRequest:
            raise
        except Exception as error:
            self.operations.faults.of_exception(error, self.locale, self.request_id)
            return self.connection.close(CloseCode.BUSY, str(self.settings.retry_after_seconds))
        self.locale = locale_of(viewer, locale_asked(header(headers, b"accept-language")))
        await self._send(messages.connection_ack({"locale": self.locale.value}))
        self.acknowledged = True

    async def _subscribe(self, message: messages.Subscribe, group: asyncio.TaskGroup) -> None:
        if not self.acknowledged:
            return self.connection.close(CloseCode.NOT_INITIALISED, "Unauthorized")
        if message.id in self.running:
            return self.connection.close(CloseCode.OPERATION_EXISTS, f"Subscriber for {message.id} already exists")
        if len(self.tasks) >= self.settings.operations_per_socket:
            refusal = TooManyOperations(most=self.settings.operations_per_socket)
            entry = self.operations.faults.of_exception(refusal, self.locale, self.request_id)
            return await self._send(messages.error(message.id, [entry]))
        task = group.create_task(self._operate(message))
        self.running[message.id] = task
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _operate(self, message: messages.Subscribe) -> None:
        """Run one operation and tell its client all there is to tell, as long as the client still wants it."""
        id = message.id
        task = asyncio.current_task()
        facts = RequestFacts(
            request_id=self.request_id,
            locale=self.locale,
            client_address=client_address(self.scope),
            user_agent=header(self.scope["headers"], b"user-agent") or "",
            connection=self.connection,
        )
        viewer = replace(self.connection.viewer, locale=self.locale)
        try:
            async with aclosing(self.operations.stream(message.request, viewer, facts)) as answers:
                async for answer in answers:
                    if self.running.get(id) is not task:
                        return
                    if answer.kind is not AnswerKind.EXECUTED and "data" not in answer.payload:
                        del self.running[id]
                        return await self._send(messages.error(id, answer.payload["errors"]))
                    await self._send(messages.next_(id, answer.payload))
                    # Neither a source with a backlog nor a transport with room gives way to others by itself.
                    await asyncio.sleep(0)
            if self.running.get(id) is task:
                del self.running[id]
                await self._send(messages.complete(id))
        except CloseSocket as wish:
            self.connection.close(wish.close_code, wish.close_reason)
        except Exception as error:  # a clean-up that failed must not take the other operations with it
            entry = self.operations.faults.of_exception(error, self.locale, self.request_id)
            if self.running.get(id) is task:
                await self._send(messages.error(id, as_graphql_error(entry["message"], "INTERNAL")["errors"]))
        finally:
            if self.running.get(id) is task:
                del self.running[id]

    async def _keep_alive(self) -> None:
        """Ask for a sign of life at each interval, and end the socket that gives none for two of them."""
        loop = asyncio.get_running_loop()
        init_deadline = loop.time() + self.settings.init_seconds
        next_ping = loop.time() + self.settings.ping_seconds
        while True:
            wake_at = next_ping if self.acknowledged else min(next_ping, init_deadline)
            await asyncio.sleep(max(0.0, wake_at - loop.time()))
            now = loop.time()
            if not self.acknowledged and now >= init_deadline:
                return self.connection.close(CloseCode.TOO_SLOW_TO_SPEAK, "Connection initialisation timeout")
            if now < next_ping:
                continue
            if now - self.heard_at >= PINGS_UNANSWERED * self.settings.ping_seconds:
                if self.writing.locked():  # no ping got out, because nothing is read
                    return self.connection.close(CloseCode.TOO_SLOW_TO_READ, SLOW_READER)
                return self.connection.close(CloseCode.TOO_SLOW_TO_SPEAK, "No answer to pings")
            next_ping = now + self.settings.ping_seconds
            if self.acknowledged and not self.writing.locked():  # who is being written to needs no ping
                await self._ping()

    async def _ping(self) -> None:
        at = self.connections.clock.now().astimezone(UTC).isoformat(timespec="milliseconds")
        await self._send(messages.ping({"at": at.replace("+00:00", "Z")}))

    async def _send(self, text: str) -> None:
        async with self.writing:
            if self.connection.ending is not None:
                return
            try:
                async with asyncio.timeout(self.settings.send_seconds):
                    await self.transport_send({"type": "websocket.send", "text": text})
            except TimeoutError:
                self.connection.close(CloseCode.TOO_SLOW_TO_READ, SLOW_READER)
            except OSError:  # uvicorn's ClientDisconnected: the peer has gone
                self.connection.close(None)

    async def _send_close(self, code: int, reason: str) -> None:
        try:
            async with asyncio.timeout(self.settings.close_seconds):
                await self.transport_send({"type": "websocket.close", "code": code, "reason": close_reason(reason)})
        except (OSError, TimeoutError):
            logger.debug("A socket was gone before it could be closed", extra={"request_id": self.request_id})

    async def _refuse_handshake(self) -> None:
        body = b'{"errors":[{"message":"This origin may not connect.","extensions":{"code":"FORBIDDEN"}}]}'
        await self.transport_send(
            {
                "type": "websocket.http.response.start",
                "status": 403,
                "headers": [(b"content-type", b"application/json; charset=utf-8")],
            }
        )
        await self.transport_send({"type": "websocket.http.response.body", "body": body})
