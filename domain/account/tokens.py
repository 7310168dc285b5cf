"""Signed tokens: JWTs that carry who asks and until when. Whether their session still stands is asked elsewhere.

access   a signed-in user, for minutes; `sid` is the session
stream   reading runs, for minutes, where a browser can send no header and the token stands in the address
app      one private app, for a minute: the worker proves with it that the app answers
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import jwt

from domain.base import new_id
from domain.clock import Clock
from domain.secret import Secret, same

ALGORITHM = "HS256"
ISSUER = "runwire"
AUDIENCE = "runwire"
SKEW = timedelta(seconds=60)
"""How far ahead the clock of the process that signed may be. An expiry has no such grace."""
APP_TOKEN_LIFETIME = timedelta(seconds=60)
LONGEST_TOKEN = 4096

_ALWAYS = ("iss", "aud", "sub", "sid", "typ", "iat", "exp", "jti")
_OURS_IN_HEADER = frozenset({"alg", "typ", "kid"})


class TokenType(StrEnum):
    """What a token is for; one kind is never taken for another."""

    ACCESS = "access"
    STREAM = "stream"
    APP = "app"


class BadToken(Exception):
    """Not one of ours, whatever is wrong with it: whoever forges learns nothing from the answer."""


class ExpiredToken(BadToken):
    """One of ours, but its time is over."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a verified token says."""

    type: TokenType
    user_id: UUID
    credential_id: UUID
    """The session's or the API key's id."""
    expires_at: datetime
    run_id: UUID | None = None
    """The only run that a stream token may watch."""


class Tokens:
    """Signs with the first key and verifies with all, so that keys can be changed without signing anybody out."""

    def __init__(self, keys: Sequence[str], clock: Clock) -> None:
        if not keys:
            raise ValueError("At least one signing key is needed.")
        self._keys = tuple(keys)
        self._clock = clock

    def sign(
        self, type: TokenType, *, user_id: UUID, credential_id: UUID, expires_at: datetime, run_id: UUID | None = None
    ) -> Secret:
        """A token of a user's credential."""
        more = {} if run_id is None else {"run": str(run_id)}
        return self._sign({"typ": type.value, "sub": str(user_id), "sid": str(credential_id), **more}, expires_at)

    def verify(self, text: str, *types: TokenType) -> Claims:
        """The claims of a token of one of these types. Raises `ExpiredToken` or `BadToken`."""
        payload = self._verified(text)
        try:
            type = TokenType(payload["typ"])
            claims = Claims(
                type=type,
                user_id=UUID(payload["sub"]),
                credential_id=UUID(payload["sid"]),
                expires_at=_moment(payload["exp"]),
                run_id=UUID(payload["run"]) if "run" in payload else None,
            )
        except (AttributeError, TypeError, ValueError):
            raise BadToken from None
        if type is TokenType.APP or type not in types:
            raise BadToken
        self._check_time(payload)
        return claims

    def app_token(self, slug: str) -> Secret:
        """Proves for a minute that the bearer acts for us, towards one private app."""
        return self._sign(
            {"typ": TokenType.APP.value, "sub": slug, "sid": slug}, self._clock.now() + APP_TOKEN_LIFETIME
        )

    def verify_app_token(self, text: str, slug: str) -> bool:
        """Whether this is a token of ours for that app, and still good."""
        try:
            payload = self._verified(text)
            self._check_time(payload)
        except BadToken:
            return False
        return payload["typ"] == TokenType.APP.value and same(str(payload["sub"]), slug)

    def _sign(self, claims: dict[str, Any], expires_at: datetime) -> Secret:
        key = self._keys[0]
        payload = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            **claims,
            "iat": int(self._clock.now().timestamp()),
            "exp": int(expires_at.timestamp()),
            "jti": str(new_id()),
        }
        return Secret(jwt.encode(payload, key, algorithm=ALGORITHM, headers={"kid": key_id(key)}))

    def _verified(self, text: str) -> dict[str, Any]:
        """The payload, once signature, issuer, audience and presence of all claims are sure; times are not looked at.

        The token's header chooses nothing: neither the algorithm nor the key, nor where to fetch one."""
        if len(text) > LONGEST_TOKEN:
            raise BadToken
        try:
            if not set(jwt.get_unverified_header(text)) <= _OURS_IN_HEADER:
                raise BadToken
        except (jwt.PyJWTError, RecursionError):  # the header is attacker's JSON, nested as they like
            raise BadToken from None
        for key in self._keys:
            try:
                payload: dict[str, Any] = jwt.decode(
                    text,
                    key,
                    algorithms=[ALGORITHM],
                    audience=AUDIENCE,
                    issuer=ISSUER,
                    options={
                        "require": list(_ALWAYS),
                        # Times are compared with our own clock below, which tests can set.
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                        "strict_aud": True,
                    },
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError:
                raise BadToken from None
            return payload
        raise BadToken

    def _check_time(self, payload: dict[str, Any]) -> None:
        now = self._clock.now()
        starts = [_moment(payload[name]) for name in ("iat", "nbf") if name in payload]
        if any(start > now + SKEW for start in starts):
            raise BadToken
        if _moment(payload["exp"]) <= now:
            raise ExpiredToken


def key_id(key: str) -> str:
    """A short name of a signing key, for people who change keys; verification does not trust it."""
    return hashlib.sha256(b"runwire key id " + key.encode()).hexdigest()[:8]


def _moment(value: object) -> datetime:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadToken
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        raise BadToken from None
