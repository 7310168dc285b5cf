"""From the header to the viewer: what is taken, what is refused, what is remembered, and for how long."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from db.settings import Settings
from db.unit_of_work import Database
from domain import account
from domain.account.errors import NotForThisCredential
from domain.account.model import ApiKey
from domain.account.passwords import Passwords
from domain.base import new_id
from domain.clock import FixedClock
from domain.viewer import ALL_SCOPES, Locale, Scope, ScopeMissing, Viewer, ViewerKind
from graph.auth import Authentication, Refused, may_renew
from graph.live.connections import CredentialRefused
from tests.factories import make_api_key, make_session, make_user
from tests.graph.account.conftest import CHEAP

pytestmark = pytest.mark.anyio

MINUTE = timedelta(minutes=1)
RUN = UUID("01900000-0000-7000-8000-000000000003")


def token_of(authentication: Authentication, viewer: Viewer) -> str:
    assert viewer.user_id is not None
    assert viewer.credential_id is not None
    return authentication.access_token(viewer.user_id, viewer.credential_id)[0].reveal()


async def come_in(authentication: Authentication, token: str) -> Viewer:
    return await authentication.authenticate(f"Bearer {token}")


async def code_of(authentication: Authentication, authorization: str) -> str:
    """The code that the header is refused with."""
    with pytest.raises(CredentialRefused) as refusal:
        await authentication.authenticate(authorization)
    assert isinstance(refusal.value, Refused)
    return refusal.value.code


class Counting:
    """A database that tells how often it was asked."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = database.clock
        self.asked = 0

    @asynccontextmanager
    async def begin(self, viewer: Viewer | None = None) -> AsyncIterator[Any]:
        self.asked += 1
        async with self.database.begin(viewer) as work:
            yield work


class TestAccessTokens:
    async def test_show_who_asks(self, database: Database, authentication: Authentication, clock: FixedClock) -> None:
        viewer = await make_user(database, locale=Locale.PT_BR)
        assert await come_in(authentication, token_of(authentication, viewer)) == Viewer(
            kind=ViewerKind.USER,
            user_id=viewer.user_id,
            credential_id=viewer.credential_id,
            scopes=ALL_SCOPES,
            expires_at=clock.at + 15 * MINUTE,
            locale=Locale.PT_BR,
        )

    async def test_end_when_they_say(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        token = token_of(authentication, viewer)
        clock.at += 15 * MINUTE - timedelta(seconds=1)
        await come_in(authentication, token)
        clock.at += timedelta(seconds=1)  # remembered a second ago, and over all the same
        assert await code_of(authentication, f"Bearer {token}") == "TOKEN_EXPIRED"

    async def test_end_with_their_session(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        assert viewer.user_id is not None
        for ended in ({"revoked_at": clock.at}, {"expires_at": clock.at}):
            session = await make_session(database, viewer, **ended)
            token, _ = authentication.access_token(viewer.user_id, session.id)
            assert await code_of(authentication, f"Bearer {token.reveal()}") == "SESSION_ENDED"

    async def test_of_foreign_and_unknown_sessions_are_not_valid(
        self, database: Database, authentication: Authentication
    ) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        key, _ = await make_api_key(database, viewer)
        assert viewer.user_id is not None
        assert stranger.credential_id is not None
        for session_id in (stranger.credential_id, key.id, new_id()):
            token, _ = authentication.access_token(viewer.user_id, session_id)
            assert await code_of(authentication, f"Bearer {token.reveal()}") == "TOKEN_INVALID"
        token, _ = authentication.access_token(new_id(), new_id())
        assert await code_of(authentication, f"Bearer {token.reveal()}") == "TOKEN_INVALID"

    async def test_are_not_app_tokens(self, authentication: Authentication) -> None:
        token = authentication.tokens.app_token("k2zt6w3qv5ybmn4d").reveal()
        assert await code_of(authentication, f"Bearer {token}") == "TOKEN_INVALID"

    async def test_of_all_forgers_are_refused_in_the_same_words(
        self, database: Database, authentication: Authentication, settings: Settings
    ) -> None:
        viewer = await make_user(database)
        good = jwt.decode(token_of(authentication, viewer), options={"verify_signature": False})
        forged = [
            jwt.encode(good, "", algorithm="none"),
            jwt.encode(good, "some other key, long enough to sign", algorithm="HS256"),
            jwt.encode(good | {"aud": "another"}, settings.signing_keys()[0], algorithm="HS256"),
            "rwk_" + "A" * 43,
            "nonsense",
        ]
        reasons = set()
        for token in forged:
            with pytest.raises(CredentialRefused) as refusal:
                await come_in(authentication, token)
            reasons.add(refusal.value.reason)
        assert reasons == {"The credential is not valid."}


class TestHeader:
    async def test_nobody_comes_without_one(self, authentication: Authentication) -> None:
        assert await authentication.authenticate(None, locale=Locale.PT_BR) == Viewer.nobody(Locale.PT_BR)

    async def test_the_scheme_may_be_written_as_one_likes(
        self, database: Database, authentication: Authentication
    ) -> None:
        viewer = await make_user(database)
        token = token_of(authentication, viewer)
        assert (await authentication.authenticate(f"bearer  {token} ")).user_id == viewer.user_id

    @pytest.mark.parametrize(
        "authorization",
        ["", "Bearer", "Bearer ", "Basic YWRhOnB3", "Token abc", "Bearer a b", "Bearer é", "Bearer " + "a" * 5000],
    )
    async def test_only_bearer_is_taken(self, authentication: Authentication, authorization: str) -> None:
        assert await code_of(authentication, authorization) == "CREDENTIAL_MALFORMED"


class TestApiKeys:
    async def test_show_their_scopes_and_end(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        ends = clock.at + timedelta(days=1)
        key, token = await make_api_key(database, viewer, scopes=frozenset({Scope.RUNS_READ}), expires_at=ends)
        assert await come_in(authentication, token.reveal()) == Viewer(
            kind=ViewerKind.API_KEY,
            user_id=viewer.user_id,
            credential_id=key.id,
            scopes=frozenset({Scope.RUNS_READ}),
            expires_at=ends,
        )
        clock.at = ends
        assert await code_of(authentication, f"Bearer {token.reveal()}") == "KEY_EXPIRED"

    async def test_that_were_revoked_say_so(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        _, token = await make_api_key(database, await make_user(database), revoked_at=clock.at)
        assert await code_of(authentication, f"Bearer {token.reveal()}") == "KEY_REVOKED"

    async def test_remember_their_last_use_to_the_minute(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        key, token = await make_api_key(database, viewer)
        used = []
        for _ in range(3):
            clock.at += timedelta(seconds=40)
            await come_in(authentication, token.reveal())
            async with database.begin(viewer) as work:
                row = await work.session.get(ApiKey, key.id)
            assert row is not None
            used.append(row.last_used_at)
        assert used == [clock.at - timedelta(seconds=80), clock.at - timedelta(seconds=80), clock.at]


class TestMemory:
    async def test_a_burst_asks_the_database_once(self, database: Database, settings: Settings) -> None:
        counting: Any = Counting(database)
        authentication = Authentication(settings, counting, passwords=Passwords(CHEAP))
        token = token_of(authentication, await make_user(database))
        for _ in range(20):
            await come_in(authentication, token)
        assert counting.asked == 1

    async def test_a_revocation_that_nobody_told_is_felt_after_two_seconds(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        token = token_of(authentication, viewer)
        await come_in(authentication, token)
        await revoke(database, viewer)
        clock.at += timedelta(seconds=2)
        assert await code_of(authentication, f"Bearer {token}") == "SESSION_ENDED"

    async def test_a_revocation_that_was_told_is_felt_at_once(
        self, database: Database, authentication: Authentication
    ) -> None:
        viewer = await make_user(database)
        assert viewer.credential_id is not None
        token = token_of(authentication, viewer)
        await come_in(authentication, token)
        await revoke(database, viewer)
        authentication.forget(viewer.credential_id)
        assert await code_of(authentication, f"Bearer {token}") == "SESSION_ENDED"

    async def test_a_no_is_not_remembered(self, database: Database, authentication: Authentication) -> None:
        viewer = await make_user(database)
        session_id = new_id()
        assert viewer.user_id is not None
        token = authentication.access_token(viewer.user_id, session_id)[0].reveal()
        assert await code_of(authentication, f"Bearer {token}") == "TOKEN_INVALID"
        await make_session(database, viewer, id=session_id)
        assert (await come_in(authentication, token)).user_id == viewer.user_id

    async def test_it_is_bounded(
        self, database: Database, authentication: Authentication, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("graph.auth.MOST_REMEMBERED", 2)
        for _ in range(4):
            await come_in(authentication, token_of(authentication, await make_user(database)))
        assert len(authentication._remembered) == 2


class TestStreamTokens:
    async def test_read_runs_and_nothing_else(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        token, expires_at = authentication.stream_token(viewer, RUN)
        assert expires_at == clock.at + 5 * MINUTE
        found = await come_in(authentication, token.reveal())
        assert found == Viewer(
            kind=ViewerKind.STREAM,
            user_id=viewer.user_id,
            credential_id=viewer.credential_id,
            scopes=frozenset({Scope.RUNS_READ}),
            expires_at=expires_at,
            run_id=RUN,
        )
        assert found.may_watch(RUN)
        assert not found.may_watch(new_id())

    async def test_end_with_the_credential_they_came_from(
        self, database: Database, authentication: Authentication, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        ends = clock.at + MINUTE
        key, key_token = await make_api_key(database, viewer, expires_at=ends)
        holder = await come_in(authentication, key_token.reveal())
        token, expires_at = authentication.stream_token(holder)
        assert expires_at == ends
        assert (await come_in(authentication, token.reveal())).credential_id == key.id
        async with database.begin(viewer) as work:
            await account.revoke_api_key(work, viewer, key_id=key.id)
        authentication.forget(key.id)
        assert await code_of(authentication, f"Bearer {token.reveal()}") == "KEY_REVOKED"

    async def test_make_no_further_ones(self, database: Database, authentication: Authentication) -> None:
        viewer = await make_user(database)
        token, _ = authentication.stream_token(viewer)
        holder = await come_in(authentication, token.reveal())
        with pytest.raises(NotForThisCredential):
            authentication.stream_token(holder)

    async def test_need_the_right_to_read_runs(self, database: Database, authentication: Authentication) -> None:
        viewer = await make_user(database, scopes=frozenset({Scope.ACCOUNT_READ}))
        with pytest.raises(ScopeMissing):
            authentication.stream_token(viewer)


def test_a_connection_is_renewed_by_its_user_and_loses_no_right() -> None:
    user, stranger = new_id(), new_id()
    held = Viewer(kind=ViewerKind.API_KEY, user_id=user, scopes=frozenset({Scope.RUNS_READ}))
    assert may_renew(held, Viewer(kind=ViewerKind.USER, user_id=user, scopes=ALL_SCOPES))
    assert not may_renew(held, Viewer(kind=ViewerKind.USER, user_id=stranger, scopes=ALL_SCOPES))
    assert not may_renew(held, Viewer(kind=ViewerKind.API_KEY, user_id=user, scopes=frozenset({Scope.MODELS_READ})))
    assert not may_renew(held, Viewer(kind=ViewerKind.STREAM, user_id=user, scopes=frozenset({Scope.RUNS_READ})))
    assert not may_renew(Viewer.nobody(), Viewer.nobody())


async def test_ended_credentials_are_found_whoever_owns_them(
    database: Database, authentication: Authentication, owner_engine: AsyncEngine
) -> None:
    """The database compares with its own clock, so that API processes whose clocks differ close the same sockets."""
    viewer = await make_user(database)
    async with owner_engine.connect() as connection:
        now = await connection.scalar(sa.text("SELECT now()"))
    assert now is not None
    good = await make_session(database, viewer, expires_at=now + timedelta(days=1))
    expired = await make_session(database, viewer, expires_at=now - timedelta(days=1))
    revoked = await make_session(database, viewer, expires_at=now + timedelta(days=1), revoked_at=now)
    good_key, _ = await make_api_key(database, viewer)
    revoked_key, _ = await make_api_key(database, await make_user(database), revoked_at=now)
    asked = [good.id, expired.id, revoked.id, good_key.id, revoked_key.id, new_id()]
    assert await authentication.ended_credentials(asked) == {expired.id, revoked.id, revoked_key.id}
    assert await authentication.ended_credentials([]) == set()


async def revoke(database: Database, viewer: Viewer) -> None:
    assert viewer.credential_id is not None
    async with database.begin(viewer) as work:
        await account.revoke_session(work, viewer, session_id=viewer.credential_id)
