"""Scripts' reports: what is well-formed is taken, whatever stands beside it; nothing breaks the reading."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from domain.training.report import LogText, Outcome, Reading, Warned
from domain.training.status import EndReason, LogLevel, ReportSource, RunStage, RunStatus, WarningCode
from jobs.pod_reports import MOST_LINES, MOST_READINGS, AttemptFacts, PodReport, report_of

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
BEGUN = NOON - timedelta(hours=1)
FACTS = AttemptFacts(number=2, log_offset=0, log_state={}, begun_at=BEGUN, is_training=True)


def read(facts: AttemptFacts = FACTS, at: datetime = NOON, **said: Any) -> PodReport:
    return report_of(orjson.dumps({"sequence": 1, "sentAt": at.isoformat(), **said}), facts, at)


def time_of(seconds: float) -> str:
    return (NOON + timedelta(seconds=seconds)).isoformat()


def point(value: Any = 0.5, step: Any = 3, name: Any = "loss", at: Any = None) -> dict[str, Any]:
    return {"name": name, "step": step, "value": value, "at": at}


class TestWhatIsSaid:
    def test_a_whole_report(self) -> None:
        found = read(
            stage="TRAINING",
            percent=12.5,
            etaSeconds=600,
            points=[point(0.25, 7, at=time_of(-3))],
            log={"start": 0, "end": 6, "text": "hello\n"},
            system={"gpuPercent": 97, "gpuMemoryPercent": 60.5, "memoryPercent": 41, "diskPercent": 12},
        )
        assert found.problems == ()
        report = found.report
        assert (report.source, report.attempt, report.at, report.event_id) == (ReportSource.POD, 2, NOON, "1")
        assert (report.status, report.stage, report.percent, report.eta_seconds) == (
            RunStatus.TRAINING,
            RunStage.TRAINING,
            12.5,
            600.0,
        )
        assert report.readings == (
            Reading("loss", 7, 0.25, NOON - timedelta(seconds=3)),
            Reading("gpu_percent", 1, 97.0, NOON),
            Reading("gpu_memory_percent", 1, 60.5, NOON),
            Reading("memory_percent", 1, 41.0, NOON),
            Reading("disk_percent", 1, 12.0, NOON),
        )
        assert report.log is not None and (report.log.start, report.log.end) == (0, 6)
        assert report.log.lines == (LogText("hello", NOON),)
        assert (report.warnings, report.outcome, report.artifact) == ((), None, None)

    def test_a_heartbeat_says_nothing(self) -> None:
        found = read(stage=None, percent=None, etaSeconds=None, points=[], log=None, system=None, end=None)
        assert found.problems == () and found.report.says_nothing
        assert report_of(b'{"sequence": 9}', FACTS, NOON).report.says_nothing

    @pytest.mark.parametrize(
        "stage", ["DEPLOYING", "DONE", "STOPPING", "WAITING", "GENERATING_CODE", "training", 7, []]
    )
    def test_a_stage_that_is_not_a_scripts_is_left_out(self, stage: object) -> None:
        found = read(stage=stage, percent=3)
        assert (found.report.stage, found.report.status, found.report.percent) == (None, None, 3.0)
        assert found.problems == ("'stage' is none that a script can be in.",)

    def test_the_log_speaks_too_where_the_script_is_silent(self) -> None:
        text = '::runwire {"stage": "SAVING", "percent": 40.0, "etaSeconds": 5, "readings": []}\n'
        report = read(stage="TRAINING", log={"start": 0, "end": len(text), "text": text}).report
        assert (report.stage, report.percent, report.eta_seconds) == (RunStage.SAVING, 40.0, 5.0)
        text = '::runwire {"stage": "DEPLOYING"}\n'
        assert read(log={"start": 0, "end": len(text), "text": text}).report.stage is None


class TestClock:
    @pytest.mark.parametrize("hours", [-5, -0.01, 0, 0.01, 5, 24 * 365 * 50])
    def test_a_wrong_clock_is_set_right(self, hours: float) -> None:
        """`sentAt` says by how much the script's clock is wrong."""
        wrong = timedelta(hours=hours)
        said = {
            "sequence": 1,
            "sentAt": (NOON + wrong).isoformat(),
            "points": [point(at=(NOON + wrong - timedelta(seconds=30)).isoformat())],
        }
        found = report_of(orjson.dumps(said), FACTS, NOON)
        assert (found.report.at, found.report.readings[0].at) == (NOON, NOON - timedelta(seconds=30))

    @pytest.mark.parametrize(
        ("at", "expected"),
        [
            (time_of(60), NOON),
            (time_of(-86_400), BEGUN),
            ("9999-12-31T23:59:59Z", NOON),
            ("0001-01-01T00:00:00+14:00", BEGUN),
        ],
    )
    def test_nothing_happened_before_the_attempt_or_after_now(self, at: str, expected: datetime) -> None:
        found = read(points=[point(at=at)])
        assert found.report.readings[0].at == expected

    @pytest.mark.parametrize("at", ["yesterday", "2026-01-15T12:00:00", 7, "x" * 100_000])
    def test_what_is_no_time_is_now(self, at: object) -> None:
        found = read(points=[point(at=at)])
        assert [one.at for one in found.report.readings] == [NOON]
        assert found.problems == ("'at' is no time with a zone.",)
        assert read(sentAt=at, percent=4).report.percent == 4.0


class TestPoints:
    @pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
    def test_a_loss_that_is_no_number_any_more_is_warned_of(self, value: str) -> None:
        found = read(points=[point(value, 5, "train_loss"), point(value, 6, "train_loss"), point(value, 5, "accuracy")])
        assert found.report.readings == () and found.problems == ()
        (warned,) = found.report.warnings
        assert (warned.code, warned.message) == (
            WarningCode.NAN_LOSS,
            f"train_loss is {'nan' if value == 'NaN' else value.lower().replace('infinity', 'inf')} at step 5.",
        )

    @pytest.mark.parametrize(
        "wrong",
        [
            point(name=""),
            point(name="x" * 101),
            point(name="a\0b"),
            point(name=["loss"]),
            point(step=-1),
            point(step=2**31),
            point(step=1.5),
            point(step=True),
            point(value="0.5"),
            point(value=None),
            point(value=True),
            point(value=[[[]]]),
            7,
            None,
            [],
        ],
    )
    def test_a_wrong_one_does_not_take_the_others_with_it(self, wrong: object) -> None:
        found = read(points=[point(step=1), wrong, point(step=2)], percent=5)
        assert [one.step for one in found.report.readings] == [1, 2]
        assert found.report.percent == 5.0 and len(found.problems) == 1

    def test_a_token_for_a_name_is_not_shown(self) -> None:
        token = "rwp_" + "a1B2" * 10
        found = read(points=[point(name=token), point("NaN", name=f"{token}_loss")])
        assert [one.name for one in found.report.readings] == ["rwp_•••"]
        assert token not in repr(found)

    def test_more_than_a_hundred_are_too_many(self) -> None:
        found = read(points=[point(step=step) for step in range(10_000)])
        assert [one.step for one in found.report.readings] == list(range(100))
        assert found.problems == ("'points' has more than 100 points; the rest was left out.",)

    def test_a_log_full_of_metrics_is_bounded(self) -> None:
        text = "".join(f"{{'loss': {step}.5, 'epoch': {step}.0}}\n" for step in range(1, 3_000))
        found = read(log={"start": 0, "end": len(text), "text": text})
        assert 0 < len(found.report.readings) <= MOST_READINGS


class TestMachine:
    @pytest.mark.parametrize(("percent", "warns"), [(94.9, False), (95, True), (100, True)])
    def test_a_disk_that_is_nearly_full_is_warned_of(self, percent: float, warns: bool) -> None:
        found = read(system={"diskPercent": percent})
        assert [warned.code for warned in found.report.warnings] == [WarningCode.DISK_NEARLY_FULL] * warns

    @pytest.mark.parametrize("value", [-1, 101, "12", True, 1e300, [12]])
    def test_what_is_no_percentage_is_left_out(self, value: object) -> None:
        found = read(system={"gpuPercent": value, "diskPercent": 12})
        assert found.report.readings == (Reading("disk_percent", 1, 12.0, NOON),)
        assert found.problems == ("'gpuPercent' is no number from 0 to 100.",)

    def watched(self, *looks: tuple[float, float], is_training: bool = True, **said: Any) -> list[WarningCode]:
        """What the last of these looks (minute, use of the GPU) warns of."""
        state: dict[str, Any] = {}
        found: PodReport | None = None
        for minute, percent in looks:
            facts = replace(FACTS, log_state=state, is_training=is_training)
            at = NOON + timedelta(minutes=minute)
            found = read(facts, at, system={"gpuPercent": percent}, **said)
            state = dict(found.log_state)
        assert found is not None
        return [warned.code for warned in found.report.warnings]

    def test_a_gpu_that_idles_for_ten_minutes_is_warned_of(self) -> None:
        assert self.watched((0, 0), (9.9, 4)) == []
        assert self.watched((0, 0), (5, 1), (10, 4)) == [WarningCode.IDLE_GPU]

    def test_work_in_between_begins_the_time_anew(self) -> None:
        assert self.watched((0, 0), (5, 50), (10, 0)) == []
        assert self.watched((0, 0), (5, 50), (6, 0), (16, 0)) == [WarningCode.IDLE_GPU]

    def test_a_gpu_may_idle_while_nothing_is_trained(self) -> None:
        assert self.watched((0, 0), (20, 0), is_training=False) == []
        assert self.watched((0, 0), (20, 0), is_training=False, stage="INSTALLING") == []
        assert self.watched((0, 0), (20, 0), stage="SAVING") == []

    def test_the_log_in_between_keeps_the_time(self) -> None:
        state: dict[str, Any] = {}
        offset, codes = 0, []
        for minute in range(0, 12, 2):
            facts = replace(FACTS, log_state=state, log_offset=offset)
            at = NOON + timedelta(minutes=minute)
            log = {"start": offset, "end": offset + 2, "text": "x\n"}
            found = read(facts, at, system={"gpuPercent": 0}, log=log)
            assert found.report.log is not None and found.report.log.state == found.log_state
            state, offset = dict(found.log_state), offset + 2
            codes.append([warned.code for warned in found.report.warnings])
        assert codes == [[], [], [], [], [], [WarningCode.IDLE_GPU]]


class TestLog:
    def lines(self, facts: AttemptFacts, **said: Any) -> tuple[list[str], tuple[int, int] | None]:
        report = read(facts, **said).report
        if report.log is None:
            return [], None
        return [line.text for line in report.log.lines], (report.log.start, report.log.end)

    def test_it_goes_on_where_it_was(self) -> None:
        facts = replace(FACTS, log_offset=100)
        assert self.lines(facts, log={"start": 100, "end": 106, "text": "hello\n"}) == (["hello"], (100, 106))

    def test_what_was_taken_before_is_not_taken_again(self) -> None:
        facts = replace(FACTS, log_offset=100)
        assert self.lines(facts, log={"start": 94, "end": 100, "text": "hello\n"}) == ([], None)

    def test_of_what_overlaps_the_rest_is_taken(self) -> None:
        facts = replace(FACTS, log_offset=8)
        text = "größe\nnext\n"
        log = {"start": 0, "end": len(text.encode()), "text": text}
        assert self.lines(facts, log=log) == (["next"], (8, 13))
        assert self.lines(facts, log=log | {"end": 99}) == ([], None)

    def test_what_did_not_arrive_is_told(self) -> None:
        facts = replace(FACTS, log_offset=100)
        lines, place = self.lines(facts, log={"start": 150, "end": 156, "text": "hello\n"})
        assert (lines, place) == (["50 bytes of the log did not arrive.", "hello"], (100, 156))

    def test_a_line_goes_on_in_the_next_report(self) -> None:
        first = read(log={"start": 0, "end": 4, "text": "a\nbe"})
        assert first.report.log is not None and [one.text for one in first.report.log.lines] == ["a"]
        facts = replace(FACTS, log_offset=4, log_state=first.log_state)
        assert self.lines(facts, log={"start": 4, "end": 10, "text": "gin\nc\n"}) == (["begin", "c"], (4, 10))

    def test_the_end_brings_what_was_held_back(self) -> None:
        first = read(log={"start": 0, "end": 4, "text": "last"})
        facts = replace(FACTS, log_offset=4, log_state=first.log_state)
        lines, place = self.lines(facts, end={"reason": "SUCCEEDED"})
        assert lines == ["last"] and place is not None and place[0] == 4 and place[1] > 4

    def test_secrets_and_signs_that_cannot_be_stored_are_taken_out(self) -> None:
        text = "token=rwp_" + "s" * 43 + " \x1b[31mred\x1b[0m \0\n"
        lines, _ = self.lines(FACTS, log={"start": 0, "end": len(text), "text": text})
        assert "s" * 43 not in lines[0] and "\0" not in lines[0] and "\x1b" not in lines[0]

    def test_a_million_lines_are_bounded(self) -> None:
        text = "x\n" * 500_000
        lines, place = self.lines(FACTS, log={"start": 0, "end": len(text), "text": text})
        assert len(lines) == MOST_LINES + 1 and place == (0, len(text))
        assert lines[1000] == "[498000 lines of the log are left out here]"

    @pytest.mark.parametrize(
        "log",
        [
            7,
            [],
            {},
            {"start": 0, "end": 5},
            {"start": "0", "end": 5, "text": "x"},
            {"start": 5, "end": 0, "text": "x"},
            {"start": -1, "end": 5, "text": "x"},
            {"start": 0, "end": 2**60, "text": "x"},
            {"start": 0, "end": 5, "text": ["x"]},
        ],
    )
    def test_a_wrong_one_is_left_out(self, log: object) -> None:
        found = read(log=log, percent=5)
        assert (found.report.log, found.report.percent, len(found.problems)) == (None, 5.0, 1)

    def test_a_bad_loss_in_the_log_is_warned_of(self) -> None:
        text = "{'loss': nan, 'epoch': 0.5}\n"
        found = read(log={"start": 0, "end": len(text), "text": text})
        assert [warned.code for warned in found.report.warnings] == [WarningCode.NAN_LOSS]


class TestEnd:
    @pytest.mark.parametrize(
        "reason",
        ["CODE_ERROR", "DATA_ERROR", "DIVERGED", "PROVIDER_ERROR", "TIMED_OUT", "MEMORY_LIMIT", "DISK_LIMIT"],
    )
    def test_a_failure_has_its_reason_and_words(self, reason: str) -> None:
        found = read(end={"reason": reason, "message": " It broke. ", "exitCode": 1, "line": 7})
        assert found.report.outcome == Outcome(EndReason(reason), "It broke.") and found.problems == ()

    def test_a_success_is_whole(self) -> None:
        found = read(percent=40, etaSeconds=9, end={"reason": "SUCCEEDED", "message": "", "exitCode": 0, "line": None})
        assert found.says_success
        assert (found.report.outcome, found.report.percent, found.report.eta_seconds) == (
            Outcome(EndReason.SUCCEEDED),
            100.0,
            None,
        )

    @pytest.mark.parametrize(
        ("facts", "words"),
        [
            ({"exitCode": 2, "line": 30}, "The script ended with exit code 2 in line 30."),
            ({"exitCode": 2, "line": None}, "The script ended with exit code 2."),
            ({"exitCode": None, "line": 30}, "The script ended without saying why in line 30."),
            ({"exitCode": "2", "line": [], "message": 7}, "The script ended without saying why."),
            ({"message": "key rwp_" + "s" * 43 + "\0"}, "key rwp_•••\ufffd"),
            ({"message": "x" * 10_000}, "x" * 2_000),
        ],
    )
    def test_there_are_always_words(self, facts: dict[str, Any], words: str) -> None:
        outcome = read(end={"reason": "CODE_ERROR", **facts}).report.outcome
        assert outcome == Outcome(EndReason.CODE_ERROR, words)

    def test_the_logs_last_error_stands_in(self) -> None:
        text = "ValueError: no such column\n"
        found = read(log={"start": 0, "end": len(text), "text": text}, end={"reason": "CODE_ERROR", "exitCode": 1})
        assert found.report.outcome == Outcome(EndReason.CODE_ERROR, "ValueError: no such column")

    @pytest.mark.parametrize(
        "reason", ["CANCELED_BY_USER", "LOST", "OUT_OF_BUDGET", "NO_CAPACITY", "DEPLOYMENT_FAILED", "nonsense", 7, None]
    )
    def test_an_end_that_a_script_cannot_know_is_one_of_its_program(self, reason: object) -> None:
        found = read(end={"reason": reason, "message": "so it said"})
        assert found.report.outcome == Outcome(EndReason.CODE_ERROR, "so it said")
        assert found.problems == ("'end' has no reason that a script can know.",)

    @pytest.mark.parametrize("end", [True, "SUCCEEDED", 7, ["SUCCEEDED"]])
    def test_what_is_no_end_ends_nothing(self, end: object) -> None:
        found = read(end=end)
        assert found.report.outcome is None and found.problems == ("'end' is no object.",)


JUNK = some.recursive(
    some.none()
    | some.booleans()
    | some.integers(-(2**63), 2**63 - 1)
    | some.floats(allow_nan=False)
    | some.text(max_size=20)
    | some.sampled_from(["NaN", "Infinity", "TRAINING", "SUCCEEDED", "2026-01-15T12:00:00Z"]),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
NAMES = ("sequence", "sentAt", "stage", "percent", "etaSeconds", "points", "log", "system", "end")
PART = some.dictionaries(
    some.sampled_from(["name", "step", "value", "at", "start", "end", "text", "reason", "message", "gpuPercent"]), JUNK
)


@given(some.dictionaries(some.sampled_from(NAMES), JUNK | PART | some.lists(PART, max_size=4)) | JUNK, JUNK)
@settings(max_examples=150, deadline=None)
def test_no_body_breaks_the_reading(body: object, state: object) -> None:
    facts = replace(FACTS, log_state=state if isinstance(state, dict) else {}, log_offset=3)
    found = report_of(orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), facts, NOON)
    report = found.report
    assert (report.source, report.attempt, report.at) == (ReportSource.POD, 2, NOON)
    assert report.percent is None or 0 <= report.percent <= 100
    assert report.stage is None or report.stage is not RunStage.DEPLOYING
    assert all(BEGUN <= reading.at <= NOON for reading in report.readings)
    assert report.log is None or report.log.start == 3 < report.log.end
    orjson.dumps(found.log_state)


@given(some.binary(max_size=200))
def test_no_bytes_break_the_reading(body: bytes) -> None:
    assert report_of(body, FACTS, NOON).report.attempt == 2


def batches(cuts: Sequence[int]) -> list[tuple[bytes, datetime]]:
    """A whole training's log and metrics, cut into reports."""
    text = "".join(f"epoch {step}/40 loss {1 / step:.3f}\n" for step in range(1, 41)).encode()
    edges = sorted({0, len(text), *(cut % len(text) for cut in cuts)})
    found = []
    for number, (start, end) in enumerate(pairwise(edges), start=1):
        said: dict[str, Any] = {
            "sequence": number,
            "percent": 100 * end / len(text),
            "points": [point(1 / number, number)],
            "log": {"start": start, "end": end, "text": text[start:end].decode()},
        }
        if end == len(text):
            said["end"] = {"reason": "DIVERGED", "message": "too far"}
        found.append((orjson.dumps(said), NOON + timedelta(seconds=number)))
    return found


def followed(arriving: Sequence[tuple[bytes, datetime]]) -> tuple[Any, ...]:
    """What an attempt has heard when these reports have come in this order, some of them more than once."""
    waiting: dict[int, tuple[bytes, datetime]] = {}
    applied, offset, state = 0, 0, {}  # type: ignore[var-annotated]  # grows below
    lines: list[LogText] = []
    readings: dict[tuple[str, int], float] = {}
    warnings: list[Warned] = []
    percent, outcome = 0.0, None
    for body, at in arriving:
        waiting.setdefault(orjson.loads(body)["sequence"], (body, at))
        while applied + 1 in waiting and outcome is None:
            applied += 1
            found = report_of(
                *waiting[applied][:1], replace(FACTS, log_offset=offset, log_state=state), waiting[applied][1]
            )
            report = found.report
            state = dict(found.log_state)
            if report.log is not None and report.log.start == offset:
                offset = report.log.end
                lines.extend(report.log.lines)
            readings |= {(one.name, one.step): one.value for one in report.readings}
            warnings.extend(report.warnings)
            percent, outcome = max(percent, report.percent or 0.0), report.outcome
    return applied, offset, [line.text for line in lines], readings, warnings, percent, outcome


@given(some.lists(some.integers(1, 10_000), min_size=1, max_size=8), some.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_any_order_with_any_doubles_comes_to_the_same_end(cuts: list[int], chance: Any) -> None:
    reports = batches(cuts)
    arriving = [*reports, *chance.choices(reports, k=5)]
    chance.shuffle(arriving)
    assert followed(arriving) == followed(reports)
    lines = followed(reports)[2]
    assert lines == [f"epoch {step}/40 loss {1 / step:.3f}" for step in range(1, 41)]


def test_lines_have_their_loudness() -> None:
    text = "ERROR it broke\nall is well\n"
    report = read(log={"start": 0, "end": len(text), "text": text}).report
    assert report.log is not None
    assert [line.level for line in report.log.lines] == [LogLevel.ERROR, LogLevel.INFO]
