"""What a report makes of where a run stands: a pure function, so that its rules can be proved.

- A final state absorbs whatever comes.
- Within an attempt status, stage and progress only rise; so reports may come late, twice and in any order.
- Only a provider's or script's own word (an outcome) ends an attempt. Silence makes it suspect; any word clears that.
- While CANCELING every end is CANCELED.
- An attempt whose work is gone without a word is followed by another one, as often as the run may try; one that
  found no free machine by an attempt with the next of the run's choices; unless the run is to be stopped.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from domain.training import progress
from domain.training.report import Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus

LOST_AFTER_SECONDS = 90
"""A suspect run without a word for so long is LOST."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a run stands."""

    attempt: int
    status: RunStatus
    stage: RunStage
    progress: float
    progress_estimated: bool
    eta_seconds: float | None = None
    end_reason: EndReason | None = None
    error_message: str | None = None
    started_at: datetime | None = None
    suspected_at: datetime | None = None
    attempt_over: bool = False
    """The attempt ended without ending the run: the next one is to be opened."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What of a run's wish the fold needs to know."""

    deploy: bool
    may_try_again: bool
    has_next_choice: bool = False
    """Whether another GPU type or provider may be tried where there is no free machine."""
    stopping: Outcome | None = None
    """What the run ends with once nothing of it is left, where it is to be stopped: no attempt follows then."""


def fold(standing: Standing, report: Report, rules: Rules) -> Standing:
    """Where the run stands after the report. The report's log, readings and artifact are not the fold's business."""
    if standing.status.is_final or report.attempt != standing.attempt or standing.attempt_over:
        return standing
    is_inferred = report.suspicion is not None or report.vanished
    if is_inferred and standing.status is RunStatus.DEPLOYING and report.source is not ReportSource.WORKER:
        return standing  # the trainer had its word before, and nobody needs it any more
    after = standing
    if report.suspicion is not None:
        after = _suspect(after, report, rules)
    elif report.source is not ReportSource.WORKER:
        after = replace(after, suspected_at=None)
    after = _advance(after, report)
    if report.vanished:
        return _vanished(after, rules)
    if report.outcome is not None:
        return _ended(after, report, rules)
    return after


def _suspect(standing: Standing, report: Report, rules: Rules) -> Standing:
    if standing.suspected_at is None:
        return replace(standing, suspected_at=report.at)
    is_young = (report.at - standing.suspected_at).total_seconds() < LOST_AFTER_SECONDS
    if is_young or standing.status is RunStatus.CANCELING:  # whose end its provider confirms
        return standing
    if rules.stopping is not None:
        return _stopped(standing, rules.stopping)
    return _final(standing, RunStatus.FAILED, EndReason.LOST, report.suspicion)


def _advance(standing: Standing, report: Report) -> Standing:
    if standing.status.is_final:
        return standing
    stage = max(standing.stage, report.stage or standing.stage, key=lambda stage: stage.rank)
    told = [status for status in (report.status, report.stage.status if report.stage else None) if status is not None]
    status = max([standing.status, *told], key=lambda status: status.rank)
    if status is RunStatus.CANCELING:
        stage = RunStage.STOPPING
    known = progress.overall(report.percent) if report.percent is not None else progress.reached(stage)
    if standing.progress_estimated and status is RunStatus.TRAINING and standing.started_at is not None:
        # No word about progress yet: time is all there is to go by.
        elapsed = (report.at - standing.started_at).total_seconds()
        known = max(known, progress.estimated(elapsed, _expected_seconds(report, elapsed)))
    eta = report.eta_seconds if report.percent is not None or report.eta_seconds is not None else standing.eta_seconds
    started = standing.started_at
    if status is RunStatus.TRAINING and started is None:
        # By a clock that is not ours: nothing that is told now began later.
        started = min(report.began_at, report.at) if report.began_at is not None else report.at
    return replace(
        standing,
        status=status,
        stage=stage,
        progress=max(standing.progress, known),
        progress_estimated=standing.progress_estimated and report.percent is None,
        eta_seconds=None if stage.rank > RunStage.TRAINING.rank else eta,
        started_at=started,
    )


def _expected_seconds(report: Report, elapsed_seconds: float) -> float | None:
    """How long the whole training takes, by the provider's or the trainer's own words."""
    if report.expected_seconds is not None or report.eta_seconds is None:
        return report.expected_seconds
    return elapsed_seconds + report.eta_seconds


def _vanished(standing: Standing, rules: Rules) -> Standing:
    if standing.status is RunStatus.CANCELING:
        return _final(standing, RunStatus.CANCELED, EndReason.CANCELED_BY_USER, None)
    if rules.stopping is not None:
        return _stopped(standing, rules.stopping)
    if rules.may_try_again:
        return replace(standing, attempt_over=True, end_reason=EndReason.LOST)
    return _final(standing, RunStatus.FAILED, EndReason.LOST, "The work was gone without a word.")


def _ended(standing: Standing, report: Report, rules: Rules) -> Standing:
    outcome = report.outcome
    assert outcome is not None
    if standing.status is RunStatus.CANCELING:
        return _final(standing, RunStatus.CANCELED, EndReason.CANCELED_BY_USER, None)
    if outcome.end_reason in (EndReason.NO_CAPACITY, *CANCELED_REASONS) and rules.stopping is not None:
        return _stopped(standing, rules.stopping)  # it was us who had it canceled
    if outcome.end_reason is EndReason.NO_CAPACITY and rules.has_next_choice:
        return replace(standing, attempt_over=True, end_reason=outcome.end_reason, error_message=outcome.message)
    if not outcome.succeeded:
        if standing.status is RunStatus.DEPLOYING and report.source is not ReportSource.WORKER:
            return standing  # the trainer had its word before: this is an older one that comes late
        return _stopped(standing, outcome)
    proved = report.source is ReportSource.WORKER
    if rules.deploy and not proved and report.hosted is None:
        return replace(
            standing,
            status=max(standing.status, RunStatus.DEPLOYING, key=lambda status: status.rank),
            stage=RunStage.DEPLOYING,
            progress=max(standing.progress, progress.reached(RunStage.DEPLOYING)),
            eta_seconds=None,
        )
    return _final(standing, RunStatus.READY, EndReason.SUCCEEDED, None)


def _stopped(standing: Standing, outcome: Outcome) -> Standing:
    status = RunStatus.CANCELED if outcome.end_reason in CANCELED_REASONS else RunStatus.FAILED
    return _final(standing, status, outcome.end_reason, outcome.message)


CANCELED_REASONS = frozenset({EndReason.CANCELED_BY_USER, EndReason.CANCELED_BY_OPERATOR})


def _final(standing: Standing, status: RunStatus, reason: EndReason, message: str | None) -> Standing:
    return replace(
        standing,
        status=status,
        stage=RunStage.DONE,
        progress=100.0 if status is RunStatus.READY else standing.progress,
        progress_estimated=standing.progress_estimated and status is not RunStatus.READY,
        eta_seconds=None,
        end_reason=reason,
        error_message=message,
        suspected_at=None,
    )
