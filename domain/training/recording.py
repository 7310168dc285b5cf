"""How a report changes a run's row, and which events tell of it. The caller holds the lock of the run's row."""

from datetime import timedelta

from domain.ai_model import service as ai_model
from domain.base import new_id
from domain.commands import CheckRun
from domain.dataset import service as dataset
from domain.journal.service import append_run_event
from domain.training import queries
from domain.training.budget import seconds_left, spent_by_now
from domain.training.choices import choice_of
from domain.training.expecting import expect
from domain.training.fold import Rules, Standing, fold
from domain.training.heeding import heed
from domain.training.keeping import keep_artifact, keep_log, keep_readings
from domain.training.model import RunAttempt, TrainingRun
from domain.training.progress import ANNOUNCED_SECONDS, ANNOUNCED_STEP
from domain.training.report import Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus
from domain.work import UnitOfWork

MOST_VANISHED = 3
"""Attempts of a run whose work may be gone without a word; after the last it is given up."""
COST_STEP = 0.01
"""The part by which a cost must have grown to be worth an event."""
COST_STEP_MICROS = 1000


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


async def apply(work: UnitOfWork, run: TrainingRun, report: Report, *, report_sequence: int | None = None) -> None:
    """Write down one report; the run's row is locked. A script's report that is not newer than its last is old."""
    if run.status.is_final or report.attempt != run.attempt:
        return
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    if attempt is None or not _is_newer(attempt, report_sequence):
        return
    before = standing_of(run)
    after = fold(before, report, _rules_of(run))
    run.last_signal_at = work.now
    if report.source is ReportSource.POD:
        attempt.heard_at = work.now
    if report.log is not None:
        await keep_log(work, run, report.log)
    if report.readings:
        await keep_readings(work, run, report.readings)
    if report.artifact is not None:
        await keep_artifact(work, run, report.artifact)
    _write(run, after)
    if run.started_at is not None and attempt.training_began_at is None:
        attempt.training_began_at = run.started_at
    if report.cost_micros is not None:
        await note_cost(work, run, attempt, report.cost_micros)
    if run.keep_seconds and report.outcome is not None and report.outcome.succeeded:
        await _keep_machine(work, run, attempt)
    await expect(work, run, attempt, report, ended_well=_ended_well(report, after))
    await heed(work, run, report.warnings)
    if after.status.is_final:
        run.ended_at = work.now
        await dataset.revoke_grants(work, run.id)
    if after.status.is_final or after.attempt_over:
        _close_attempt(work, attempt, after)
    if after.attempt_over:
        _restart(run, after)
    if report.hosted is not None and report.outcome is not None and report.outcome.succeeded:
        await ai_model.keep_hosted(work, run, report.hosted)
    await announce(work, run, before)
    if after.attempt_over:
        choice = attempt.choice + (1 if after.end_reason is EndReason.NO_CAPACITY else 0)
        await open_attempt(work, run, choice=choice)
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))


async def _keep_machine(work: UnitOfWork, run: TrainingRun, attempt: RunAttempt) -> None:
    """The machine stays for as long as its owner wished, and its budget allows."""
    resource = await queries.resource_of_tag(work.session, attempt.tag)
    if resource is None or resource.keep_until is not None:
        return
    seconds = float(run.keep_seconds)
    if run.budget_micros is not None:
        # Since its cost was read last it has gone on costing.
        since = (work.now - resource.cost_at).total_seconds() if resource.cost_at is not None else 0.0
        spent = spent_by_now(run.cost_micros, attempt.price_micros_per_hour, since)
        left = seconds_left(run.budget_micros, spent, attempt.price_micros_per_hour)
        seconds = min(seconds, max(0.0, left))
    resource.keep_until = work.now + timedelta(seconds=seconds)


def _is_newer(attempt: RunAttempt, report_sequence: int | None) -> bool:
    if report_sequence is None:
        return True
    if report_sequence <= attempt.report_sequence:
        return False
    attempt.report_sequence = report_sequence
    return True


def _rules_of(run: TrainingRun) -> Rules:
    attempt_choice = run.choice
    return Rules(
        deploy=run.deploy,
        may_try_again=run.vanished + 1 < MOST_VANISHED,
        has_next_choice=attempt_choice + 1 < len(run.choices),
        stopping=Outcome(run.stop_reason, run.stop_message) if run.stop_reason is not None else None,
    )


def _ended_well(report: Report, after: Standing) -> bool:
    succeeded = report.outcome is not None and report.outcome.succeeded
    return succeeded and after.status in (RunStatus.DEPLOYING, RunStatus.READY, RunStatus.CANCELED)


async def note_cost(work: UnitOfWork, run: TrainingRun, attempt: RunAttempt, cost_micros: int) -> None:
    """What the attempt has cost so far; it never falls. Events tell it when it is worth one."""
    resource = await queries.resource_of_tag(work.session, attempt.tag)
    if resource is not None:
        resource.cost_at = work.now
        resource.cost_micros = max(resource.cost_micros, cost_micros)
    grown = cost_micros - attempt.cost_micros
    if grown <= 0:
        return
    attempt.cost_micros = cost_micros
    run.cost_micros += grown


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


def _restart(run: TrainingRun, standing: Standing) -> None:
    """The next attempt begins where the first one did."""
    run.vanished += standing.end_reason is not EndReason.NO_CAPACITY
    run.warned, run.error_message, run.stop_reason, run.stop_message = [], None, None, None
    run.eta_low_seconds = run.eta_high_seconds = run.eta_confidence = None
    run.status, run.stage = RunStatus.QUEUED, RunStage.WAITING
    run.progress, run.announced_progress, run.progress_estimated = 0.0, 0.0, True
    run.eta_seconds, run.started_at, run.suspected_at = None, None, None


async def announce(work: UnitOfWork, run: TrainingRun, before: Standing) -> None:
    """The events that tell how the run differs from before; the final status is the last."""
    if before.suspected_at is None and run.suspected_at is not None:
        await append_run_event(work, run, "run.suspected", {})
    if _is_cost_worth_telling(run):
        run.announced_cost_micros = run.cost_micros
        await append_run_event(work, run, "run.cost_changed", {"costMicros": run.cost_micros})
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


def _is_cost_worth_telling(run: TrainingRun) -> bool:
    grown = run.cost_micros - run.announced_cost_micros
    if run.status.is_final:
        return grown > 0
    return grown >= max(COST_STEP_MICROS, COST_STEP * run.announced_cost_micros)


def _mark_announced(run: TrainingRun, work: UnitOfWork) -> None:
    run.announced_progress, run.announced_at = run.progress, work.now


def _close_attempt(work: UnitOfWork, attempt: RunAttempt, standing: Standing) -> None:
    attempt.end_reason = standing.end_reason
    attempt.error_message = standing.error_message
    attempt.ended_at = work.now


async def open_attempt(work: UnitOfWork, run: TrainingRun, *, choice: int = 0) -> None:
    """The run's next attempt, with this one of its choices."""
    run.attempt += 1
    run.choice = choice
    number = run.attempt
    place = choice_of(run.choices, choice, run.provider)
    run.provider = place.provider
    work.session.add(
        RunAttempt(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            number=number,
            provider=place.provider,
            choice=choice,
            gpu_type=place.gpu_type,
            integration_id=place.integration_id,
            tag=f"run-{run.id.hex}-{number}",
        )
    )
    data = {"attempt": number, "provider": place.provider.value, "gpuType": place.gpu_type}
    await append_run_event(work, run, "run.attempt_started", data)
