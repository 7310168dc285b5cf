"""`graphql-transport-ws` through a real server: the ladder of a socket, its operations, and every way it ends."""

import asyncio
from datetime import timedelta
from typing import Any

import orjson
import pytest
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from graph.live.connections import CloseCode
from graph.server import BoundedSocket
from graph.transport import TransportSettings
from tests.graph.transport.toy import ALICES_SESSION, NOW, Client, Toy, serving, until

pytestmark = pytest.mark.anyio


def subscribe(id: Any, query: Any, **payload: Any) -> dict[str, Any]:
    return {"id": id, "type": "subscribe", "payload": {"query": query, **payload}}


async def test_a_subscription_from_its_first_event_to_its_end(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.say(subscribe("1", "subscription { count(to: 2) }"))
        heard = [await client.hear() for _ in range(3)]
    assert heard == [
        {"id": "1", "type": "next", "payload": {"data": {"count": 1}}},
        {"id": "1", "type": "next", "payload": {"data": {"count": 2}}},
        {"id": "1", "type": "complete"},
    ]


async def test_queries_and_mutations_work_over_the_socket(toy: Toy) -> None:
    async with toy.socket("Bearer alice") as client:
        await client.say(subscribe("q", "query A($n: Int!) { who double(number: $n) }", variables={"n": 4}))
        answer = await client.hear()
        assert answer["payload"]["data"] == {"who": "0192a000-0000-7000-8000-00000000000a", "double": 8}
        assert await client.hear() == {"id": "q", "type": "complete"}
        await client.say(subscribe("m", "mutation { touch }"))
        assert (await client.hear())["type"] == "next"
        assert await client.hear() == {"id": "m", "type": "complete"}


async def test_ack_tells_the_language(toy: Toy) -> None:
    headers = {"accept-language": "pt-BR"}
    async with toy.socket(init=False, additional_headers=headers) as client:
        await client.say({"type": "connection_init"})
        assert await client.hear() == {"type": "connection_ack", "payload": {"locale": "pt-BR"}}
        await client.say(subscribe("1", "subscription { refused }"))
        refusal = await client.hear()
    assert refusal["payload"][0]["message"].startswith("Entre primeiro")


@pytest.mark.parametrize(
    "init",
    [
        {"type": "connection_init"},
        {"type": "connection_init", "payload": None},
        {"type": "connection_init", "payload": {}},
        {"type": "connection_init", "payload": {"authorization": None, "else": 7}},
    ],
)
async def test_one_may_come_without_a_credential(toy: Toy, init: dict[str, Any]) -> None:
    async with toy.socket(init=False) as client:
        await client.say(init)
        assert await client.hear() == {"type": "connection_ack", "payload": {"locale": "en"}}


@pytest.mark.parametrize("name", ["authorization", "Authorization"])
async def test_the_credential_comes_with_the_init_message(toy: Toy, name: str) -> None:
    async with toy.socket(init=False) as client:
        await client.say({"type": "connection_init", "payload": {name: "Bearer alice"}})
        await client.hear()
        (connection,) = [one for one in toy.connections if one.credential_id]
    assert connection.credential_id == ALICES_SESSION
    assert toy.connections.credential_ids() <= {ALICES_SESSION}


async def test_the_credential_may_come_with_the_handshake(toy: Toy) -> None:
    async with toy.socket(additional_headers={"authorization": "Bearer bob"}) as client:
        await client.say(subscribe("1", "{ who }"))
        assert (await client.hear())["payload"]["data"]["who"].endswith("b")


async def test_a_refused_credential_closes_with_4403(toy: Toy) -> None:
    async with toy.socket(init=False) as client:
        await client.say({"type": "connection_init", "payload": {"authorization": "Bearer stolen"}})
        assert await client.closed() == (4403, "This access token is not valid.")


@pytest.mark.parametrize(("authorization", "seconds"), [("Bearer limited", "9"), ("Bearer down", "5")])
async def test_who_cannot_be_checked_now_is_told_when_to_come_back(toy: Toy, authorization: str, seconds: str) -> None:
    async with toy.socket(init=False) as client:
        await client.say({"type": "connection_init", "payload": {"authorization": authorization}})
        assert await client.closed() == (1013, seconds)


async def test_subscribing_before_the_ack_closes_with_4401(toy: Toy) -> None:
    async with toy.socket(init=False) as client:
        await client.say(subscribe("1", "{ hello }"))
        assert await client.closed() == (4401, "Unauthorized")


async def test_a_second_init_closes_with_4429(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.say({"type": "connection_init"})
        assert await client.closed() == (4429, "Too many initialisation requests")


async def test_a_second_operation_of_the_same_id_closes_with_4409(toy: Toy) -> None:
    for id in ("1", "i" * 200, "é" * 100):
        async with toy.socket() as client:
            await client.say(subscribe(id, "subscription { hang }"))
            await client.say(subscribe(id, "subscription { hang }"))
            code, reason = await client.closed()
        assert code == 4409
        assert reason is not None
        assert len(reason.encode()) <= 123
        assert reason.startswith("Subscriber for ")


async def test_an_id_may_be_used_again_after_its_operation(toy: Toy) -> None:
    async with toy.socket() as client:
        for _ in range(2):
            await client.say(subscribe("1", "{ hello }"))
            assert (await client.hear())["type"] == "next"
            assert (await client.hear())["type"] == "complete"
        await client.say(subscribe("1", "subscription { hang }"))
        await client.hear()
        await client.say({"id": "1", "type": "complete"})
        await client.say(subscribe("1", "{ hello }"))
        assert (await client.hear())["payload"] == {"data": {"hello": "hello you"}}


@pytest.mark.parametrize("subprotocols", [None, ["graphql-ws"], ["wamp"]])
async def test_another_subprotocol_closes_with_4406(toy: Toy, subprotocols: list[str] | None) -> None:
    offered = [Subprotocol(name) for name in subprotocols] if subprotocols else None
    async with toy.socket(init=False, subprotocols=offered) as client:
        assert await client.closed() == (4406, "Subprotocol not acceptable")


async def test_the_own_subprotocol_is_found_among_others(toy: Toy) -> None:
    offered = [Subprotocol("graphql-ws"), Subprotocol("graphql-transport-ws")]
    async with toy.socket(subprotocols=offered) as client:
        assert client.raw.subprotocol == "graphql-transport-ws"


async def test_init_that_does_not_come_closes_with_4408() -> None:
    async with serving(TransportSettings(init_seconds=0.05)) as toy:
        async with toy.socket(init=False) as client:
            assert await client.closed() == (4408, "Connection initialisation timeout")
        async with toy.socket(init=False) as client:
            await client.say({"type": "connection_init", "payload": {"authorization": "Bearer hang"}})
            assert await client.closed() == (4408, "Connection initialisation timeout")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": "subscription {"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "subscription { nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "subscription { count hang }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { hello } query B { hello }"}, "OPERATION_RESOLUTION_FAILURE"),
        ({"query": "subscription A($n: Int!) { count(to: $n) }"}, "BAD_USER_INPUT"),
        ({"query": "subscription { refused }"}, "NOT_SIGNED_IN"),
        ({"query": "{ hello " * 20 + "}" * 20}, "DOCUMENT_TOO_LARGE"),
    ],
)
async def test_a_refused_operation_gets_an_error_and_the_socket_lives_on(
    toy: Toy, payload: dict[str, Any], code: str
) -> None:
    async with toy.socket() as client:
        await client.say({"id": "1", "type": "subscribe", "payload": payload})
        answer = await client.hear()
        assert (answer["type"], answer["id"]) == ("error", "1")
        assert answer["payload"][0]["extensions"]["code"] == code
        await client.say(subscribe("1", "{ hello }"))
        assert (await client.hear())["payload"] == {"data": {"hello": "hello you"}}


async def test_a_source_that_breaks_ends_with_a_masked_error(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.say(subscribe("1", "subscription { breaks }"))
        assert (await client.hear())["payload"] == {"data": {"breaks": 1}}
        answer = await client.hear()
    assert answer["type"] == "error"
    assert answer["payload"][0]["extensions"]["code"] == "INTERNAL"
    assert "hunter2" not in str(answer)


async def test_a_field_that_fails_is_told_beside_the_data(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.say(subscribe("1", "{ boom hello }"))
        answer = await client.hear()
        assert answer["type"] == "next"
        assert answer["payload"]["data"] == {"boom": None, "hello": "hello you"}
        assert (await client.hear())["type"] == "complete"


async def test_a_source_may_close_the_socket(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.say(subscribe("1", "subscription { slow }"))
        assert await client.closed() == (4510, "Slow: resume from your cursor")


async def test_pings_are_answered_with_their_payload(toy: Toy) -> None:
    async with toy.socket(init=False) as client:
        for payload in ({"a": [1, "é", None]}, {}):
            await client.say({"type": "ping", "payload": payload})
            assert await client.hear() == {"type": "pong", "payload": payload}
        await client.say({"type": "ping"})
        assert await client.hear() == {"type": "pong"}
        await client.say({"type": "ping", "payload": None})
        assert await client.hear() == {"type": "pong"}
        await client.say({"type": "pong"})
        await client.say({"type": "pong", "payload": {"unasked": True}})
        await client.say({"type": "complete", "id": "unknown"})
        await client.say({"type": "connection_init"})
        assert (await client.hear())["type"] == "connection_ack"


async def test_the_server_pings_and_lets_go_of_the_silent() -> None:
    async with serving(TransportSettings(ping_seconds=0.1)) as toy, toy.socket() as client:
        assert await client.hear() == {"type": "ping", "payload": {"at": "2026-11-21T12:00:00.000Z"}}
        for _ in range(3):
            await client.say({"type": "pong"})
            assert (await client.hear())["type"] == "ping"
        assert await client.closed() == (4408, "No answer to pings")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:{port}", True),
        ("https://spa.example.com", True),
        ("HTTPS://SPA.example.com", True),
        ("https://evil.example", False),
        ("https://spa.example.com.evil.example", False),
        ("https://spa.example.com:444", False),
        ("http://spa.example.com", False),
        ("http://127.0.0.1:{port}.evil.example", False),
        ("http://127.0.0.1", False),
        ("null", False),
        ("", False),
        ("https://spa.example.com, https://evil.example", False),
    ],
)
async def test_browsers_of_foreign_origins_are_refused_at_the_handshake(
    spa: Toy, origin: str | None, allowed: bool
) -> None:
    headers = {} if origin is None else {"origin": origin.format(port=spa.port)}
    if allowed:
        async with spa.socket(additional_headers=headers):
            return
    with pytest.raises(InvalidStatus) as refused:
        async with spa.socket(additional_headers=headers):
            pass
    assert refused.value.response.status_code == 403


@pytest.fixture(scope="module")
async def spa() -> Any:
    async with serving(TransportSettings(allowed_origins=frozenset({"https://spa.example.com"}))) as running:
        yield running


async def test_completing_ends_the_source_and_its_clean_up(toy: Toy) -> None:
    opened, cleaned = toy.trace.opened, toy.trace.cleaned
    async with toy.socket() as client:
        await client.say(subscribe("1", "subscription { hang }"))
        assert (await client.hear())["type"] == "next"
        await client.say({"id": "1", "type": "complete"})
        await until(lambda: toy.trace.cleaned == cleaned + 1)
        await client.say(subscribe("2", "{ hello }"))
        assert (await client.hear())["id"] == "2"  # nothing more of 1, not even a complete
    assert toy.trace.opened == opened + 1


@pytest.mark.parametrize("how", ["close", "abort", "bad message"])
async def test_no_task_outlives_its_socket(toy: Toy, how: str) -> None:
    await until(lambda: len(toy.connections) == 0)
    before, cleaned = len(asyncio.all_tasks()), toy.trace.cleaned
    async with toy.socket() as client:
        for number in range(20):
            await client.say(subscribe(str(number), "subscription { hang }"))
        for _ in range(20):
            await client.hear()
        assert len(asyncio.all_tasks()) >= before + 20
        match how:
            case "abort":
                client.raw.transport.abort()
            case "bad message":
                await client.say("null")
                assert (await client.closed())[0] == 4400
    await until(lambda: len(toy.connections) == 0)
    await until(lambda: len(asyncio.all_tasks()) <= before)
    assert toy.trace.cleaned == cleaned + 20


async def test_one_socket_runs_so_many_operations_and_no_more() -> None:
    async with serving(TransportSettings(operations_per_socket=2)) as toy, toy.socket() as client:
        for id in ("1", "2"):
            await client.say(subscribe(id, "subscription { hang }"))
            await client.hear()
        await client.say(subscribe("3", "subscription { hang }"))
        answer = await client.hear()
        assert (answer["type"], answer["id"]) == ("error", "3")
        assert answer["payload"][0]["extensions"] == {"code": "LIMIT_REACHED", "params": {"most": 2}}
        await client.say({"id": "1", "type": "complete"})
        await until(lambda: toy.trace.cleaned == 1)
        await client.say(subscribe("3", "{ hello }"))
        assert (await client.hear())["id"] == "3"


async def test_one_principal_holds_so_many_sockets_and_no_more() -> None:
    settings = TransportSettings(connections_per_principal=2, unauthenticated_per_address=1)
    async with serving(settings) as toy, toy.socket("Bearer alice"), toy.socket("Bearer alice"):
        async with toy.socket(init=False) as third:
            await third.say({"type": "connection_init", "payload": {"authorization": "Bearer alice"}})
            assert await third.closed() == (1013, "30")
        async with toy.socket("Bearer bob"), toy.socket(), toy.socket(init=False) as another:
            assert await another.closed() == (1013, "30")
        await until(lambda: len(toy.connections) == 2)
        async with toy.socket():
            assert toy.connections.counts() == {"SOCKET": 3, "STREAM": 0}


async def test_revoking_closes_the_sockets_of_that_credential(toy: Toy) -> None:
    async with toy.socket("Bearer alice") as alices, toy.socket("Bearer bob") as bobs:
        await alices.say(subscribe("1", "subscription { hang }"))
        await alices.hear()
        assert toy.connections.close_credential(ALICES_SESSION, "This session was revoked.") == 1
        assert await alices.closed() == (4403, "This session was revoked.")
        await bobs.say(subscribe("1", "{ hello }"))
        assert (await bobs.hear())["type"] == "next"


async def test_expiry_closes_the_socket_unless_it_was_renewed() -> None:
    async with serving() as toy:
        watching = asyncio.create_task(toy.connections.watch(interval_seconds=0.01))
        async with toy.socket("Bearer alice-for-a-minute") as renewed, toy.socket("Bearer alice-for-a-minute") as left:
            await renewed.say(subscribe("1", "subscription { hang }"))
            await renewed.hear()
            await renewed.say(subscribe("2", "mutation { renew(seconds: 120) }"))
            assert (await renewed.hear())["payload"] == {"data": {"renew": True}}
            assert (await renewed.hear())["type"] == "complete"
            toy.clock.at = NOW + timedelta(seconds=61)
            assert (await left.closed())[0] == 4403
            await renewed.say(subscribe("3", "{ hello }"))
            assert (await renewed.hear())["id"] == "3"
            toy.clock.at = NOW + timedelta(seconds=121)
            assert (await renewed.closed())[0] == 4403
        watching.cancel()


async def test_draining_closes_with_1012_and_takes_no_more() -> None:
    async with serving() as toy, toy.socket() as one, toy.socket("Bearer alice") as two:
        await toy.connections.drain(batch=1, pause_seconds=0)
        assert await one.closed() == (1012, "Service restart")
        assert await two.closed() == (1012, "Service restart")
        assert len(toy.connections) == 0
        async with toy.socket(init=False) as late:
            assert await late.closed() == (1012, "Service restart")


async def test_a_slow_reader_slows_its_own_source_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that takes nothing: its source stops being asked after what buffers hold, and others go on."""
    monkeypatch.setattr(BoundedSocket, "linger_seconds", 0.1)
    settings = TransportSettings(send_seconds=0.5, close_seconds=0.05)
    async with serving(settings) as toy, toy.socket() as other, toy.socket(max_queue=1) as slow:
        slow.raw.transport.pause_reading()
        await slow.say(subscribe("1", "subscription { ticks(to: 100000, bytes: 100000) { text } }"))
        await until(lambda: toy.trace.produced > 1)
        await other.say(subscribe("1", "subscription { count(to: 50) }"))
        assert [(await other.hear())["type"] for _ in range(51)] == ["next"] * 50 + ["complete"]
        await until(lambda: len(toy.connections) == 1)  # cut, since nothing was read for send_seconds
        await until(lambda: len(toy.server.server_state.connections) == 1)
        assert toy.trace.produced < 500
        slow.raw.transport.abort()


async def test_each_event_gets_a_fresh_context(toy: Toy) -> None:
    async with toy.socket() as client:
        await client.say(subscribe("1", "subscription { ticks(to: 3) { number loads } }"))
        heard = [(await client.hear())["payload"]["data"]["ticks"] for _ in range(3)]
    assert heard == [{"number": number, "loads": 1} for number in (1, 2, 3)]


async def test_rapid_start_and_stop_leaves_nothing(toy: Toy) -> None:
    await until(lambda: len(toy.connections) == 0)
    opened = toy.trace.opened - toy.trace.cleaned
    async with toy.socket() as client:
        for number in range(200):
            await client.say(subscribe(str(number % 7), "subscription { hang }"))
            await client.say({"id": str(number % 7), "type": "complete"})
        await client.say(subscribe("last", "{ hello }"))
        await self_named(client, "last")
    await until(lambda: toy.trace.opened - toy.trace.cleaned == opened)


async def self_named(client: Client, id: str) -> None:
    while (await client.hear())["id"] != id:
        pass


async def test_every_close_code_of_the_contract_has_a_name() -> None:
    assert {1012, 1013, 4400, 4401, 4403, 4406, 4408, 4409, 4429, 4510} <= {int(code) for code in CloseCode}
    assert orjson.dumps(int(CloseCode.BUSY)) == b"1013"
