"""The client's requests: whom they show, how a session is renewed, and what answers mean."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from graph.cli import documents
from graph.cli.client import Client, Credential
from graph.cli.errors import ClientError, LimitHit, Missing, NotAllowed, Unreachable, Usage
from graph.cli.session import LOCAL_EMAIL, LocalSession, sign_in_locally

pytestmark = pytest.mark.anyio

URL = "http://api.example"
ENDED = {"errors": [{"message": "It ended.", "extensions": {"code": "UNAUTHENTICATED"}}]}


def session(number: int) -> dict[str, str]:
    return {
        "__typename": "SignedIn",
        "accessToken": f"access-{number}",
        "refreshToken": f"refresh-{number}",
        "expiresAt": "2036-01-31T12:00:00Z",
    }


class Server:
    """Answers each request by its function, and remembers what was shown with it."""

    def __init__(self, answer: Callable[[httpx2.Request, dict[str, Any]], httpx2.Response]) -> None:
        self.answer = answer
        self.shown: list[str | None] = []

    def client(self, credential: Credential | None = None, url: str = URL) -> Client:
        return Client(url, credential, transport=httpx2.MockTransport(self._handle))

    def _handle(self, request: httpx2.Request) -> httpx2.Response:
        self.shown.append(request.headers.get("Authorization"))
        body = request.read()
        return self.answer(request, json.loads(body) if body[:1] == b"{" else {})


def always(status: int, answer: Any) -> Server:
    return Server(lambda request, body: httpx2.Response(status, json=answer))


def only(token: str) -> Server:
    """A server that takes one access token, and knows one refresh token."""

    def answer(request: httpx2.Request, body: dict[str, Any]) -> httpx2.Response:
        if "refreshSession" in body["query"]:
            assert body["variables"] == {"refreshToken": "refresh-1"}
            return httpx2.Response(200, json={"data": {"refreshSession": session(2)}})
        if request.headers.get("Authorization") != f"Bearer {token}":
            return httpx2.Response(401, json=ENDED)
        return httpx2.Response(200, json={"data": {"viewer": {"__typename": "Viewer"}}})

    return Server(answer)


async def test_an_ended_session_is_renewed_once_for_all_who_wait() -> None:
    server = only("access-2")
    async with server.client(Credential.of_session(session(1))) as client:
        answers = await asyncio.gather(*(client.ask(documents.VIEWER) for _ in range(5)))
    assert answers == [{"__typename": "Viewer"}] * 5
    assert server.shown.count(None) == 1


async def test_an_ended_key_is_told() -> None:
    server = only("another")
    async with server.client(Credential("key")) as client:
        with pytest.raises(NotAllowed, match="It ended"):
            await client.ask(documents.VIEWER)
    assert server.shown == ["Bearer key"]


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (200, {"data": {"viewer": None}}, Missing),
        (200, {"errors": [{"message": "No.", "extensions": {"code": "BAD_USER_INPUT"}}]}, ClientError),
        (503, {"errors": [{"message": "Later.", "extensions": {"code": "UNAVAILABLE"}}]}, Unreachable),
        (429, {"code": "TOO_MANY_CONNECTIONS", "message": "Later."}, LimitHit),
        (502, "a proxy's page", Unreachable),
        (404, "a page of somebody else", Missing),
        (200, ["no", "object"], ClientError),
    ],
)
async def test_an_answer_that_is_none_is_an_error(status: int, answer: Any, error: type[ClientError]) -> None:
    async with always(status, answer).client(Credential("key")) as client:
        with pytest.raises(ClientError) as caught:
            await client.ask(documents.VIEWER)
    assert type(caught.value) is error


async def test_an_upload_streams_and_tells_how_far_it_is(tmp_path: Path) -> None:
    file = tmp_path / "data.csv"
    file.write_bytes(b"x" * 600_000)
    steps: list[int] = []
    received: list[tuple[str, str, int]] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        received.append((request.method, request.url.raw_path.decode(), len(await request.aread())))
        return httpx2.Response(200, json={})

    client = Client(URL, Credential("key"), transport=httpx2.MockTransport(answer))
    async with client:
        await client.upload("RGF0YXNldDox/=", file, on_progress=steps.append)
    assert received == [("PUT", "/datasets/RGF0YXNldDox%2F%3D/content", 600_000)]
    assert steps == [262_144, 524_288, 600_000]


async def test_a_served_model_is_shown_no_credential() -> None:
    server = always(200, {"predictions": [1]})
    async with server.client(Credential("key")) as client:
        assert await client.post_json("http://apps.example/apps/x/predict", {"rows": []}) == {"predictions": [1]}
    assert server.shown == [None]


@pytest.mark.parametrize("url", ["ftp://example", "example.com", ""])
def test_what_is_no_address_is_usage(url: str) -> None:
    with pytest.raises(Usage):
        Client(url)


def test_the_endpoint_itself_is_an_address_too() -> None:
    client = Client("https://api.example/graphql")
    assert (client.graphql_url, client.socket_url) == ("https://api.example/graphql", "wss://api.example/graphql")


def test_a_credential_does_not_show_itself() -> None:
    assert repr(Credential("rwk_secret")) == "Credential(•••)"
    assert "rwk_secret" not in repr(LocalSession(URL, "rwk_secret"))


async def test_the_local_user_is_made_once_and_keeps_its_key(tmp_path: Path) -> None:
    passwords: list[str] = []

    def answer(request: httpx2.Request, body: dict[str, Any]) -> httpx2.Response:
        operation = body["query"].split()[1].partition("(")[0]
        match operation:
            case "SignIn":
                refusal = {"__typename": "Forbidden", "code": "SIGN_IN_REFUSED", "message": "No."}
                return httpx2.Response(200, json={"data": {"signIn": refusal}})
            case "SignUp":
                assert body["variables"]["input"]["email"] == LOCAL_EMAIL
                passwords.append(body["variables"]["input"]["password"])
                return httpx2.Response(200, json={"data": {"signUp": session(1)}})
            case "CreateApiKey":
                made = {"__typename": "CreatedApiKey", "token": "rwk_made"}
                return httpx2.Response(200, json={"data": {"createApiKey": made}})
        if request.headers["Authorization"] != "Bearer rwk_made":
            return httpx2.Response(401, json=ENDED)
        return httpx2.Response(200, json={"data": {"viewer": {"__typename": "Viewer"}}})

    def connect(url: str, credential: Credential | None = None) -> Client:
        return server.client(credential, url)

    server = Server(answer)
    LocalSession("http://127.0.0.1:9", "rwk_of_an_older_database").write(tmp_path)
    first = await sign_in_locally(URL, tmp_path, connect)
    again = await sign_in_locally("http://127.0.0.1:8001", tmp_path, connect)
    assert (first, again) == (LocalSession(URL, "rwk_made"), LocalSession("http://127.0.0.1:8001", "rwk_made"))
    assert LocalSession.read(tmp_path) == again
    assert passwords == [(tmp_path / "local_password").read_text()]
    assert (tmp_path / "local_password").stat().st_mode & 0o777 == 0o600
