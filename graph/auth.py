"""From an `Authorization` header to a viewer, on every door alike: HTTP, sockets and streams.

Whether a token was signed by us costs nothing to say; whether its session still stands is asked of the database, and a
yes is remembered for two seconds, so that bursts are cheap and a revocation is felt at once even without Redis.
"""

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from db.settings import Settings
from db.unit_of_work import Database
from domain.account import queries
from domain.account.errors import NotForThisCredential
from domain.account.passwords import Passwords
from domain.account.queries import Standing
from domain.account.service import API_KEY_PREFIX, USED_EVERY, known_user, note_key_use
from domain.account.tokens import LONGEST_TOKEN, BadToken, ExpiredToken, Tokens, TokenType
from domain.secret import Secret, digest_of
from domain.viewer import ALL_SCOPES, Locale, Scope, Viewer, ViewerKind
from graph.live.connections import CredentialRefused

REMEMBERED = timedelta(seconds=2)
"""How long a yes of the database holds."""
MOST_REMEMBERED = 10_000
STREAM_SCOPES = frozenset({Scope.RUNS_READ})

_CREDENTIAL = re.compile(r"bearer +([A-Za-z0-9._~+/=-]+) *\Z", re.IGNORECASE)


class Refused(CredentialRefused):
    """A credential that nobody can come in with. The words tell apart only what its rightful owner must know."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class BadScheme(Refused):
    def __init__(self) -> None:
        super().__init__("CREDENTIAL_MALFORMED", "Send the credential as 'Authorization: Bearer <token or API key>'.")


class NotOurs(Refused):
    """Forged, cut off, of another kind, or of somebody who is gone."""

    def __init__(self) -> None:
        super().__init__("TOKEN_INVALID", "The credential is not valid.")


class Expired(Refused):
    def __init__(self) -> None:
        super().__init__("TOKEN_EXPIRED", "The credential has expired: refresh the session, or sign in again.")


class Revoked(Refused):
    def __init__(self) -> None:
        super().__init__("SESSION_ENDED", "The session of this credential has ended: sign in again.")


class KeyRevoked(Refused):
    def __init__(self) -> None:
        super().__init__("KEY_REVOKED", "This API key was revoked.")


class KeyExpired(Refused):
    def __init__(self) -> None:
        super().__init__("KEY_EXPIRED", "This API key has expired.")


@dataclass(frozen=True, slots=True)
class _Remembered:
    viewer: Viewer
    until: datetime


class Authentication:
    """Who asks. One per process."""

    def __init__(self, settings: Settings, database: Database, *, passwords: Passwords | None = None) -> None:
        self.database = database
        self.clock = database.clock
        self.passwords = passwords or Passwords()
        self.tokens = Tokens(settings.signing_keys(), self.clock)
        self._access_lifetime = timedelta(seconds=settings.access_token_seconds)
        self._stream_lifetime = timedelta(seconds=settings.stream_token_seconds)
        self._remembered: OrderedDict[bytes, _Remembered] = OrderedDict()
        self._forgotten = 0

    async def authenticate(self, authorization: str | None, *, locale: Locale = Locale.EN) -> Viewer:
        """The viewer behind the header's value; without one, nobody, who reads `locale`.

        Raises `CredentialRefused`, or `Unavailable` where the database does not answer."""
        if authorization is None:
            return Viewer.nobody(locale)
        found = _CREDENTIAL.match(authorization)
        if found is None or len(found[1]) > LONGEST_TOKEN:
            raise BadScheme
        return await self._viewer_of(found[1])

    def access_token(self, user_id: UUID, session_id: UUID) -> tuple[Secret, datetime]:
        """A token of the session, and when it expires."""
        expires_at = _whole_second(self.clock.now() + self._access_lifetime)
        token = self.tokens.sign(TokenType.ACCESS, user_id=user_id, credential_id=session_id, expires_at=expires_at)
        return token, expires_at

    def stream_token(self, viewer: Viewer, run_id: UUID | None = None) -> tuple[Secret, datetime]:
        """A short-lived token to read all runs of the viewer, or this one, and when it expires.

        It ends with the credential that it was made with. Raises `NotForThisCredential` for a stream token."""
        user_id = viewer.require(*STREAM_SCOPES)
        if viewer.credential_id is None or viewer.kind not in (ViewerKind.USER, ViewerKind.API_KEY):
            raise NotForThisCredential
        expires_at = self.clock.now() + self._stream_lifetime
        if viewer.kind is ViewerKind.API_KEY and viewer.expires_at is not None:
            expires_at = min(expires_at, viewer.expires_at)
        expires_at = _whole_second(expires_at)
        token = self.tokens.sign(
            TokenType.STREAM,
            user_id=user_id,
            credential_id=viewer.credential_id,
            expires_at=expires_at,
            run_id=run_id,
        )
        return token, expires_at

    def forget(self, credential_id: UUID) -> None:
        """Ask the database again: the credential was revoked."""
        self._forgotten += 1
        gone = [key for key, kept in self._remembered.items() if kept.viewer.credential_id == credential_id]
        for key in gone:
            del self._remembered[key]

    async def ended_credentials(self, ids: Iterable[UUID]) -> set[UUID]:
        """Those of these credentials that were revoked or have expired, whoever owns them."""
        wanted = list(ids)
        if not wanted:
            return set()
        async with self.database.begin() as work:
            return await queries.ended_credentials(work.session, wanted)

    async def _viewer_of(self, token: str) -> Viewer:
        key = digest_of(token)
        now = self.clock.now()
        kept = self._remembered.get(key)
        if kept is not None and now < kept.until:
            return kept.viewer
        forgotten = self._forgotten
        viewer = await (self._of_key(key) if token.startswith(API_KEY_PREFIX) else self._of_token(token))
        if forgotten == self._forgotten:  # else this very one may have been revoked while we asked
            self._remember(key, viewer, now)
        return viewer

    async def _of_token(self, token: str) -> Viewer:
        try:
            claims = self.tokens.verify(token, TokenType.ACCESS, TokenType.STREAM)
        except ExpiredToken:
            raise Expired from None
        except BadToken:
            raise NotOurs from None
        async with self.database.begin(known_user(claims.user_id)) as work:
            standing = await queries.standing_of(work.session, claims.user_id, claims.credential_id)
        if standing is None or (claims.type is TokenType.ACCESS and standing.is_api_key):
            raise NotOurs
        self._check(standing)
        is_stream = claims.type is TokenType.STREAM
        return Viewer(
            kind=ViewerKind.STREAM if is_stream else ViewerKind.USER,
            user_id=claims.user_id,
            credential_id=claims.credential_id,
            scopes=standing.scopes & STREAM_SCOPES if is_stream else ALL_SCOPES,
            expires_at=claims.expires_at,
            locale=standing.locale,
            run_id=claims.run_id,
            test_mode=standing.test_mode,
        )

    async def _of_key(self, digest: bytes) -> Viewer:
        async with self.database.begin() as work:
            standing = await queries.standing_of_key(work.session, digest)
        if standing is None:
            raise NotOurs
        self._check(standing)
        viewer = Viewer(
            kind=ViewerKind.API_KEY,
            user_id=standing.user_id,
            credential_id=standing.credential_id,
            scopes=standing.scopes,
            expires_at=standing.expires_at,
            locale=standing.locale,
            test_mode=standing.test_mode,
        )
        if standing.last_used_at is None or standing.last_used_at <= self.clock.now() - USED_EVERY:
            async with self.database.begin(viewer) as work:
                await note_key_use(work, viewer, key_id=standing.credential_id)
        return viewer

    def _check(self, standing: Standing) -> None:
        now = self.clock.now()
        if standing.is_active(now):
            return
        if not standing.is_api_key:
            raise Revoked
        raise KeyRevoked if standing.revoked_at is not None else KeyExpired

    def _remember(self, key: bytes, viewer: Viewer, now: datetime) -> None:
        until = now + REMEMBERED
        self._remembered[key] = _Remembered(
            viewer, until if viewer.expires_at is None else min(until, viewer.expires_at)
        )
        self._remembered.move_to_end(key)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)


def may_renew(held: Viewer, fresh: Viewer) -> bool:
    """Whether an open connection of `held` may go on as `fresh`: the same user, and no right lost on the way, since
    what is open was allowed by the rights of the old credential."""
    return (
        fresh.user_id is not None
        and fresh.user_id == held.user_id
        and fresh.kind in (ViewerKind.USER, ViewerKind.API_KEY)
        and held.scopes <= fresh.scopes
    )


def _whole_second(at: datetime) -> datetime:
    """Tokens carry seconds; what we say of them must be the same moment."""
    return at.replace(microsecond=0)
