"""Applying what providers and scripts have called to say: folded into the run, or taken as a hint to read again.

A callback is claimed for a while, so that two workers do not ask a provider about the same one; who dies with it leaves
it to the sweep. Applying goes through the one door of a run, so that even two who do it change nothing twice.
"""

import logging
import secrets
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import orjson
import sqlalchemy as sa
from sqlmodel import col

from domain.callback import queries, service
from domain.callback.model import Callback, CallbackSource
from domain.errors import Unavailable
from domain.training import queries as training
from domain.training.model import PodToken, RunAttempt, TrainingRun
from domain.training.status import Provider
from domain.work import UnitOfWork
from jobs.context import JobContext
from jobs.ordering import position_of, trainer_of
from jobs.providers.base import (
    CallbackBody,
    CallbackForged,
    CallbackUnreadable,
    ProviderBusy,
    ProviderError,
    ReceivesCallbacks,
)
from jobs.reporting import apply_reports, look_now, record_and_ring
from jobs.retry import Backoff

logger = logging.getLogger("runwire.jobs")

CLAIM_SECONDS = 15.0
"""How long a callback is left to whoever applies it."""
AT_ONCE = 50
"""Callbacks that one sweep takes up."""
SIDE_BY_SIDE = 8
REFERENCE_WAIT = Backoff(first_seconds=0.5, longest_seconds=5.0)
REFERENCE_TRIES = 6
"""A provider may call before its answer to the creation was written down; after so many looks it is only a hint."""
BUSY = Backoff(first_seconds=2.0, longest_seconds=300.0)
MOST_TRIES = 10
REPORTS_KEPT = timedelta(days=1)
OTHERS_KEPT = timedelta(days=30)
TOKENS_KEPT = timedelta(days=7)
"""After their run's end."""
BATCH = 1000
LONGEST_NAME = 200
"""Of a sandbox; theirs have twenty characters."""


async def apply_callback(context: JobContext, callback_id: UUID) -> None:
    """Apply a callback that waits. Quiet where it is gone, was applied, or somebody else has it."""
    async with context.begin() as work:
        callback = await queries.claim(work.session, callback_id, now=work.now, seconds=CLAIM_SECONDS)
    if callback is None:
        return
    try:
        if callback.source is CallbackSource.POD:
            await apply_reports(context, callback)
        else:
            await _apply(context, callback)
    except Unavailable:
        raise
    except Exception:
        error_id = secrets.token_hex(8)
        logger.exception("A callback could not be applied.", extra={**_ids(callback), "error_id": error_id})
        await _try_later(context, callback, f"We failed to apply it; the log tells more under {error_id}.")


async def sweep_callbacks(context: JobContext) -> None:
    """Everything that waits: what Redis lost, what was to be tried again, what a killed worker left."""
    async with context.begin() as work:
        ids = await queries.due(work.session, now=work.now, count=AT_ONCE)
    turns = anyio.Semaphore(SIDE_BY_SIDE)
    async with anyio.create_task_group() as group:
        for callback_id in ids:
            group.start_soon(_swept, context, callback_id, turns)


async def _swept(context: JobContext, callback_id: UUID, turns: anyio.Semaphore) -> None:
    """One of many: its trouble is its own."""
    async with turns:
        try:
            await apply_callback(context, callback_id)
        except Unavailable:
            logger.warning("Postgres does not answer; the callback is applied later.")


async def forget_old_callbacks(context: JobContext) -> int:
    """Retention: reports that were applied go first, everything else after a month; and the tokens of ended runs."""
    now = context.clock.now()
    old = queries.old_callbacks(reports_before=now - REPORTS_KEPT, others_before=now - OTHERS_KEPT).limit(BATCH)
    dead = queries.dead_tokens(ended_before=now - TOKENS_KEPT).limit(BATCH)
    gone = 0
    for statement in (
        sa.delete(Callback).where(col(Callback.id).in_(old)),
        sa.delete(PodToken).where(col(PodToken.id).in_(dead)),
    ):
        while count := await _deleted(context, statement):
            gone += count
    return gone


async def _deleted(context: JobContext, statement: sa.Delete) -> int:
    async with context.begin() as work:
        return int((await work.session.exec(statement)).rowcount)


async def _apply(context: JobContext, callback: Callback) -> None:
    async with context.begin() as work:
        found = await _told_of(work, callback)
    if found is None:
        return await _end_moot(context, callback, "It is about nothing that we know.")
    run, attempt = found
    if run.status.is_final or run.attempt != attempt.number:
        return await _end_moot(context, callback, "The run, or that attempt of it, was over.")
    if callback.source is CallbackSource.REPLICATE:
        await _hear(context, callback, run, attempt)
    else:
        await _take_as_hint(context, callback, run.id)


async def _told_of(work: UnitOfWork, callback: Callback) -> tuple[TrainingRun, RunAttempt] | None:
    """The attempt that a callback is about, by its address, or by what it names."""
    run_id, number = callback.run_id, callback.attempt
    if run_id is None and callback.source is CallbackSource.E2B:
        named = await queries.attempt_named(work.session, Provider.E2B, _sandbox_of(callback.body))
        run_id, number = (named.run_id, named.number) if named is not None else (None, None)
    if run_id is None or number is None:
        return None
    run = await work.session.get(TrainingRun, run_id)
    attempt = await training.attempt_of(work.session, run_id, number)
    return (run, attempt) if run is not None and attempt is not None else None


async def _hear(context: JobContext, callback: Callback, run: TrainingRun, attempt: RunAttempt) -> None:
    """Have the provider's adapter say whose it is and what it says; no transaction is open meanwhile."""
    if attempt.reference is None:
        if callback.tries < REFERENCE_TRIES:
            seconds = REFERENCE_WAIT.seconds_after(callback.tries - 1)
            return await _wait(context, callback, seconds, "The provider's answer to the creation is not here yet.")
        return await _take_as_hint(context, callback, run.id)
    body = CallbackBody(callback.headers, callback.body, callback.created_at)
    try:
        trainer = await trainer_of(context, run, attempt)
        if not isinstance(trainer, ReceivesCallbacks):
            return await _take_as_hint(context, callback, run.id)
        report = await trainer.heard(body, attempt.reference, position_of(run, attempt))
    except CallbackForged as error:
        logger.warning("A callback was rejected; it is kept as it came.", extra=_ids(callback))
        async with context.begin() as work:
            await service.mark_rejected(work, await _row(work, callback), str(error))
        return None
    except CallbackUnreadable as error:
        return await _end_unreadable(context, callback, str(error))
    except ProviderBusy as error:
        return await _try_later(context, callback, str(error), at_least=error.retry_after_seconds)
    except ProviderError as error:
        return await _end_unreadable(context, callback, str(error))
    if report is None:
        return await _take_as_hint(context, callback, run.id)
    async with context.begin() as work:
        await record_and_ring(work, run.id, report)
        service.mark_applied(work, await _row(work, callback))


async def _take_as_hint(context: JobContext, callback: Callback, run_id: UUID) -> None:
    """The provider is read again, now."""
    async with context.begin() as work:
        run = await training.locked_run(work.session, run_id)
        if run is not None and not run.status.is_final:
            look_now(work, run)
        service.mark_applied(work, await _row(work, callback))


async def _end_moot(context: JobContext, callback: Callback, why: str) -> None:
    async with context.begin() as work:
        service.mark_moot(work, await _row(work, callback), why)


async def _end_unreadable(context: JobContext, callback: Callback, why: str) -> None:
    async with context.begin() as work:
        await service.mark_unreadable(work, await _row(work, callback), why)


async def _try_later(context: JobContext, callback: Callback, why: str, *, at_least: float = 0.0) -> None:
    """Again after a while, and not for ever: the provider is read in any case."""
    if callback.tries >= MOST_TRIES:
        return await _end_unreadable(context, callback, why)
    seconds = max(at_least, BUSY.seconds_after(callback.tries - 1))
    await _wait(context, callback, min(seconds, BUSY.longest_seconds), why)


async def _wait(context: JobContext, callback: Callback, seconds: float, why: str) -> None:
    async with context.begin() as work:
        service.try_later(work, await _row(work, callback), seconds, why)


async def _row(work: UnitOfWork, callback: Callback) -> Callback:
    """The callback's row in this transaction, locked."""
    row = await queries.locked(work.session, callback.id)
    if row is None:
        raise LookupError("A callback was removed while it was applied.")
    return row


def _sandbox_of(body: bytes) -> str:
    """The sandbox that E2B tells of; empty where it names none."""
    try:
        said: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    named = said.get("sandboxId") if isinstance(said, dict) else None
    return named if isinstance(named, str) and len(named) <= LONGEST_NAME and named.isprintable() else ""


def _ids(callback: Callback) -> dict[str, str]:
    return {"callback_id": str(callback.id), "run_id": str(callback.run_id)}
