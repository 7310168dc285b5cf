"""What is asked about runs. Every question of a viewer begins with what they may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.deployment.model import Resource
from domain.errors import NotFound
from domain.paging import PageOf, page_of
from domain.sql import plain
from domain.training.model import Artifact, LogLine, MetricPoint, RunAttempt, TrainingConfig, TrainingRun
from domain.training.status import ACTIVE, LogLevel, Provider, RunStatus
from domain.viewer import Scope, Viewer

LONGEST_SEARCH_MS = 3000
"""A search in a long log is stopped rather than held."""


async def run_of(session: AsyncSession, viewer: Viewer, run_id: UUID, *, lock: bool = False) -> TrainingRun:
    """The viewer's run. Raises `NotFound`, for foreign ones too."""
    user_id = viewer.require(Scope.RUNS_READ)
    statement = select(TrainingRun).where(TrainingRun.id == run_id, TrainingRun.user_id == user_id)
    run = (await session.exec(_locked(statement) if lock else statement)).one_or_none()
    if run is None or not viewer.may_watch(run_id):
        raise NotFound("TrainingRun")
    return run


async def locked_run(session: AsyncSession, run_id: UUID) -> TrainingRun | None:
    """The run, whoever owns it, with its row locked until the transaction ends."""
    return (await session.exec(_locked(select(TrainingRun).where(TrainingRun.id == run_id)))).one_or_none()


def _locked(statement: SelectOfScalar[TrainingRun]) -> SelectOfScalar[TrainingRun]:
    return statement.with_for_update(key_share=True).execution_options(populate_existing=True)


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs somebody wants to see; empty conditions do not narrow."""

    statuses: tuple[RunStatus, ...] = ()
    providers: tuple[Provider, ...] = ()
    tags: tuple[str, ...] = ()
    """All of these."""
    model_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


async def runs_page(
    session: AsyncSession, user_id: UUID, wanted: RunFilter, *, first: int, after: str | None
) -> PageOf[TrainingRun]:
    """A page of the user's runs, newest first."""

    def narrow(statement: SelectOfScalar[TrainingRun]) -> SelectOfScalar[TrainingRun]:
        statement = statement.where(TrainingRun.user_id == user_id)
        if wanted.statuses:
            statement = statement.where(col(TrainingRun.status).in_(wanted.statuses))
        if wanted.providers:
            statement = statement.where(col(TrainingRun.provider).in_(wanted.providers))
        if wanted.tags:
            statement = statement.where(col(TrainingRun.tags).op("@>")(sa.cast(list(wanted.tags), ARRAY(sa.Text))))
        if wanted.model_id:
            statement = statement.where(TrainingRun.model_id == wanted.model_id)
        if wanted.created_after:
            statement = statement.where(col(TrainingRun.created_at) > wanted.created_after)
        if wanted.created_before:
            statement = statement.where(col(TrainingRun.created_at) < wanted.created_before)
        return statement

    return await page_of(session, TrainingRun, narrow, first=first, after=after)


async def run_by_key(session: AsyncSession, user_id: UUID, idempotency_key: str) -> TrainingRun | None:
    """The run that was started with this key."""
    statement = select(TrainingRun).where(
        TrainingRun.user_id == user_id, TrainingRun.idempotency_key == idempotency_key
    )
    return (await session.exec(statement)).one_or_none()


async def count_active(session: AsyncSession, user_id: UUID) -> int:
    statement = select(func.count()).where(TrainingRun.user_id == user_id, col(TrainingRun.status).in_(sorted(ACTIVE)))
    return (await session.exec(statement)).one()


async def config_of(session: AsyncSession, user_id: UUID, config_id: UUID) -> TrainingConfig:
    """Raises `NotFound`."""
    statement = select(TrainingConfig).where(TrainingConfig.id == config_id, TrainingConfig.user_id == user_id)
    config = (await session.exec(statement)).one_or_none()
    if config is None:
        raise NotFound("TrainingConfig")
    return config


async def attempt_of(session: AsyncSession, run_id: UUID, number: int) -> RunAttempt | None:
    statement = select(RunAttempt).where(RunAttempt.run_id == run_id, RunAttempt.number == number)
    return (await session.exec(statement)).one_or_none()


async def attempt_by_id(session: AsyncSession, viewer: Viewer, attempt_id: UUID) -> RunAttempt:
    """An attempt of a run that the viewer may watch. Raises `NotFound`."""
    user_id = viewer.require(Scope.RUNS_READ)
    statement = select(RunAttempt).where(RunAttempt.id == attempt_id, RunAttempt.user_id == user_id)
    attempt = (await session.exec(statement)).one_or_none()
    if attempt is None or not viewer.may_watch(attempt.run_id):
        raise NotFound("RunAttempt")
    return attempt


async def attempts_of(session: AsyncSession, run_ids: Sequence[UUID]) -> Sequence[RunAttempt]:
    statement = select(RunAttempt).where(col(RunAttempt.run_id).in_(run_ids)).order_by(col(RunAttempt.number))
    return (await session.exec(statement)).all()


async def resource_of_tag(session: AsyncSession, tag: str) -> Resource | None:
    """What the attempt of that tag has at its provider."""
    return (await session.exec(select(Resource).where(Resource.tag == tag))).one_or_none()


async def artifact_of(session: AsyncSession, run_id: UUID) -> Artifact | None:
    """The run's newest artifact."""
    statement = select(Artifact).where(Artifact.run_id == run_id).order_by(col(Artifact.id).desc()).limit(1)
    return (await session.exec(statement)).one_or_none()


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which lines, seen from which end."""

    after: int | None = None
    before: int | None = None
    level: LogLevel | None = None
    search: str | None = None


_FROM_LEVEL = {
    LogLevel.DEBUG: tuple(LogLevel),
    LogLevel.INFO: (LogLevel.INFO, LogLevel.WARNING, LogLevel.ERROR),
    LogLevel.WARNING: (LogLevel.WARNING, LogLevel.ERROR),
    LogLevel.ERROR: (LogLevel.ERROR,),
}


async def log_lines(
    session: AsyncSession, run_id: UUID, wanted: LogFilter, *, count: int, from_end: bool
) -> tuple[list[LogLine], bool]:
    """At most `count` lines in the order they were written, from the beginning or the end, and whether more follow."""
    line = col(LogLine.line)
    statement = select(LogLine).where(LogLine.run_id == run_id)
    if wanted.after is not None:
        statement = statement.where(line > wanted.after)
    if wanted.before is not None:
        statement = statement.where(line < wanted.before)
    if wanted.level is not None:
        statement = statement.where(col(LogLine.level).in_(_FROM_LEVEL[wanted.level]))
    if wanted.search:
        await plain(session, f"SET LOCAL statement_timeout = {LONGEST_SEARCH_MS}")
        statement = statement.where(col(LogLine.text).icontains(wanted.search, autoescape=True))
    statement = statement.order_by(line.desc() if from_end else line).limit(count + 1)
    rows = list((await session.exec(statement)).all())
    more = len(rows) > count
    rows = rows[:count]
    return (rows[::-1] if from_end else rows), more


async def metric_points(session: AsyncSession, run_id: UUID, names: Sequence[str] | None) -> Sequence[MetricPoint]:
    """The points of these metrics, or of all, by name and step; at most 100,000."""
    statement = select(MetricPoint).where(MetricPoint.run_id == run_id)
    if names is not None:
        statement = statement.where(col(MetricPoint.name).in_(names))
    statement = statement.order_by(col(MetricPoint.name), col(MetricPoint.attempt), col(MetricPoint.step))
    return (await session.exec(statement.limit(100_000))).all()


async def claim_due(
    session: AsyncSession,
    *,
    worker_id: UUID,
    now: datetime,
    lease_seconds: float,
    count: int,
    run_id: UUID | None = None,
) -> list[UUID]:
    """Take the lease of runs that are due and that no other worker holds; the rest stays for others."""
    due = (
        select(TrainingRun.id)
        .where(
            col(TrainingRun.status).in_(sorted(ACTIVE)),
            sa.or_(col(TrainingRun.lease_until).is_(None), col(TrainingRun.lease_until) < now),
        )
        .order_by(col(TrainingRun.next_check_at))
        .limit(count)
        .with_for_update(skip_locked=True, key_share=True)
    )
    if run_id is not None:
        due = due.where(TrainingRun.id == run_id)
    else:
        due = due.where(col(TrainingRun.next_check_at) <= now)
    statement = (
        sa.update(TrainingRun)
        .where(col(TrainingRun.id).in_(due.scalar_subquery()))
        .values(lease_owner=worker_id, lease_until=now + timedelta(seconds=lease_seconds))
        .returning(col(TrainingRun.id))
    )
    return list((await session.exec(statement)).scalars())


async def renew_leases(
    session: AsyncSession, *, worker_id: UUID, run_ids: Sequence[UUID], now: datetime, lease_seconds: float
) -> set[UUID]:
    """Go on holding these runs; gives those that are still ours."""
    statement = (
        sa.update(TrainingRun)
        .where(col(TrainingRun.id).in_(run_ids), col(TrainingRun.lease_owner) == worker_id)
        .values(lease_until=now + timedelta(seconds=lease_seconds))
        .returning(col(TrainingRun.id))
    )
    return set((await session.exec(statement)).scalars())


async def release(
    session: AsyncSession, *, worker_id: UUID, run_id: UUID, next_check_at: datetime, looked_at: datetime
) -> None:
    """Let go of a run until then; a wish to look at it now that came since it was last looked at stays."""
    due = col(TrainingRun.next_check_at)
    statement = (
        sa.update(TrainingRun)
        .where(col(TrainingRun.id) == run_id, col(TrainingRun.lease_owner) == worker_id)
        .values(
            lease_owner=None,
            lease_until=None,
            next_check_at=sa.case((due > looked_at, sa.func.least(due, next_check_at)), else_=next_check_at),
        )
    )
    await session.exec(statement)
