"""What is asked about users and their credentials.

Questions that come before anybody is known go through functions of the database that give as little as is needed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.account.model import ApiKey, RefreshToken, User, UserSession
from domain.errors import NotFound
from domain.paging import PageOf, page_of
from domain.viewer import Locale, Scope


@dataclass(frozen=True, slots=True)
class Login:
    """What signing in needs to know of a user."""

    user_id: UUID
    password_hash: str
    locale: Locale

    def __repr__(self) -> str:
        return f"Login({self.user_id})"


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether a credential is good, and what it allows."""

    credential_id: UUID
    user_id: UUID
    locale: Locale
    is_api_key: bool
    scopes: frozenset[Scope]
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    test_mode: bool = False

    def is_active(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


async def login_of(session: AsyncSession, email: str) -> Login | None:
    """The user with this address, whoever asks."""
    if "\0" in email:  # PostgreSQL refuses to look for it, and nobody has it
        return None
    found = await _ask(session, "SELECT id, password_hash, locale FROM find_login(:email)", email=email)
    row = found.one_or_none()
    return None if row is None else Login(row.id, row.password_hash, Locale(row.locale))


async def owner_of_refresh_token(session: AsyncSession, digest: bytes) -> UUID | None:
    """The user whose token this is, whoever asks."""
    found = await _ask(session, "SELECT user_id FROM find_session(:digest)", digest=digest)
    owner: UUID | None = found.scalar_one_or_none()
    return owner


async def standing_of_key(session: AsyncSession, digest: bytes) -> Standing | None:
    """The API key with this hash, whoever asks."""
    found = await _ask(
        session,
        "SELECT id, user_id, scopes, expires_at, revoked_at, last_used_at, locale, test_mode"
        " FROM find_api_key(:digest)",
        digest=digest,
    )
    row = found.one_or_none()
    if row is None:
        return None
    return Standing(
        credential_id=row.id,
        user_id=row.user_id,
        locale=Locale(row.locale),
        is_api_key=True,
        scopes=known_scopes(row.scopes),
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        test_mode=row.test_mode,
    )


async def standing_of(session: AsyncSession, user_id: UUID, credential_id: UUID) -> Standing | None:
    """The user's session or API key with this id, asked as that user."""
    statement = (
        select(col(User.locale), UserSession, ApiKey)
        .select_from(User)
        .outerjoin(UserSession, (col(UserSession.id) == credential_id) & (col(UserSession.user_id) == user_id))
        .outerjoin(ApiKey, (col(ApiKey.id) == credential_id) & (col(ApiKey.user_id) == user_id))
        .where(User.id == user_id)
    )
    row = (await session.exec(statement)).one_or_none()
    if row is None:
        return None
    locale, device, key = row
    credential: UserSession | ApiKey | None = key if device is None else device
    if credential is None:
        return None
    return Standing(
        credential_id=credential.id,
        user_id=user_id,
        locale=locale,
        is_api_key=isinstance(credential, ApiKey),
        scopes=known_scopes(credential.scopes) if isinstance(credential, ApiKey) else frozenset(Scope),
        expires_at=credential.expires_at,
        revoked_at=credential.revoked_at,
        last_used_at=credential.last_used_at,
        test_mode=isinstance(credential, ApiKey) and credential.test_mode,
    )


async def ended_credentials(session: AsyncSession, ids: Iterable[UUID]) -> set[UUID]:
    """Those of these sessions and keys that were revoked or have expired, whoever asks."""
    found = await _ask(session, "SELECT id FROM find_ended_credentials(:ids)", ids=list(ids))
    return set(found.scalars())


async def user_of(session: AsyncSession, user_id: UUID) -> User:
    """The viewer's own row."""
    return (await session.exec(select(User).where(User.id == user_id))).one()


async def session_of(session: AsyncSession, user_id: UUID, session_id: UUID, *, lock: bool = False) -> UserSession:
    """One of the user's sessions. Raises `NotFound`."""
    statement = select(UserSession).where(UserSession.id == session_id, UserSession.user_id == user_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = (await session.exec(statement)).one_or_none()
    if found is None:
        raise NotFound("UserSession")
    return found


async def refresh_token_of(session: AsyncSession, user_id: UUID, digest: bytes) -> RefreshToken | None:
    """One of the user's refresh tokens, read again even if it was loaded."""
    statement = (
        select(RefreshToken)
        .where(RefreshToken.hash == digest, RefreshToken.user_id == user_id)
        .execution_options(populate_existing=True)
    )
    return (await session.exec(statement)).one_or_none()


async def sessions_page(
    session: AsyncSession, user_id: UUID, now: datetime, *, first: int, after: str | None
) -> PageOf[UserSession]:
    """The devices that the user is signed in on, newest first."""

    def narrow(statement: SelectOfScalar[UserSession]) -> SelectOfScalar[UserSession]:
        return statement.where(
            UserSession.user_id == user_id,
            col(UserSession.revoked_at).is_(None),
            col(UserSession.expires_at) > now,
        )

    return await page_of(session, UserSession, narrow, first=first, after=after)


async def api_key_of(session: AsyncSession, user_id: UUID, key_id: UUID, *, lock: bool = False) -> ApiKey:
    """One of the user's keys. Raises `NotFound`."""
    statement = select(ApiKey).where(ApiKey.id == key_id, ApiKey.user_id == user_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = (await session.exec(statement)).one_or_none()
    if found is None:
        raise NotFound("ApiKey")
    return found


async def api_keys_page(session: AsyncSession, user_id: UUID, *, first: int, after: str | None) -> PageOf[ApiKey]:
    """All keys of the user, also those that have ended, newest first."""
    return await page_of(
        session, ApiKey, lambda statement: statement.where(ApiKey.user_id == user_id), first=first, after=after
    )


async def active_api_keys(session: AsyncSession, user_id: UUID, now: datetime) -> int:
    """How many of the user's keys can be used."""
    statement = select(func.count()).where(
        ApiKey.user_id == user_id,
        col(ApiKey.revoked_at).is_(None),
        col(ApiKey.expires_at).is_(None) | (col(ApiKey.expires_at) > now),
    )
    return (await session.exec(statement)).one()


def known_scopes(words: Iterable[str]) -> frozenset[Scope]:
    """The scopes that exist today; a stored word that means nothing any more allows nothing."""
    known = set(Scope)
    return frozenset(Scope(word) for word in words if word in known)


async def _ask(session: AsyncSession, statement: str, **params: Any) -> sa.CursorResult[*tuple[Any, ...]]:
    """Plain SQL, within the session's transaction."""
    return await (await session.connection()).execute(sa.text(statement), params)
