"""The reverse proxy at `/apps/{slug}/…`, over real sockets on both of its sides."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from db.settings import Settings
from db.unit_of_work import Database
from domain.account.tokens import Tokens, TokenType
from domain.clock import FixedClock
from domain.commands import CheckDeployment
from domain.deployment.address import DEPLOYMENT_HEADER, proof_subject
from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus
from domain.training.status import RunStatus
from domain.viewer import Scope, Viewer
from graph.routes.apps import AppProxy
from tests.domain.deployment.support import SLUG, app_row, deployment_row, make_app, make_deployment
from tests.factories import make_api_key, make_run, make_user
from tests.fakes import Told
from tests.graph.routes.front import Asked, Door, SomeApp, free_socket, serving_apps, some_app

pytestmark = pytest.mark.anyio

UNKNOWN = "zzzzzzzzzzzzzzzz"
OWN = ("x-content-type-options", "referrer-policy", "content-security-policy")


@dataclass
class World:
    """An app that is served, and everything around it."""

    door: Door
    app: SomeApp
    row: App
    deployment: Deployment
    owner: Viewer
    client: httpx2.AsyncClient

    def url(self, path: str = "") -> str:
        return f"{self.door.url}/apps/{SLUG}/{path}"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"app_body_limit_bytes": 1000})


@pytest.fixture
async def world(settings: Settings, database: Database) -> AsyncIterator[World]:
    async with some_app() as app, serving_apps(settings, database) as door:
        owner = await make_user(database)
        run = await make_run(database, owner, status=RunStatus.READY)
        row = await make_app(database, owner, run=run)
        deployment = await make_deployment(database, owner, row, run, port=app.port)
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as client:
            yield World(door, app, row, deployment, owner, client)


async def change(database: Database, owner: Viewer, row: App | Deployment, **facts: Any) -> None:
    async with database.begin(owner) as work:
        found = await work.session.get_one(type(row), row.id)
        for name, value in facts.items():
            setattr(found, name, value)


async def test_request_and_answer_pass_through(world: World) -> None:
    answer = await world.client.request(
        "PATCH", world.url("a%2Fb/c;d?x=%20&y"), content=b"body", headers={"X-Mine": "1"}
    )

    assert (answer.status_code, answer.text) == (200, "hello")
    (asked,) = world.app.asked
    assert (asked.method, asked.target, asked.body) == ("PATCH", "/a%2Fb/c;d?x=%20&y", b"body")
    assert asked.header("x-mine") == "1"
    assert asked.header("host") == f"127.0.0.1:{world.app.port}"
    assert asked.header("x-forwarded-prefix") == f"/apps/{SLUG}"


async def test_app_never_sees_who_asks(world: World, database: Database) -> None:
    _, key = await make_api_key(database, world.owner)

    await world.client.get(
        world.url("?access_token=secret&a=1"),
        headers={
            "Authorization": f"Bearer {key.reveal()}",
            "Cookie": "session=secret",
            "X-Api-Key": "secret",
            "Referer": "https://example.com/?access_token=secret",
            "Proxy-Authorization": "Basic secret",
        },
    )

    (asked,) = world.app.asked
    assert "secret" not in str(asked) and key.reveal() not in str(asked)
    assert asked.target == "/?a=1"


async def test_caller_gets_nothing_that_would_stay_in_a_browser(world: World) -> None:
    world.app.head += "Set-Cookie: a=b\r\nX-Frame-Options: DENY\r\nClear-Site-Data: *\r\nX-Mine: 1\r\n"

    answer = await world.client.get(world.url())

    assert not {"set-cookie", "x-frame-options", "clear-site-data"} & set(answer.headers)
    assert answer.headers["x-mine"] == "1"
    assert answer.headers["content-security-policy"] == "sandbox allow-scripts allow-forms"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


async def test_head_and_compressed_bodies_are_left_as_they_are(world: World) -> None:
    world.app.head += "Content-Encoding: gzip\r\n"
    world.app.body = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00"

    assert (await world.client.get(world.url())).text == "hello"
    assert (await world.client.head(world.url())).headers["content-length"] == str(len(world.app.body))


async def test_nothing_is_asked_of_the_app_that_the_caller_did_not_ask(world: World) -> None:
    request = httpx2.Request("GET", world.url(), headers={"Host": "x"})
    await world.client.send(request)

    assert {name for name, _ in world.app.asked[0].headers} == {
        "host",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x-forwarded-prefix",
    }


async def test_slash_is_added(world: World) -> None:
    answer = await world.client.get(f"{world.door.url}/apps/{SLUG}?a=1")

    assert (answer.status_code, answer.headers["location"]) == (308, f"/apps/{SLUG}/?a=1")
    assert world.app.asked == []


async def test_unknown_address_is_not_found(world: World) -> None:
    for path in (
        f"/apps/{UNKNOWN}/",
        "/apps/",
        "/apps/short/",
        f"/apps/{SLUG.upper()}/",
        f"/apps/{SLUG}a/",
        f"/apps/%61{SLUG[1:]}/",
        f"/apps/..%2Fapps%2F{SLUG}/",
    ):
        answer = await world.client.get(world.door.url + path)

        assert (answer.status_code, answer.json()["code"]) == (404, "NOT_FOUND"), path
        assert all(name in answer.headers for name in OWN), path
    assert world.app.asked == []


async def test_private_app_does_not_exist_for_others(
    world: World, database: Database, settings: Settings, clock: FixedClock
) -> None:
    other = await make_user(database)
    _, weak = await make_api_key(database, world.owner, scopes=frozenset({Scope.RUNS_READ}))
    tokens = Tokens(settings.signing_keys(), clock)
    assert world.owner.user_id and world.owner.credential_id and world.owner.expires_at
    stream = tokens.sign(
        TokenType.STREAM,
        user_id=world.owner.user_id,
        credential_id=world.owner.credential_id,
        expires_at=world.owner.expires_at,
    )
    elsewhere = tokens.app_token(UNKNOWN)
    unknown = await world.client.get(f"{world.door.url}/apps/{UNKNOWN}/")
    await change(database, world.owner, world.row, access=AppAccess.PRIVATE)

    for credential in (
        None,
        access_token(settings, clock, other),
        weak.reveal(),
        stream.reveal(),
        elsewhere.reveal(),
        "nonsense",
    ):
        headers = {"Authorization": f"Bearer {credential}"} if credential else {}
        for path in ("", "predict", "?access_token=nonsense"):
            answer = await world.client.get(world.url(path), headers=headers)
            assert (answer.status_code, answer.content) == (404, unknown.content)
            assert _own(answer) == _own(unknown)
    assert world.app.asked == []


async def test_private_app_opens_for_its_owner(
    world: World, database: Database, settings: Settings, clock: FixedClock
) -> None:
    _, key = await make_api_key(database, world.owner, scopes=frozenset({Scope.MODELS_READ}))
    app_token = Tokens(settings.signing_keys(), clock).app_token(SLUG).reveal()
    await change(database, world.owner, world.row, access=AppAccess.PRIVATE)

    for credential in (access_token(settings, clock, world.owner), key.reveal(), app_token):
        by_header = await world.client.get(world.url(), headers={"Authorization": f"bearer {credential}"})
        assert by_header.status_code == 200
        assert by_header.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in by_header.headers
    assert all(asked.header("authorization") is None and asked.target == "/" for asked in world.app.asked)


async def test_address_opens_a_private_app_for_a_token_of_that_app_only(
    world: World, database: Database, settings: Settings, clock: FixedClock
) -> None:
    _, key = await make_api_key(database, world.owner, scopes=frozenset({Scope.MODELS_READ}))
    app_token = Tokens(settings.signing_keys(), clock).app_token(SLUG).reveal()
    await change(database, world.owner, world.row, access=AppAccess.PRIVATE)

    for credential, status in (
        (access_token(settings, clock, world.owner), 404),  # the page could read it from its address
        (key.reveal(), 404),
        (app_token, 200),
    ):
        answer = await world.client.get(world.url(f"?access_token={credential}"))
        assert answer.status_code == status
    assert [asked.target for asked in world.app.asked] == ["/"]


async def test_bodies_that_do_not_come_make_room_for_others(world: World) -> None:
    world.door.proxy.body_seconds = 0.2
    address = urlsplit(world.door.url)

    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(f"POST /apps/{SLUG}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nslow".encode())
    async with asyncio.timeout(5):
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readuntil(b"}")
    writer.close()

    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"APP_REQUEST_TOO_SLOW" in body
    assert not world.door.proxy.busy


async def test_app_that_does_not_answer_says_why(world: World, database: Database) -> None:
    for status, code, answer_status, retry_after in (
        (DeploymentStatus.STARTING, "APP_WAKING", 503, "3"),
        (DeploymentStatus.WAKING, "APP_WAKING", 503, "3"),
        (DeploymentStatus.STOPPED, "APP_STOPPED", 410, None),
        (DeploymentStatus.FAILED, "APP_FAILED", 503, None),
    ):
        await change(database, world.owner, world.deployment, status=status)

        plain = await world.client.get(world.url())
        page = await world.client.get(world.url(), headers={"Accept": "text/html", "Accept-Language": "pt-BR"})

        assert (plain.status_code, plain.json()["code"]) == (answer_status, code)
        assert plain.headers.get("retry-after") == retry_after
        assert (page.status_code, page.headers["content-type"]) == (answer_status, "text/html; charset=utf-8")
        assert 'lang="pt-BR"' in page.text and "aplicativo" in page.text
        assert ('http-equiv="refresh"' in page.text) is (retry_after is not None)
        assert page.headers["content-security-policy"].startswith("sandbox")
    assert world.app.asked == []


async def test_app_without_a_deployment_is_on_its_way(world: World, database: Database) -> None:
    await change(database, world.owner, world.row, current_deployment_id=None)

    assert (await world.client.get(world.url())).json()["code"] == "APP_WAKING"


async def test_app_whose_process_has_gone_is_woken(
    world: World, database: Database, worker_database: Database, told: Told
) -> None:
    with _free_port() as port:
        await change(database, world.owner, world.deployment, port=port)

    first = await world.client.get(world.url())
    second = await world.client.get(world.url())

    assert [(answer.status_code, answer.json()["code"]) for answer in (first, second)] == [(503, "APP_WAKING")] * 2
    assert (await deployment_row(worker_database, world.deployment)).status is DeploymentStatus.WAKING
    assert told.types() == ["deployment.changed"]
    assert told.commands == [CheckDeployment(world.deployment.id)]


async def test_another_app_at_the_port_is_not_passed_on(
    world: World, database: Database, worker_database: Database
) -> None:
    world.app.head += f"X-Runwire-Run: {world.deployment.run_id}\r\n"
    ours = await world.client.get(world.url())
    world.app.head = world.app.head.replace(str(world.deployment.run_id), str(world.row.id))
    others = await world.client.get(world.url())

    assert (ours.text, "x-runwire-run" in ours.headers) == ("hello", False)
    assert (others.status_code, others.json()["code"]) == (503, "APP_WAKING")
    assert (await deployment_row(worker_database, world.deployment)).status is DeploymentStatus.WAKING


async def test_proof_reaches_a_deployment_that_nobody_else_is_sent_to(
    world: World, database: Database, settings: Settings, clock: FixedClock
) -> None:
    async with some_app(body=b"new") as fresh:
        run = await make_run(database, world.owner, status=RunStatus.DEPLOYING)
        starting = await make_deployment(
            database,
            world.owner,
            world.row,
            run,
            status=DeploymentStatus.STARTING,
            is_current=False,
            host="127.0.0.1",
            port=fresh.port,
        )
        tokens = Tokens(settings.signing_keys(), clock)
        token = tokens.app_token(proof_subject(SLUG, starting.id)).reveal()
        named = {DEPLOYMENT_HEADER: str(starting.id)}

        proof = await world.client.get(world.url(), headers={"Authorization": f"Bearer {token}", **named})
        unsigned = await world.client.get(world.url(), headers=named)
        for_another = await world.client.get(
            world.url(), headers={"Authorization": f"Bearer {tokens.app_token(SLUG).reveal()}", **named}
        )

    assert (proof.text, unsigned.text, for_another.text) == ("new", "hello", "hello")
    assert fresh.asked[0].header("authorization") is None
    assert fresh.asked[0].header(DEPLOYMENT_HEADER.lower()) is None


async def test_proof_that_finds_nobody_wakes_nothing(
    world: World, database: Database, settings: Settings, clock: FixedClock, told: Told
) -> None:
    with _free_port() as port:
        await change(database, world.owner, world.deployment, port=port)
    token = Tokens(settings.signing_keys(), clock).app_token(proof_subject(SLUG, world.deployment.id)).reveal()

    answer = await world.client.get(
        world.url(), headers={"Authorization": f"Bearer {token}", DEPLOYMENT_HEADER: str(world.deployment.id)}
    )

    assert (answer.status_code, answer.json()["code"]) == (503, "APP_WAKING")
    assert (told.events, told.commands) == ([], [])


async def test_address_of_another_machine_is_not_followed(
    world: World, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for host in ("192.0.2.1", "169.254.169.254", "10.0.0.1", "0.0.0.0", "::ffff:10.0.0.1", "localhost"):
        await change(database, world.owner, world.deployment, host=host)

        with caplog.at_level(logging.CRITICAL):
            answer = await world.client.get(world.url())

        assert (answer.status_code, answer.json()["code"]) == (503, "APP_FAILED"), host


async def test_body_over_the_limit_is_refused(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b"x" * 100

    announced = await world.client.post(world.url("predict"), content=b"x" * 1001)
    in_chunks = await world.client.post(world.url("predict"), content=chunks())
    just_right = await world.client.post(world.url("predict"), content=b"x" * 1000)

    assert [(answer.status_code, answer.json()["code"]) for answer in (announced, in_chunks)] == [
        (413, "APP_REQUEST_TOO_LARGE")
    ] * 2
    assert just_right.status_code == 200
    assert [asked.body for asked in world.app.asked] == [b"x" * 1000]


async def test_body_in_chunks_passes_through(world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    await world.client.post(world.url("predict"), content=chunks())

    (asked,) = world.app.asked
    assert (asked.body, asked.header("transfer-encoding"), asked.header("content-length")) == (
        b"one two",
        "chunked",
        None,
    )


async def test_answer_is_streamed_and_ends_with_its_caller(world: World) -> None:
    async def endless(_: Asked, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"5\r\ntick\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    world.app.answer = endless
    async with world.client.stream("GET", world.url()) as answer:
        async for chunk in answer.aiter_bytes():
            assert chunk.startswith(b"tick\n")
            break

    async with asyncio.timeout(5):
        await world.app.gone.wait()


async def test_app_that_gives_no_answer_is_said_to_be_silent(world: World) -> None:
    said = b""

    async def odd(_: Asked, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        await writer.drain()

    world.app.answer = odd
    for said in (
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
    ):
        answer = await world.client.get(world.url())

        assert (answer.status_code, answer.json()["code"]) == (502, "APP_SILENT"), said


async def test_answer_that_breaks_off_breaks_off_for_the_caller(world: World) -> None:
    async def half(_: Asked, __: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        await writer.drain()

    world.app.answer = half

    with pytest.raises(httpx2.RemoteProtocolError):
        await world.client.get(world.url())


async def test_preflight_of_a_public_app_is_answered_here(world: World) -> None:
    answer = await world.client.options(
        world.url("predict"), headers={"Origin": "null", "Access-Control-Request-Method": "POST"}
    )

    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == "*"
    assert world.app.asked == []


async def test_sockets_are_refused_in_words(world: World) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(f"ws{world.url('live').removeprefix('http')}"):
            pass

    assert refused.value.response.status_code == 400
    assert b"APP_HAS_NO_SOCKETS" in (refused.value.response.body or b"")


async def test_one_app_leaves_room_for_others(world: World) -> None:
    world.door.proxy.busy[world.row.id] = 64

    answer = await world.client.get(world.url())

    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "APP_BUSY", "1")
    world.door.proxy.busy.clear()
    await world.client.get(world.url())
    assert not world.door.proxy.busy


async def test_what_is_known_of_an_app_is_remembered_for_a_second_only(
    world: World, database: Database, worker_database: Database
) -> None:
    remembering = AppProxy(world.door.proxy.services, remembered_seconds=60)
    before = await remembering._find(SLUG)
    await change(database, world.owner, world.row, access=AppAccess.PRIVATE)

    assert before is not None
    assert await remembering._find(SLUG) == before
    assert await world.door.proxy._find(SLUG) == replace(before, access=AppAccess.PRIVATE)
    assert (await app_row(worker_database, world.row)).access is AppAccess.PRIVATE
    await remembering.close()


async def test_apps_and_api_keep_to_their_own_hosts(settings: Settings, database: Database) -> None:
    apart = settings.model_copy(update={"public_url": "http://api.test:9000", "apps_url": "http://apps.test:9000"})
    async with some_app() as app, serving_apps(apart, database) as door:
        owner = await make_user(database)
        run = await make_run(database, owner, status=RunStatus.READY)
        await make_deployment(database, owner, await make_app(database, owner, run=run), run, port=app.port)
        async with httpx2.AsyncClient(base_url=door.url, trust_env=False) as client:
            seen = {
                (host, path): (await client.get(path, headers={"Host": host})).status_code
                for host in ("api.test:9000", "apps.test:9000", "apps.test", "other.test")
                for path in ("/graphql", f"/apps/{SLUG}/")
            }
            page = await client.get(f"/apps/{SLUG}/", headers={"Host": "apps.test:9000"})
            sent_on = await client.get(f"/apps/{SLUG}/", headers={"Host": "api.test:9000"})
            refused = await client.post(f"/apps/{SLUG}/predict", headers={"Host": "api.test:9000"})
            no_app = await client.get("/apps/eyJhbGciOiJI.no.app/", headers={"Host": "api.test:9000"})

    assert seen == {
        ("api.test:9000", "/graphql"): 200,
        ("api.test:9000", f"/apps/{SLUG}/"): 307,
        ("apps.test:9000", "/graphql"): 421,
        ("apps.test:9000", f"/apps/{SLUG}/"): 200,
        ("apps.test", "/graphql"): 421,
        ("apps.test", f"/apps/{SLUG}/"): 200,
        ("other.test", "/graphql"): 200,
        ("other.test", f"/apps/{SLUG}/"): 307,
    }
    assert sent_on.headers["location"] == f"http://apps.test:9000/apps/{SLUG}/"
    assert (refused.status_code, refused.json()["code"]) == (421, "WRONG_ORIGIN")
    assert no_app.status_code == 404 and "eyJhbGciOiJI" not in no_app.text + str(no_app.headers)
    assert "content-security-policy" not in page.headers


async def test_on_one_machine_the_api_answers_at_both_names_and_its_pages_at_one(
    settings: Settings, database: Database
) -> None:
    apart = settings.model_copy(update={"public_url": "http://127.0.0.1:9000", "apps_url": "http://localhost:9000"})
    async with (
        serving_apps(apart, database) as door,
        httpx2.AsyncClient(base_url=door.url, trust_env=False, headers={"Host": "localhost:9000"}) as client,
    ):
        api = await client.get("/graphql")
        page = await client.get("/playground")
    assert api.status_code == 200
    assert (page.status_code, page.headers["location"]) == (307, "http://127.0.0.1:9000/playground")


def access_token(settings: Settings, clock: FixedClock, viewer: Viewer) -> str:
    """The token of a user who is signed in."""
    assert viewer.user_id and viewer.credential_id and viewer.expires_at
    tokens = Tokens(settings.signing_keys(), clock)
    return tokens.sign(
        TokenType.ACCESS, user_id=viewer.user_id, credential_id=viewer.credential_id, expires_at=viewer.expires_at
    ).reveal()


@contextmanager
def _free_port() -> Iterator[int]:
    """A port at which nobody listens."""
    with closing(free_socket()) as held:
        yield held.getsockname()[1]


def _own(answer: httpx2.Response) -> dict[str, str]:
    """The headers without those that differ from one answer to the next."""
    return {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}
