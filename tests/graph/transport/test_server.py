"""uvicorn as we run it: bounded heads, and an end within seconds however many readers hang on."""

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from graph.server import BoundedHttp, server_config
from graph.transport import TransportSettings
from tests.graph.transport.toy import Toy, free_socket, serving, until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[3]
SUBPROTOCOLS = [Subprotocol("graphql-transport-ws")]


@asynccontextmanager
async def process() -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The toy server as a process, on a socket that it inherits."""
    listening = free_socket()
    listening.listen()
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.graph.transport",
        str(listening.fileno()),
        cwd=ROOT,
        pass_fds=[listening.fileno()],
        stdout=asyncio.subprocess.PIPE,
    )
    port = listening.getsockname()[1]
    listening.close()
    try:
        yield running, port
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def open_stream(client: httpx2.AsyncClient, port: int, stack: AsyncExitStack) -> httpx2.Response:
    answer = await stack.enter_async_context(
        client.stream(
            "POST",
            f"http://127.0.0.1:{port}/graphql",
            json={"query": "subscription { hang }"},
            headers={"accept": "text/event-stream"},
        )
    )
    assert answer.status_code == 200
    return answer


async def code_at_close(socket: ClientConnection) -> int | None:
    try:
        while True:
            await socket.recv()
    except ConnectionClosed:
        return socket.close_code


async def test_sigterm_ends_streams_and_sockets_and_then_the_process() -> None:
    async with process() as (running, port), AsyncExitStack() as stack:
        limits = httpx2.Limits(max_connections=None)
        client = await stack.enter_async_context(httpx2.AsyncClient(timeout=20, limits=limits))
        streams = [await open_stream(client, port, stack) for _ in range(50)]
        sockets = [
            await stack.enter_async_context(connect(f"ws://127.0.0.1:{port}/graphql", subprotocols=SUBPROTOCOLS))
            for _ in range(20)
        ]
        started_at = time.monotonic()
        running.send_signal(signal.SIGTERM)
        assert {await code_at_close(socket) for socket in sockets} == {1012}
        for stream in streams:
            assert b"event: complete" not in await stream.aread()  # and no error: the body ended as it should
        async with asyncio.timeout(10):
            await running.wait()
        assert time.monotonic() - started_at < 10
        assert running.stdout is not None
        assert await running.stdout.read() == b"not ready\n"


async def test_a_request_in_flight_is_answered_before_the_end() -> None:
    async with process() as (running, port), httpx2.AsyncClient(timeout=20) as client:
        url = f"http://127.0.0.1:{port}/graphql"
        assert (await client.post(url, json={"query": "{ hello }"})).status_code == 200
        asking = asyncio.create_task(client.post(url, json={"query": "{ nap }"}))
        assert running.stdout is not None
        assert await running.stdout.readline() == b"napping\n"
        running.send_signal(signal.SIGTERM)
        assert (await asking).json() == {"data": {"nap": "rested"}}
        async with asyncio.timeout(10):
            await running.wait()


async def test_a_slow_head_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttp, "head_seconds", 0.1)
    async with serving() as toy:
        for sent in (b"", b"POST /graphql HTTP/1.1\r\nhost: x\r\nx-a: "):
            reader, writer = await asyncio.open_connection("127.0.0.1", toy.port)
            writer.write(sent)
            async with asyncio.timeout(5):
                answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 408 ")
        async with httpx2.AsyncClient() as client:  # the timer is per request, also on a connection that is kept
            for _ in range(3):
                assert (await client.post(toy.url, json={"query": "{ hello }"})).status_code == 200


async def test_a_head_that_never_ends_is_refused(toy: Toy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", toy.port)
    writer.write(b"POST /graphql HTTP/1.1\r\nhost: x\r\n")
    answer = b""
    try:
        async with asyncio.timeout(5):
            while not answer:
                writer.write(b"x-a: " + b"a" * 1000 + b"\r\n")
                try:
                    async with asyncio.timeout(0.005):
                        answer = await reader.read(100)
                except TimeoutError:
                    continue
    except ConnectionError:
        answer = answer or b"HTTP/1.1 431 "  # it was cut before the answer could be read
    writer.close()
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_stalled_reader_of_a_stream_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedHttp, "linger_seconds", 0.1)
    async with serving(TransportSettings(send_seconds=0.2, close_seconds=0.05)) as toy:
        _, writer = await asyncio.open_connection("127.0.0.1", toy.port, limit=1024)
        body = b'{"query":"subscription { ticks(to: 100000, bytes: 100000) { text } }"}'
        writer.write(
            b"POST /graphql HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await until(lambda: toy.trace.produced > 1)
        await until(lambda: len(toy.connections) == 0)
        await until(lambda: not toy.server.server_state.connections)
        assert toy.trace.produced < 500
        writer.close()


def test_the_products_configuration() -> None:
    config = server_config(lambda: None, host="127.0.0.1", port=8000)
    assert config.ws_per_message_deflate is False
    assert config.server_header is False
    assert config.proxy_headers is False
    assert config.access_log is False
    assert config.timeout_graceful_shutdown is not None
    assert config.timeout_graceful_shutdown <= 30
