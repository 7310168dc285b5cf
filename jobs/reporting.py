"""Applying what the scripts of an attempt have reported, in the order of their numbers."""

import logging
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from anyio import to_thread

from db.artifacts import ArtifactStore
from domain.callback import queries, service
from domain.callback.model import Callback
from domain.commands import CheckRun
from domain.errors import Unavailable
from domain.training import queries as training
from domain.training import service as runs
from domain.training.model import RunAttempt, TrainingRun
from domain.training.report import Outcome, Report, StoredArtifact
from domain.training.status import EndReason, ReportSource, RunStatus
from domain.work import UnitOfWork
from jobs.context import JobContext
from jobs.pod_artifacts import LeftBehind, left_behind
from jobs.pod_reports import AttemptFacts, PodReport, report_of
from jobs.programs import COMMAND_RECIPE

logger = logging.getLogger("runwire.jobs")

GAP_SECONDS = 10.0
"""How long a script's report waits for the one before it; a script that gave one up goes on without it."""
FILES_SECONDS = 20.0
"""How long the files that an attempt left are read by one worker alone."""
FILES_WORDS = "The files that were left are being read."


async def apply_reports(context: JobContext, callback: Callback) -> None:
    """All reports that wait of the attempt that this one is of, each in a transaction of its own."""
    run_id, number = callback.run_id, callback.attempt
    if run_id is None or number is None:  # its token went with its run, between the door's two looks
        async with context.begin() as work:
            row = await queries.locked(work.session, callback.id)
            if row is not None:
                service.mark_moot(work, row, "It is about nothing that we know.")
        return
    left: tuple[UUID, LeftBehind] | None = None
    while True:
        step = await _next_step(context, run_id, number, left, claimed=callback.id)
        if step is None:
            return
        if isinstance(step, _LookAtFiles):
            store = ArtifactStore.of(context.settings)
            left = step.callback_id, await to_thread.run_sync(left_behind, store, step.tag)


@dataclass(frozen=True, slots=True)
class _LookAtFiles:
    """A script says that it succeeded: what it left is to be read before that is written down."""

    callback_id: UUID
    tag: str


async def _next_step(
    context: JobContext, run_id: UUID, number: int, left: tuple[UUID, LeftBehind] | None, *, claimed: UUID
) -> "_LookAtFiles | bool | None":
    """Apply the next report; None if there is none that may be applied now."""
    callback: Callback | None = None
    try:
        async with context.begin() as work:
            run = await training.locked_run(work.session, run_id)
            callback = await queries.next_report(work.session, run_id, number)
            attempt = await training.attempt_of(work.session, run_id, number)
            if callback is None:
                return None
            sequence = callback.sequence or 0
            if run is None or attempt is None or run.status.is_final or run.attempt != number:
                service.mark_moot(work, callback, "The run, or that attempt of it, was over.")
                return True
            if sequence <= attempt.report_sequence:
                service.mark_moot(work, callback, "It, or a newer report of the same script, was applied before.")
                return True
            waited = (work.now - callback.created_at).total_seconds()
            if sequence > attempt.report_sequence + 1 and waited < GAP_SECONDS:
                service.try_later(work, callback, GAP_SECONDS - waited, "The report before it has not come yet.")
                return None
            read = report_of(callback.body, _facts(run, attempt), callback.created_at)
            files: LeftBehind | None = None
            if read.says_success and run.status is not RunStatus.CANCELING:
                if left is None or left[0] != callback.id:
                    if callback.id != claimed and callback.error == FILES_WORDS and callback.next_try_at > work.now:
                        return None  # by somebody else: whoever brings the reports behind it does not read them too
                    service.try_later(work, callback, FILES_SECONDS, FILES_WORDS)
                    return _LookAtFiles(callback.id, attempt.tag)
                files = left[1]
            await _fold(work, run, attempt, callback, read, files)
    except Unavailable:
        raise
    except Exception:
        if callback is None:
            raise
        error_id = secrets.token_hex(8)
        logger.exception(
            "A report could not be applied.", extra={"callback_id": str(callback.id), "error_id": error_id}
        )
        await _pass_over(context, callback, f"We failed to apply it; the log tells more under {error_id}.")
    return True


async def _fold(
    work: UnitOfWork,
    run: TrainingRun,
    attempt: RunAttempt,
    callback: Callback,
    read: PodReport,
    files: LeftBehind | None,
) -> None:
    report, problems = read.report, list(read.problems)
    if files is not None:
        report, others = _with_files(run, report, files)
        for artifact in others:
            same_time: dict[str, Any] = {"source": ReportSource.POD, "attempt": report.attempt, "at": report.at}
            await runs.record(work, run.id, Report(**same_time, artifact=artifact))
    await record_and_ring(work, run.id, report, report_sequence=callback.sequence)
    if report.log is None or attempt.log_offset != report.log.end:
        attempt.log_state = dict(read.log_state)  # what was learned beside the log
    if problems:
        words = "Applied without what was wrong in it: " + " ".join(problems)
        await service.mark_applied_in_part(work, callback, words)
    else:
        service.mark_applied(work, callback)


def _with_files(run: TrainingRun, report: Report, files: LeftBehind) -> tuple[Report, tuple[StoredArtifact, ...]]:
    """The report with the model that was uploaded before it, and further files. One of our recipes has not succeeded
    without a model that is what its receipt says."""
    if files.model is not None:
        return replace(report, artifact=files.model), ()
    if run.recipe == COMMAND_RECIPE:
        return report, files.others
    words = "The training ended well but left no whole model."
    return replace(report, percent=None, outcome=Outcome(EndReason.CODE_ERROR, words)), ()


async def _pass_over(context: JobContext, callback: Callback, why: str) -> None:
    """A report that cannot be applied does not hold up those behind it."""
    if callback.run_id is None or callback.attempt is None:
        return
    async with context.begin() as work:
        nothing = Report(source=ReportSource.POD, attempt=callback.attempt, at=callback.created_at)
        await runs.record(work, callback.run_id, nothing, report_sequence=callback.sequence)
        row = await queries.locked(work.session, callback.id)
        if row is not None:
            await service.mark_unreadable(work, row, why)


def _facts(run: TrainingRun, attempt: RunAttempt) -> AttemptFacts:
    return AttemptFacts(
        number=attempt.number,
        log_offset=attempt.log_offset,
        log_state=attempt.log_state,
        begun_at=attempt.started_at or attempt.created_at,
        is_training=run.status is RunStatus.TRAINING,
        steps=_steps_of(run.hyperparameters),
    )


def _steps_of(hyperparameters: Mapping[str, object]) -> int | None:
    """The number of steps by which the trainer's own bar is told from others."""
    steps = hyperparameters.get("steps")
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


async def record_and_ring(
    work: UnitOfWork, run_id: UUID, report: Report, *, report_sequence: int | None = None
) -> None:
    """Through the one door; where that opened another step of the run's life, somebody is to take it now."""
    run = await training.locked_run(work.session, run_id)
    before = (run.status, run.attempt, run.stop_reason) if run is not None else None
    run = await runs.record(work, run_id, report, report_sequence=report_sequence)
    if run is not None and not run.status.is_final and (run.status, run.attempt, run.stop_reason) != before:
        look_now(work, run)


def look_now(work: UnitOfWork, run: TrainingRun) -> None:
    """Have somebody look at the run now."""
    run.next_check_at = work.now
    work.enqueue(CheckRun(run.id))
