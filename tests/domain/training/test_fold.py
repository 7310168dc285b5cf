"""The fold: whatever order, repetition and delay the reports come in, a run ends in one way."""

from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.training.fold import LOST_AFTER_SECONDS, Rules, Standing, fold
from domain.training.report import Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
FRESH = Standing(attempt=1, status=RunStatus.QUEUED, stage=RunStage.WAITING, progress=0.0, progress_estimated=True)
DEPLOYED = Rules(deploy=True, may_try_again=True)
BARE = Rules(deploy=False, may_try_again=True)
LAST_TRY = Rules(deploy=False, may_try_again=False)


def say(seconds: float = 0, *, attempt: int = 1, source: ReportSource = ReportSource.POLL, **said: object) -> Report:
    return Report(source=source, attempt=attempt, at=NOON + timedelta(seconds=seconds), **said)  # type: ignore[arg-type]


def told(standing: Standing, *reports: Report, rules: Rules = BARE) -> Standing:
    for report in reports:
        standing = fold(standing, report, rules)
    return standing


def end(reason: EndReason, seconds: float = 50) -> Report:
    return say(seconds, outcome=Outcome(reason))


STORY = (
    say(1, stage=RunStage.CREATING_SANDBOX),
    say(2, stage=RunStage.DOWNLOADING_DATA),
    say(3, stage=RunStage.TRAINING, percent=0),
    say(20, percent=31),
    say(40, percent=100, stage=RunStage.SAVING),
)


@pytest.mark.parametrize("reason", [EndReason.SUCCEEDED, EndReason.CODE_ERROR, EndReason.TIMED_OUT])
def test_every_order_of_a_story_ends_alike(reason: EndReason) -> None:
    ends = {
        (after.status, after.end_reason, after.stage)
        for order in permutations((*STORY, end(reason)))
        for after in [told(FRESH, *order)]
    }
    status = RunStatus.READY if reason is EndReason.SUCCEEDED else RunStatus.FAILED
    assert ends == {(status, reason, RunStage.DONE)}


@given(
    st.lists(st.sampled_from(STORY), max_size=12),
    st.lists(st.sampled_from((*STORY, say(99, suspicion="404"))), max_size=12),
    st.sampled_from(sorted(EndReason)),
    st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_nothing_falls_and_a_final_state_absorbs(
    before: list[Report], late: list[Report], reason: EndReason, deploy: bool
) -> None:
    rules = Rules(deploy=deploy, may_try_again=True)
    standing = FRESH
    for report in (*before, end(reason), *late):
        after = fold(standing, report, rules)
        assert after.status.rank >= standing.status.rank
        assert after.progress >= standing.progress
        if standing.status.is_final:
            assert after == standing
        standing = after
    if reason is EndReason.SUCCEEDED and deploy:
        assert standing.status is RunStatus.DEPLOYING
    else:
        assert standing.end_reason is reason


@given(st.permutations([*STORY, *STORY, end(EndReason.SUCCEEDED), end(EndReason.SUCCEEDED)]))
@settings(max_examples=200, deadline=None)
def test_doubles_change_nothing(reports: list[Report]) -> None:
    assert told(FRESH, *reports, rules=DEPLOYED).status is RunStatus.DEPLOYING
    assert told(FRESH, *reports, *reports, rules=DEPLOYED) == told(FRESH, *reports, rules=DEPLOYED)


@given(st.permutations([*STORY, end(EndReason.SUCCEEDED), end(EndReason.CODE_ERROR)]))
@settings(max_examples=100, deadline=None)
def test_while_canceling_every_end_is_canceled(reports: list[Report]) -> None:
    canceling = Standing(
        attempt=1, status=RunStatus.CANCELING, stage=RunStage.STOPPING, progress=40.0, progress_estimated=False
    )
    after = told(canceling, *reports)
    assert (after.status, after.end_reason) == (RunStatus.CANCELED, EndReason.CANCELED_BY_USER)


@pytest.mark.parametrize(("percent", "progress"), [(31, 36.35), (15, 22.75), (0, 10.0), (100, 95.0)])
def test_progress_is_ten_plus_eighty_five_hundredths(percent: float, progress: float) -> None:
    after = told(FRESH, say(3, stage=RunStage.TRAINING, percent=percent))
    assert (after.progress, after.progress_estimated) == (progress, False)


def test_without_a_word_time_estimates_and_says_so() -> None:
    training = told(FRESH, say(0, stage=RunStage.TRAINING))
    after = told(training, say(120))
    assert (after.progress, after.progress_estimated) == (14.0, True)
    assert told(training, say(3600 * 5)).progress == 90.0


def test_a_report_of_another_attempt_is_not_ours() -> None:
    second = Standing(2, RunStatus.PREPARING, RunStage.INSTALLING, 5.0, True)
    assert told(second, end(EndReason.CODE_ERROR), say(1, percent=99)) == second


def test_silence_alone_ends_nothing_before_ninety_seconds() -> None:
    training = told(FRESH, say(0, stage=RunStage.TRAINING))
    suspect = told(training, say(10, suspicion="404"), say(10 + LOST_AFTER_SECONDS - 1, suspicion="404"))
    assert (suspect.status, suspect.suspected_at) == (RunStatus.TRAINING, NOON + timedelta(seconds=10))
    cleared = told(suspect, say(100, percent=5))
    assert cleared.suspected_at is None
    lost = told(suspect, say(10 + LOST_AFTER_SECONDS, suspicion="404"))
    assert (lost.status, lost.end_reason) == (RunStatus.FAILED, EndReason.LOST)


def test_what_vanished_is_tried_again_until_the_last_try() -> None:
    training = told(FRESH, say(0, stage=RunStage.TRAINING))
    again = told(training, say(10, vanished=True))
    assert again.attempt_over and again.status is RunStatus.TRAINING
    assert told(again, end(EndReason.SUCCEEDED)) == again
    lost = told(training, say(10, vanished=True), rules=LAST_TRY)
    assert (lost.status, lost.end_reason) == (RunStatus.FAILED, EndReason.LOST)


def test_a_trainer_s_late_failure_does_not_undo_a_deployment() -> None:
    deploying = told(FRESH, end(EndReason.SUCCEEDED), rules=DEPLOYED)
    assert told(deploying, end(EndReason.CODE_ERROR), rules=DEPLOYED) == deploying
    ours = say(60, source=ReportSource.WORKER, outcome=Outcome(EndReason.DEPLOYMENT_FAILED, "no answer"))
    failed = told(deploying, ours, rules=DEPLOYED)
    assert (failed.status, failed.end_reason) == (RunStatus.FAILED, EndReason.DEPLOYMENT_FAILED)


def test_a_training_that_says_it_began_in_the_future_began_now() -> None:
    """Else its time limit would never come."""
    began = NOON + timedelta(days=9_000)
    assert told(FRESH, say(3, stage=RunStage.TRAINING, began_at=began)).started_at == NOON + timedelta(seconds=3)
    began = NOON - timedelta(seconds=30)
    assert told(FRESH, say(3, stage=RunStage.TRAINING, began_at=began)).started_at == began


def test_silence_ends_no_run_that_is_being_canceled() -> None:
    """Its provider is yet to confirm; and whatever ends it then, it is CANCELED."""
    canceling = told(FRESH, say(1, stage=RunStage.TRAINING), say(2, status=RunStatus.CANCELING))
    after = told(canceling, say(3, suspicion="404"), say(3 + LOST_AFTER_SECONDS, suspicion="404"))
    assert (after.status, after.end_reason) == (RunStatus.CANCELING, None)
    assert told(after, end(EndReason.CODE_ERROR)).status is RunStatus.CANCELED


@pytest.mark.parametrize("reason", [EndReason.CANCELED_BY_OPERATOR, EndReason.CANCELED_BY_USER, EndReason.NO_CAPACITY])
def test_what_we_have_stopped_ends_with_our_reason(reason: EndReason) -> None:
    """Its provider tells of the cancellation before we hear that it is confirmed."""
    stopping = Rules(deploy=False, may_try_again=True, stopping=Outcome(EndReason.OUT_OF_BUDGET, "It was dear."))
    after = told(FRESH, *STORY[:3], end(reason), rules=stopping)
    assert (after.status, after.end_reason, after.error_message) == (
        RunStatus.FAILED,
        EndReason.OUT_OF_BUDGET,
        "It was dear.",
    )
