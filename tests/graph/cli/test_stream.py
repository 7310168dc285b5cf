"""The client's stream: whatever happens to its sockets, each message comes once and in order, or the end is told."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2
import pytest

from graph.cli import documents
from graph.cli.client import Client, Credential
from graph.cli.errors import BrokenStream, ClientError, Missing, NotAllowed, Unreachable
from graph.cli.stream import Drop, Pace, Stream
from tests.graph.cli.scripted import Script, ScriptedApi, Visit, message

pytestmark = pytest.mark.anyio

LAST = 6
QUICK = Pace(first=0.001, longest=0.01, patience=2.0)


def begun(visit: Visit) -> int:
    """The number of the first message after the visitor's cursor."""
    return 1 if visit.after is None else int(visit.after.removeprefix("c")) + 1


def whole_run(*, per_socket: int, end: Script) -> Script:
    """Messages 1 to 6, of which each socket gets so many before `end` is played on it."""

    async def script(visit: Visit) -> None:
        first = begun(visit)
        for seq in range(first, LAST + 1):
            if seq - first >= per_socket:
                return await end(visit)
            await visit.tell(message(seq, kind="Snapshot" if seq == 1 else "RunProgressed"))
        await visit.complete()

    return script


async def collect(
    api: ScriptedApi, *, token: str = "key", after: str | None = None, pace: Pace = QUICK
) -> tuple[list[dict[str, Any]], list[Drop]]:
    drops: list[Drop] = []
    async with Client(api.url, Credential(token)) as client:
        stream = Stream(client, documents.FOLLOW_RUN, {"id": "run"}, after=after, on_drop=drops.append, pace=pace)
        return [found async for found in stream.messages()], drops


def numbers(messages: list[dict[str, Any]]) -> list[int]:
    return [found["seq"] for found in messages]


async def close_with(code: int, reason: str) -> Script:
    async def end(visit: Visit) -> None:
        await visit.socket.close(code, reason)

    return end


@pytest.mark.parametrize("code", [1000, 1001, 1011, 1012, 4408, 4510])
async def test_is_resumed_from_its_cursor_after_every_message(code: int) -> None:
    end = await close_with(code, "come back")
    async with ScriptedApi.play(whole_run(per_socket=1, end=end)) as api:
        messages, drops = await collect(api)
    assert numbers(messages) == [1, 2, 3, 4, 5, 6]
    assert [visit.after for visit in api.visits] == [None, "c1", "c2", "c3", "c4", "c5"]
    assert [drop.cursor for drop in drops] == ["c1", "c2", "c3", "c4", "c5"]
    assert drops[0].reason == f"closed with {code}: come back"


async def test_is_resumed_when_the_server_dies_without_a_word() -> None:
    async with ScriptedApi.play(whole_run(per_socket=2, end=Visit.cut)) as api:
        messages, drops = await collect(api)
    assert numbers(messages) == [1, 2, 3, 4, 5, 6]
    assert "1006" in drops[0].reason


async def test_is_resumed_when_the_handshake_is_refused_for_a_while() -> None:
    async with ScriptedApi.play(whole_run(per_socket=LAST, end=Visit.cut)) as api:
        api.refuse_handshake = [503, 502, 429]
        messages, drops = await collect(api)
    assert numbers(messages) == [1, 2, 3, 4, 5, 6]
    assert [drop.reason for drop in drops] == [f"HTTP {status} while connecting" for status in (503, 502, 429)]


async def test_begins_behind_a_cursor_that_was_kept() -> None:
    async with ScriptedApi.play(whole_run(per_socket=LAST, end=Visit.cut)) as api:
        messages, _ = await collect(api, after="c4")
    assert numbers(messages) == [5, 6]


async def test_waits_as_long_as_a_busy_server_asks() -> None:
    end = await close_with(1013, "1")
    async with ScriptedApi.play(whole_run(per_socket=5, end=end)) as api:
        messages, drops = await collect(api)
    assert numbers(messages) == [1, 2, 3, 4, 5, 6]
    assert 1.0 <= drops[0].wait_seconds <= 1.01


async def test_drops_what_it_has_seen_already() -> None:
    async def script(visit: Visit) -> None:
        for event in (message(1, kind="Snapshot"), message(2), message(2), message(1), message(3)):
            await visit.tell(event)
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, drops = await collect(api)
    assert (numbers(messages), drops) == ([1, 2, 3], [])


async def test_takes_a_merged_message_for_all_that_it_stands_for() -> None:
    async def script(visit: Visit) -> None:
        for event in (message(1, kind="Snapshot"), message(5, first=2), message(6)):
            await visit.tell(event)
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, drops = await collect(api)
    assert (numbers(messages), drops) == ([1, 5, 6], [])


async def test_cures_a_hole_by_resuming() -> None:
    async def script(visit: Visit) -> None:
        first = begun(visit)
        for seq in range(first, LAST + 1):
            if visit.after is None and seq == 3:
                continue
            await visit.tell(message(seq))
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, drops = await collect(api)
    assert numbers(messages) == [1, 2, 3, 4, 5, 6]
    assert [(drop.reason, drop.cursor) for drop in drops] == [("Message 3 is missing before 4", "c2")]


async def test_of_a_server_that_leaves_the_hole_open_is_broken() -> None:
    async def script(visit: Visit) -> None:
        await visit.tell(message(1 if visit.after is None else 5))
        await visit.tell(message(5))
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        with pytest.raises(BrokenStream, match="Message 2 is missing before 5, also after the stream was resumed"):
            await collect(api)


async def test_goes_on_from_a_gap() -> None:
    async def script(visit: Visit) -> None:
        if visit.after is None:
            await visit.tell(message(2, kind="Snapshot"))
            return await visit.cut()
        await visit.tell(message(9, kind="Gap", first=3, **{"from": 3, "to": 8}))
        await visit.tell(message(10))
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, _ = await collect(api)
    assert [(found["__typename"], found["seq"]) for found in messages] == [
        ("Snapshot", 2),
        ("Gap", 9),
        ("RunProgressed", 10),
    ]


async def test_answers_the_servers_pings() -> None:
    answers: list[dict[str, Any]] = []

    async def script(visit: Visit) -> None:
        await visit.send("ping", {"at": "2026-01-31T12:00:00Z"}, id=None)
        answers.append(await visit.receive())
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        await collect(api)
    assert answers == [{"type": "pong", "payload": {"at": "2026-01-31T12:00:00Z"}}]


async def test_with_a_refused_key_ends() -> None:
    async with ScriptedApi.play(whole_run(per_socket=LAST, end=Visit.cut)) as api:
        api.refuse_init = lambda authorization: (4403, "The key was revoked.")
        with pytest.raises(NotAllowed, match="The key was revoked"):
            await collect(api)
    assert len(api.visits) == 1


@pytest.mark.parametrize("code", [4400, 4401, 4406, 4409, 4429])
async def test_that_speaks_wrongly_ends(code: int) -> None:
    end = await close_with(code, "what?")
    async with ScriptedApi.play(whole_run(per_socket=1, end=end)) as api:
        with pytest.raises(BrokenStream, match=f"{code}: what"):
            await collect(api)
    assert len(api.visits) == 1


@pytest.mark.parametrize(
    ("code", "error"), [("NOT_FOUND", Missing), ("SCOPE_MISSING", NotAllowed), ("BAD_CURSOR", ClientError)]
)
async def test_of_a_refused_subscription_ends(code: str, error: type[ClientError]) -> None:
    async def script(visit: Visit) -> None:
        await visit.send("error", [{"message": "No.", "extensions": {"code": code}}])
        await visit.socket.wait_closed()

    async with ScriptedApi.play(script) as api:
        with pytest.raises(error) as caught:
            await collect(api)
    assert (type(caught.value), caught.value.code, caught.value.message) == (error, code, "No.")


async def test_tries_again_when_the_database_is_away() -> None:
    async def script(visit: Visit) -> None:
        if len(api.visits) < 3:
            return await visit.send("error", [{"message": "Later.", "extensions": {"code": "UNAVAILABLE"}}])
        await visit.tell(message(1, kind="Snapshot"))
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, drops = await collect(api)
    assert numbers(messages) == [1]
    assert [drop.reason for drop in drops] == ["Later.", "Later."]


async def test_loses_patience_with_an_address_where_nobody_is() -> None:
    async with ScriptedApi.play(whole_run(per_socket=1, end=Visit.cut)) as api:
        url = api.url
    async with Client(url, Credential("key")) as client:
        stream = Stream(client, documents.FOLLOW_RUN, {"id": "run"}, pace=Pace(0.001, 0.01, patience=0.1))
        with pytest.raises(Unreachable, match="does not come back"):
            await anext(stream.messages())


async def test_is_patient_with_who_accepts_it_and_has_nothing_to_tell() -> None:
    """As when APIs are restarted again and again while a run waits: each of them is somebody who answers."""
    visits = 0

    async def script(visit: Visit) -> None:
        nonlocal visits
        visits += 1
        if visits == 1:
            await visit.tell(message(1, kind="Snapshot"))
        if visits < 6:
            await anyio.sleep(0.03)
            return await visit.cut()
        await visit.tell(message(2))
        await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, drops = await collect(api, pace=Pace(0.001, 0.01, patience=0.1))
    assert numbers(messages) == [1, 2]
    assert len(drops) == 5


async def test_that_its_reader_leaves_closes_the_socket() -> None:
    left: list[bool] = []

    async def script(visit: Visit) -> None:
        await visit.tell(message(1, kind="Snapshot"))
        await visit.socket.wait_closed()
        left.append(True)

    async with ScriptedApi.play(script) as api, Client(api.url, Credential("key")) as client:
        stream = Stream(client, documents.FOLLOW_RUN, {"id": "run"}, pace=QUICK).messages()
        assert (await anext(stream))["seq"] == 1
        await stream.aclose()
    assert left == [True]


async def test_of_a_silent_server_is_resumed() -> None:
    async def script(visit: Visit) -> None:
        await visit.tell(message(begun(visit)))
        if visit.after is None:
            await visit.socket.wait_closed()
        else:
            await visit.complete()

    async with ScriptedApi.play(script) as api:
        messages, drops = await collect(api, pace=Pace(0.001, 0.01, patience=2, silence=0.1))
    assert numbers(messages) == [1, 2]
    assert [drop.reason for drop in drops] == ["Nothing was heard for 0.1 seconds"]


class Sessions(httpx2.AsyncBaseTransport):
    """The HTTP side of a server that gives out a new pair of tokens for each refresh token, once."""

    def __init__(self, *, life_seconds: float) -> None:
        self.life_seconds = life_seconds
        self.used: list[str] = []

    def session(self, number: int) -> dict[str, Any]:
        expires_at = datetime.now(UTC) + timedelta(seconds=self.life_seconds)
        return {
            "__typename": "Session",
            "accessToken": f"access-{number}",
            "refreshToken": f"refresh-{number}",
            "expiresAt": expires_at.isoformat(),
        }

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = json.loads(await request.aread())
        self.used.append(body["variables"]["refreshToken"])
        assert "Authorization" not in request.headers
        return httpx2.Response(200, json={"data": {"refreshSession": self.session(len(self.used) + 1)}})


async def test_of_an_expired_token_is_resumed_with_a_new_one() -> None:
    end = await close_with(4403, "The credential has expired: come back with a new one.")
    sessions = Sessions(life_seconds=900)
    async with ScriptedApi.play(whole_run(per_socket=4, end=end)) as api:
        credential = Credential.of_session(sessions.session(1))
        async with Client(api.url, credential, transport=sessions) as client:
            stream = Stream(client, documents.FOLLOW_RUN, {"id": "run"}, pace=QUICK)
            messages = [found async for found in stream.messages()]
    assert numbers(messages) == [1, 2, 3, 4, 5, 6]
    assert [(visit.authorization, visit.after) for visit in api.visits] == [
        ("Bearer access-1", None),
        ("Bearer access-2", "c4"),
    ]
    assert sessions.used == ["refresh-1"]


async def test_whose_new_token_is_refused_too_ends() -> None:
    sessions = Sessions(life_seconds=900)
    async with ScriptedApi.play(whole_run(per_socket=LAST, end=Visit.cut)) as api:
        api.refuse_init = lambda authorization: (4403, "The account was closed.")
        async with Client(api.url, Credential.of_session(sessions.session(1)), transport=sessions) as client:
            stream = Stream(client, documents.FOLLOW_RUN, {"id": "run"}, pace=QUICK)
            with pytest.raises(NotAllowed, match="The account was closed"):
                await anext(stream.messages())
    assert sessions.used == ["refresh-1"]


async def test_shows_a_new_token_on_the_same_socket_before_the_old_one_ends() -> None:
    shown: list[dict[str, Any]] = []

    async def script(visit: Visit) -> None:
        await visit.tell(message(1, kind="Snapshot"))
        renewal = await visit.receive()
        shown.append(renewal["payload"]["variables"])
        await visit.send("next", {"data": {"renewConnection": {"__typename": "Session"}}}, id=renewal["id"])
        await visit.send("complete", id=renewal["id"])
        await visit.tell(message(2))
        await visit.complete()

    sessions = Sessions(life_seconds=1.5)
    async with ScriptedApi.play(script) as api:
        credential = Credential.of_session(sessions.session(1))
        sessions.life_seconds = 900
        async with Client(api.url, credential, transport=sessions) as client:
            stream = Stream(client, documents.FOLLOW_RUN, {"id": "run"}, pace=QUICK)
            messages = [found async for found in stream.messages()]
    assert numbers(messages) == [1, 2]
    assert shown == [{"accessToken": "access-2"}]
    assert len(api.visits) == 1
