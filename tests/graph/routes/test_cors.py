"""Front ends on other origins: those in ALLOWED_ORIGINS may call and open sockets, others may not."""

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin, Subprotocol

from domain.viewer import Viewer
from tests.graph.served import Served, bearer

pytestmark = pytest.mark.anyio

FRIEND, STRANGER = "https://app.example.com", "https://evil.example.com"
PROTOCOLS = [Subprotocol("graphql-transport-ws")]


@pytest.mark.parametrize("path", ["/graphql", "/runs/x/status", "/runs/x/events", "/datasets/x/content"])
@pytest.mark.parametrize(
    ("method", "header"), [("POST", "content-type"), ("GET", "last-event-id"), ("PUT", "content-digest")]
)
async def test_a_browser_may_ask_first(served: Served, path: str, method: str, header: str) -> None:
    asked = {
        "origin": FRIEND,
        "access-control-request-method": method,
        "access-control-request-headers": f"authorization, {header}",
    }
    response = await served.http.options(path, headers=asked)
    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == FRIEND
    assert method in response.headers["access-control-allow-methods"]
    assert header in response.headers["access-control-allow-headers"].lower()
    assert "access-control-allow-credentials" not in response.headers  # credentials are Bearer only, never cookies


async def test_a_stranger_is_not_allowed(served: Served) -> None:
    asked = {"origin": STRANGER, "access-control-request-method": "POST"}
    response = await served.http.options("/graphql", headers=asked)
    assert response.status_code == 400
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(("origin", "allowed"), [(FRIEND, FRIEND), (STRANGER, None)])
async def test_answers_say_who_may_read_them(served: Served, ada: Viewer, origin: str, allowed: str | None) -> None:
    headers = {"origin": origin, "accept-language": "en"}
    answer = await served.respond("{ viewer { id } }", served.token_of(ada), headers=headers)
    assert answer.headers.get("access-control-allow-origin") == allowed
    if allowed:
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ETag", "Retry-After", "X-Request-Id"} <= {name.strip() for name in exposed.split(",")}
    async with served.http.stream("GET", "/events", headers={**headers, **bearer(served.token_of(ada))}) as stream:
        assert stream.headers.get("access-control-allow-origin") == allowed


async def test_refusals_can_be_read_too(served: Served) -> None:
    response = await served.get("/events", origin=FRIEND)
    assert response.status_code == 401
    assert response.headers["access-control-allow-origin"] == FRIEND


class TestSockets:
    async def test_a_friend_opens_one(self, served: Served) -> None:
        url = f"ws://127.0.0.1:{served.port}/graphql"
        for origin in (FRIEND, f"http://127.0.0.1:{served.port}", None):
            async with connect(url, origin=Origin(origin) if origin else None, subprotocols=PROTOCOLS) as socket:
                assert socket.subprotocol == "graphql-transport-ws"

    async def test_a_stranger_does_not(self, served: Served) -> None:
        for origin in (STRANGER, "null", f"{FRIEND}.evil.example.com"):
            with pytest.raises(InvalidStatus) as refused:
                async with connect(
                    f"ws://127.0.0.1:{served.port}/graphql", origin=Origin(origin), subprotocols=PROTOCOLS
                ):
                    pass
            assert refused.value.response.status_code == 403
