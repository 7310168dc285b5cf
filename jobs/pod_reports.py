"""What a script at a provider reports, as a report of the run: a pure function, so that its bounds can be proved.

    {"sequence": 3, "sentAt": "2026-01-15T12:00:00Z", "stage": "TRAINING", "percent": 12.5, "etaSeconds": 600,
     "points": [{"name": "loss", "step": 12, "value": 0.2, "at": "…"}], "log": {"start": 0, "end": 81, "text": "…"},
     "system": {"gpuPercent": 97, "gpuMemoryPercent": 60, "memoryPercent": 41, "diskPercent": 12},
     "end": {"reason": "SUCCEEDED", "message": null, "exitCode": 0, "line": null}}

A script runs a user's program beside it, so its reports are no more to be trusted than that: whatever is not as it
should be is left out and told in a sentence, and the rest is taken. Times are by the script's clock, which may be wrong
by hours; `sentAt` tells by how much.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeGuard

import orjson

from domain.secret import masked
from domain.training.report import LogChunk, LogText, Outcome, Reading, Report, Warned
from domain.training.status import EndReason, LogLevel, ReportSource, RunStage, WarningCode
from jobs.trainer_logs import LogReader, Said
from jobs.trainer_logs.text import storable

MOST_POINTS = 100
MOST_READINGS = 1_000
"""Of one report, those of its log included; the newest."""
MOST_LINES = 2_000
MOST_STEPS = 2**31 - 1
NAME_CHARACTERS = 100
MESSAGE_CHARACTERS = 2_000
MOST_PROBLEMS = 5
LONGEST_ETA_SECONDS = 10 * 365 * 86_400
DISK_NEARLY_FULL_PERCENT = 95.0
IDLE_PERCENT = 5.0
IDLE_SECONDS = 600.0
KEPT = "pod"
"""What is kept in the attempt's log state beside the log's own."""

STAGES = frozenset(
    {
        RunStage.CREATING_SANDBOX,
        RunStage.WRITING_FILES,
        RunStage.INSTALLING,
        RunStage.DOWNLOADING_DATA,
        RunStage.TRAINING,
        RunStage.SAVING,
    }
)
"""Those that a script can be in; the others are ours to tell."""
ENDS = frozenset(
    {
        EndReason.SUCCEEDED,
        EndReason.CODE_ERROR,
        EndReason.DATA_ERROR,
        EndReason.DIVERGED,
        EndReason.PROVIDER_ERROR,
        EndReason.TIMED_OUT,
        EndReason.MEMORY_LIMIT,
        EndReason.DISK_LIMIT,
    }
)
"""What a script can know of its own end."""
SYSTEM = {
    "gpuPercent": "gpu_percent",
    "gpuMemoryPercent": "gpu_memory_percent",
    "memoryPercent": "memory_percent",
    "diskPercent": "disk_percent",
}
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """What is known of the attempt when its next report is read."""

    number: int
    log_offset: int
    log_state: Mapping[str, Any]
    begun_at: datetime
    """Nothing of it happened before."""
    is_training: bool
    """Whether its program was running already."""
    steps: int | None = None
    """How many steps were ordered, where that is known."""


@dataclass(frozen=True, slots=True)
class PodReport:
    """One report, read."""

    report: Report
    log_state: Mapping[str, Any]
    """What is to be kept for the next one, also where the report has no log."""
    problems: tuple[str, ...] = ()
    """What was left out, in sentences for whoever operates this."""

    @property
    def says_success(self) -> bool:
        return self.report.outcome is not None and self.report.outcome.succeeded


def report_of(body: bytes, facts: AttemptFacts, received_at: datetime) -> PodReport:
    """The report in a body of any kind; never raises."""
    reading = _Reading(facts, received_at)
    try:
        said: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        said = None
    if isinstance(said, dict):
        reading.read(said)
    else:
        reading.problem("An object was expected.")
    return reading.result()


@dataclass(slots=True)
class _Reading:
    facts: AttemptFacts
    received_at: datetime
    problems: list[str] = field(default_factory=list)
    sequence: int = 0
    skew: timedelta = timedelta()
    """How far the script's clock is behind ours; what the report was on its way counts as that too."""
    stage: RunStage | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    readings: list[Reading] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    log: LogChunk | None = None
    log_state: dict[str, Any] = field(default_factory=dict)
    last_error_line: str | None = None
    outcome: Outcome | None = None

    def read(self, said: dict[str, Any]) -> None:
        number = said.get("sequence")
        self.sequence = number if _is_whole(number) and 0 < number <= MOST_STEPS else 0
        sent_at = self._time(said.get("sentAt"), "sentAt")
        if sent_at is not None:
            self.skew = self.received_at - sent_at
        self.stage = self._stage(said.get("stage"))
        self.percent = self._number(said, "percent", 0.0, 100.0)
        self.eta_seconds = self._number(said, "etaSeconds", 0.0, LONGEST_ETA_SECONDS)
        self._points(said.get("points"))
        self._log(said.get("log"), is_last=isinstance(said.get("end"), dict))
        self._system(said.get("system"))
        self._end(said.get("end"))

    def result(self) -> PodReport:
        succeeded = self.outcome is not None and self.outcome.succeeded
        report = Report(
            source=ReportSource.POD,
            attempt=self.facts.number,
            at=self.received_at,
            event_id=str(self.sequence) if self.sequence else None,
            status=self.stage.status if self.stage is not None else None,
            stage=self.stage,
            percent=100.0 if succeeded else self.percent,
            eta_seconds=None if self.outcome is not None else self.eta_seconds,
            log=self.log,
            readings=tuple(self.readings[-MOST_READINGS:]),
            warnings=tuple(self.warnings),
            outcome=self.outcome,
        )
        return PodReport(report, self.log_state or self.facts.log_state, tuple(self.problems))

    def problem(self, sentence: str) -> None:
        if sentence not in self.problems and len(self.problems) < MOST_PROBLEMS:
            self.problems.append(sentence)

    def _stage(self, said: object) -> RunStage | None:
        if said is None:
            return None
        if isinstance(said, str) and said in RunStage.__members__ and RunStage(said) in STAGES:
            return RunStage(said)
        self.problem("'stage' is none that a script can be in.")
        return None

    def _number(self, said: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
        value = said.get(name)
        if value is None:
            return None
        number = _finite(value)
        if number is None or not least <= number <= most:
            self.problem(f"'{name}' is no number from {least:g} to {most:g}.")
            return None
        return number

    def _points(self, said: object) -> None:
        if said is None:
            return
        if not isinstance(said, list):
            return self.problem("'points' is no list.")
        if len(said) > MOST_POINTS:
            self.problem(f"'points' has more than {MOST_POINTS} points; the rest was left out.")
        for item in said[:MOST_POINTS]:
            self._point(item)

    def _point(self, said: object) -> None:
        if not isinstance(said, dict):
            return self.problem("A point is no object.")
        name, step, value = said.get("name"), said.get("step"), said.get("value")
        if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
            return self.problem(f"A point's 'name' is no text of 1 to {NAME_CHARACTERS} characters.")
        if not _is_whole(step) or not 0 <= step <= MOST_STEPS:
            return self.problem(f"A point's 'step' is no whole number from 0 to {MOST_STEPS}.")
        number = _SPECIAL.get(value) if isinstance(value, str) else _finite(value)
        if number is None:
            return self.problem("A point's 'value' is no number.")
        if math.isfinite(number):
            self.readings.append(Reading(masked(storable(name)), step, number, self._at(said.get("at"))))
        elif "loss" in name.lower():
            self._warn(WarningCode.NAN_LOSS, f"{masked(storable(name))} is {number} at step {step}.")

    def _at(self, said: object) -> datetime:
        """A time by our clock, while the attempt went on."""
        time = self._time(said, "at")
        if time is None:
            return self.received_at
        try:
            ours = time + self.skew
        except OverflowError:
            return self.received_at
        return max(self.facts.begun_at, min(self.received_at, ours))

    def _time(self, said: object, name: str) -> datetime | None:
        if said is None:
            return None
        try:
            time = datetime.fromisoformat(said) if isinstance(said, str) and len(said) <= 40 else None
            if time is not None and time.tzinfo is not None:
                return time
        except ValueError:
            pass
        self.problem(f"'{name}' is no time with a zone.")
        return None

    def _log(self, said: object, *, is_last: bool) -> None:
        offset = self.facts.log_offset
        reader = LogReader(self.facts.log_state, steps=self.facts.steps)
        kept = self.facts.log_state.get(KEPT)
        self.log_state = {**reader.state, KEPT: dict(kept) if isinstance(kept, Mapping) else {}}
        stretch = self._stretch(said)
        heard: list[Said] = []
        lines: list[LogText] = []
        end = offset
        if stretch is not None:
            start, end, text = stretch
            if start > offset:
                words = f"{start - offset} bytes of the log did not arrive."
                lines.append(LogText(words, self.received_at, LogLevel.WARNING))
            heard.append(reader.feed(_shortened(text), self.received_at))
        if is_last:
            heard.append(reader.finish(self.received_at))
        for one in heard:
            lines.extend(one.lines)
            self._hear(one)
        self.log_state |= reader.state
        if lines and end == offset:
            end += 1  # the log is over, and what was held back of it has no place of its own
        if end > offset:
            self.log = LogChunk(offset, end, tuple(lines), self.log_state)

    def _stretch(self, said: object) -> tuple[int, int, str] | None:
        """The part of the log that is new: from where, to where, and its text."""
        if said is None:
            return None
        if not isinstance(said, dict):
            self.problem("'log' is no object.")
            return None
        start, end, text = said.get("start"), said.get("end"), said.get("text")
        if not (_is_whole(start) and _is_whole(end) and 0 <= start <= end < 2**53 and isinstance(text, str)):
            self.problem("'log' has no text between two offsets.")
            return None
        if len(text) > end - start:
            self.problem("'log' has more text than there is room for between its offsets.")
            return None
        offset = self.facts.log_offset
        if end <= offset:
            return None  # it was taken before
        if start < offset:
            coded = text.encode("utf-8", "replace")
            if len(coded) != end - start:
                self.problem("'log' overlaps with what was taken before, and cannot be cut there.")
                return None
            return offset, end, coded[offset - start :].decode("utf-8", "replace")
        return start, end, text

    def _hear(self, said: Said) -> None:
        """What the log itself says; the script's own words go before."""
        if said.stage in STAGES and (self.stage is None or said.stage.rank > self.stage.rank):
            self.stage = said.stage
        if said.percent is not None:
            self.percent = max(said.percent, self.percent or 0.0)
        if self.eta_seconds is None:
            self.eta_seconds = said.eta_seconds
        self.readings.extend(said.readings)
        self.warnings.extend(said.warnings)
        self.last_error_line = said.last_error_line or self.last_error_line

    def _system(self, said: object) -> None:
        if said is None:
            return
        if not isinstance(said, dict):
            return self.problem("'system' is no object.")
        for key, name in SYSTEM.items():
            value = self._number(said, key, 0.0, 100.0)
            if value is None:
                continue
            if self.sequence:
                self.readings.append(Reading(name, self.sequence, value, self.received_at))
            if name == "disk_percent" and value >= DISK_NEARLY_FULL_PERCENT:
                self._warn(WarningCode.DISK_NEARLY_FULL, f"The machine's disk is {value:g} % full.")
            if name == "gpu_percent":
                self._watch_gpu(value)

    def _watch_gpu(self, percent: float) -> None:
        """A GPU that does nothing is paid for all the same."""
        kept: dict[str, Any] = self.log_state.setdefault(KEPT, {})
        is_training = self.facts.is_training or self.stage is RunStage.TRAINING
        if percent >= IDLE_PERCENT or not is_training or self.stage is RunStage.SAVING:
            kept.pop("idleSince", None)
        else:
            since = _kept_time(kept.setdefault("idleSince", self.received_at.isoformat())) or self.received_at
            seconds = (self.received_at - since).total_seconds()
            if seconds >= IDLE_SECONDS:
                self._warn(WarningCode.IDLE_GPU, f"The GPU was used by less than 5 % for {seconds / 60:.0f} minutes.")
        if self.log is not None:
            self.log = replace(self.log, state=self.log_state)

    def _warn(self, code: WarningCode, message: str) -> None:
        if all(warned.code is not code for warned in self.warnings):
            self.warnings.append(Warned(code, message))

    def _end(self, said: object) -> None:
        if said is None:
            return
        if not isinstance(said, dict):
            return self.problem("'end' is no object.")
        told = said.get("reason")
        reason = EndReason(told) if isinstance(told, str) and told in EndReason.__members__ else None
        if reason not in ENDS:
            self.problem("'end' has no reason that a script can know.")
            reason = EndReason.CODE_ERROR
        self.outcome = Outcome(reason, None if reason is EndReason.SUCCEEDED else self._message(said))

    def _message(self, said: Mapping[str, Any]) -> str:
        given = said.get("message")
        if isinstance(given, str) and given.strip():
            return masked(storable(given.strip()))[:MESSAGE_CHARACTERS]
        if self.last_error_line:
            return self.last_error_line[:MESSAGE_CHARACTERS]
        code, line = said.get("exitCode"), said.get("line")
        words = f"The script ended with exit code {code}" if _is_whole(code) else "The script ended without saying why"
        return words + (f" in line {line}." if _is_whole(line) else ".")


def _shortened(text: str) -> str:
    """So many lines of one report; of more the begin and the end, for reading a million takes seconds."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= MOST_LINES:
        return text
    half = MOST_LINES // 2
    words = f"[{len(lines) - 2 * half} lines of the log are left out here]\n"
    return "".join([*lines[:half], words, *lines[-half:]])


def _is_whole(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    number = float(value)  # orjson gives no integer of more than 64 bits
    return number if math.isfinite(number) else None


def _kept_time(value: object) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
