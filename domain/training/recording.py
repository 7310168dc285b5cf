"""How a report changes a run's row, and which events tell of it. The caller holds the lock of the run's row."""

from domain.ai_model import service as ai_model
from domain.base import new_id
from domain.commands import CheckRun
from domain.dataset import service as dataset
from domain.journal.service import append_run_event
from domain.training import queries
from domain.training.fold import Rules, Standing, fold
from domain.training.keeping import keep_artifact, keep_log, keep_readings
from domain.training.model import RunAttempt, TrainingRun
from domain.training.progress import ANNOUNCED_SECONDS, ANNOUNCED_STEP
from domain.training.report import Report
from domain.training.status import RunStage, RunStatus
from domain.work import UnitOfWork

MOST_ATTEMPTS = 3
"""Tries of a run whose work was gone without a word."""


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


async def apply(work: UnitOfWork, run: TrainingRun, report: Report) -> None:
    """Write down one report; the run's row is locked."""
    if run.status.is_final or report.attempt != run.attempt:
        return
    before = standing_of(run)
    rules = Rules(deploy=run.deploy, may_try_again=run.attempt < MOST_ATTEMPTS)
    after = fold(before, report, rules)
    run.last_signal_at = work.now
    if report.log is not None:
        await keep_log(work, run, report.log)
    if report.readings:
        await keep_readings(work, run, report.readings)
    if report.artifact is not None:
        await keep_artifact(work, run, report.artifact)
    _write(run, after)
    if after.status.is_final:
        run.ended_at = work.now
        await dataset.revoke_grants(work, run.id)
    if after.status.is_final or after.attempt_over:
        await _close_attempt(work, run, after)
    if after.attempt_over:
        _restart(run)
    await announce(work, run, before)
    if after.attempt_over:
        await open_attempt(work, run)
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


async def announce(work: UnitOfWork, run: TrainingRun, before: Standing) -> None:
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


async def open_attempt(work: UnitOfWork, run: TrainingRun) -> None:
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
