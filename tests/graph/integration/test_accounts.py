"""Connecting accounts through the API, with a simulated provider at the other end: what it says decides."""

import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from db.postgres import owner_engine
from db.vault import Vault
from domain.base import new_id
from domain.integration.model import Integration
from domain.integration.queries import integration_of
from domain.secret import Secret
from domain.training.status import Provider
from domain.viewer import Viewer
from graph.ids import global_id, parts_of
from jobs.accounts import Accounts, loaded_from
from tests.domain.integration.support import make_alive, make_integration
from tests.factories import make_api_key, make_user
from tests.graph.served import Served

pytestmark = pytest.mark.anyio

FIELDS = "id provider name accountName status errorMessage testedAt createdAt updatedAt"
PROBLEM = "... on Problem { code message field params retryAfterSeconds }"
CONNECT = f"""mutation ($input: ConnectIntegrationInput!) {{ connectIntegration(input: $input) {{
    __typename ... on Integration {{ {FIELDS} }} {PROBLEM} }} }}"""
TEST = f"""mutation ($id: ID!) {{ testIntegration(id: $id) {{
    __typename ... on Integration {{ {FIELDS} }} {PROBLEM} }} }}"""
DISCONNECT = f"""mutation ($id: ID!) {{ disconnectIntegration(id: $id) {{
    __typename ... on Integration {{ {FIELDS} }} {PROBLEM} }} }}"""
LIST = f"""query ($after: String) {{ integrations(first: 2, after: $after) {{
    nodes {{ {FIELDS} }} pageInfo {{ endCursor }} }} }}"""
KEYS = {
    Provider.REPLICATE: "r8_sim_",
    Provider.RUNPOD: "rpa_sim_",
    Provider.ASTRIA: "sd_sim_",
    Provider.E2B: "e2b_sim_",
}


async def connect(served: Served, viewer: Viewer, **given: Any) -> Any:
    wanted = {"provider": "REPLICATE", "name": "Work", "apiKey": "r8_sim_acme"} | given
    return (await served.data(CONNECT, served.token_of(viewer), input=wanted))["connectIntegration"]


async def row_of(served: Served, viewer: Viewer, id: str) -> Integration:
    async with served.database.begin(viewer) as work:
        return await integration_of(work.session, viewer.require(), parts_of(id)[1])


async def count_of(served: Served, viewer: Viewer) -> int:
    answer = await served.data("{ integrations { nodes { id } } }", served.token_of(viewer))
    return len(answer["integrations"]["nodes"])


@asynccontextmanager
async def another_vault(served: Served, vault: Vault) -> AsyncIterator[None]:
    """The process as if it had been started with other keys."""
    before = served.api.services
    accounts = Accounts(before.settings, served.api.provider_http, vault, loaded_from(served.database))
    served.api.services = replace(before, accounts=accounts)
    yield
    served.api.services = before


class TestConnecting:
    @pytest.mark.parametrize(("provider", "prefix"), list(KEYS.items()))
    async def test_a_key_that_the_provider_takes_is_kept_sealed(
        self, served: Served, ada: Viewer, provider: Provider, prefix: str
    ) -> None:
        key = f"{prefix}{ada.require().hex}"
        made = await connect(served, ada, provider=provider.value, apiKey=f" {key}\n", name=" My account ")
        row = await row_of(served, ada, made["id"])
        assert row.secret is not None and key.encode() not in row.secret
        assert served.api.accounts.vault.open(row.secret, bound_to=row.binding) == Secret(key)
        assert made["accountName"]
        at = {"testedAt": made["createdAt"], "updatedAt": made["createdAt"]}
        assert made == {
            "__typename": "Integration",
            "id": global_id("Integration", row.id),
            "provider": provider.value,
            "name": "My account",
            "accountName": row.account_name,
            "status": "CONNECTED",
            "errorMessage": None,
            "createdAt": made["createdAt"],
            **at,
        }
        assert key not in str(made)

    @pytest.mark.parametrize(("provider", "prefix"), list(KEYS.items()))
    async def test_a_key_that_it_refuses_is_not(
        self, served: Served, ada: Viewer, provider: Provider, prefix: str
    ) -> None:
        for key in (f"{prefix}acme.unauthorized", f"{prefix[:-5]}nothing-that-it-knows"):
            refused = await connect(served, ada, provider=provider.value, apiKey=key)
            assert (refused["__typename"], refused["code"]) == ("Invalid", "PROVIDER_KEY_REFUSED")
            assert refused["field"] == ["apiKey"]
            assert refused["params"]["reason"]
            assert key not in str(refused)
        assert await count_of(served, ada) == 0

    async def test_a_provider_that_does_not_answer_leaves_nothing(
        self, served: Served, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = served.api.settings.model_copy(update={"replicate_base_url": "http://127.0.0.1:1"})
        monkeypatch.setattr(served.api.accounts, "settings", nowhere)
        answer = await connect(served, ada)
        assert (answer["__typename"], answer["code"]) == ("Unavailable", "PROVIDER_UNREACHABLE")
        assert answer["params"] == {"provider": "REPLICATE"}
        assert answer["retryAfterSeconds"] >= 1
        assert await count_of(served, ada) == 0

    @pytest.mark.parametrize(
        ("given", "code"),
        [
            ({"provider": "LOCAL"}, "NOTHING_TO_CONNECT"),
            ({"apiKey": "two words"}, "BAD_PROVIDER_KEY"),
            ({"apiKey": "r8_" + "x" * 500}, "BAD_PROVIDER_KEY"),
            ({"name": "a\nb"}, "BAD_INTEGRATION_NAME"),
        ],
    )
    async def test_what_cannot_be_is_refused_before_anybody_is_asked(
        self, served: Served, ada: Viewer, given: dict[str, str], code: str
    ) -> None:
        answer = await connect(served, ada, **given)
        assert (answer["__typename"], answer["code"]) == ("Invalid", code)
        assert given.get("apiKey", "nothing") not in str(answer)
        assert await count_of(served, ada) == 0

    async def test_no_mistake_in_the_input_repeats_the_key(self, served: Served, ada: Viewer) -> None:
        key = "r8sim0secret0key"
        good = {"provider": "REPLICATE", "name": "Work", "apiKey": key}
        wrongs: list[Any] = [
            {**good, "apyKey": key},
            {**good, "apiKey": [key]},
            {**good, "apiKey": {"text": key}},
            {"name": "Work", "apiKey": key},
            key,
            [key],
        ]
        for wrong in wrongs:
            response = await served.respond(CONNECT, served.token_of(ada), input=wrong)
            assert response.json()["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
            assert "REPLICATE" not in response.text and key not in response.text, response.text
        for literal in (f'"{key}"', f'{{provider: REPLICATE, name: "x", apiKey: ["{key}"]}}'):
            document = f"mutation {{ connectIntegration(input: {literal}) {{ __typename }} }}"
            response = await served.respond(document, served.token_of(ada))
            assert response.json()["errors"] and key not in response.text

    async def test_without_encryption_keys_nothing_is_stored(self, served: Served, ada: Viewer) -> None:
        async with another_vault(served, Vault([])):
            answer = await connect(served, ada)
        assert (answer["__typename"], answer["code"]) == ("Unavailable", "ENCRYPTION_NOT_SET_UP")
        assert await count_of(served, ada) == 0

    async def test_the_key_is_in_no_log(self, served: Served, ada: Viewer) -> None:
        logged = io.StringIO()
        handler = logging.StreamHandler(logged)
        root = logging.getLogger()
        level = root.level
        root.addHandler(handler)
        root.setLevel(logging.DEBUG)
        try:
            await connect(served, ada, apiKey="r8_sim_lumberjack")
            await connect(served, ada, apiKey="r8_sim_lumberjack.unauthorized")
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
        assert logged.getvalue()
        assert "lumberjack" not in logged.getvalue()

    async def test_keys_are_not_to_be_guessed(
        self, served: Served, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from limits import RateLimitItemPerMinute

        monkeypatch.setattr(served.api.attempts, "_limit", RateLimitItemPerMinute(1, namespace=new_id().hex))
        await connect(served, ada)
        answer = await connect(served, ada)
        assert (answer["__typename"], answer["code"]) == ("LimitReached", "TOO_MANY_ATTEMPTS")

    async def test_no_transaction_is_open_while_the_provider_is_asked(
        self, served: Served, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        engine = owner_engine(served.api.settings)
        open_ones: list[int] = []
        ask = Accounts.opened

        async def looking(self: Accounts, *given: Any, **more: Any) -> Any:
            async with engine.connect() as connection:
                found = await connection.execute(
                    sa.text(
                        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                        " AND state LIKE 'idle in transaction%'"
                    )
                )
                open_ones.append(found.scalar_one())
            return await ask(self, *given, **more)

        monkeypatch.setattr(Accounts, "opened", looking)
        made = await connect(served, ada)
        await served.data(TEST, served.token_of(ada), id=made["id"])
        await engine.dispose()
        assert open_ones == [0, 0]

    async def test_a_key_in_use_is_replaced_only_by_one_that_sees_the_same(self, served: Served, ada: Viewer) -> None:
        made = await connect(served, ada)
        row = await row_of(served, ada, made["id"])
        await make_alive(served.worker, row, reference="abcdefghijklmnopqrstuvwxyz")
        answer = await connect(served, ada, apiKey="r8_sim_other")
        assert (answer["__typename"], answer["code"]) == ("Conflict", "INTEGRATION_IN_USE")
        assert (await row_of(served, ada, made["id"])).secret == row.secret


class TestTesting:
    async def test_what_the_provider_says_now_is_kept(self, served: Served, ada: Viewer) -> None:
        vault = served.api.accounts.vault
        row = await make_integration(served.database, ada, key="r8_sim_acme.unauthorized", vault=vault)
        id = global_id("Integration", row.id)
        refused = (await served.data(TEST, served.token_of(ada), id=id))["testIntegration"]
        assert (refused["status"], refused["__typename"]) == ("REFUSED", "Integration")
        assert refused["errorMessage"] and "r8_sim" not in refused["errorMessage"]
        assert refused["testedAt"] > refused["updatedAt"]
        await connect(served, ada)
        taken = (await served.data(TEST, served.token_of(ada), id=id))["testIntegration"]
        assert (taken["status"], taken["errorMessage"]) == ("CONNECTED", None)

    async def test_a_provider_that_does_not_answer_changes_nothing(
        self, served: Served, ada: Viewer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = await make_integration(served.database, ada, vault=served.api.accounts.vault)
        nowhere = served.api.settings.model_copy(update={"replicate_base_url": "http://127.0.0.1:1"})
        monkeypatch.setattr(served.api.accounts, "settings", nowhere)
        answer = (await served.data(TEST, served.token_of(ada), id=global_id("Integration", row.id)))["testIntegration"]
        assert answer["code"] == "PROVIDER_UNREACHABLE"
        assert await row_of(served, ada, global_id("Integration", row.id)) == row

    async def test_a_key_is_sealed_anew_after_the_encryption_key_was_changed(self, served: Served, ada: Viewer) -> None:
        old, new = "the key of before, long enough it is", "the key of today, which is long enough"
        row = await make_integration(served.database, ada, vault=Vault([old]))
        id = global_id("Integration", row.id)
        async with another_vault(served, Vault([new, old])):
            await served.data(TEST, served.token_of(ada), id=id)
        kept = await row_of(served, ada, id)
        assert Vault([new]).open(kept.secret or b"", bound_to=kept.binding) == Secret("r8_sim_acme")
        async with another_vault(served, Vault([old])):
            answer = (await served.data(TEST, served.token_of(ada), id=id))["testIntegration"]
        assert (answer["__typename"], answer["code"], answer["params"]) == (
            "Conflict",
            "KEY_CANNOT_BE_READ",
            {"name": "Work"},
        )

    async def test_a_disconnected_account_has_nothing_to_test(self, served: Served, ada: Viewer) -> None:
        made = await connect(served, ada)
        gone = (await served.data(DISCONNECT, served.token_of(ada), id=made["id"]))["disconnectIntegration"]
        assert (gone["status"], gone["id"]) == ("DISCONNECTED", made["id"])
        assert (await row_of(served, ada, made["id"])).secret is None
        answer = (await served.data(TEST, served.token_of(ada), id=made["id"]))["testIntegration"]
        assert (answer["__typename"], answer["code"]) == ("Conflict", "INTEGRATION_DISCONNECTED")


async def test_accounts_are_listed_page_by_page_and_found_again(served: Served, ada: Viewer) -> None:
    token = served.token_of(ada)
    made = [await connect(served, ada, name=name) for name in ("one", "two", "three")]
    first = (await served.data(LIST, token))["integrations"]
    assert [node["name"] for node in first["nodes"]] == ["three", "two"]
    second = (await served.data(LIST, token, after=first["pageInfo"]["endCursor"]))["integrations"]
    assert second["nodes"] == [{name: value for name, value in made[0].items() if name != "__typename"}]
    document = "query ($id: ID!) { node(id: $id) { ... on Integration { name accountName } } }"
    assert (await served.data(document, token, id=made[0]["id"]))["node"] == {"name": "one", "accountName": "acme"}


async def test_a_key_of_test_mode_touches_no_real_account(served: Served, ada: Viewer) -> None:
    made = await connect(served, ada)
    _, key = await make_api_key(served.database, ada, test_mode=True)
    for document, variables in (
        (CONNECT, {"input": {"provider": "REPLICATE", "name": "new", "apiKey": "r8_sim_acme"}}),
        (TEST, {"id": made["id"]}),
        (DISCONNECT, {"id": made["id"]}),
    ):
        (answer,) = (await served.data(document, key.reveal(), **variables)).values()
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "NOT_IN_TEST_MODE")
    assert await count_of(served, ada) == 1


async def test_a_foreign_account_is_not_found(served: Served, ada: Viewer, eve: Viewer) -> None:
    made = await connect(served, ada)
    answers = []
    for id in (made["id"], global_id("Integration", new_id()), "nonsense"):
        for document in (TEST, DISCONNECT):
            (answer,) = (await served.data(document, served.token_of(eve), id=id)).values()
            answers.append(orjson.dumps(answer))
    assert len(set(answers)) == 1
    assert (await row_of(served, ada, made["id"])).secret is not None
    assert await count_of(served, await make_user(served.database)) == 0
