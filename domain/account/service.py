"""The verbs of accounts. None of them commits, hashes a password or tells a socket; their callers do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select

from domain.account import queries
from domain.account.audit import note
from domain.account.errors import (
    BadExpiry,
    EmailTaken,
    ExpiryBeyondYours,
    RefreshTokenUnknown,
    ScopesNeeded,
    ScopesNotYours,
    SessionEnded,
    TooManyApiKeys,
)
from domain.account.inputs import Device, NewAccount, checked_name
from domain.account.model import ApiKey, RefreshToken, User, UserSession
from domain.base import new_id
from domain.events import time_text
from domain.secret import Secret, digest_of, new_token
from domain.viewer import ALL_SCOPES, Locale, Scope, Viewer, ViewerKind
from domain.work import UnitOfWork

REFRESH_PREFIX = "rwr_"
API_KEY_PREFIX = "rwk_"
TEST_KEY_PREFIX = "rwk_test_"
"""For people to see what they hold; whether a key is one of test mode says its row."""
SHOWN_CHARACTERS = 8
"""Of a key's text behind its prefix: enough to tell one's keys apart, too little to guess the rest."""
MOST_API_KEYS = 50
USED_EVERY = timedelta(minutes=1)
"""How exact `last_used_at` of a key is; a write per request would be too many."""

REUSED = "REFRESH_TOKEN_REUSED"
REVOKED = "REVOKED"


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session with the one refresh token that continues it, which is not stored and cannot be shown again."""

    user: User
    session: UserSession
    refresh_token: Secret


@dataclass(frozen=True, slots=True)
class ReuseFound:
    """A used refresh token came back, so its session was revoked. To be committed, and then refused."""

    session_id: UUID


def newcomer(locale: Locale = Locale.EN) -> Viewer:
    """Somebody who is about to sign up, with the id that their user will have."""
    return Viewer(kind=ViewerKind.USER, user_id=new_id(), scopes=ALL_SCOPES, locale=locale)


def known_user(user_id: UUID, locale: Locale = Locale.EN) -> Viewer:
    """Somebody who has just proved who they are, by a password or a refresh token, and has no session at hand yet."""
    return Viewer(kind=ViewerKind.USER, user_id=user_id, scopes=ALL_SCOPES, locale=locale)


async def sign_up(
    work: UnitOfWork, viewer: Viewer, *, account: NewAccount, password_hash: str, device: Device, lifetime: timedelta
) -> OpenedSession:
    """Make the newcomer a user, signed in on this device for `lifetime`. Raises `EmailTaken`."""
    user = User(
        id=viewer.require(),
        created_at=work.now,
        email=account.email,
        name=account.name,
        password_hash=password_hash,
        locale=viewer.locale,
    )
    work.session.add(user)
    try:
        await work.session.flush()
    except IntegrityError as error:
        if "uq_users_email" in str(error.orig):
            raise EmailTaken from None
        raise
    opened = await _open_session(work, user, device, lifetime)
    note(work, user.id, "account.signed_up", credential_id=opened.session.id, subject_id=user.id)
    return opened


async def sign_in(
    work: UnitOfWork, viewer: Viewer, *, device: Device, lifetime: timedelta, new_hash: str | None = None
) -> OpenedSession:
    """Open a session for a user whose password was right. `new_hash` replaces one made with old parameters."""
    user = await queries.user_of(work.session, viewer.require())
    if new_hash is not None:
        user.password_hash = new_hash
    opened = await _open_session(work, user, device, lifetime)
    note(work, user.id, "account.signed_in", credential_id=opened.session.id, subject_id=opened.session.id)
    return opened


async def refresh_session(
    work: UnitOfWork, viewer: Viewer, *, digest: bytes, lifetime: timedelta
) -> OpenedSession | ReuseFound:
    """Use up a refresh token and give the next. One that was used before ends the session instead.

    Raises `RefreshTokenUnknown` or `SessionEnded`."""
    user_id = viewer.require()
    token = await queries.refresh_token_of(work.session, user_id, digest)
    if token is None:
        raise RefreshTokenUnknown
    # Two who show the same token at once take turns here, and the second finds it used.
    session = await queries.session_of(work.session, user_id, token.session_id, lock=True)
    token = await queries.refresh_token_of(work.session, user_id, digest)
    if token is None:
        raise RefreshTokenUnknown
    if session.revoked_because == REUSED:
        return ReuseFound(session.id)
    if not session.is_active(work.now):
        raise SessionEnded
    if token.used_at is not None:
        session.revoked_at = work.now
        session.revoked_because = REUSED
        note(work, user_id, "account.refresh_token_reused", credential_id=session.id, subject_id=session.id)
        return ReuseFound(session.id)
    token.used_at = work.now
    session.last_used_at = work.now
    session.expires_at = work.now + lifetime
    user = await queries.user_of(work.session, user_id)
    return OpenedSession(user, session, _new_refresh_token(work, session))


async def revoke_session(work: UnitOfWork, viewer: Viewer, *, session_id: UUID) -> UserSession:
    """Sign a device of the viewer's out, the one they are on included. Again is the same. Raises `NotFound`."""
    user_id = viewer.require(Scope.ACCOUNT_WRITE)
    session = await queries.session_of(work.session, user_id, session_id, lock=True)
    if session.revoked_at is None:
        session.revoked_at = work.now
        session.revoked_because = REVOKED
        note(work, user_id, "account.session_revoked", credential_id=viewer.credential_id, subject_id=session.id)
    return session


async def create_api_key(
    work: UnitOfWork,
    viewer: Viewer,
    *,
    name: str,
    scopes: frozenset[Scope],
    expires_at: datetime | None = None,
    test_mode: bool = False,
) -> tuple[ApiKey, Secret]:
    """Make a key and its text, which is not stored and cannot be shown again. One of test mode makes only such keys.

    Raises `BadName`, `ScopesNeeded`, `ScopesNotYours`, `BadExpiry`, `ExpiryBeyondYours`, `TooManyApiKeys`."""
    user_id = viewer.require(Scope.ACCOUNT_WRITE)
    name = checked_name(name, shortest=1)
    if not scopes:
        raise ScopesNeeded
    if scopes - viewer.scopes:
        raise ScopesNotYours(sorted(scopes - viewer.scopes))
    if expires_at is not None and expires_at <= work.now:
        raise BadExpiry
    latest = viewer.expires_at if viewer.kind is ViewerKind.API_KEY else None
    if latest is not None and (expires_at is None or expires_at > latest):
        raise ExpiryBeyondYours(time_text(latest))
    # The user's row stands for their keys while these are counted, so that two requests cannot both make the last.
    await work.session.exec(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    if await queries.active_api_keys(work.session, user_id, work.now) >= MOST_API_KEYS:
        raise TooManyApiKeys(MOST_API_KEYS)
    is_test = test_mode or viewer.test_mode
    prefix = TEST_KEY_PREFIX if is_test else API_KEY_PREFIX
    token = new_token(prefix)
    key = ApiKey(
        id=new_id(),
        user_id=user_id,
        created_at=work.now,
        name=name,
        prefix=token.reveal()[: len(prefix) + SHOWN_CHARACTERS],
        hash=digest_of(token.reveal()),
        scopes=sorted(scopes),
        test_mode=is_test,
        expires_at=expires_at,
    )
    work.session.add(key)
    note(
        work,
        user_id,
        "account.api_key_created",
        credential_id=viewer.credential_id,
        subject_id=key.id,
        details={"name": name, "prefix": key.prefix, "scopes": key.scopes, "testMode": is_test},
    )
    return key, token


async def revoke_api_key(work: UnitOfWork, viewer: Viewer, *, key_id: UUID) -> ApiKey:
    """End a key for good. Again is the same. Raises `NotFound`."""
    user_id = viewer.require(Scope.ACCOUNT_WRITE)
    key = await queries.api_key_of(work.session, user_id, key_id, lock=True)
    if key.revoked_at is None:
        key.revoked_at = work.now
        note(work, user_id, "account.api_key_revoked", credential_id=viewer.credential_id, subject_id=key.id)
    return key


async def note_key_use(work: UnitOfWork, viewer: Viewer, *, key_id: UUID) -> None:
    """Write down that a key was used just now, once a minute at most."""
    statement = (
        sa.update(ApiKey)
        .where(
            col(ApiKey.id) == key_id,
            col(ApiKey.user_id) == viewer.require(),
            col(ApiKey.last_used_at).is_(None) | (col(ApiKey.last_used_at) <= work.now - USED_EVERY),
        )
        .values(last_used_at=work.now)
    )
    await work.session.exec(statement)


async def update_user(work: UnitOfWork, viewer: Viewer, *, name: str | None, locale: Locale | None) -> User:
    """Change what the user says about themselves; None leaves it. Raises `BadName`."""
    user = await queries.user_of(work.session, viewer.require(Scope.ACCOUNT_WRITE))
    if name is not None:
        user.name = checked_name(name)
    if locale is not None:
        user.locale = locale
    return user


async def _open_session(work: UnitOfWork, user: User, device: Device, lifetime: timedelta) -> OpenedSession:
    session = UserSession(
        id=new_id(),
        user_id=user.id,
        created_at=work.now,
        last_used_at=work.now,
        expires_at=work.now + lifetime,
        user_agent=device.user_agent,
        address=device.address,
    )
    work.session.add(session)
    await work.session.flush()  # without a relationship the session of SQLAlchemy would not know which comes first
    return OpenedSession(user, session, _new_refresh_token(work, session))


def _new_refresh_token(work: UnitOfWork, session: UserSession) -> Secret:
    token = new_token(REFRESH_PREFIX)
    work.session.add(
        RefreshToken(
            hash=digest_of(token.reveal()), user_id=session.user_id, session_id=session.id, created_at=work.now
        )
    )
    return token
