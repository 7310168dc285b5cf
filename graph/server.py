"""uvicorn as the product runs it: bounded heads, no compression of small frames, and an end that readers survive."""

import asyncio
import logging
import os
import socket
from asyncio import TimerHandle
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

logger = logging.getLogger("runwire.server")

HEAD_SECONDS = 15
"""How long a client may take for the request line and the headers."""
HEAD_BYTES = 48 * 1024
"""A head beyond it is not even parsed; `graph.guards` answers smaller ones that are too large with a reason."""
LINGER_SECONDS = 15
"""How long a finished connection may take to hand over its last bytes before it is cut."""
GRACEFUL_SECONDS = 28
"""All that a SIGTERM may take, so that the process is gone within 30 seconds."""
DRAIN_SECONDS = 15


class BoundedHttp(HttpToolsProtocol):
    """HTTP whose head must come in time and stay small, and whose last bytes cannot wait for ever."""

    head_seconds: float = HEAD_SECONDS
    head_bytes: int = HEAD_BYTES
    linger_seconds: float = LINGER_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timer: TimerHandle | None = None
        self._head_size = 0
        self._in_head = False

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_size += len(data)
            if self._head_size > self.head_bytes:
                return self._refuse(431, "Request header fields too large.")
        elif self._head_timer is None and self._is_idle():
            self._start_head_timer()  # the first bytes of the next request of this connection
        super().data_received(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True
        self._head_size = 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_head_timer()
        if not self.transport.is_closing():
            super().on_headers_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            finally:
                if not (cycle.response_complete and cycle.keep_alive):
                    self.loop.call_later(self.linger_seconds, self.transport.abort)

        super()._start_asgi_task(cycle, watched)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self.loop.call_later(self.linger_seconds, self.transport.abort)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._head_is_late)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self._refuse(408, "The request did not arrive in time.")

    def _refuse(self, status: int, message: str) -> None:
        body = b'{"errors":[{"message":"%b","extensions":{"code":"BAD_REQUEST"}}]}' % message.encode()
        phrase = {408: b"Request Timeout", 431: b"Request Header Fields Too Large"}[status]
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        if not self.transport.is_closing():
            self.transport.write(head % (status, phrase, len(body)) + body)
            self.transport.close()


class BoundedSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose transport is cut when its peer does not take the last frames."""

    linger_seconds: float = LINGER_SECONDS

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        self.loop.call_later(self.linger_seconds, self.transport.abort)


def server_config(
    app: Any, *, host: str, port: int, fd: int | None = None, trusted_proxies: Sequence[str] = ()
) -> uvicorn.Config:
    """The product's configuration. With `fd` an inherited socket is served, and host and port only name it.

    Clients are known by the address they come from, or by what a trusted proxy says of it."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        fd=fd,
        http=BoundedHttp,
        ws=BoundedSocket,
        ws_max_size=1024 * 1024,  # a frame up to our own limit of 256 KiB gets a reason, one beyond this only 1009
        ws_per_message_deflate=False,  # small JSON frames gain nothing and cost twice the time
        ws_ping_interval=None,  # graph.live.socket pings in the protocol's own words
        ws_ping_timeout=None,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=GRACEFUL_SECONDS - DRAIN_SECONDS,
        server_header=False,
        date_header=True,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=list(trusted_proxies),
        access_log=False,  # graph.guards writes one line without secrets
        log_config=None,
        log_level=logging.WARNING,  # uvicorn's own lines hold query strings, and those hold tokens
        loop="auto",
        lifespan="on",
    )


class Server(uvicorn.Server):
    """uvicorn that lets go of its readers before it goes.

    On SIGTERM: `on_drain` (readiness says no), no new connections, then `drain` ends sockets and streams in batches
    and requests in flight finish, all within half a minute."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        drain: Callable[[], Awaitable[None]],
        on_drain: Callable[[], None] = lambda: None,
        drain_seconds: float = DRAIN_SECONDS,
    ) -> None:
        super().__init__(config)
        self._drain = drain
        self._on_drain = on_drain
        self._drain_seconds = drain_seconds

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop. An inherited socket is used as what it is; uvicorn takes any for a Unix one."""
        if sockets is None and self.config.fd is not None:
            sockets = [socket.socket(fileno=os.dup(self.config.fd))]
        await super().serve(sockets=sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        logger.info("Serving", extra={"pid": os.getpid()})

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._on_drain()
        for server in self.servers:
            server.close()
        try:
            async with asyncio.timeout(self._drain_seconds):
                await self._drain()
        except TimeoutError:
            logger.warning("Some connections did not end in time")
        except Exception:
            logger.exception("Draining failed; the rest is closed as it is")
        await super().shutdown(sockets=sockets)
