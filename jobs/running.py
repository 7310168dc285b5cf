"""Looking after one run for as long as this worker holds its lease: start, ask, stop, deploy, whatever its row says.

Load, ask, apply: no transaction is open while a provider is asked, and applying reads again under a lock. So a worker
may die anywhere, and two may look after one run: whatever they find goes through the same door and counts once.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import anyio

from domain.ai_model.model import AIModel
from domain.dataset import service as dataset
from domain.dataset.model import Dataset
from domain.deployment import service as deployment
from domain.errors import Unavailable
from domain.secret import Secret
from domain.training import queries, service
from domain.training.model import RunAttempt, TrainingRun
from domain.training.report import Report
from domain.training.service import NoFreeSlot
from domain.training.status import EndReason, Provider, ReportSource, RunStatus
from jobs.context import JobContext
from jobs.deploying import DeploymentFailed, bring_up
from jobs.providers.base import (
    DatasetOrder,
    Position,
    ProviderBusy,
    ProviderLost,
    ProviderRefused,
    Trainer,
    TrainingOrder,
)

logger = logging.getLogger("runwire.jobs")

LOOK_SECONDS = 0.25
"""Between two looks at a run whose provider is this machine."""
DEPLOY_RETRY_SECONDS = 2.0
CANCEL_LOOK_SECONDS = 0.5
"""How often a run that is being deployed is looked at for a wish to cancel it."""


WAITING_SECONDS = 1.0
"""How often a run that waits for a free slot is looked at."""
SILENCE_SECONDS = 2.0
"""How often a training that says nothing is written down as still there."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a run led to."""

    again_after_seconds: float | None
    """When to look again; None where the run has ended."""
    let_go: bool = False
    """Whether somebody else may look after it meanwhile."""


async def look_after(context: JobContext, run_id: UUID, wake: Callable[[float], Awaitable[None]]) -> float:
    """Stay with a run until it ends, or waits; gives the seconds after which it is due again.

    `wake(seconds)` waits so long, or less if somebody rings."""
    while True:
        look = await look_at(context, run_id)
        if look.again_after_seconds is None:
            return 0.0
        if look.let_go:
            return look.again_after_seconds
        await wake(look.again_after_seconds)


async def look_at(context: JobContext, run_id: UUID) -> Look:
    """One step of a run's life."""
    async with context.begin() as work:
        run = await work.session.get(TrainingRun, run_id)
        attempt = await queries.attempt_of(work.session, run_id, run.attempt) if run else None
    if run is None or attempt is None or run.status.is_final:
        return Look(None)
    trainer = context.trainers.get(run.provider)
    if trainer is None:
        await _give_up(context, run_id, EndReason.PROVIDER_REFUSED, f"{run.provider} is not available here.")
        return Look(None)
    try:
        if run.status is RunStatus.CANCELING:
            return await _stop(context, run, attempt, trainer)
        if run.status is RunStatus.DEPLOYING:
            return await _deploy(context, run)
        if attempt.reference is None:
            return await _start(context, run, trainer)
        return await _ask(context, run, attempt, trainer)
    except ProviderBusy as error:
        if run.status is RunStatus.QUEUED and _waited(context, run) > context.settings.queue_limit_seconds:
            await _give_up(context, run_id, EndReason.QUEUE_TIMED_OUT, str(error))
            return Look(None)
        return Look(error.retry_after_seconds, let_go=run.status is RunStatus.QUEUED)
    except NoFreeSlot:
        if _waited(context, run) > context.settings.queue_limit_seconds:
            await _give_up(context, run_id, EndReason.QUEUE_TIMED_OUT)
            return Look(None)
        return Look(WAITING_SECONDS, let_go=True)
    except ProviderRefused as error:
        await _give_up(context, run_id, EndReason.PROVIDER_REFUSED, str(error))
        return Look(None)


async def _start(context: JobContext, run: TrainingRun, trainer: Trainer) -> Look:
    async with context.begin() as work:
        attempt = await service.begin_attempt(work, run.id, slots=_slots(context))
    if attempt is None:
        return Look(0)
    reference = await trainer.find(attempt.tag)
    if reference is None:
        reference = await trainer.start(await _order(context, run, attempt))
    async with context.begin() as work:
        await service.note_started(work, run.id, attempt=attempt.number, reference=reference)
    return Look(0)


async def _order(context: JobContext, run: TrainingRun, attempt: RunAttempt) -> TrainingOrder:
    settings = context.settings
    data: DatasetOrder | None = None
    if run.dataset_id is not None:
        async with context.begin() as work:
            row = await work.session.get(Dataset, run.dataset_id)
            _, token = await dataset.grant_download(
                work, run=run, attempt=attempt.number, seconds=settings.grant_seconds
            )
        if row is None or row.sha256 is None:
            raise ProviderRefused("The dataset is gone.")
        data = _dataset_order(settings.own_url, row, token)
    return TrainingOrder(
        tag=attempt.tag,
        run_id=run.id,
        attempt=attempt.number,
        recipe=run.recipe or "",
        hyperparameters=run.hyperparameters,
        dataset=data,
        time_limit_seconds=run.time_limit_seconds,
        memory_limit_bytes=settings.local_memory_bytes,
        disk_limit_bytes=settings.local_disk_bytes,
    )


def _dataset_order(url: str, row: Dataset, token: Secret) -> DatasetOrder:
    assert row.sha256 is not None
    return DatasetOrder(
        url=f"{url}/datasets/download", token=token, format=row.format.value, bytes=row.bytes, sha256=row.sha256
    )


async def _ask(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> Look:
    assert attempt.reference is not None
    now = context.clock.now()
    try:
        position = Position(offset=attempt.log_offset, attempt=attempt.number)
        report = await trainer.report(attempt.reference, position, now)
    except ProviderLost as error:
        report = Report(source=ReportSource.POLL, attempt=attempt.number, at=now, suspicion=str(error))
    if report.says_nothing and not _is_due(run, now):
        return Look(LOOK_SECONDS)
    async with context.begin() as work:
        after = await service.record(work, run.id, report)
    if after is None or after.status.is_final:
        return Look(None)
    moved_on = after.attempt != run.attempt or after.status is not run.status
    more = report.log is not None and bool(report.log.lines)
    return Look(0 if moved_on else LOOK_SECONDS if not more else LOOK_SECONDS / 2)


async def _stop(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> Look:
    """Canceled is written when the provider confirms that nothing is left, and not before."""
    reference = attempt.reference or await trainer.find(attempt.tag)
    if reference is not None and not await _stopped(trainer, reference):
        return Look(1.0)
    await _give_up(context, run.id, EndReason.CANCELED_BY_USER)
    return Look(None)


async def _stopped(trainer: Trainer, reference: str) -> bool:
    try:
        return await trainer.stop(reference)
    except ProviderLost:
        return True


async def _deploy(context: JobContext, run: TrainingRun) -> Look:
    """Serve the run's model, prove its address, and only then call the run READY."""
    async with context.begin() as work:
        locked = await queries.locked_run(work.session, run.id)
        if locked is None or locked.status is not RunStatus.DEPLOYING:
            return Look(0)
        model = await work.session.get(AIModel, locked.model_id)
        assert model is not None
        app = await deployment.app_of_model(work, model)
        row = await deployment.begin_deployment(work, app, locked, locked.provider)
    try:
        live = await _while_deploying(context, run.id, lambda: bring_up(context, row.id))
    except DeploymentFailed as error:
        await _give_up(context, run.id, EndReason.DEPLOYMENT_FAILED, str(error))
        return Look(None)
    if live is None:
        return Look(0)
    if not live:
        return Look(DEPLOY_RETRY_SECONDS)
    async with context.begin() as work:
        await service.finish_deployment(work, run.id, slug=app.slug)
    return Look(0)


async def _while_deploying(context: JobContext, run_id: UUID, work: Callable[[], Awaitable[bool]]) -> bool | None:
    """What the work leads to; it is let be as soon as the run shall not be deployed any more, and gives None then."""
    result: bool | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(_cancel_with_the_run, context, run_id, group.cancel_scope)
        try:
            result = await work()
        except Exception as error:  # kept out of the group, which would wrap it
            failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _cancel_with_the_run(context: JobContext, run_id: UUID, scope: anyio.CancelScope) -> None:
    """Proving an address may take a while; who cancels the run shall not wait for it."""
    while True:
        await anyio.sleep(CANCEL_LOOK_SECONDS)
        try:
            async with context.begin() as work:
                run = await work.session.get(TrainingRun, run_id)
        except Unavailable:
            continue  # what we guard meets it too
        if run is None or run.status is not RunStatus.DEPLOYING:
            scope.cancel()
            return


async def _give_up(context: JobContext, run_id: UUID, reason: EndReason, message: str | None = None) -> None:
    async with context.begin() as work:
        await service.give_up(work, run_id, reason, message)


def _slots(context: JobContext) -> dict[Provider, int]:
    """How many trainings may go on at once, where there is a limit of ours."""
    return {Provider.LOCAL: context.settings.local_slots}


def _is_due(run: TrainingRun, now: datetime) -> bool:
    """Whether something of the run waits to be told although its trainer says nothing new."""
    untold = run.progress > run.announced_progress
    return untold or run.last_signal_at is None or (now - run.last_signal_at).total_seconds() >= SILENCE_SECONDS


def _waited(context: JobContext, run: TrainingRun) -> float:
    return (context.clock.now() - run.created_at) / timedelta(seconds=1)
