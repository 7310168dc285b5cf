"""The table of callbacks: each as it came, and what became of it."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field

from domain.base import BIG, BYTES, JSON_TYPE, TEXT, Row, enum_type


class CallbackSource(StrEnum):
    """Who calls."""

    REPLICATE = "REPLICATE"
    ASTRIA = "ASTRIA"
    E2B = "E2B"
    POD = "POD"


class CallbackStatus(StrEnum):
    """RECEIVED → APPLIED, MOOT, REJECTED or UNREADABLE; an operator may have the last two applied again.

    RECEIVED    stored; a worker has not applied it yet, or could not and tries again.
    APPLIED     folded into its run, or taken as a hint to read the provider again.
    MOOT        about a run or an attempt that was over, or one that nobody knows.
    REJECTED    not by who it says: no valid signature, or too old.
    UNREADABLE  in no form that we understand.
    """

    RECEIVED = "RECEIVED"
    APPLIED = "APPLIED"
    MOOT = "MOOT"
    REJECTED = "REJECTED"
    UNREADABLE = "UNREADABLE"


class Callback(Row, table=True):
    """One callback, raw. It belongs to nobody until it is understood, so only the operator sees these rows."""

    __tablename__ = "callbacks"
    __table_args__ = (
        sa.UniqueConstraint("source", "event_id"),
        sa.Index("ix_callbacks_waiting", "next_try_at", postgresql_where=sa.text("status = 'RECEIVED'")),
        sa.Index("ix_callbacks_run", "run_id", "attempt", "sequence"),
        sa.Index("ix_callbacks_unknown", "created_at", postgresql_where=sa.text("run_id IS NULL")),
    )

    source: CallbackSource = Field(sa_type=enum_type(CallbackSource))
    event_id: str | None = Field(default=None, sa_type=TEXT)
    """The sender's own id of it; the same one is stored once."""
    run_id: UUID | None = None
    attempt: int | None = None
    """Of which run's attempt it is, as far as its address or token told."""
    sequence: int | None = Field(default=None, sa_type=BIG)
    """A pod's own number of it; applied in this order."""
    headers: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """Those that matter, names in small letters; never a credential."""
    body: bytes = Field(sa_type=BYTES)
    sha256: str = Field(sa_type=TEXT)
    """Of the body, hex."""
    status: CallbackStatus = Field(default=CallbackStatus.RECEIVED, sa_type=enum_type(CallbackStatus))
    error: str | None = Field(default=None, sa_type=TEXT)
    tries: int = 0
    next_try_at: datetime
    applied_at: datetime | None = None
