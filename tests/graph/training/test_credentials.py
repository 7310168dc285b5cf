"""What is open ends with the credential it was opened with, and lives on when that is renewed."""

import time

import pytest

from db.settings import Settings
from domain.training.model import TrainingRun
from domain.training.status import RunStatus
from domain.viewer import ALL_SCOPES, Viewer
from graph.ids import global_id
from tests.factories import make_api_key, make_run, make_session, make_user
from tests.graph.served import Served, serving
from tests.graph.training.following import ACTIVITY, FOLLOW, follow
from tests.graph.training.wishes import id_of
from tests.graph.transport.toy import Client

pytestmark = pytest.mark.anyio

REVOKE_SESSION = "mutation ($id: ID!) { revokeSession(id: $id) { __typename } }"
REVOKE_KEY = "mutation ($id: ID!) { revokeApiKey(id: $id) { __typename } }"
RENEW = """mutation ($token: String!) {
  answer: renewConnection(accessToken: $token) { __typename ... on Problem { code } }
}"""
SECONDS_TO_NOTICE = 5


@pytest.fixture
async def run(served: Served, ada: Viewer) -> TrainingRun:
    return await make_run(served.database, ada, status=RunStatus.TRAINING)


async def closed_soon(socket: Client) -> tuple[int | None, str | None]:
    began = time.monotonic()
    end = await socket.closed()
    assert time.monotonic() - began < SECONDS_TO_NOTICE
    return end


class TestRevoking:
    async def test_a_session_closes_its_sockets_and_no_others(
        self, served: Served, ada: Viewer, run: TrainingRun
    ) -> None:
        other = await make_session(served.database, ada)
        token = served.token_of(ada)
        assert ada.user_id is not None
        others, _ = served.api.services.authentication.access_token(ada.user_id, other.id)
        async with served.socket(token) as mine, served.socket(others.reveal()) as theirs:
            followers = [await follow(socket, FOLLOW, id=id_of(run)) for socket in (mine, theirs)]
            for follower in followers:
                assert await follower.kinds(1) == ["Snapshot"]
            answer = await served.data(REVOKE_SESSION, token, id=global_id("UserSession", other.id))
            assert answer == {"revokeSession": {"__typename": "UserSession"}}
            code, reason = await closed_soon(theirs)
            assert (code, reason) == (4403, "The credential was revoked or has expired: come back with a new one.")
            await served.tell(run.id, percent=30.0)
            assert await followers[0].kinds(1) == ["RunProgressed"]
        refused = await served.respond("{ viewer { id } }", others.reveal())
        assert refused.status_code == 401

    async def test_a_key_closes_its_sockets_and_streams(self, served: Served, ada: Viewer) -> None:
        key, text = await make_api_key(served.database, ada, scopes=ALL_SCOPES)
        async with served.socket(text.reveal()) as socket, served.events("/events", text.reveal()) as stream:
            assert await (await follow(socket, ACTIVITY)).kinds(1) == ["ActivitySnapshot"]
            assert [(await stream.next())["event"] for _ in range(2)] == ["connected", "snapshot"]
            await served.data(REVOKE_KEY, served.token_of(ada), id=global_id("ApiKey", key.id))
            assert (await closed_soon(socket))[0] == 4403
            assert [event["event"] for event in await stream.rest()] == ["refused"]

    async def test_stream_tokens_end_with_the_session_that_made_them(self, served: Served, ada: Viewer) -> None:
        other = await make_session(served.database, ada)
        maker = Viewer(kind=ada.kind, user_id=ada.user_id, credential_id=other.id, scopes=ALL_SCOPES)
        token = served.stream_token_of(maker)
        async with served.events(f"/events?access_token={token}") as stream:
            await stream.next()
            await served.data(REVOKE_SESSION, served.token_of(ada), id=global_id("UserSession", other.id))
            assert [event["event"] for event in await stream.rest()] == ["snapshot", "refused"]

    async def test_it_is_noticed_without_redis(self, settings: Settings) -> None:
        """Another process revoked it, and nobody could tell this one."""
        async with serving(settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"})) as served:
            ada = await make_user(served.database)
            other = await make_session(served.database, ada)
            assert ada.user_id is not None
            token, _ = served.api.services.authentication.access_token(ada.user_id, other.id)
            async with served.socket(token.reveal()) as socket:
                assert await (await follow(socket, ACTIVITY)).kinds(1) == ["ActivitySnapshot"]
                await served.data(REVOKE_SESSION, served.token_of(ada), id=global_id("UserSession", other.id))
                assert (await closed_soon(socket))[0] == 4403


class TestExpiring:
    async def test_an_expired_token_closes_its_socket(self, served: Served, ada: Viewer) -> None:
        async with served.socket(served.token_of(ada)) as socket:
            served.clock.move(seconds=served.api.settings.access_token_seconds)
            assert await closed_soon(socket) == (4403, "The credential has expired: come back with a new one.")

    async def test_an_expired_token_lets_nobody_in(self, served: Served, ada: Viewer) -> None:
        token = served.token_of(ada)
        served.clock.move(seconds=served.api.settings.access_token_seconds + 60)
        refused = await served.respond("{ viewer { id } }", token)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Bearer")

    async def test_a_renewed_connection_and_its_streams_live_on(
        self, served: Served, ada: Viewer, run: TrainingRun
    ) -> None:
        lifetime = served.api.settings.access_token_seconds
        async with served.socket(served.token_of(ada)) as socket:
            follower = await follow(socket, FOLLOW, id=id_of(run))
            assert await follower.kinds(1) == ["Snapshot"]
            served.clock.move(seconds=lifetime - 60)
            renewal = await follow(socket, RENEW, "renew", token=served.token_of(ada))
            assert (await renewal.message())["__typename"] == "RenewedConnection"
            await renewal.completed()
            served.clock.move(seconds=120)  # the first token has ended by now
            served.api.connections.close_expired()
            await served.tell(run.id, percent=30.0)
            assert await follower.kinds(1) == ["RunProgressed"]
            served.clock.move(seconds=lifetime)
            assert (await closed_soon(socket))[0] == 4403

    @pytest.mark.parametrize("shown", ["anothers", "forged"])
    async def test_a_connection_is_renewed_by_its_own_user_only(
        self, served: Served, ada: Viewer, eve: Viewer, shown: str
    ) -> None:
        token, code = {"anothers": (served.token_of(eve), "TOKEN_OF_ANOTHER"), "forged": ("x.y.z", "TOKEN_REFUSED")}[
            shown
        ]
        async with served.socket(served.token_of(ada)) as socket:
            renewal = await follow(socket, RENEW, token=token)
            assert await renewal.message() == {"__typename": "Forbidden", "code": code}
            await renewal.completed()
            still = await follow(socket, ACTIVITY, "2")
            assert await still.kinds(1) == ["ActivitySnapshot"]
