"""Reads what a sandbox wrote: the supervisor's line prefix, the recipes' structured lines, the loudness of the rest."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from domain.secret import masked
from domain.training.report import LogText, Reading
from domain.training.status import EndReason, LogLevel, RunStage
from jobs.trainer_logs.structured import MARK, structured_of
from jobs.trainer_logs.text import LINE_CHARACTERS, level_said


@dataclass(slots=True)
class Transcript:
    """What a stretch of a log says; the newest word of each kind."""

    lines: list[LogText] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    stage: RunStage | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    end_reason: EndReason | None = None
    end_message: str | None = None
    last_error_line: str | None = None


def transcript_of(raw_lines: Iterable[bytes]) -> Transcript:
    """Everything that these raw lines of a sandbox's log say. Lines that no supervisor wrote are passed over."""
    found = Transcript()
    for raw in raw_lines:
        stamp, _, rest = raw.decode("utf-8", "replace").partition(" ")
        stream, _, text = rest.partition(" ")
        if not stamp.isdigit() or stream not in ("O", "E", "S"):
            continue
        at = datetime.fromtimestamp(int(stamp) / 1_000_000, UTC)
        if stream == "O" and text.startswith(MARK):
            _structured(found, text.removeprefix(MARK), at)
            continue
        line = masked(text)[:LINE_CHARACTERS]
        found.lines.append(LogText(line, at, _level(stream, line)))
        if stream == "E" and line.strip():
            found.last_error_line = line.strip()
    return found


def _level(stream: str, line: str) -> LogLevel:
    return level_said(line) or (LogLevel.WARNING if stream == "E" else LogLevel.INFO)


def _structured(found: Transcript, text: str, at: datetime) -> None:
    said = structured_of(text, at)
    if said is None:
        return
    found.stage = said.stage or found.stage
    found.percent = said.percent if said.percent is not None else found.percent
    found.eta_seconds = said.eta_seconds if said.eta_seconds is not None else found.eta_seconds
    found.readings.extend(said.readings)
    if said.outcome is not None:
        found.end_reason, found.end_message = said.outcome.end_reason, said.outcome.message
