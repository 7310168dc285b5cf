"""How long a run may go on: its budget, its time, its provider's patience, its script's silence."""

from dataclasses import replace
from datetime import datetime

from domain.training import queries, service
from domain.training.budget import seconds_left, spent_by_now
from domain.training.model import RunAttempt, TrainingRun
from domain.training.report import Report, Warned
from domain.training.status import EndReason, WarningCode
from jobs.context import JobContext
from jobs.providers.base import RemoteTrainer, Trainer

SILENT_SECONDS = 90.0
"""A script that reports to us and says nothing for so long is told as silent."""
OVERTIME_SECONDS = 60.0
"""What a training may go on beyond its time limit until we stop it ourselves; scripts of ours stop before."""


def with_silence(report: Report, attempt: RunAttempt, now: datetime) -> Report:
    """The report, with a warning where a script that used to speak has fallen silent."""
    if attempt.heard_at is None or report.outcome is not None:
        return report
    silent = (now - attempt.heard_at).total_seconds()
    if silent <= SILENT_SECONDS:
        return report
    warned = Warned(WarningCode.SILENCE, f"Nothing was heard of the script for {silent:.0f} seconds.")
    return replace(report, warnings=(*report.warnings, warned))


def pause_of(run: TrainingRun, attempt: RunAttempt, trainer: Trainer, now: datetime) -> float:
    """Until the next look: by the age of the attempt, and before its budget is used up."""
    begun = attempt.started_at or now
    pause = trainer.pace.seconds_at((now - begun).total_seconds())
    if run.budget_micros is not None and attempt.price_micros_per_hour > 0:
        left = seconds_left(run.budget_micros, run.cost_micros, attempt.price_micros_per_hour)
        pause = max(0.0, min(pause, left))
    return pause


async def until_a_limit(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> float:
    """How long a training that is not read may go on until one of its limits is to be looked at."""
    left = float("inf")
    if run.budget_micros is not None:
        price = _price_now(run, attempt, trainer)
        left = seconds_left(run.budget_micros, await _spent(context, run, attempt, price), price)
    if run.started_at is not None:
        gone = (context.clock.now() - run.started_at).total_seconds()
        left = min(left, run.time_limit_seconds + OVERTIME_SECONDS - gone)
    return left


async def is_over_a_limit(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> bool:
    """Whether the run must be stopped now; then that is begun."""
    now = context.clock.now()
    reason: EndReason | None = None
    message = ""
    if run.budget_micros is not None:
        price = _price_now(run, attempt, trainer)
        spent = await _spent(context, run, attempt, price)
        if seconds_left(run.budget_micros, spent, price) <= 0:
            reason = EndReason.OUT_OF_BUDGET
            message = f"It had cost {spent / 1e6:.4f} of {run.budget_micros / 1e6:.4f} dollars."
    limit = run.time_limit_seconds + OVERTIME_SECONDS
    if run.started_at is not None and (now - run.started_at).total_seconds() > limit:
        reason = EndReason.TIMED_OUT
        message = f"It went on for more than {run.time_limit_seconds} seconds."
    begun = attempt.started_at
    preparing = context.settings.preparing_limit_seconds
    if run.started_at is None and begun is not None and (now - begun).total_seconds() > preparing:
        reason = EndReason.PROVIDER_ERROR
        message = f"The provider did not begin within {preparing} seconds."
    if reason is None:
        return False
    async with context.begin() as work:
        await service.stop_run(work, run.id, reason, message)
    return True


async def is_too_dear(context: JobContext, run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> bool:
    """Whether the run's budget is passed by a flat price, or used up before one could stop what costs by the hour, so
    that it must not even be started; then the run is over."""
    if run.budget_micros is None or not isinstance(trainer, RemoteTrainer):
        return False
    gpu_types = [attempt.gpu_type] if attempt.gpu_type else []
    quotes = await trainer.quotes(gpu_types, run.hyperparameters)
    dearest = max((quote.flat_micros or 0 for quote in quotes), default=0)
    hourly = max((quote.price_micros_per_hour or 0 for quote in quotes), default=0)
    message = f"It costs {dearest / 1e6:.2f} dollars, and the budget leaves less."
    if quotes and all(quote.flat_micros is None and quote.price_micros_per_hour is None for quote in quotes):
        message = "Nobody tells what it costs, so no budget can be kept; name other hardware, or no budget."
    elif run.cost_micros + dearest <= run.budget_micros:
        if not hourly or seconds_left(run.budget_micros, run.cost_micros, hourly) > 0:
            return False
        message = f"It costs {hourly / 1e6:.2f} dollars an hour, and the budget leaves less than it takes to stop it."
    async with context.begin() as work:
        await service.give_up(work, run.id, EndReason.OUT_OF_BUDGET, message)
    return True


def _price_now(run: TrainingRun, attempt: RunAttempt, trainer: Trainer) -> int:
    """What an hour costs at the moment: waiting for a machine is free at some providers."""
    counts = trainer.bills_from_creation or run.started_at is not None
    return attempt.price_micros_per_hour if counts else 0


async def _spent(context: JobContext, run: TrainingRun, attempt: RunAttempt, price_micros_per_hour: int) -> int:
    """What the run has cost by now, at this price since its cost was read last."""
    async with context.begin() as work:
        resource = await queries.resource_of_tag(work.session, attempt.tag)
    now = context.clock.now()
    since = (now - resource.cost_at).total_seconds() if resource is not None and resource.cost_at else 0.0
    return spent_by_now(run.cost_micros, price_micros_per_hour, since)
