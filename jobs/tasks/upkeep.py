"""What a crash, a lost message or time leaves behind, found in rows."""

import logging
from collections.abc import Sequence
from datetime import timedelta

import anyio
import sqlalchemy as sa
from anyio import to_thread
from sqlmodel import col, select

from db.artifacts import ArtifactStore
from domain.account.model import RefreshToken, UserSession
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.errors import Unavailable
from domain.journal.model import FeedEvent, RunEvent
from domain.training.model import Artifact, LogLine, RunAttempt, TrainingRun
from domain.training.status import ACTIVE, FINAL, Provider, RunStatus
from jobs.context import JobContext
from jobs.ending import end_resource_of
from jobs.providers.local.sandbox import tags_of
from jobs.providers.local.upkeep import remove_old

logger = logging.getLogger("runwire.jobs")

KEPT_WHOLE = timedelta(days=30)
"""After a run's end its whole stream is kept so long; then its status, stage and deployment events only."""
KEPT_FOR_EVER = ("run.status_changed", "run.stage_changed", "run.attempt_started", "run.deployment_ready")
SESSIONS_KEPT = timedelta(days=30)
ARTIFACTS_OF_FAILURES_KEPT = timedelta(hours=1)
ARTIFACT_PARTS_KEPT = timedelta(days=1)
BATCH = 1000
AT_ONCE = 40
"""Resources that one sweep takes up."""
SIDE_BY_SIDE = 8
CLAIM_SECONDS = 10.0
"""How long one is left to whoever took it up, unless its end tells otherwise."""


async def end_resources(context: JobContext) -> int:
    """End what no run owns any more: nothing stays alive that nobody watches. Gives how many ended."""
    ended: list[str] = []
    turns = anyio.Semaphore(SIDE_BY_SIDE)
    async with anyio.create_task_group() as group:
        for tag in await _claim_ownerless(context):
            group.start_soon(_end, context, tag, turns, ended)
    return len(ended)


async def _end(context: JobContext, tag: str, turns: anyio.Semaphore, ended: list[str]) -> None:
    """One of many: its trouble is its own."""
    async with turns:
        try:
            if await end_resource_of(context, tag):
                ended.append(tag)
        except Unavailable:
            logger.warning("Postgres does not answer; the resource is ended later.")
        except Exception:
            logger.exception("A resource could not be ended; it is tried again.", extra={"tag": tag})


async def _claim_ownerless(context: JobContext) -> Sequence[str]:
    """Tags of training resources whose run is over, or whose attempt is, and that are to be asked about now; nobody
    else takes them meanwhile. Those that were never asked about go first: what will not end keeps no other waiting."""
    now = context.clock.now()
    due = (
        select(Resource.id)
        .join(TrainingRun, col(TrainingRun.id) == col(Resource.run_id))
        .where(
            Resource.kind == ResourceKind.TRAINING,
            col(Resource.status) != ResourceStatus.ENDED,
            sa.or_(
                col(TrainingRun.status).in_(sorted(FINAL)),
                ~col(Resource.tag).endswith(sa.func.concat("-", sa.cast(col(TrainingRun.attempt), sa.Text))),
            ),
            sa.or_(col(Resource.keep_until).is_(None), col(Resource.keep_until) <= now),
            sa.or_(col(Resource.next_check_at).is_(None), col(Resource.next_check_at) <= now),
        )
        .order_by(col(Resource.next_check_at).nulls_first())
        .limit(AT_ONCE)
        .with_for_update(of=Resource, skip_locked=True, key_share=True)
    )
    statement = (
        sa.update(Resource)
        .where(col(Resource.id).in_(due.scalar_subquery()))
        .values(next_check_at=now + timedelta(seconds=CLAIM_SECONDS))
        .returning(col(Resource.tag))
    )
    async with context.begin() as work:
        return list((await work.session.exec(statement)).scalars())


async def remove_old_sandboxes(context: JobContext) -> list[str]:
    """Delete this machine's sandboxes that nothing needs any more: those of ended runs that left no artifact, and of
    apps that are gone. Gives what was deleted. Logs and metrics of such runs are in the database."""
    trains = select(RunAttempt.tag).join(TrainingRun, col(TrainingRun.id) == col(RunAttempt.run_id))
    needed = sa.or_(
        col(TrainingRun.status).in_(sorted(ACTIVE)),
        col(RunAttempt.reference).in_(select(Resource.reference).where(col(Resource.status) != ResourceStatus.ENDED)),
        sa.exists(select(Artifact.id).where(Artifact.run_id == TrainingRun.id, Artifact.attempt == RunAttempt.number)),
    )
    alive = select(Resource.reference).where(
        Resource.provider == Provider.LOCAL, col(Resource.status) != ResourceStatus.ENDED
    )
    there = await to_thread.run_sync(tags_of, context.settings.data_dir)
    async with context.begin() as work:
        keep = {*(await work.session.exec(trains.where(needed))).all()}
        keep |= {reference for reference in (await work.session.exec(alive)).all() if reference is not None}
        keep |= {
            *(await work.session.exec(select(Resource.tag).where(Resource.status == ResourceStatus.INTENDED))).all()
        }
    return await remove_old(context.settings.data_dir, keep, among=there)


async def remove_old_artifacts(context: JobContext) -> list[str]:
    """Delete files that trainings elsewhere left behind and that lead to nothing: of runs that ended badly and left no
    whole result, and uploads that were never finished. Gives the attempts whose files were deleted."""
    store = ArtifactStore.of(context.settings)
    now = context.clock.now()
    await to_thread.run_sync(store.remove_parts, now - ARTIFACT_PARTS_KEPT)
    removed: list[str] = []
    there = await to_thread.run_sync(store.tags)
    for start in range(0, len(there), BATCH):
        batch = there[start : start + BATCH]
        has_result = sa.exists(
            select(Artifact.id).where(Artifact.run_id == RunAttempt.run_id, Artifact.attempt == RunAttempt.number)
        )
        useless = (
            select(RunAttempt.tag)
            .join(TrainingRun, col(TrainingRun.id) == col(RunAttempt.run_id))
            .where(
                col(RunAttempt.tag).in_(batch),
                col(TrainingRun.status).in_((RunStatus.FAILED, RunStatus.CANCELED)),
                col(TrainingRun.ended_at) < now - ARTIFACTS_OF_FAILURES_KEPT,
                ~has_result,
            )
        )
        async with context.begin() as work:
            tags = (await work.session.exec(useless)).all()
        for tag in tags:
            await to_thread.run_sync(store.remove, tag)
        removed.extend(tags)
    return removed


async def forget_old_events(context: JobContext) -> int:
    """Retention: streams of runs that ended long ago keep only what tells their story, and no log; so do feeds.

    Batch by batch, each in a transaction of its own, until nothing old is left. Gives how many rows went."""
    old = select(TrainingRun.id).where(col(TrainingRun.ended_at) < context.clock.now() - KEPT_WHOLE)
    events = (
        select(RunEvent.run_id, RunEvent.seq)
        .where(col(RunEvent.run_id).in_(old), col(RunEvent.type).not_in(KEPT_FOR_EVER))
        .limit(BATCH)
    )
    feed = (
        select(FeedEvent.user_id, FeedEvent.seq)
        .where(col(FeedEvent.at) < context.clock.now() - KEPT_WHOLE)
        .limit(BATCH)
    )
    lines = select(LogLine.run_id, LogLine.line).where(col(LogLine.run_id).in_(old)).limit(BATCH)
    gone = 0
    for statement in (
        sa.delete(RunEvent).where(sa.tuple_(col(RunEvent.run_id), col(RunEvent.seq)).in_(events)),
        sa.delete(FeedEvent).where(sa.tuple_(col(FeedEvent.user_id), col(FeedEvent.seq)).in_(feed)),
        sa.delete(LogLine).where(sa.tuple_(col(LogLine.run_id), col(LogLine.line)).in_(lines)),
    ):
        while count := await _delete(context, statement):
            gone += count
    return gone


async def _delete(context: JobContext, statement: sa.Delete) -> int:
    async with context.begin() as work:
        return int((await work.session.exec(statement)).rowcount)


async def forget_old_sessions(context: JobContext) -> None:
    """Sessions that ended a month ago, and the refresh tokens that they had."""
    async with context.begin() as work:
        before = work.now - SESSIONS_KEPT
        await work.session.exec(
            sa.delete(RefreshToken).where(col(RefreshToken.used_at).is_not(None), col(RefreshToken.created_at) < before)
        )
        await work.session.exec(
            sa.delete(UserSession).where(
                sa.or_(col(UserSession.expires_at) < before, col(UserSession.revoked_at) < before)
            )
        )
