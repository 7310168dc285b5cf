"""Sessions: opened by signing up or in, continued by refresh tokens that are used once, ended for good."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlmodel import col, select

from db.unit_of_work import Database
from domain import account
from domain.account import queries
from domain.account.errors import EmailTaken, RefreshTokenUnknown, SessionEnded
from domain.account.inputs import Device, NewAccount
from domain.account.model import AuditEntry, RefreshToken, User, UserSession
from domain.account.service import REUSED, OpenedSession, ReuseFound, newcomer
from domain.base import new_id
from domain.clock import FixedClock
from domain.errors import NotFound, NotSignedIn
from domain.secret import Secret, digest_of
from domain.viewer import Locale, Scope, ScopeMissing, Viewer
from tests.factories import make_session, make_user

pytestmark = pytest.mark.anyio

MONTH = timedelta(days=30)
DEVICE = Device("Firefox", "192.0.2.7")


async def sign_up(database: Database, email: str = "ada@example.com") -> tuple[Viewer, OpenedSession]:
    viewer = newcomer(Locale.PT_BR)
    wanted = NewAccount.checked(email=email, password="correct horse battery", name="Ada")
    async with database.begin(viewer) as work:
        opened = await account.sign_up(
            work, viewer, account=wanted, password_hash="the hash", device=DEVICE, lifetime=MONTH
        )
    return viewer, opened


async def refresh(database: Database, viewer: Viewer, token: Secret) -> OpenedSession | ReuseFound:
    async with database.begin(viewer) as work:
        return await account.refresh_session(work, viewer, digest=digest_of(token.reveal()), lifetime=MONTH)


async def refreshed(database: Database, viewer: Viewer, token: Secret) -> OpenedSession:
    opened = await refresh(database, viewer, token)
    assert isinstance(opened, OpenedSession)
    return opened


async def session_row(database: Database, viewer: Viewer, session_id: UUID) -> UserSession:
    async with database.begin(viewer) as work:
        return await queries.session_of(work.session, viewer.require(), session_id)


async def actions(database: Database, viewer: Viewer) -> list[str]:
    async with database.begin(viewer) as work:
        return list((await work.session.exec(select(AuditEntry.action).order_by(col(AuditEntry.id)))).all())


class TestSignUp:
    async def test_writes_the_user_the_session_and_the_audit_entry(self, database: Database, clock: FixedClock) -> None:
        viewer, opened = await sign_up(database)
        async with database.begin(viewer) as work:
            user = (await work.session.exec(select(User))).one()
            session = (await work.session.exec(select(UserSession))).one()
            token = (await work.session.exec(select(RefreshToken))).one()
            entry = (await work.session.exec(select(AuditEntry))).one()
        assert user.model_dump() == {
            "id": viewer.user_id,
            "created_at": clock.at,
            "email": "ada@example.com",
            "name": "Ada",
            "password_hash": "the hash",
            "locale": Locale.PT_BR,
            "feed_seq": 0,
        }
        assert session.model_dump() == {
            "id": opened.session.id,
            "user_id": viewer.user_id,
            "created_at": clock.at,
            "last_used_at": clock.at,
            "expires_at": clock.at + MONTH,
            "revoked_at": None,
            "revoked_because": None,
            "user_agent": "Firefox",
            "address": "192.0.2.7",
        }
        assert token.hash == digest_of(opened.refresh_token.reveal())
        assert (token.session_id, token.used_at) == (session.id, None)
        assert (entry.action, entry.credential_id, entry.subject_id) == ("account.signed_up", session.id, user.id)

    async def test_a_taken_address_is_refused_and_leaves_nothing(self, database: Database) -> None:
        await sign_up(database)
        with pytest.raises(EmailTaken) as refusal:
            await sign_up(database)
        assert refusal.value.code == "EMAIL_TAKEN"
        async with database.begin() as work:
            assert await queries.login_of(work.session, "ada@example.com") is not None
            assert (await work.session.exec(select(UserSession))).all() == []

    async def test_without_a_newcomer_nobody_signs_up(self, database: Database) -> None:
        wanted = NewAccount.checked(email="ada@example.com", password="correct horse battery")
        async with database.begin() as work:
            with pytest.raises(NotSignedIn):
                await account.sign_up(
                    work, Viewer.nobody(), account=wanted, password_hash="h", device=DEVICE, lifetime=MONTH
                )


class TestSignIn:
    async def test_opens_another_session_beside_the_first(self, database: Database) -> None:
        viewer, first = await sign_up(database)
        async with database.begin(viewer) as work:
            second = await account.sign_in(work, viewer, device=Device("curl", "192.0.2.8"), lifetime=MONTH)
        assert second.session.id != first.session.id
        assert second.refresh_token != first.refresh_token
        assert await actions(database, viewer) == ["account.signed_up", "account.signed_in"]

    async def test_replaces_an_outdated_hash(self, database: Database) -> None:
        viewer, _ = await sign_up(database)
        async with database.begin(viewer) as work:
            await account.sign_in(work, viewer, device=DEVICE, lifetime=MONTH, new_hash="a stronger hash")
        async with database.begin() as work:
            login = await queries.login_of(work.session, "ada@example.com")
        assert login is not None
        assert login.password_hash == "a stronger hash"
        assert "hash" not in repr(login)


class TestRefresh:
    async def test_each_token_gives_the_next_and_a_longer_session(self, database: Database, clock: FixedClock) -> None:
        viewer, opened = await sign_up(database)
        clock.at += timedelta(days=29)
        second = await refreshed(database, viewer, opened.refresh_token)
        clock.at += timedelta(days=29)
        third = await refreshed(database, viewer, second.refresh_token)
        assert third.session.id == opened.session.id
        assert len({opened.refresh_token, second.refresh_token, third.refresh_token}) == 3
        row = await session_row(database, viewer, opened.session.id)
        assert (row.last_used_at, row.expires_at) == (clock.at, clock.at + MONTH)

    async def test_a_used_token_ends_the_whole_session(self, database: Database, clock: FixedClock) -> None:
        viewer, opened = await sign_up(database)
        second = await refreshed(database, viewer, opened.refresh_token)
        clock.at += timedelta(minutes=1)
        assert await refresh(database, viewer, opened.refresh_token) == ReuseFound(opened.session.id)
        row = await session_row(database, viewer, opened.session.id)
        assert (row.revoked_at, row.revoked_because) == (clock.at, REUSED)
        # Whoever holds the newest token, the thief or its owner, is told the reason.
        assert await refresh(database, viewer, second.refresh_token) == ReuseFound(opened.session.id)
        assert await actions(database, viewer) == ["account.signed_up", "account.refresh_token_reused"]

    async def test_the_users_other_sessions_go_on(self, database: Database) -> None:
        viewer, opened = await sign_up(database)
        async with database.begin(viewer) as work:
            other = await account.sign_in(work, viewer, device=DEVICE, lifetime=MONTH)
        await refresh(database, viewer, opened.refresh_token)
        await refresh(database, viewer, opened.refresh_token)
        assert (await refreshed(database, viewer, other.refresh_token)).session.id == other.session.id

    async def test_an_expired_session_is_not_continued(self, database: Database, clock: FixedClock) -> None:
        viewer, opened = await sign_up(database)
        clock.at += MONTH
        with pytest.raises(SessionEnded):
            await refresh(database, viewer, opened.refresh_token)

    async def test_a_revoked_session_is_not_continued(self, database: Database) -> None:
        viewer, opened = await sign_up(database)
        async with database.begin(viewer) as work:
            await account.revoke_session(work, viewer, session_id=opened.session.id)
        with pytest.raises(SessionEnded):
            await refresh(database, viewer, opened.refresh_token)

    async def test_another_users_token_is_unknown(self, database: Database) -> None:
        _, opened = await sign_up(database)
        stranger, _ = await sign_up(database, "eve@example.com")
        with pytest.raises(RefreshTokenUnknown):
            await refresh(database, stranger, opened.refresh_token)


class TestRevoke:
    async def test_is_written_once(self, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        other = await make_session(database, viewer)
        for _ in range(2):
            async with database.begin(viewer) as work:
                await account.revoke_session(work, viewer, session_id=other.id)
            clock.at += timedelta(minutes=1)
        row = await session_row(database, viewer, other.id)
        assert row.revoked_at == clock.at - timedelta(minutes=2)
        assert await actions(database, viewer) == ["account.session_revoked"]

    async def test_foreign_and_unknown_sessions_are_not_found(self, database: Database) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        assert stranger.credential_id is not None
        for session_id in (stranger.credential_id, new_id()):
            async with database.begin(viewer) as work:
                with pytest.raises(NotFound):
                    await account.revoke_session(work, viewer, session_id=session_id)
        assert (await session_row(database, stranger, stranger.credential_id)).revoked_at is None

    async def test_needs_the_right_to_write(self, database: Database) -> None:
        viewer = await make_user(database, scopes=frozenset({Scope.ACCOUNT_READ}))
        assert viewer.credential_id is not None
        async with database.begin(viewer) as work:
            with pytest.raises(ScopeMissing):
                await account.revoke_session(work, viewer, session_id=viewer.credential_id)


async def test_the_list_shows_what_is_signed_in_now(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    await make_user(database)
    await make_session(database, viewer, expires_at=clock.at)
    await make_session(database, viewer, revoked_at=clock.at)
    newest = await make_session(database, viewer)
    async with database.begin(viewer) as work:
        page = await queries.sessions_page(work.session, viewer.require(), work.now, first=20, after=None)
    assert [row.id for row in page.rows] == [newest.id, viewer.credential_id]
