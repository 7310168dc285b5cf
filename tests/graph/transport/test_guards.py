"""What is refused before a route sees it, and what every answer carries."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest

from graph.guards import Guards, GuardSettings
from tests.graph.transport.toy import Toy, serving, until

pytestmark = pytest.mark.anyio

HELLO = b'{"query":"{ hello }"}'


async def raw(toy: Toy, request: bytes, *, seconds: float = 5) -> bytes:
    """What comes back for these bytes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", toy.port)
    writer.write(request)
    try:
        async with asyncio.timeout(seconds):
            return await reader.read()
    finally:
        writer.close()


def head(*lines: str) -> bytes:
    return "\r\n".join(["POST /graphql HTTP/1.1", "host: x", "content-type: application/json", *lines, "", ""]).encode()


async def test_answers_carry_an_id_and_safe_headers(toy: Toy) -> None:
    answer = await toy.post({"query": "{ requestId }"})
    assert answer.json() == {"data": {"requestId": answer.headers["x-request-id"]}}
    assert len(answer.headers["x-request-id"]) == 32
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "server" not in answer.headers
    assert "date" in answer.headers


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("partner-2026.11_21", True),
        ("short", False),
        ("x" * 65, False),
        ("with blanks", False),
        ("a" * 20 + "<script>", False),
    ],
)
async def test_a_callers_request_id_is_kept_if_it_is_harmless(toy: Toy, sent: str, kept: bool) -> None:
    answer = await toy.post({"query": "{ requestId }"}, {"x-request-id": sent})
    assert (answer.headers["x-request-id"] == sent) is kept


async def test_a_long_body_is_refused_by_its_length(toy: Toy) -> None:
    for length in ("1048577", "10000000000", "9" * 19):
        answer = await raw(toy, head(f"content-length: {length}"))
        assert answer.startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
        assert b"connection: close" in answer.lower()


async def test_a_long_body_is_refused_while_it_comes(toy: Toy) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"x" * 1024 * 1024

    async with httpx2.AsyncClient() as client:
        answer = await client.post(toy.url, content=chunks(), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert answer.json()["errors"][0]["extensions"] == {"code": "BODY_TOO_LARGE"}


async def test_a_body_of_the_full_size_is_read(toy: Toy) -> None:
    body = b'{"query":"{ hello }","variables":{"a":"' + b"x" * (1024 * 1024 - 42) + b'"}}'
    assert len(body) == 1024 * 1024
    assert (await toy.post(body)).json() == {"data": {"hello": "hello you"}}


async def test_a_slow_body_is_refused() -> None:
    async with serving(guards=GuardSettings(body_seconds=0.1)) as toy:
        answer = await raw(toy, head("content-length: 100") + b'{"query"')
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"BODY_TOO_SLOW"' in answer
        reader, writer = await asyncio.open_connection("127.0.0.1", toy.port)
        writer.write(head("content-length: 100"))
        try:
            while not reader.at_eof():  # a byte now and then is no progress
                writer.write(b" ")
                try:
                    async with asyncio.timeout(0.02):
                        if b"408" in await reader.read(100):
                            break
                except TimeoutError:
                    continue
        finally:
            writer.close()


async def test_a_query_may_take_longer_than_its_body() -> None:
    async with serving(guards=GuardSettings(body_seconds=0.05)) as toy:
        asking = asyncio.create_task(toy.post({"query": "subscription { hang }"}, {"accept": "text/event-stream"}))
        await until(lambda: toy.connections.counts()["STREAM"] == 1)
        (connection,) = toy.connections
        done, _ = await asyncio.wait({asking}, timeout=0.15)
        assert not done
        connection.close(1012)
        assert (await asking).status_code == 200


async def test_a_long_address_is_414(toy: Toy) -> None:
    for size, status in ((15_000, b"405"), (17_000, b"414"), (30_000, b"414")):
        request = f"GET /graphql?a={'x' * size} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
        assert (await raw(toy, request)).startswith(b"HTTP/1.1 " + status)


async def test_too_many_or_too_large_headers_are_431(toy: Toy) -> None:
    few = [f"x-{number}: 1" for number in range(90)]
    many = [f"x-{number}: 1" for number in range(2000)]
    closing = ["connection: close", f"content-length: {len(HELLO)}"]
    assert (await raw(toy, head(*few, *closing) + HELLO)).startswith(b"HTTP/1.1 200 ")
    assert (await raw(toy, head(*many, *closing) + HELLO)).startswith(b"HTTP/1.1 431 ")
    assert (await raw(toy, head("x-a: " + "x" * 31_000, *closing) + HELLO)).startswith(b"HTTP/1.1 200 ")
    assert (await raw(toy, head("x-a: " + "x" * 34_000, *closing) + HELLO)).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "lines",
    [
        ["content-length: 5", "content-length: 6"],
        ["content-length: 21", "transfer-encoding: chunked"],
        ["content-length: -1"],
        ["content-length: 0x5"],
        ["x-folded: a\r\n b"],
        ["x bad: a"],
        ["x-a: b\x00c"],
    ],
)
async def test_ambiguous_framing_is_refused(toy: Toy, lines: list[str]) -> None:
    assert b" 200 OK" not in (await raw(toy, head("connection: close", *lines) + HELLO))


async def test_the_log_line_holds_no_token(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="runwire.access")
    token = "rwg_" + "A" * 43
    async with httpx2.AsyncClient() as client:
        url = f"http://127.0.0.1:{toy.port}/webhooks/{token}?token={token}"
        answer = await client.get(url, headers={"authorization": f"Bearer {token}"})
    (line,) = [record for record in caplog.records if record.name == "runwire.access"]
    facts = {name: line.__dict__[name] for name in ("method", "path", "status", "request_id", "kind", "client")}
    assert facts == {
        "method": "GET",
        "path": "/webhooks/rwg_•••",
        "status": 405,
        "request_id": answer.headers["x-request-id"],
        "kind": "http",
        "client": "127.0.0.1",
    }
    assert token not in str([record.__dict__ for record in caplog.records if record.name != "httpx2"])


async def test_the_log_line_of_a_socket_tells_how_it_ended(toy: Toy, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="runwire.access")
    async with toy.socket() as client:
        assert client.raw.response is not None
        assert len(client.raw.response.headers["x-request-id"]) == 32
        await client.say("null")
        assert (await client.closed())[0] == 4400
    lines = [record for record in caplog.records if record.name == "runwire.access"]
    assert [(line.__dict__["kind"], line.__dict__["status"]) for line in lines] == [("websocket", 4400)]


async def test_a_route_may_stream_what_it_counts_itself() -> None:
    received = 0

    async def route(scope: Any, receive: Any, send: Any) -> None:
        nonlocal received
        more = True
        while more:
            message = await receive()
            received += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": [(b"cache-control", b"private")]})
        await send({"type": "http.response.body", "body": b""})

    app = Guards(route, body_limit_of=lambda path: None if path == "/upload" else 10)
    sent = [{"type": "http.request", "body": b"x" * 1000, "more_body": number < 9} for number in range(10)]
    answers: list[Any] = []

    async def receive() -> Any:
        return sent.pop(0)

    async def send(message: Any) -> None:
        answers.append(message)

    await app({"type": "http", "method": "PUT", "path": "/upload", "headers": []}, receive, send)
    assert received == 10_000
    assert answers[0]["status"] == 204
    assert (b"cache-control", b"private") in answers[0]["headers"]
    assert (b"cache-control", b"no-store") not in answers[0]["headers"]
