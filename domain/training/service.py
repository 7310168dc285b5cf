"""The verbs of runs. `record` is the one door by which a run changes; a user's wishes are the others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlmodel import col, func, select

from domain.ai_model import service as ai_model
from domain.ai_model.model import AIModel
from domain.commands import CheckRun
from domain.dataset import queries as datasets
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.errors import NotFound
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
from domain.training.model import RunAttempt, TrainingRun
from domain.training.recipes import checked_hyperparameters
from domain.training.recording import announce, apply, open_attempt, standing_of
from domain.training.report import Outcome, Report
from domain.training.status import ACTIVE, EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork


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
    await announce(work, run, before)
    if await _has_resources(work, run.id):
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    else:
        await apply(work, run, _word(run, work, EndReason.CANCELED_BY_USER))
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
    elif resource.status is ResourceStatus.ENDED:  # ended while it was started: then it is there once more
        resource.status, resource.ended_at = ResourceStatus.ENDING, None
    report = Report(source=ReportSource.POLL, attempt=attempt, at=work.now, stage=RunStage.CREATING_SANDBOX)
    await apply(work, run, report)


async def record(work: UnitOfWork, run_id: UUID, report: Report) -> TrainingRun | None:
    """Fold what a signal says into the run; the only way a run changes by itself.

    Gives the run as it is afterwards, or None if there is no such run. Reports may come late, twice, in any order."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await apply(work, run, report)
    return run


async def give_up(work: UnitOfWork, run_id: UUID, reason: EndReason, message: str | None = None) -> None:
    """Our own word that a run ends: it waited too long, was refused, or cannot be deployed."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await apply(work, run, _word(run, work, reason, message))


async def finish_deployment(work: UnitOfWork, run_id: UUID, *, slug: str) -> None:
    """The run's address answered as it should: the run is READY."""
    run = await queries.locked_run(work.session, run_id)
    if run is None or run.status is not RunStatus.DEPLOYING:
        return
    run.app_slug = slug
    await append_run_event(work, run, "run.deployment_ready", {"slug": slug})
    await apply(work, run, _word(run, work, EndReason.SUCCEEDED))


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
    await open_attempt(work, run)
    await ai_model.follow_run(work, run)
    work.enqueue(CheckRun(run.id))
    return run


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
