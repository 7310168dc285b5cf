"""What a signed-in user sees and does with their credentials, through GraphQL."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from db.bus import RedisBus
from db.operators import name_operator
from db.unit_of_work import Database
from domain.base import new_id
from domain.clock import FixedClock
from domain.training.status import RunStatus
from domain.viewer import Locale, Scope, Viewer, ViewerKind
from graph.ids import global_id
from graph.live.connections import Connection, ConnectionKind, CredentialRefused
from tests.factories import make_api_key, make_run, make_session, make_user
from tests.fakes import Told
from tests.graph.account.conftest import Api

pytestmark = pytest.mark.anyio

PROBLEM = "... on Problem { code message field params }"
VIEWER = "{ viewer { id email name locale scopes kind expiresAt testMode isOperator } }"
SESSIONS = "{ sessions(first: 1) { nodes { id isCurrent } pageInfo { hasNextPage endCursor } } }"
KEYS = "{ apiKeys { nodes { id name prefix scopes lastUsedAt expiresAt revokedAt } } }"
REVOKE_SESSION = f"""mutation ($id: ID!) {{ revokeSession(id: $id) {{
    __typename ... on UserSession {{ id isCurrent revokedAt }} {PROBLEM} }} }}"""
REVOKE_KEY = (
    f"mutation ($id: ID!) {{ revokeApiKey(id: $id) {{ __typename ... on ApiKey {{ id revokedAt }} {PROBLEM} }} }}"
)
CREATE_KEY = f"""mutation ($input: CreateApiKeyInput!) {{ createApiKey(input: $input) {{
    __typename ... on CreatedApiKey {{ token apiKey {{ id name prefix scopes expiresAt }} }} {PROBLEM} }} }}"""
RENEW = f"""mutation ($token: String!) {{ renewConnection(accessToken: $token) {{
    __typename ... on RenewedConnection {{ expiresAt }} {PROBLEM} }} }}"""
STREAM_TOKEN = f"""mutation ($runId: ID) {{ createStreamToken(runId: $runId) {{
    __typename ... on StreamToken {{ token expiresAt }} {PROBLEM} }} }}"""
UPDATE = f"""mutation ($input: UpdateViewerInput!) {{ updateViewer(input: $input) {{
    __typename ... on Viewer {{ name locale }} {PROBLEM} }} }}"""


def credential_of(viewer: Viewer) -> UUID:
    assert viewer.credential_id is not None
    return viewer.credential_id


def access_token(api: Api, viewer: Viewer) -> str:
    token, _ = api.services.authentication.access_token(viewer.require(), credential_of(viewer))
    return token.reveal()


async def rows(engine: AsyncEngine, statement: str) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(sa.text(statement))]


class TestViewer:
    async def test_is_null_for_nobody(self, api: Api) -> None:
        assert await api.run(VIEWER) == {"viewer": None}

    async def test_is_you_with_what_your_credential_allows(self, api: Api, database: Database) -> None:
        viewer = await make_user(database, email="ada@example.com", locale=Locale.PT_BR)
        assert (await api.run(VIEWER, replace(viewer, scopes=frozenset({Scope.ACCOUNT_READ}))))["viewer"] == {
            "id": global_id("Viewer", viewer.require()),
            "email": "ada@example.com",
            "name": "Ada",
            "locale": "PT_BR",
            "scopes": ["ACCOUNT_READ"],
            "kind": "USER",
            "expiresAt": "2026-01-15T12:15:00.000000Z",
            "testMode": False,
            "isOperator": False,
        }

    async def test_an_operator_is_told_so_where_the_credential_may_know(
        self, api: Api, database: Database, owner_engine: AsyncEngine
    ) -> None:
        viewer, stranger = await make_user(database, email="ada@example.com"), await make_user(database)
        await name_operator(owner_engine, "ada@example.com")
        weak = replace(viewer, scopes=frozenset({Scope.RUNS_READ}))
        for asker, is_one in ((viewer, True), (stranger, False), (weak, False)):
            assert (await api.run("{ viewer { isOperator } }", asker))["viewer"] == {"isOperator": is_one}

    async def test_a_weak_credential_does_not_show_the_person(self, api: Api, database: Database) -> None:
        viewer = await make_user(database, scopes=frozenset({Scope.RUNS_READ}))
        shown = (await api.run(VIEWER, viewer))["viewer"]
        assert (shown["email"], shown["name"], shown["scopes"]) == (None, None, ["RUNS_READ"])

    async def test_can_be_changed(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        token = access_token(api, viewer)
        assert (await api.viewer_of(token)).locale is Locale.EN
        data = await api.run(UPDATE, viewer, input={"name": " Ada L. ", "locale": "PT_BR"})
        assert data["updateViewer"] == {"__typename": "Viewer", "name": "Ada L.", "locale": "PT_BR"}
        assert (await api.viewer_of(token)).locale is Locale.PT_BR
        data = await api.run(UPDATE, viewer, input={"name": "x" * 201})
        assert (data["updateViewer"]["__typename"], data["updateViewer"]["code"]) == ("Invalid", "BAD_NAME")
        data = await api.run(UPDATE, viewer, input={})
        assert data["updateViewer"] == {"__typename": "Viewer", "name": "Ada L.", "locale": "PT_BR"}


class TestSessions:
    async def test_are_listed_page_by_page(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        other = await make_session(database, viewer)
        await make_user(database)
        first = (await api.run(SESSIONS, viewer))["sessions"]
        assert first["nodes"] == [{"id": global_id("UserSession", other.id), "isCurrent": False}]
        assert first["pageInfo"]["hasNextPage"]
        after = first["pageInfo"]["endCursor"]
        second = (await api.run(SESSIONS.replace("first: 1", f'after: "{after}"'), viewer))["sessions"]
        assert second["nodes"] == [{"id": global_id("UserSession", credential_of(viewer)), "isCurrent": True}]
        assert not second["pageInfo"]["hasNextPage"]

    async def test_signing_another_device_out_is_told_after_it_is_written(
        self, api: Api, database: Database, told: Told, owner_engine: AsyncEngine
    ) -> None:
        viewer = await make_user(database)
        other = await make_session(database, viewer)
        data = await api.run(REVOKE_SESSION, viewer, id=global_id("UserSession", other.id))
        assert data["revokeSession"] == {
            "__typename": "UserSession",
            "id": global_id("UserSession", other.id),
            "isCurrent": False,
            "revokedAt": "2026-01-15T12:00:00.000000Z",
        }
        assert told.revoked == [other.id]
        assert await rows(owner_engine, "SELECT id FROM user_sessions WHERE revoked_at IS NOT NULL") == [(other.id,)]

    async def test_signing_out_ends_the_access_token_at_once(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        token = access_token(api, viewer)
        await api.viewer_of(token)
        data = await api.run(REVOKE_SESSION, viewer, id=global_id("UserSession", credential_of(viewer)))
        assert data["revokeSession"]["isCurrent"]
        with pytest.raises(CredentialRefused):
            await api.viewer_of(token)

    async def test_foreign_unknown_and_senseless_ids_are_the_same(
        self, api: Api, database: Database, told: Told, owner_engine: AsyncEngine
    ) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        ids = [
            global_id("UserSession", credential_of(stranger)),
            global_id("UserSession", new_id()),
            global_id("ApiKey", credential_of(viewer)),
            "nonsense",
        ]
        answers = [(await api.run(REVOKE_SESSION, viewer, id=id))["revokeSession"] for id in ids]
        assert answers[0]["code"] == "NOT_FOUND"
        assert all(answer == answers[0] for answer in answers)
        assert told.revoked == []
        assert await rows(owner_engine, "SELECT id FROM user_sessions WHERE revoked_at IS NOT NULL") == []

    async def test_a_bus_that_fails_does_not_undo_the_revocation(
        self, api: Api, database: Database, told: Told, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = RedisBus(["unix:///nowhere/redis.sock"])
        monkeypatch.setattr(told, "revoke", nowhere.revoke)
        viewer = await make_user(database)
        data = await api.run(REVOKE_SESSION, viewer, id=global_id("UserSession", credential_of(viewer)))
        assert data["revokeSession"]["revokedAt"] is not None


class TestApiKeys:
    async def test_a_new_key_comes_in_with_its_scopes(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        wanted = {"name": "Partner", "scopes": ["RUNS_READ", "RUNS_WRITE"], "expiresAt": "2026-02-01T00:00:00Z"}
        made = (await api.run(CREATE_KEY, viewer, input=wanted))["createApiKey"]
        found = await api.viewer_of(made["token"])
        assert (found.kind, found.user_id) == (ViewerKind.API_KEY, viewer.user_id)
        assert found.scopes == {Scope.RUNS_READ, Scope.RUNS_WRITE}
        assert made == {
            "__typename": "CreatedApiKey",
            "token": made["token"],
            "apiKey": {
                "id": global_id("ApiKey", credential_of(found)),
                "name": "Partner",
                "prefix": made["token"][:12],
                "scopes": ["RUNS_READ", "RUNS_WRITE"],
                "expiresAt": "2026-02-01T00:00:00.000000Z",
            },
        }

    async def test_a_key_of_test_mode_comes_in_as_one_and_so_do_its_children(
        self, api: Api, database: Database
    ) -> None:
        viewer = await make_user(database)
        wanted = {"name": "Test", "scopes": ["ACCOUNT_WRITE", "RUNS_READ"], "testMode": True}
        made = (await api.run(CREATE_KEY, viewer, input=wanted))["createApiKey"]
        holder = await api.viewer_of(made["token"])
        assert holder.test_mode
        child = (await api.run(CREATE_KEY, holder, input={**wanted, "testMode": False}))["createApiKey"]
        assert (await api.viewer_of(child["token"])).test_mode
        stream = (await api.run(STREAM_TOKEN, holder))["createStreamToken"]
        assert (await api.viewer_of(stream["token"])).test_mode
        assert (await api.run("{ viewer { testMode } }", holder)) == {"viewer": {"testMode": True}}
        await make_api_key(database, viewer)
        modes = (await api.run("{ apiKeys { nodes { testMode } } }", viewer))["apiKeys"]["nodes"]
        assert modes == [{"testMode": False}, {"testMode": True}, {"testMode": True}]
        assert not (await api.viewer_of(access_token(api, viewer))).test_mode

    async def test_the_list_shows_no_text_of_a_key(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        key, token = await make_api_key(database, viewer, scopes=frozenset({Scope.RUNS_READ}))
        data = await api.run(KEYS, viewer)
        assert data["apiKeys"]["nodes"] == [
            {
                "id": global_id("ApiKey", key.id),
                "name": "Partner",
                "prefix": key.prefix,
                "scopes": ["RUNS_READ"],
                "lastUsedAt": None,
                "expiresAt": None,
                "revokedAt": None,
            }
        ]
        assert token.reveal() not in str(data)

    async def test_a_weak_key_makes_no_strong_one(
        self, api: Api, database: Database, owner_engine: AsyncEngine
    ) -> None:
        user = await make_user(database)
        _, token = await make_api_key(database, user, scopes=frozenset({Scope.ACCOUNT_WRITE}))
        holder = await api.viewer_of(token.reveal())
        made = (await api.run(CREATE_KEY, holder, input={"name": "x", "scopes": ["RUNS_WRITE"]}))["createApiKey"]
        assert (made["__typename"], made["code"], made["params"]) == (
            "Forbidden",
            "SCOPES_NOT_YOURS",
            {"scopes": "runs:write"},
        )
        assert await rows(owner_engine, "SELECT count(*) FROM api_keys") == [(1,)]

    async def test_a_revoked_key_is_out_at_once(self, api: Api, database: Database, told: Told) -> None:
        viewer = await make_user(database)
        key, token = await make_api_key(database, viewer)
        await api.viewer_of(token.reveal())
        data = await api.run(REVOKE_KEY, viewer, id=global_id("ApiKey", key.id))
        assert data["revokeApiKey"]["revokedAt"] == "2026-01-15T12:00:00.000000Z"
        assert told.revoked == [key.id]
        with pytest.raises(CredentialRefused):
            await api.viewer_of(token.reveal())

    async def test_a_foreign_key_is_not_found(self, api: Api, database: Database, told: Told) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        key, token = await make_api_key(database, stranger)
        data = await api.run(REVOKE_KEY, viewer, id=global_id("ApiKey", key.id))
        assert data["revokeApiKey"]["code"] == "NOT_FOUND"
        assert told.revoked == []
        assert (await api.viewer_of(token.reveal())).credential_id == key.id


@pytest.mark.parametrize(
    ("document", "field", "variables"),
    [
        (REVOKE_SESSION, "revokeSession", {"id": "x"}),
        (REVOKE_KEY, "revokeApiKey", {"id": "x"}),
        (CREATE_KEY, "createApiKey", {"input": {"name": "x", "scopes": ["RUNS_READ"]}}),
        (RENEW, "renewConnection", {"token": "x"}),
        (STREAM_TOKEN, "createStreamToken", {}),
        (UPDATE, "updateViewer", {"input": {"name": "x"}}),
    ],
)
async def test_nobody_and_a_weak_key_are_told_what_they_lack(
    api: Api, database: Database, document: str, field: str, variables: dict[str, Any]
) -> None:
    nobody = (await api.run(document, **variables))[field]
    assert (nobody["__typename"], nobody["code"]) == ("Forbidden", "NOT_SIGNED_IN")
    if field != "renewConnection":
        weak = await make_user(database, scopes=frozenset({Scope.MODELS_READ}))
        answer = (await api.run(document, weak, **variables))[field]
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "SCOPE_MISSING")


@pytest.mark.parametrize("document", [SESSIONS, KEYS])
async def test_lists_are_for_those_who_may_read_the_account(api: Api, database: Database, document: str) -> None:
    weak = await make_user(database, scopes=frozenset({Scope.RUNS_READ}))
    for viewer, code in ((None, "NOT_SIGNED_IN"), (weak, "SCOPE_MISSING")):
        result = await api.result(document, viewer)
        assert [error.original_error.code for error in result.errors] == [code]


class TestRenewal:
    def socket(self, viewer: Viewer, clock: FixedClock) -> Connection:
        return Connection(ConnectionKind.SOCKET, "192.0.2.7", clock.at, viewer)

    async def renew(self, api: Api, viewer: Viewer, token: str, connection: Connection | None) -> Any:
        return (await api.run(RENEW, viewer, connection=connection, token=token))["renewConnection"]

    async def test_the_socket_goes_on_with_the_new_token(self, api: Api, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        connection = self.socket(viewer, clock)
        clock.at = clock.at.replace(minute=10)
        answer = await self.renew(api, viewer, access_token(api, viewer), connection)
        assert answer == {"__typename": "RenewedConnection", "expiresAt": "2026-01-15T12:25:00.000000Z"}
        assert connection.expires_at == clock.at.replace(minute=25)
        assert connection.ending is None

    async def test_a_strangers_token_changes_nothing(self, api: Api, database: Database, clock: FixedClock) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        connection = self.socket(viewer, clock)
        answer = await self.renew(api, viewer, access_token(api, stranger), connection)
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "TOKEN_OF_ANOTHER")
        assert connection.viewer == viewer

    async def test_a_weaker_token_changes_nothing(self, api: Api, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        connection = self.socket(viewer, clock)
        _, key = await make_api_key(database, viewer, scopes=frozenset({Scope.RUNS_READ}))
        stream, _ = api.services.authentication.stream_token(viewer)
        for token in (key, stream):
            answer = await self.renew(api, viewer, token.reveal(), connection)
            assert (answer["__typename"], answer["code"]) == ("Forbidden", "TOKEN_OF_ANOTHER")
        assert connection.viewer == viewer

    @pytest.mark.parametrize("token", ["", "nonsense", "two words"])
    async def test_what_is_no_token_is_refused(
        self, api: Api, database: Database, clock: FixedClock, token: str
    ) -> None:
        viewer = await make_user(database)
        connection = self.socket(viewer, clock)
        answer = await self.renew(api, viewer, token, connection)
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "TOKEN_REFUSED")
        assert connection.viewer == viewer

    async def test_there_must_be_a_socket(self, api: Api, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        stream = Connection(ConnectionKind.STREAM, "192.0.2.7", clock.at, viewer)
        for connection in (None, stream):
            answer = await self.renew(api, viewer, access_token(api, viewer), connection)
            assert (answer["__typename"], answer["code"]) == ("Conflict", "NOT_ON_A_SOCKET")


class TestStreamTokens:
    async def test_are_made_for_ones_own_run(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        run = await make_run(database, viewer, status=RunStatus.TRAINING)
        made = (await api.run(STREAM_TOKEN, viewer, runId=global_id("TrainingRun", run.id)))["createStreamToken"]
        assert made["expiresAt"] == "2026-01-15T12:05:00.000000Z"
        found = await api.viewer_of(made["token"])
        assert (found.kind, found.run_id, sorted(found.scopes)) == (ViewerKind.STREAM, run.id, [Scope.RUNS_READ])

    async def test_are_made_for_all_runs(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        made = (await api.run(STREAM_TOKEN, viewer))["createStreamToken"]
        assert (await api.viewer_of(made["token"])).run_id is None

    async def test_are_not_made_for_foreign_and_unknown_runs(self, api: Api, database: Database) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        run = await make_run(database, stranger)
        for id in (global_id("TrainingRun", run.id), global_id("TrainingRun", new_id()), "nonsense"):
            answer = (await api.run(STREAM_TOKEN, viewer, runId=id))["createStreamToken"]
            assert (answer["__typename"], answer["code"]) == ("NotFound", "NOT_FOUND")

    async def test_are_not_made_of_one_another(self, api: Api, database: Database) -> None:
        viewer = await make_user(database)
        token, _ = api.services.authentication.stream_token(viewer)
        holder = await api.viewer_of(token.reveal())
        answer = (await api.run(STREAM_TOKEN, holder))["createStreamToken"]
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "NOT_FOR_THIS_CREDENTIAL")
