"""Operations over server-sent events: framing, endings, clean-up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import pytest

from graph.live.sse import find_cursor
from graph.transport import TransportSettings
from tests.graph.transport.toy import ALICES_SESSION, Toy, serving, until

pytestmark = pytest.mark.anyio

STREAM = {"accept": "text/event-stream", "content-type": "application/json"}
NEXT = "event: next\ndata: "
COMPLETE = "event: complete\ndata:"


@asynccontextmanager
async def streaming(
    toy: Toy, query: str, *, authorization: str | None = None, **headers: str
) -> AsyncIterator[httpx2.Response]:
    credential = {"authorization": authorization} if authorization else {}
    async with (
        httpx2.AsyncClient(timeout=5) as client,
        client.stream("POST", toy.url, json={"query": query}, headers={**STREAM, **credential, **headers}) as answer,
    ):
        yield answer


async def events(answer: httpx2.Response) -> list[str]:
    """All events of a stream, without comments."""
    text = (await answer.aread()).decode()
    return [event for event in text.split("\n\n") if event and not event.startswith(":")]


async def first_event(answer: httpx2.Response) -> str:
    seen = ""
    async for chunk in answer.aiter_text():
        seen += chunk
        if NEXT in seen and seen.endswith("\n\n"):
            return seen
    raise AssertionError(f"the stream ended after {seen!r}")


async def test_a_subscription_is_a_stream_of_events(toy: Toy) -> None:
    async with streaming(toy, "subscription { count(to: 2) }") as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert await events(answer) == [
            NEXT + '{"data":{"count":1}}',
            NEXT + '{"data":{"count":2}}',
            COMPLETE,
        ]


async def test_an_event_with_a_cursor_has_it_as_its_id(toy: Toy) -> None:
    async with streaming(toy, "subscription { ticks(to: 1) { cursor number } }") as answer:
        assert await events(answer) == [
            "id: c1\n" + NEXT + '{"data":{"ticks":{"cursor":"c1","number":1}}}',
            COMPLETE,
        ]


@pytest.mark.parametrize(
    ("payload", "cursor"),
    [
        ({"data": {"run": {"cursor": "c7"}}}, "c7"),
        ({"data": {"run": {"cursor": None}}}, None),
        ({"data": {"run": 7}}, None),
        ({"data": None, "errors": []}, None),
        ({"errors": []}, None),
        ({"data": {"a": {"cursor": "1"}, "b": {"cursor": "2"}}}, None),
    ],
)
def test_the_cursor_of_the_only_root_field_is_found(payload: dict[str, Any], cursor: str | None) -> None:
    assert find_cursor(payload) == cursor


@pytest.mark.parametrize("operation", ["{ hello }", "mutation { touch }"])
async def test_queries_and_mutations_work_too(toy: Toy, operation: str) -> None:
    async with streaming(toy, operation) as answer:
        heard = await events(answer)
    assert len(heard) == 2
    assert heard[0].startswith(NEXT + '{"data":{')
    assert heard[1] == COMPLETE


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("subscription {", "GRAPHQL_PARSE_FAILED"),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        ("subscription { refused }", "NOT_SIGNED_IN"),
        ("subscription A($n: Int!) { count(to: $n) }", "BAD_USER_INPUT"),
    ],
)
async def test_a_refused_operation_is_told_in_the_stream(toy: Toy, query: str, code: str) -> None:
    async with streaming(toy, query) as answer:
        assert answer.status_code == 200
        heard = await events(answer)
    payload = orjson.loads(heard[0].removeprefix(NEXT))
    assert "data" not in payload
    assert payload["errors"][0]["extensions"]["code"] == code
    assert heard[1:] == [COMPLETE]


async def test_who_takes_json_too_gets_request_errors_as_json(toy: Toy) -> None:
    accept = "application/graphql-response+json, text/event-stream"
    async with streaming(toy, "subscription { nothing }", accept=accept) as answer:
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("application/graphql-response+json")


async def test_a_source_that_breaks_is_masked(toy: Toy) -> None:
    async with streaming(toy, "subscription { breaks }") as answer:
        heard = await events(answer)
    assert heard[0] == NEXT + '{"data":{"breaks":1}}'
    assert '"code":"INTERNAL"' in heard[1]
    assert "hunter2" not in str(heard)
    assert heard[2] == COMPLETE


async def test_a_source_may_end_the_stream_of_a_slow_reader(toy: Toy) -> None:
    async with streaming(toy, "subscription { slow }") as answer:
        heard = await events(answer)
    assert heard == [
        NEXT + '{"data":{"slow":1}}',
        'event: slow\ndata: {"code":4510,"reason":"Slow: resume from your cursor"}',
    ]


async def test_a_refused_credential_is_401(toy: Toy) -> None:
    async with streaming(toy, "subscription { count }", authorization="Bearer stolen") as answer:
        assert answer.status_code == 401
        assert (await answer.aread()).startswith(b'{"errors"')


async def test_the_reader_who_leaves_ends_the_source_and_its_clean_up(toy: Toy) -> None:
    cleaned = toy.trace.cleaned
    before = len(asyncio.all_tasks())
    async with streaming(toy, "subscription { hang }") as answer:
        await first_event(answer)
        assert toy.connections.counts()["STREAM"] == 1
    await until(lambda: toy.trace.cleaned == cleaned + 1)
    await until(lambda: len(toy.connections) == 0)
    await until(lambda: len(asyncio.all_tasks()) <= before)


async def test_comments_keep_the_stream_alive() -> None:
    settings = TransportSettings(heartbeat_seconds=0.02)
    async with serving(settings) as toy, streaming(toy, "subscription { hang }") as answer:
        seen = ""
        async with asyncio.timeout(5):
            async for chunk in answer.aiter_text():
                seen += chunk
                if seen.count(":\n\n") >= 4:
                    break
    assert seen.startswith(":\n\n")


async def test_revoking_ends_the_stream_with_a_word(toy: Toy) -> None:
    async with streaming(toy, "subscription { hang }", authorization="Bearer alice") as answer:
        chunks = answer.aiter_text()
        seen = ""
        while NEXT not in seen:
            seen += await anext(chunks)
        assert toy.connections.close_credential(ALICES_SESSION, "This session was revoked.") == 1
        rest = "".join([chunk async for chunk in chunks])
    assert rest == 'event: refused\ndata: {"code":4403,"reason":"This session was revoked."}\n\n'


async def test_draining_ends_streams_cleanly_without_complete() -> None:
    async with serving() as toy:
        async with streaming(toy, "subscription { hang }") as answer:
            chunks = answer.aiter_text()
            seen = ""
            while NEXT not in seen:
                seen += await anext(chunks)
            await toy.connections.drain(pause_seconds=0)
            assert [chunk async for chunk in chunks] == []
        async with streaming(toy, "subscription { hang }") as late:
            assert (late.status_code, late.headers["retry-after"]) == (503, "5")


async def test_one_principal_holds_so_many_streams_and_no_more() -> None:
    settings = TransportSettings(unauthenticated_per_address=1)
    async with serving(settings) as toy, streaming(toy, "subscription { hang }") as first:
        await first_event(first)
        async with streaming(toy, "subscription { hang }") as second:
            assert (second.status_code, second.headers["retry-after"]) == (429, "30")
        async with streaming(toy, "subscription { count(to: 1) }", authorization="Bearer alice") as other:
            assert other.status_code == 200
