"""The verbs of runs. `record` is the one door by which a run changes; a user's wishes are the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlmodel import col, func, select

from domain.ai_model.model import AIModel
from domain.commands import CheckRun
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.errors import NotFound
from domain.integration.errors import NotInTestMode
from domain.journal.service import append_feed_event, append_run_event
from domain.sql import plain
from domain.training import queries
from domain.training.errors import (
    RunAlreadyEnded,
    RunStillGoing,
)
from domain.training.heeding import begin_stopping
from domain.training.model import RunAttempt, TrainingRun
from domain.training.recording import announce, apply, note_cost, standing_of
from domain.training.report import Outcome, Report
from domain.training.starting import Offer, start
from domain.training.status import ACTIVE, EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork


async def start_run(work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer) -> TrainingRun:
    """Write the wish down and ring a worker. The same idempotency key gives the same run.

    Raises `Invalid`, `NotFound` (dataset, config), `Conflict`, `LimitReached`, `Unavailable` (provider)."""
    return await start(work, viewer, wish, offer, retry_of=None)


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
    return await start(work, viewer, wish, offer, retry_of=run)


async def cancel_run(work: UnitOfWork, viewer: Viewer, *, run_id: UUID) -> TrainingRun:
    """Stop a run the viewer owns; the provider is told afterwards, by a job. Asking twice is asking once.

    Raises `NotFound`, `NotInTestMode`, and `RunAlreadyEnded` for READY and FAILED ones."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id, lock=True)
    check_mode(viewer, run)
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


def check_mode(viewer: Viewer, run: TrainingRun) -> None:
    """Raises `NotInTestMode` where a key for tests would reach what is done for real."""
    if viewer.test_mode and not run.test_mode:
        raise NotInTestMode


async def sync_run(work: UnitOfWork, viewer: Viewer, *, run_id: UUID) -> TrainingRun:
    """Have the provider read again now, whatever the next check was set to. Raises `NotFound`, `NotInTestMode`."""
    viewer.require(Scope.RUNS_WRITE)
    run = await queries.run_of(work.session, viewer, run_id, lock=True)
    check_mode(viewer, run)
    if not run.status.is_final:
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    return run


class NoFreeSlot(Exception):
    """As many trainings as may go on at once at this provider do; the run waits."""


@dataclass(frozen=True, slots=True)
class BegunAttempt:
    """An attempt that is about to be started at its provider."""

    attempt: RunAttempt
    may_exist: bool
    """Whether it may have been started before, by somebody who could not write it down."""


async def begin_attempt(work: UnitOfWork, run_id: UUID, *, slots: Mapping[Provider, int]) -> BegunAttempt | None:
    """Write down that the run's attempt is about to be started at its provider; None where it no longer should be.

    The resource's row is there before the resource is, so a lost answer never hides one. Raises `NoFreeSlot`."""
    run = await queries.locked_run(work.session, run_id)
    if run is None or run.status.is_final or run.status is RunStatus.CANCELING or run.stop_reason is not None:
        return None
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    assert attempt is not None
    known = await queries.resource_of_tag(work.session, attempt.tag)
    if known is None:
        if attempt.provider in slots and await _is_full(work, attempt.provider, slots[attempt.provider]):
            raise NoFreeSlot
        work.session.add(
            Resource(
                created_at=work.now,
                user_id=run.user_id,
                run_id=run.id,
                provider=attempt.provider,
                kind=ResourceKind.TRAINING,
                tag=attempt.tag,
                attempt=attempt.number,
                gpu_type=attempt.gpu_type,
                integration_id=attempt.integration_id,
                is_test=run.test_mode,
            )
        )
    if attempt.started_at is None:
        attempt.started_at = work.now
    return BegunAttempt(attempt, may_exist=known is not None)


async def note_started(
    work: UnitOfWork,
    run_id: UUID,
    *,
    attempt: int,
    reference: str,
    url: str | None = None,
    price_micros_per_hour: int = 0,
    began_at: datetime | None = None,
) -> bool:
    """The provider has the attempt, under this reference, since then. False where it is known under another one, which
    is left so: then this is a double, that belongs to nobody."""
    run = await queries.locked_run(work.session, run_id)
    row = await queries.attempt_of(work.session, run_id, attempt)
    assert run is not None and row is not None
    if row.reference not in (None, reference):
        return False
    row.reference, row.provider_url, row.price_micros_per_hour = reference, url, price_micros_per_hour
    resource = (await work.session.exec(select(Resource).where(Resource.tag == row.tag))).one()
    resource.reference = reference
    resource.price_micros_per_hour = price_micros_per_hour
    resource.began_at = resource.began_at or began_at or work.now
    resource.cost_at = resource.cost_at or resource.began_at
    if resource.status is ResourceStatus.INTENDED:
        resource.status = ResourceStatus.ALIVE
    elif resource.status is ResourceStatus.ENDED:  # ended while it was started: then it is there once more
        resource.status, resource.ended_at = ResourceStatus.ENDING, None
    report = Report(source=ReportSource.POLL, attempt=attempt, at=work.now, stage=RunStage.CREATING_SANDBOX)
    await apply(work, run, report)
    return True


async def note_no_capacity(work: UnitOfWork, run_id: UUID, *, attempt: int, message: str, most_tries: int) -> bool:
    """The provider had no free machine. After so many tries the attempt is over, and the next choice gets its turn;
    after the last choice the run is. Gives whether the same attempt is to be tried again."""
    run = await queries.locked_run(work.session, run_id)
    row = await queries.attempt_of(work.session, run_id, attempt)
    if run is None or row is None or run.attempt != attempt or run.status.is_final:
        return False
    row.capacity_tries += 1
    if row.capacity_tries < most_tries:
        return True
    resource = await queries.resource_of_tag(work.session, row.tag)
    if resource is not None and resource.reference is None:
        resource.status, resource.ended_at, resource.age_seconds = ResourceStatus.ENDED, work.now, 0.0
    await apply(work, run, _word(run, work, EndReason.NO_CAPACITY, message))
    return False


async def record(
    work: UnitOfWork, run_id: UUID, report: Report, *, report_sequence: int | None = None
) -> TrainingRun | None:
    """Fold what a signal says into the run; the only way a run changes by itself.

    Gives the run as it is afterwards, or None if there is no such run. Reports may come late, twice, in any order;
    those of a script that numbers its own are taken once each, in the order of their numbers."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        await apply(work, run, report, report_sequence=report_sequence)
    return run


async def stop_run(work: UnitOfWork, run_id: UUID, reason: EndReason, message: str | None = None) -> None:
    """Have a run stopped that went beyond a limit; it ends so once its provider has confirmed."""
    run = await queries.locked_run(work.session, run_id)
    if run is not None:
        begin_stopping(work, run, reason, message)


async def settle_cost(work: UnitOfWork, resource: Resource, cost_micros: int) -> None:
    """What a resource cost in the end. Where its run is over already, the owner's feed tells; runs never move again.

    The resource's row is locked; its run's row is locked first by whoever calls."""
    if resource.run_id is None or resource.attempt is None:
        resource.cost_micros = max(resource.cost_micros, cost_micros)
        return
    run = await queries.locked_run(work.session, resource.run_id)
    attempt = await queries.attempt_of(work.session, resource.run_id, resource.attempt)
    if run is None or attempt is None:
        return
    before = run.cost_micros
    await note_cost(work, run, attempt, cost_micros)
    if run.status.is_final:
        if run.cost_micros != before:
            run.announced_cost_micros = run.cost_micros
        data = {"runId": str(run.id), "costMicros": run.cost_micros, "resourceId": str(resource.id)}
        await append_feed_event(work, run.user_id, "cost.settled", data)
    else:
        await announce(work, run, standing_of(run))


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
