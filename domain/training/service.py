"""The verbs of runs. `record` is the one door by which a run changes; a user's wishes are the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, func, select

from domain.ai_model import service as ai_model
from domain.ai_model.model import AIModel
from domain.base import new_id
from domain.commands import CheckRun
from domain.dataset import queries as datasets
from domain.dataset import service as dataset
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.errors import NotFound
from domain.events import time_text
from domain.journal.service import append_run_event
from domain.sql import plain
from domain.training import queries
from domain.training.errors import (
    DatasetNeeded,
    IdempotencyKeyReused,
    ProviderNotAvailable,
    RunAlreadyEnded,
    RunStillGoing,
    TooManyRuns,
)
from domain.training.fold import Rules, Standing, fold
from domain.training.model import Artifact, LogLine, MetricPoint, RunAttempt, TrainingRun
from domain.training.progress import ANNOUNCED_SECONDS, ANNOUNCED_STEP
from domain.training.recipes import checked_hyperparameters
from domain.training.report import LogChunk, Outcome, Reading, Report, StoredArtifact
from domain.training.status import ACTIVE, EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

MOST_ATTEMPTS = 3
"""Tries of a run whose work was gone without a word."""
LARGEST_LOG_EVENT_BYTES = 30 * 1024


@dataclass(frozen=True, slots=True)
class Offer:
    """What this installation can do and allows."""

    providers: frozenset[Provider]
    active_runs_per_user: int
    time_limit_seconds: int
    longest_time_limit_seconds: int


async def start_run(work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer) -> TrainingRun:
    """Write the wish down and ring a worker. The same idempotency key gives the same run.

    Raises `Invalid`, `NotFound` (dataset, config), `Conflict`, `LimitReached`, `Unavailable` (provider)."""
    return await _start(work, viewer, wish, offer, retry_of=None)


async def retry_run(
    work: UnitOfWork, viewer: Viewer, offer: Offer, *, run_id: UUID, idempotency_key: str | None
) -> TrainingRun:
    """Start a new run with the wish of one that has ended."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id)
    if not run.status.is_final:
        raise RunStillGoing(run.status)
    model = await work.session.get(AIModel, run.model_id)
    if model is None:
        raise NotFound("AIModel")
    wish = RunWish.again(run, model.name, idempotency_key)
    return await _start(work, viewer, wish, offer, retry_of=run.id)


async def cancel_run(work: UnitOfWork, viewer: Viewer, *, run_id: UUID) -> TrainingRun:
    """Stop a run the viewer owns; the provider is told afterwards, by a job. Asking twice is asking once.

    Raises `NotFound`, and `RunAlreadyEnded` for READY and FAILED ones."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id, lock=True)
    if run.status in (RunStatus.CANCELING, RunStatus.CANCELED):
        return run
    if run.status.is_final:
        raise RunAlreadyEnded(run.status)
    before = standing_of(run)
    run.status, run.stage, run.eta_seconds = RunStatus.CANCELING, RunStage.STOPPING, None
    await _announce(work, run, before)
    if await _has_resources(work, run.id):
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    else:
        await _apply(work, run, _word(run, work, EndReason.CANCELED_BY_USER))
    return run


async def sync_run(work: UnitOfWork, viewer: Viewer, *, run_id: UUID) -> TrainingRun:
    """Have the provider read again now, whatever the next check was set to."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id, lock=True)
    if not run.status.is_final:
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    return run


class NoFreeSlot(Exception):
    """As many trainings as may go on at once at this provider do; the run waits."""


async def begin_attempt(work: UnitOfWork, run_id: UUID, *, slots: Mapping[Provider, int]) -> RunAttempt | None:
    """Write down that the run's attempt is about to be started at its provider; None where it no longer should be.

    The resource's row is there before the resource is, so a lost answer never hides one. Raises `NoFreeSlot`."""
    run = await queries.locked_run(work.session, run_id)
    if run is None or run.status.is_final or run.status is RunStatus.CANCELING:
        return None
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    assert attempt is not None
    known = await work.session.exec(select(Resource).where(Resource.tag == attempt.tag))
    if known.one_or_none() is None:
        if run.provider in slots and await _is_full(work, run.provider, slots[run.provider]):
            raise NoFreeSlot
        work.session.add(
            Resource(
                created_at=work.now,
                user_id=run.user_id,
                run_id=run.id,
                provider=attempt.provider,
                kind=ResourceKind.TRAINING,
                tag=attempt.tag,
            )
        )
    if attempt.started_at is None:
        attempt.started_at = work.now
    return attempt


async def note_started(work: UnitOfWork, run_id: UUID, *, attempt: int, reference: str) -> None:
    """The provider has the attempt, under this reference."""
    run = await queries.locked_run(work.session, run_id)
    row = await queries.attempt_of(work.session, run_id, attempt)
    assert run is not None and row is not None
    row.reference = reference
    resource = (await work.session.exec(select(Resource).where(Resource.tag == row.tag))).one()
    resource.reference = reference
    if resource.status is ResourceStatus.INTENDED:
        resource.status = ResourceStatus.ALIVE
    report = Report(source=ReportSource.POLL, attempt=attempt, at=work.now, stage=RunStage.CREATING_SANDBOX)
    await _apply(work, run, report)


async def record(work: UnitOfWork, run_id: UUID, report: Report) -> TrainingRun | None:
    """Fold what a signal says into the run; the only way a run changes by itself.

    Gives the run as it is afterwards, or None if there is no such run. Reports may come late, twice, in any order."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await _apply(work, run, report)
    return run


async def give_up(work: UnitOfWork, run_id: UUID, reason: EndReason, message: str | None = None) -> None:
    """Our own word that a run ends: it waited too long, was refused, or cannot be deployed."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await _apply(work, run, _word(run, work, reason, message))


async def finish_deployment(work: UnitOfWork, run_id: UUID, *, slug: str) -> None:
    """The run's address answered as it should: the run is READY."""
    run = await queries.locked_run(work.session, run_id)
    if run is None or run.status is not RunStatus.DEPLOYING:
        return
    run.app_slug = slug
    await append_run_event(work, run, "run.deployment_ready", {"slug": slug})
    await _apply(work, run, _word(run, work, EndReason.SUCCEEDED))


def standing_of(run: TrainingRun) -> Standing:
    return Standing(
        attempt=run.attempt,
        status=run.status,
        stage=run.stage,
        progress=run.progress,
        progress_estimated=run.progress_estimated,
        eta_seconds=run.eta_seconds,
        end_reason=run.end_reason,
        error_message=run.error_message,
        started_at=run.started_at,
        suspected_at=run.suspected_at,
    )


async def _start(
    work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer, *, retry_of: UUID | None
) -> TrainingRun:
    user_id = viewer.require(Scope.RUNS_WRITE)
    digest = wish.digest
    if wish.idempotency_key is not None:
        # Two requests with one key take turns, so that the second finds the first one's run.
        turn = f"{user_id}:{wish.idempotency_key}"
        await plain(work.session, "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", key=turn)
        known = await queries.run_by_key(work.session, user_id, wish.idempotency_key)
        if known is not None:
            if known.request_digest != digest:
                raise IdempotencyKeyReused
            return known
    if wish.training_config_id is not None:
        wish = wish.with_config(await queries.config_of(work.session, user_id, wish.training_config_id))
    wish = wish.checked(longest_time_limit_seconds=offer.longest_time_limit_seconds)
    if wish.provider not in offer.providers:
        raise ProviderNotAvailable(wish.provider)
    assert wish.recipe is not None
    columns: Sequence[dict[str, Any]] | None = None
    rows: int | None = None
    if wish.dataset_id is not None:
        data = await datasets.ready_dataset_of(work.session, user_id, wish.dataset_id)
        columns, rows = data.columns, data.row_count
    hyperparameters = checked_hyperparameters(wish.recipe, wish.hyperparameters, columns, row_count=rows)
    if wish.dataset_id is None:
        raise DatasetNeeded(wish.recipe)
    model = await ai_model.model_for_run(work, user_id, wish.model_name)
    if await queries.count_active(work.session, user_id) >= offer.active_runs_per_user:
        raise TooManyRuns(offer.active_runs_per_user)
    run = TrainingRun(
        created_at=work.now,
        user_id=user_id,
        model_id=model.id,
        dataset_id=wish.dataset_id,
        training_config_id=wish.training_config_id,
        retry_of_id=retry_of,
        provider=wish.provider,
        recipe=wish.recipe,
        hyperparameters=hyperparameters,
        tags=list(wish.tags),
        notes=dict(wish.metadata),
        deploy=wish.deploy,
        budget_micros=wish.budget_micros,
        time_limit_seconds=wish.time_limit_seconds or offer.time_limit_seconds,
        idempotency_key=wish.idempotency_key,
        request_digest=digest,
        next_check_at=work.now,
    )
    work.session.add(run)
    await work.session.flush()
    await append_run_event(work, run, "run.status_changed", {"from": None, "to": run.status.value, "final": False})
    await _open_attempt(work, run)
    await ai_model.follow_run(work, run)
    work.enqueue(CheckRun(run.id))
    return run


async def _open_attempt(work: UnitOfWork, run: TrainingRun) -> None:
    run.attempt += 1
    number = run.attempt
    work.session.add(
        RunAttempt(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            number=number,
            provider=run.provider,
            tag=f"run-{run.id.hex}-{number}",
        )
    )
    await append_run_event(work, run, "run.attempt_started", {"attempt": number, "provider": run.provider.value})


async def _apply(work: UnitOfWork, run: TrainingRun, report: Report) -> None:
    """Write down one report; the run's row is locked."""
    if run.status.is_final or report.attempt != run.attempt:
        return
    before = standing_of(run)
    rules = Rules(deploy=run.deploy, may_try_again=run.attempt < MOST_ATTEMPTS)
    after = fold(before, report, rules)
    run.last_signal_at = work.now
    if report.log is not None:
        await _keep_log(work, run, report.log)
    if report.readings:
        await _keep_readings(work, run, report.readings)
    if report.artifact is not None:
        await _keep_artifact(work, run, report.artifact)
    _write(run, after)
    if after.status.is_final:
        run.ended_at = work.now
        await dataset.revoke_grants(work, run.id)
    if after.status.is_final or after.attempt_over:
        await _close_attempt(work, run, after)
    if after.attempt_over:
        _restart(run)
    await _announce(work, run, before)
    if after.attempt_over:
        await _open_attempt(work, run)
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))


def _write(run: TrainingRun, standing: Standing) -> None:
    run.status = standing.status
    run.stage = standing.stage
    run.progress = standing.progress
    run.progress_estimated = standing.progress_estimated
    run.eta_seconds = standing.eta_seconds
    run.end_reason = standing.end_reason if standing.status.is_final else None
    run.error_message = standing.error_message
    run.started_at = standing.started_at
    run.suspected_at = standing.suspected_at


def _restart(run: TrainingRun) -> None:
    """The next attempt begins where the first one did."""
    run.status, run.stage = RunStatus.QUEUED, RunStage.WAITING
    run.progress, run.announced_progress, run.progress_estimated = 0.0, 0.0, True
    run.eta_seconds, run.started_at, run.suspected_at = None, None, None


async def _announce(work: UnitOfWork, run: TrainingRun, before: Standing) -> None:
    """The events that tell how the run differs from before; the final status is the last."""
    if before.suspected_at is None and run.suspected_at is not None:
        await append_run_event(work, run, "run.suspected", {})
    if run.stage is not before.stage and not run.status.is_final:
        data = {"from": before.stage.value, "to": run.stage.value}
        await append_run_event(work, run, "run.stage_changed", data)
    if run.status is not before.status:
        change = {"from": before.status.value, "to": run.status.value, "final": run.status.is_final}
        await append_run_event(work, run, "run.status_changed", change)
        _mark_announced(run, work)
        await ai_model.follow_run(work, run)
    elif _is_worth_telling(run, work):
        _mark_announced(run, work)
        await append_run_event(work, run, "run.progressed", {})
        await ai_model.follow_run(work, run)


def _is_worth_telling(run: TrainingRun, work: UnitOfWork) -> bool:
    if run.progress < run.announced_progress + ANNOUNCED_STEP:
        return False
    return run.announced_at is None or (work.now - run.announced_at).total_seconds() >= ANNOUNCED_SECONDS


def _mark_announced(run: TrainingRun, work: UnitOfWork) -> None:
    run.announced_progress, run.announced_at = run.progress, work.now


async def _close_attempt(work: UnitOfWork, run: TrainingRun, standing: Standing) -> None:
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    if attempt is not None:
        attempt.end_reason = standing.end_reason
        attempt.error_message = standing.error_message
        attempt.ended_at = work.now


async def _keep_log(work: UnitOfWork, run: TrainingRun, chunk: LogChunk) -> None:
    """Store the chunk's lines and move the attempt's offset, together. A chunk that does not begin there is old."""
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    if attempt is None or attempt.log_offset != chunk.start or chunk.end <= chunk.start:
        return
    attempt.log_offset = chunk.end
    if not chunk.lines:
        return
    rows = [
        {
            "run_id": run.id,
            "line": run.log_lines + number,
            "user_id": run.user_id,
            "attempt": run.attempt,
            "at": line.at,
            "level": line.level,
            "text": line.text.replace("\x00", ""),
        }
        for number, line in enumerate(chunk.lines, start=1)
    ]
    await work.session.exec(insert(LogLine), params=rows)
    run.log_lines += len(rows)
    for batch in _batches(rows):
        data = {"fromLine": batch[0]["line"], "toLine": batch[-1]["line"], "lines": batch}
        await append_run_event(work, run, "run.logged", data)


def _batches(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines as events carry them, in batches that the bus carries whole."""
    batches: list[list[dict[str, Any]]] = []
    size = LARGEST_LOG_EVENT_BYTES
    for row in rows:
        line = {"line": row["line"], "at": time_text(row["at"]), "level": row["level"].value, "text": row["text"]}
        weight = len(orjson.dumps(line)) + 1
        if size + weight > LARGEST_LOG_EVENT_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(line)
        size += weight
    return batches


async def _keep_readings(work: UnitOfWork, run: TrainingRun, readings: Sequence[Reading]) -> None:
    unique = {(reading.name, reading.step): reading for reading in readings}
    statement = (
        insert(MetricPoint)
        .values(
            [
                {
                    "run_id": run.id,
                    "name": reading.name,
                    "attempt": run.attempt,
                    "step": reading.step,
                    "user_id": run.user_id,
                    "value": reading.value,
                    "at": reading.at,
                }
                for reading in unique.values()
            ]
        )
        .on_conflict_do_nothing()
        .returning(col(MetricPoint.name), col(MetricPoint.step))
    )
    new = {(row.name, row.step) for row in await work.session.exec(statement)}
    told = [
        {"name": reading.name, "step": reading.step, "value": reading.value}
        for key, reading in unique.items()
        if key in new
    ]
    if told:
        await append_run_event(work, run, "run.measured", {"readings": told})


async def _keep_artifact(work: UnitOfWork, run: TrainingRun, artifact: StoredArtifact) -> None:
    statement = (
        insert(Artifact)
        .values(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            attempt=run.attempt,
            name=artifact.name,
            location=artifact.location,
            bytes=artifact.bytes,
            sha256=artifact.sha256,
            details=artifact.details,
        )
        .on_conflict_do_nothing()
        .returning(col(Artifact.id))
    )
    if (await work.session.exec(statement)).first() is not None:
        data = {"name": artifact.name, "bytes": artifact.bytes, "sha256": artifact.sha256}
        await append_run_event(work, run, "run.artifact_stored", data)


async def _is_full(work: UnitOfWork, provider: Provider, slots: int) -> bool:
    """Whether so many trainings go on there; those who ask take turns until they have written theirs down."""
    await plain(work.session, "SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", key=f"slots:{provider}")
    statement = (
        select(func.count())
        .select_from(Resource)
        .join(TrainingRun, col(TrainingRun.id) == col(Resource.run_id))
        .where(
            Resource.provider == provider,
            Resource.kind == ResourceKind.TRAINING,
            col(Resource.status) != ResourceStatus.ENDED,
            col(TrainingRun.status).in_(sorted(ACTIVE - {RunStatus.DEPLOYING})),
        )
    )
    return (await work.session.exec(statement)).one() >= slots


async def _has_resources(work: UnitOfWork, run_id: UUID) -> bool:
    statement = select(Resource.id).where(Resource.run_id == run_id, Resource.kind == ResourceKind.TRAINING).limit(1)
    return (await work.session.exec(statement)).first() is not None


def _word(run: TrainingRun, work: UnitOfWork, reason: EndReason, message: str | None = None) -> Report:
    return Report(source=ReportSource.WORKER, attempt=run.attempt, at=work.now, outcome=Outcome(reason, message))
