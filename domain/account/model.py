"""Tables of who asks: users, their sessions and refresh tokens, their API keys, and what they did."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field

from domain.base import BIG, BYTES, JSON_TYPE, TEXT, TEXT_ARRAY, Owned, Row, enum_type
from domain.viewer import Locale


class User(Row, table=True):
    """A person or a company that starts runs."""

    __tablename__ = "users"

    email: str = Field(sa_type=TEXT, unique=True)
    """Lower case; unique among all users."""
    name: str = Field(default="", sa_type=TEXT)
    password_hash: str = Field(sa_type=TEXT)
    """argon2id, with its parameters."""
    locale: Locale = Field(default=Locale.EN, sa_type=enum_type(Locale))
    feed_seq: int = Field(default=0, sa_type=BIG)
    """The number of the newest event in the user's feed."""


class UserSession(Row, Owned, table=True):
    """A signed-in device."""

    __tablename__ = "user_sessions"

    expires_at: datetime
    """When it ends without being refreshed again."""
    last_used_at: datetime
    revoked_at: datetime | None = None
    revoked_because: str | None = Field(default=None, sa_type=TEXT)
    user_agent: str = Field(default="", sa_type=TEXT)
    address: str = Field(default="", sa_type=TEXT)

    def is_active(self, now: datetime) -> bool:
        return self.revoked_at is None and self.expires_at > now


class RefreshToken(Owned, table=True):
    """One refresh token of a session; used once. Showing a used one again revokes the session."""

    __tablename__ = "refresh_tokens"

    hash: bytes = Field(primary_key=True, sa_type=BYTES)
    session_id: UUID = Field(foreign_key="user_sessions.id", ondelete="CASCADE", index=True)
    created_at: datetime
    used_at: datetime | None = None


class ApiKey(Row, Owned, table=True):
    """A partner's key: shown once, stored as a hash."""

    __tablename__ = "api_keys"

    name: str = Field(sa_type=TEXT)
    prefix: str = Field(sa_type=TEXT)
    """The first characters, so that people can tell their keys apart."""
    hash: bytes = Field(sa_type=BYTES, unique=True)
    scopes: list[str] = Field(sa_type=TEXT_ARRAY)
    test_mode: bool = False
    """Whether the runs that it starts are played by simulators, free of charge."""
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_active(self, now: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or self.expires_at > now)


class Operator(Owned, table=True):
    """A user who looks after the whole installation. Named by `python -m db operator`, never through the API."""

    __tablename__ = "operators"

    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE", primary_key=True)
    created_at: datetime


class AuditEntry(Row, Owned, table=True):
    """Who did what. Rows are only ever added."""

    __tablename__ = "audit_log"

    action: str = Field(sa_type=TEXT)
    credential_id: UUID | None = None
    subject_id: UUID | None = None
    details: dict[str, object] = Field(default_factory=dict, sa_type=JSON_TYPE)
