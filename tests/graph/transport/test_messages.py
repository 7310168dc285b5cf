"""Whatever is not a message of the protocol closes the socket with 4400 and a reason that fits the frame."""

from typing import Any

import pytest

from tests.graph.transport.toy import Toy

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "message",
    [
        "",
        "null",
        "7",
        "true",
        '"connection_init"',
        "[]",
        "[{}]",
        "{}",
        "{",
        "not json",
        '{"type":null}',
        '{"type":7}',
        '{"type":["ping"]}',
        '{"type":"start"}',
        '{"type":"connection_terminate"}',
        '{"type":"next","id":"1","payload":{}}',
        '{"type":"connection_ack"}',
        '{"type":"subscribe"}',
        '{"type":"subscribe","id":"1"}',
        '{"type":"subscribe","id":"1","payload":null}',
        '{"type":"subscribe","id":"1","payload":[]}',
        '{"type":"subscribe","id":"1","payload":"x"}',
        '{"type":"subscribe","id":"1","payload":{}}',
        '{"type":"subscribe","id":"1","payload":{"query":null}}',
        '{"type":"subscribe","id":"1","payload":{"query":7}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","variables":[]}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","variables":"x"}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","extensions":7}}',
        '{"type":"subscribe","id":"1","payload":{"query":"{ hello }","operationName":{}}}',
        '{"type":"subscribe","payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":"","payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":7,"payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":{},"payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":null,"payload":{"query":"{ hello }"}}',
        '{"type":"subscribe","id":"' + "i" * 300 + '","payload":{"query":"{ hello }"}}',
        '{"type":"complete"}',
        '{"type":"complete","id":{}}',
        '{"type":"complete","id":7}',
        '{"type":"ping","payload":7}',
        '{"type":"ping","payload":"x"}',
        '{"type":"ping","payload":[]}',
        '{"type":"pong","payload":"x"}',
        '{"type":"pong","payload":[1]}',
        '{"type":"ping","payload":' + '{"a":' * 5000 + "1" + "}" * 5000 + "}",
        "[" * 50_000,
        '{"type":"ping","payload":{"a":' + "1" * 5000 + "}}",
        '{"type":"ping","payload":{"a":' + "1" * 30 + "}}",
        '{"type":"ping","payload":{"a":NaN}}',
        '{"type":"ping","payload":{"a":"\\ud800"}}',
        b'{"type":"ping"}',
        b"\x00\xff",
        '{"type":"ping","payload":{"a":"' + "x" * (257 * 1024) + '"}}',
    ],
    ids=lambda message: repr(message[:60]),
)
async def test_malformed_messages_close_with_4400(toy: Toy, message: str | bytes) -> None:
    async with toy.socket() as client:
        await client.say(message)
        code, reason = await client.closed()
    assert code == 4400
    assert reason
    assert len(reason.encode()) <= 123


@pytest.mark.parametrize("payload", ["x", 7, [], {"authorization": 7}, {"authorization": ["Bearer alice"]}])
async def test_a_malformed_init_closes_with_4400(toy: Toy, payload: Any) -> None:
    async with toy.socket(init=False) as client:
        await client.say({"type": "connection_init", "payload": payload})
        assert (await client.closed())[0] == 4400


async def test_a_frame_beyond_all_limits_closes_the_socket(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.raw.send("x" * (2 * 1024 * 1024))
        assert (await client.closed())[0] == 1009
