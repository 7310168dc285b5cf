"""What is asked about callbacks and the tokens they come with."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import defer
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.callback.model import Callback, CallbackSource, CallbackStatus
from domain.errors import NotFound
from domain.paging import PageOf, page_of
from domain.secret import digest_of
from domain.training.model import PodToken, PodTokenKind, RunAttempt, TrainingRun
from domain.training.status import FINAL, Provider, RunStatus

SHOWN_BYTES = 64 * 1024
"""Of a body, in lists."""
_WITHOUT_BODY: Any = defer(Callback.body, raiseload=True)  # type: ignore[arg-type]  # a column, once it is mapped
"""Bodies have up to 10 MiB, and a page a hundred of them."""


@dataclass(frozen=True, slots=True)
class FoundToken:
    """What a shown token stands for, before anybody knows who asks."""

    user_id: UUID
    run_id: UUID
    attempt: int
    kind: PodTokenKind
    expires_at: datetime
    run_status: RunStatus
    run_attempt: int
    is_stopping: bool
    """Whether the run is to be stopped by one of its rules or limits."""

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended; says nothing of the hour."""
        return self.run_status in FINAL or self.run_attempt != self.attempt

    def is_alive(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return not self.is_over and self.expires_at > now

    @property
    def shall_stop(self) -> bool:
        """Whether a script that still works is to end."""
        return self.is_over or self.is_stopping or self.run_status is RunStatus.CANCELING


async def find_pod_token(session: AsyncSession, token: str) -> FoundToken | None:
    """The token of an attempt, whoever asks: the token is the right."""
    ask: Any = sa.text("SELECT * FROM find_pod_token(:hash)")  # `exec` takes it, and types only what select() makes
    row = (await session.exec(ask, params={"hash": digest_of(token)})).one_or_none()
    if row is None:
        return None
    facts = {**row._mapping, "kind": PodTokenKind(row.kind), "run_status": RunStatus(row.run_status)}
    return FoundToken(**facts)


@dataclass(frozen=True, slots=True)
class Stored:
    """A callback that was kept."""

    id: UUID
    run_id: UUID | None


_STORE: Any = sa.text(
    "SELECT * FROM store_callback(:id, :at, :source, :event_id, :tag, :token, :sequence, :headers, :body, :sha256)"
).bindparams(
    sa.bindparam("id", type_=sa.Uuid),
    sa.bindparam("at", type_=sa.DateTime(timezone=True)),
    *(sa.bindparam(name, type_=sa.Text) for name in ("source", "event_id", "tag", "sha256")),
    *(sa.bindparam(name, type_=sa.LargeBinary) for name in ("token", "body")),
    sa.bindparam("sequence", type_=sa.BigInteger),
    sa.bindparam("headers", type_=JSONB),
)


async def store(
    session: AsyncSession,
    *,
    id: UUID,
    at: datetime,
    source: CallbackSource,
    event_id: str | None,
    tag: str | None,
    token: str | None,
    sequence: int | None,
    headers: dict[str, str],
    body: bytes,
    sha256: str,
) -> Stored | None:
    """Keep a callback, whoever asks; None where it is kept already, or is one too many about nothing we know."""
    given = {
        "id": id,
        "at": at,
        "source": source.value,
        "event_id": event_id,
        "tag": tag,
        "token": digest_of(token) if token is not None else None,
        "sequence": sequence,
        "headers": headers,
        "body": body,
        "sha256": sha256,
    }
    row = (await session.exec(_STORE, params=given)).one_or_none()
    return Stored(row.id, row.run_id) if row is not None else None


async def claim(session: AsyncSession, callback_id: UUID, *, now: datetime, seconds: float) -> Callback | None:
    """The callback, if it waits to be applied now; nobody else takes it for so long."""
    statement = (
        sa.update(Callback)
        .where(
            col(Callback.id) == callback_id,
            col(Callback.status) == CallbackStatus.RECEIVED,
            col(Callback.next_try_at) <= now,
        )
        .values(next_try_at=now + timedelta(seconds=seconds), tries=Callback.tries + 1)
        .returning(Callback)
        .execution_options(populate_existing=True)
    )
    found: Callback | None = (await session.exec(statement)).scalar_one_or_none()
    return found


async def due(session: AsyncSession, *, now: datetime, count: int) -> list[UUID]:
    """Callbacks that wait to be applied, the longest waiting first."""
    statement = (
        select(Callback.id)
        .where(col(Callback.status) == CallbackStatus.RECEIVED, col(Callback.next_try_at) <= now)
        .order_by(col(Callback.next_try_at))
        .limit(count)
    )
    return list((await session.exec(statement)).all())


async def locked(session: AsyncSession, callback_id: UUID) -> Callback | None:
    """The callback, locked until the transaction ends; for the API only an operator's work finds it."""
    statement = select(Callback).where(Callback.id == callback_id).with_for_update()
    return (await session.exec(statement.execution_options(populate_existing=True))).one_or_none()


async def next_report(session: AsyncSession, run_id: UUID, attempt: int) -> Callback | None:
    """The waiting report of an attempt's script that has the lowest number. The run's row is locked by the caller."""
    statement = (
        select(Callback)
        .where(
            Callback.run_id == run_id,
            Callback.attempt == attempt,
            Callback.source == CallbackSource.POD,
            col(Callback.status) == CallbackStatus.RECEIVED,
        )
        .order_by(col(Callback.sequence))
        .limit(1)
        .execution_options(populate_existing=True)
    )
    return (await session.exec(statement)).one_or_none()


async def without_effect(session: AsyncSession, callback: Callback, *, most: int) -> int:
    """How many other callbacks about the same run were rejected or not understood; no more than `most` are counted."""
    others = (
        select(Callback.id)
        .where(
            Callback.run_id == callback.run_id,
            Callback.id != callback.id,
            col(Callback.status).in_((CallbackStatus.REJECTED, CallbackStatus.UNREADABLE)),
        )
        .limit(most)
    )
    return (await session.exec(select(func.count()).select_from(others.subquery()))).one()


async def attempt_named(session: AsyncSession, provider: Provider, reference: str) -> RunAttempt | None:
    """The newest attempt with this id of the provider's."""
    statement = (
        select(RunAttempt)
        .where(RunAttempt.provider == provider, RunAttempt.reference == reference)
        .order_by(col(RunAttempt.id).desc())
        .limit(1)
    )
    return (await session.exec(statement)).one_or_none()


async def callbacks_page(
    session: AsyncSession, *, statuses: Sequence[CallbackStatus], first: int, after: str | None
) -> PageOf[Callback]:
    """A page of all callbacks without their bodies, newest first. The work must be an operator's."""

    def narrow(statement: SelectOfScalar[Callback]) -> SelectOfScalar[Callback]:
        if statuses:
            statement = statement.where(col(Callback.status).in_(statuses))
        return statement.options(_WITHOUT_BODY)

    return await page_of(session, Callback, narrow, first=first, after=after)


async def callback_of(session: AsyncSession, callback_id: UUID) -> Callback:
    """A callback without its body. The work must be an operator's. Raises `NotFound`."""
    found = (
        await session.exec(select(Callback).where(Callback.id == callback_id).options(_WITHOUT_BODY))
    ).one_or_none()
    if found is None:
        raise NotFound("Callback")
    return found


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The beginning of a body, and how long all of it is."""

    size: int
    """In bytes."""
    beginning: bytes


async def excerpts_of(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Excerpt]:
    """The beginnings of these callbacks' bodies. The work must be an operator's."""
    beginning = func.substring(col(Callback.body), 1, SHOWN_BYTES).label("beginning")
    length = func.octet_length(col(Callback.body)).label("length")
    rows = (await session.exec(select(Callback.id, length, beginning).where(col(Callback.id).in_(ids)))).all()
    return {id: Excerpt(length, bytes(text)) for id, length, text in rows}


def old_callbacks(*, reports_before: datetime, others_before: datetime) -> SelectOfScalar[UUID]:
    """Callbacks that nobody asks about any more: reports soon after they were applied, all else later."""
    is_report = col(Callback.source) == CallbackSource.POD
    return select(Callback.id).where(
        sa.or_(
            sa.and_(
                is_report,
                col(Callback.status) == CallbackStatus.APPLIED,
                col(Callback.created_at) < reports_before,
            ),
            col(Callback.created_at) < others_before,
        )
    )


def dead_tokens(*, ended_before: datetime) -> SelectOfScalar[UUID]:
    """Tokens of runs that ended before then."""
    return (
        select(PodToken.id)
        .join(TrainingRun, col(TrainingRun.id) == col(PodToken.run_id))
        .where(col(TrainingRun.ended_at) < ended_before)
    )
