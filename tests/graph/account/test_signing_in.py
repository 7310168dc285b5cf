"""Signing up, signing in and refreshing, through GraphQL."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.account.passwords import Passwords
from domain.clock import FixedClock
from domain.secret import digest_of
from domain.viewer import Locale, Viewer, ViewerKind
from graph.ids import global_id
from graph.live.connections import CredentialRefused
from tests.fakes import Told
from tests.graph.account.conftest import CHEAP, Api

pytestmark = pytest.mark.anyio

PROBLEM = "... on Problem { code message field retryAfterSeconds }"
SIGNED_IN = f"""
    __typename
    ... on SignedIn {{
      accessToken refreshToken expiresAt
      viewer {{ id email name locale kind scopes }}
      session {{ id userAgent address isCurrent expiresAt revokedAt }}
    }}
    {PROBLEM}
"""
SIGN_UP = f"mutation ($input: SignUpInput!) {{ answer: signUp(input: $input) {{ {SIGNED_IN} }} }}"
SIGN_IN = f"mutation ($input: SignInInput!) {{ answer: signIn(input: $input) {{ {SIGNED_IN} }} }}"
REFRESH = f"mutation ($token: String!) {{ answer: refreshSession(refreshToken: $token) {{ {SIGNED_IN} }} }}"
ADA: dict[str, Any] = {"email": "ada@example.com", "password": "correct horse battery", "name": "Ada"}
LOGIN = {"email": ADA["email"], "password": ADA["password"]}
ALL_SCOPES = [
    "ACCOUNT_READ", "ACCOUNT_WRITE", "DATASETS_READ", "DATASETS_WRITE", "MODELS_READ", "MODELS_WRITE", "RUNS_READ",
    "RUNS_WRITE",
]  # fmt: skip


async def sign_up(api: Api, **changes: Any) -> Any:
    return (await api.run(SIGN_UP, input=ADA | changes))["answer"]


async def sign_in(api: Api, *, address: str = "192.0.2.7", **changes: Any) -> Any:
    return (await api.run(SIGN_IN, address=address, input=LOGIN | changes))["answer"]


async def refresh(api: Api, token: str, viewer: Viewer | None = None) -> Any:
    return (await api.run(REFRESH, viewer, token=token))["answer"]


async def rows(engine: AsyncEngine, statement: str) -> list[tuple[Any, ...]]:
    async with engine.connect() as connection:
        return [tuple(row) for row in await connection.execute(sa.text(statement))]


class TestSignUp:
    async def test_gives_tokens_that_come_in(self, api: Api, clock: FixedClock) -> None:
        answer = await sign_up(api)
        viewer = await api.viewer_of(answer["accessToken"])
        assert viewer.kind is ViewerKind.USER
        assert viewer.user_id is not None
        assert viewer.credential_id is not None
        assert answer == {
            "__typename": "SignedIn",
            "accessToken": answer["accessToken"],
            "refreshToken": answer["refreshToken"],
            "expiresAt": "2026-01-15T12:15:00.000000Z",
            "viewer": {
                "id": global_id("Viewer", viewer.user_id),
                "email": "ada@example.com",
                "name": "Ada",
                "locale": "EN",
                "kind": "USER",
                "scopes": ALL_SCOPES,
            },
            "session": {
                "id": global_id("UserSession", viewer.credential_id),
                "userAgent": "Firefox",
                "address": "192.0.2.7",
                "isCurrent": True,
                "expiresAt": "2026-02-14T12:00:00.000000Z",
                "revokedAt": None,
            },
        }

    async def test_stores_hashes_only(self, api: Api, owner_engine: AsyncEngine) -> None:
        answer = await sign_up(api)
        ((stored,),) = await rows(owner_engine, "SELECT password_hash FROM users")
        ((token_hash,),) = await rows(owner_engine, "SELECT hash FROM refresh_tokens")
        assert await Passwords(CHEAP).verify(stored, ADA["password"])
        assert token_hash == digest_of(answer["refreshToken"])

    @pytest.mark.parametrize(
        ("changes", "code", "field"),
        [
            ({"email": "ada"}, "BAD_EMAIL", ["email"]),
            ({"password": "too short"}, "BAD_PASSWORD", ["password"]),
            ({"name": "a\nb"}, "BAD_NAME", ["name"]),
        ],
    )
    async def test_says_what_cannot_be_and_makes_nobody(
        self, api: Api, owner_engine: AsyncEngine, changes: dict[str, str], code: str, field: list[str]
    ) -> None:
        answer = await sign_up(api, **changes)
        assert (answer["__typename"], answer["code"], answer["field"]) == ("Invalid", code, field)
        assert await rows(owner_engine, "SELECT id FROM users") == []

    async def test_a_taken_address_is_said_whatever_its_capitals(self, api: Api, owner_engine: AsyncEngine) -> None:
        await sign_up(api)
        answer = await sign_up(api, email=" ADA@example.com", password="a password of eve's")
        assert (answer["__typename"], answer["code"]) == ("Conflict", "EMAIL_TAKEN")
        assert await rows(owner_engine, "SELECT count(*) FROM users") == [(1,)]
        assert await rows(owner_engine, "SELECT count(*) FROM user_sessions") == [(1,)]

    async def test_the_language_is_the_inputs_else_the_requests(self, api: Api) -> None:
        answer = await sign_up(api, locale="PT_BR")
        assert answer["viewer"]["locale"] == "PT_BR"
        document = SIGN_UP
        data = await api.run(document, Viewer.nobody(Locale.PT_BR), input=ADA | {"email": "eva@example.com"})
        assert data["answer"]["viewer"]["locale"] == "PT_BR"
        refusal = await api.run(document, Viewer.nobody(Locale.PT_BR), input=ADA)
        assert refusal["answer"]["message"].startswith("Já existe uma conta")


class TestSignIn:
    async def test_opens_a_session_beside_the_others(self, api: Api, owner_engine: AsyncEngine) -> None:
        first = await sign_up(api)
        second = await sign_in(api, email=" Ada@Example.com ")
        assert second["__typename"] == "SignedIn"
        assert second["viewer"] == first["viewer"]
        assert second["session"]["id"] != first["session"]["id"]
        assert (await api.viewer_of(first["accessToken"])).user_id == (
            await api.viewer_of(second["accessToken"])
        ).user_id
        assert await rows(owner_engine, "SELECT action FROM audit_log ORDER BY id") == [
            ("account.signed_up",),
            ("account.signed_in",),
        ]

    async def test_unknown_address_and_wrong_password_are_the_same_words_and_the_same_cost(
        self, api: Api, owner_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await sign_up(api)
        passwords = api.services.authentication.passwords
        verified: list[str] = []
        fits = passwords._fits

        def watched(stored: str, password: bytes) -> bool:
            verified.append(stored)
            return fits(stored, password)

        monkeypatch.setattr(passwords, "_fits", watched)
        wrong = await sign_in(api, password="another password")
        unknown = await sign_in(api, email="nobody@example.com")
        malformed = await sign_in(api, email="not an address")
        assert wrong == unknown == malformed
        assert wrong == {
            "__typename": "Forbidden",
            "code": "WRONG_CREDENTIALS",
            "message": "E-mail address or password is wrong.",
            "field": None,
            "retryAfterSeconds": None,
        }
        ((stored,),) = await rows(owner_engine, "SELECT password_hash FROM users")
        assert verified == [stored, passwords.nobodys, passwords.nobodys]
        assert await rows(owner_engine, "SELECT count(*) FROM user_sessions") == [(1,)]

    async def test_a_hash_of_old_parameters_is_made_anew(self, api: Api, owner_engine: AsyncEngine) -> None:
        await sign_up(api)
        ((before,),) = await rows(owner_engine, "SELECT password_hash FROM users")
        stronger = type(CHEAP)(time_cost=2, memory_cost=8, parallelism=1)
        api.services.authentication.passwords = Passwords(stronger)
        assert (await sign_in(api))["__typename"] == "SignedIn"
        ((after,),) = await rows(owner_engine, "SELECT password_hash FROM users")
        assert ("t=1" in before, "t=2" in after) == (True, True)
        assert (await sign_in(api))["__typename"] == "SignedIn"

    async def test_each_alias_is_an_attempt(self, api: Api, owner_engine: AsyncEngine) -> None:
        await sign_up(api)
        aliases = " ".join(
            f'a{n}: signIn(input: {{email: "e{n}@x.com", password: "p"}}) {{ {SIGNED_IN} }}' for n in range(12)
        )
        data = await api.run(f"mutation {{ {aliases} }}", address="192.0.2.99")
        codes = [data[f"a{n}"]["code"] for n in range(12)]
        assert codes == ["WRONG_CREDENTIALS"] * 10 + ["TOO_MANY_ATTEMPTS"] * 2
        assert 1 <= data["a11"]["retryAfterSeconds"] <= 60
        assert data["a11"]["__typename"] == "LimitReached"

    async def test_an_address_that_is_guessed_at_from_everywhere_is_protected(self, api: Api) -> None:
        await sign_up(api)
        for n in range(10):
            await sign_in(api, address=f"192.0.2.{n}", password="another password")
        assert (await sign_in(api, address="192.0.2.50"))["code"] == "TOO_MANY_ATTEMPTS"


class TestRefresh:
    async def test_goes_on_with_new_tokens_on_the_same_session(self, api: Api, clock: FixedClock) -> None:
        first = await sign_up(api)
        clock.at += timedelta(hours=1)
        second = await refresh(api, first["refreshToken"])
        assert second["session"]["id"] == first["session"]["id"]
        assert second["expiresAt"] == "2026-01-15T13:15:00.000000Z"
        assert (await api.viewer_of(second["accessToken"])).credential_id is not None

    async def test_a_used_token_ends_the_session_although_the_answer_is_a_refusal(
        self, api: Api, told: Told, owner_engine: AsyncEngine
    ) -> None:
        first = await sign_up(api)
        second = await refresh(api, first["refreshToken"])
        held = await api.viewer_of(second["accessToken"])
        for token in (first["refreshToken"], second["refreshToken"]):
            answer = await refresh(api, token)
            assert (answer["__typename"], answer["code"]) == ("Forbidden", "REFRESH_TOKEN_REUSED")
        assert await rows(owner_engine, "SELECT revoked_because FROM user_sessions") == [("REFRESH_TOKEN_REUSED",)]
        assert told.revoked[0] == held.credential_id
        with pytest.raises(CredentialRefused):
            await api.viewer_of(second["accessToken"])
        assert await rows(owner_engine, "SELECT action FROM audit_log ORDER BY id") == [
            ("account.signed_up",),
            ("account.refresh_token_reused",),
        ]

    @pytest.mark.parametrize("token", ["", "rwr_unknown", "\x00", "é" * 3000])
    async def test_what_is_no_token_of_ours_is_refused(self, api: Api, token: str) -> None:
        answer = await refresh(api, token)
        assert (answer["__typename"], answer["code"]) == ("Forbidden", "REFRESH_TOKEN_INVALID")

    async def test_two_at_once_cannot_both_go_on(self, api: Api, owner_engine: AsyncEngine) -> None:
        first = await sign_up(api)
        document = f"""mutation ($token: String!) {{
            one: refreshSession(refreshToken: $token) {{ {SIGNED_IN} }}
            two: refreshSession(refreshToken: $token) {{ {SIGNED_IN} }}
        }}"""
        data = await api.run(document, token=first["refreshToken"])
        assert [data["one"]["__typename"], data["two"].get("code")] == ["SignedIn", "REFRESH_TOKEN_REUSED"]

    async def test_after_its_last_day_the_session_has_ended(self, api: Api, clock: FixedClock) -> None:
        first = await sign_up(api)
        clock.at += timedelta(days=30)
        assert (await refresh(api, first["refreshToken"]))["code"] == "SESSION_ENDED"
