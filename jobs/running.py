"""Looking after one run for as long as this worker holds its lease: start, ask, stop, deploy, whatever its row says.

Load, ask, apply: no transaction is open while a provider is asked, and applying reads again under a lock. So a worker
may die anywhere, and two may look after one run: whatever they find goes through the same door and counts once.
"""

import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import anyio

from domain.ai_model.model import AIModel
from domain.deployment import service as deployment
from domain.errors import Unavailable
from domain.training import queries, service
from domain.training.fold import CANCELED_REASONS
from domain.training.model import RunAttempt, TrainingRun
from domain.training.report import Report
from domain.training.service import NoFreeSlot
from domain.training.status import EndReason, Provider, ReportSource, RunStatus
from jobs.context import JobContext
from jobs.deploying import DeploymentFailed, bring_up
from jobs.ending import end_resource_of, note_started
from jobs.limits import is_over_a_limit, is_too_dear, pause_of, until_a_limit, with_silence
from jobs.ordering import note_refusal, order_of, position_of, trainer_of
from jobs.providers.base import (
    CredentialRefused,
    NoCapacity,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
    RemoteTrainer,
    Started,
    Trainer,
)
from jobs.retry import CAPACITY_SECONDS, CAPACITY_TRIES, STOPPING, TEST_CAPACITY_SECONDS

logger = logging.getLogger("runwire.jobs")

DEPLOY_RETRY_SECONDS = 2.0
CANCEL_LOOK_SECONDS = 0.5
"""How often a run that is being deployed is looked at for a wish to cancel it."""
WAITING_SECONDS = 1.0
"""How often a run that waits for a free slot is looked at."""
SILENCE_SECONDS = 2.0
"""How often a training that says nothing is written down as still there."""
LET_GO_SECONDS = 1.0
"""A run that is not looked at again for so long is let go meanwhile; whoever sweeps then goes on with it."""
SHORTEST_PAUSE_SECONDS = 1.0
LAST_WORD_SECONDS = 4.0
"""What a provider may take to tell what something has cost, before it is asked to stop it."""


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
    try:
        if run.status is RunStatus.DEPLOYING:
            await end_resource_of(context, attempt.tag)
            return await _deploy(context, run)
        trainer = await trainer_of(context, run, attempt)
        if run.status is RunStatus.CANCELING or run.stop_reason is not None:
            return await _stop(context, run, attempt, trainer)
        if attempt.reference is None:
            return await _start(context, run, trainer)
        return await _ask(context, run, attempt, trainer)
    except NoCapacity as error:
        return await _look_elsewhere(context, run, attempt, error)
    except ProviderBusy as error:
        if run.status is RunStatus.QUEUED and _waited(context, attempt) > context.settings.queue_limit_seconds:
            await _give_up(context, run_id, EndReason.QUEUE_TIMED_OUT, str(error))
            return Look(None)
        return Look(error.retry_after_seconds, let_go=error.retry_after_seconds >= LET_GO_SECONDS)
    except NoFreeSlot:
        if _waited(context, attempt) > context.settings.queue_limit_seconds:
            await _give_up(context, run_id, EndReason.QUEUE_TIMED_OUT)
            return Look(None)
        return Look(WAITING_SECONDS, let_go=True)
    except ProviderRefused as error:
        if run.status is RunStatus.CANCELING or run.stop_reason is not None:
            if attempt.reference is None and isinstance(error, CredentialRefused):
                # With this key nothing is known to have been made, and nobody can find out: that keeps no run from its
                # end. The reaper goes on looking.
                await _end_as_wished(context, run)
                return Look(None)
            # Its end is not confirmed: the reaper goes on asking, and shows what the provider says.
            logger.warning("A provider refuses to end a training.", extra={"run_id": str(run_id)})
            if run.status is not RunStatus.CANCELING:
                await _suspect(context, run, attempt, error)
            return Look(STOPPING.longest_seconds, let_go=True)
        await note_refusal(context, run, attempt, error)
        if attempt.reference is not None:  # it is there and may well go on: a key that is wrong today ends nothing
            await _suspect(context, run, attempt, error)
            return Look(STOPPING.longest_seconds, let_go=True)
        await _give_up(context, run_id, EndReason.PROVIDER_REFUSED, str(error))
        return Look(None)


async def _suspect(context: JobContext, run: TrainingRun, attempt: RunAttempt, error: ProviderError) -> None:
    """What cannot be asked about with its key may be lost; it is, after a while without a word of anybody."""
    words = Report(
        source=ReportSource.POLL,
        attempt=attempt.number,
        at=context.clock.now(),
        cost_micros=attempt.cost_micros,
        suspicion=str(error),
    )
    async with context.begin() as work:
        await service.record(work, run.id, words)


async def _start(context: JobContext, run: TrainingRun, trainer: Trainer) -> Look:
    async with context.begin() as work:
        begun = await service.begin_attempt(work, run.id, slots=_slots(context))
    if begun is None:
        return Look(0)
    attempt = begun.attempt
    started: Started | None = None
    if begun.may_exist:
        started = await trainer.find(attempt.tag)
    if started is None and attempt.heard_at is not None:
        return await _wait_for_word(context, run, attempt)
    if started is None or not started.has_begun:
        if await is_too_dear(context, run, attempt, trainer):
            return Look(None)
        try:
            started = await trainer.start(await order_of(context, run, attempt))
        except CredentialRefused:
            if not begun.may_exist:  # nothing was made, nor can anybody ask whether it was
                await end_resource_of(context, attempt.tag, is_gone=True)
            raise
        except ProviderLost:
            gone = Report(ReportSource.POLL, attempt.number, context.clock.now(), vanished=True)
            async with context.begin() as work:
                await service.record(work, run.id, gone)
            await end_resource_of(context, attempt.tag)
            return Look(0)
    if not await note_started(context, run.id, attempt.number, started):
        logger.warning("A training was started twice; this one is ended.", extra={"run_id": str(run.id)})
        await _stopped(trainer, started.reference)  # what is not confirmed now is found as a stray
    return Look(0)


async def _wait_for_word(context: JobContext, run: TrainingRun, attempt: RunAttempt) -> Look:
    """Its script has spoken to us, so it was made once, and it is gone before we knew its name. It is not made a second
    time: the last of what it said is still to be applied, or nothing comes any more and the run is LOST."""
    words = "The machine is gone before its training was known to have ended."
    async with context.begin() as work:
        await service.record(
            work, run.id, Report(ReportSource.POLL, attempt.number, context.clock.now(), suspicion=words)
        )
    return Look(WAITING_SECONDS, let_go=True)


async def _look_elsewhere(context: JobContext, run: TrainingRun, attempt: RunAttempt, error: NoCapacity) -> Look:
    """No free machine: a few more tries, then the next choice, then the end."""
    if attempt.reference is not None:
        return Look(error.retry_after_seconds, let_go=True)
    async with context.begin() as work:
        again = await service.note_no_capacity(
            work, run.id, attempt=attempt.number, message=str(error), most_tries=CAPACITY_TRIES
        )
    pause = TEST_CAPACITY_SECONDS if run.test_mode else CAPACITY_SECONDS
    return Look(random.uniform(*pause), let_go=True) if again else Look(0)


async def _ask(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> Look:
    assert attempt.reference is not None
    now = context.clock.now()
    position = position_of(run, attempt)
    left = await until_a_limit(context, run, attempt, trainer)
    try:
        # Who answers slowly must not carry a run beyond its budget.
        with anyio.fail_after(max(SHORTEST_PAUSE_SECONDS, left) if left < float("inf") else None):
            report = await trainer.report(attempt.reference, position, now)
    except TimeoutError:
        await is_over_a_limit(context, run, attempt, trainer)
        return Look(0)
    except NoCapacity:
        raise
    except ProviderBusy as busy:
        # Who cannot be read may be asked to stop all the same: limits are kept meanwhile.
        if await is_over_a_limit(context, run, attempt, trainer):
            return Look(0)
        pause = max(SHORTEST_PAUSE_SECONDS, min(busy.retry_after_seconds, left))
        return Look(pause, let_go=pause >= LET_GO_SECONDS)
    except (ProviderLost, ProviderRefused) as error:
        # A key that is refused by now tells nothing of the training: it ends as LOST, unless the key works again.
        await note_refusal(context, run, attempt, error)
        # What it has cost meanwhile nobody knows; it is not reckoned on while nobody knows of it.
        report = Report(
            source=ReportSource.POLL,
            attempt=attempt.number,
            at=now,
            cost_micros=attempt.cost_micros,
            suspicion=str(error),
        )
    report = with_silence(report, attempt, now)
    if report.says_nothing and report.cost_micros is None and not _is_due(run, now):
        pause = pause_of(run, attempt, trainer, now)
        return Look(pause, let_go=pause >= LET_GO_SECONDS)
    async with context.begin() as work:
        after = await service.record(work, run.id, report)
    if after is None or after.status.is_final or after.status is RunStatus.DEPLOYING:
        await end_resource_of(context, attempt.tag)
        return Look(None if after is None or after.status.is_final else 0)
    if after.attempt != run.attempt or after.status is not run.status:
        return Look(0)
    pause = pause_of(after, attempt, trainer, now)
    if await is_over_a_limit(context, after, attempt, trainer):
        return Look(0)
    if report.log is not None and report.log.lines:
        pause = min(pause, trainer.pace.first_seconds / 2 if trainer.pace.first_seconds < LET_GO_SECONDS else pause)
    return Look(pause, let_go=pause >= LET_GO_SECONDS)


async def _stop(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> Look:
    """The end is written when the provider confirms that nothing is left, and not before."""
    reference = attempt.reference
    if reference is None:
        found = await trainer.find(attempt.tag)
        if found is not None:
            await note_started(context, run.id, attempt.number, found)
        reference = found.reference if found is not None else None
    if reference is not None:
        # What costs by the hour is reckoned to its end; whoever cancels it shall not wait for one that answers nothing.
        is_asked = run.status is not RunStatus.CANCELING or not trainer.bills_from_creation
        report = await _read(context, run, attempt, trainer, reference) if is_asked else None
        if report is not None and _ended_by_itself(report) and run.status is not RunStatus.CANCELING:
            # Before it could be stopped for a limit: its own word is what counts.
            async with context.begin() as work:
                await service.record(work, run.id, report)
            return Look(0)
        await _note_cost(context, run, attempt, report)
        if not await _stopped(trainer, reference):
            return Look(STOPPING.first_seconds)
        if not trainer.bills_from_creation:  # only now its provider says what is to be paid
            await _note_cost(context, run, attempt, await _read(context, run, attempt, trainer, reference))
    await end_resource_of(context, attempt.tag, is_gone=True)
    await _end_as_wished(context, run)
    return Look(None)


async def _end_as_wished(context: JobContext, run: TrainingRun) -> None:
    """The end of a run that was to be stopped, by its user or for a limit."""
    if run.status is RunStatus.CANCELING or run.stop_reason is None:
        await _give_up(context, run.id, EndReason.CANCELED_BY_USER)
    else:
        await _give_up(context, run.id, run.stop_reason, run.stop_message)


def _ended_by_itself(report: Report) -> bool:
    """Whether it has ended, and nobody's wish was the reason, which may have been ours."""
    return report.outcome is not None and report.outcome.end_reason not in CANCELED_REASONS


async def _read(
    context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer, reference: str
) -> Report | None:
    """What a provider elsewhere says, as long as it can still tell."""
    if not isinstance(trainer, RemoteTrainer):
        return None
    try:
        with anyio.fail_after(LAST_WORD_SECONDS):
            return await trainer.report(reference, position_of(run, attempt), context.clock.now())
    except (ProviderError, TimeoutError):
        return None


async def _note_cost(context: JobContext, run: TrainingRun, attempt: RunAttempt, report: Report | None) -> None:
    """Write down what it has cost until now, and nothing else that was said."""
    if report is None:
        return
    cost = Report(ReportSource.WORKER, attempt.number, report.at, cost_micros=report.cost_micros)
    async with context.begin() as work:
        await service.record(work, run.id, cost)


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
        row = await deployment.begin_deployment(work, app, locked, Provider.LOCAL)
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


def _waited(context: JobContext, attempt: RunAttempt) -> float:
    return (context.clock.now() - attempt.created_at) / timedelta(seconds=1)
