"""Reads what a sandbox wrote: the supervisor's line prefix, the recipes' structured lines, the loudness of the rest."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from domain.secret import masked
from domain.training.report import LogText, Reading
from domain.training.status import EndReason, LogLevel, RunStage

MARK = "::runwire "
LINE_CHARACTERS = 8_192
_LEVELS = {level.value: level for level in LogLevel}


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
    said = _LEVELS.get(line.partition(" ")[0].rstrip(":"))
    if said is not None:
        return said
    return LogLevel.WARNING if stream == "E" else LogLevel.INFO


def _structured(found: Transcript, text: str, at: datetime) -> None:
    """Take what is well-formed; a program may write what it likes."""
    try:
        facts: Any = json.loads(text)
    except (ValueError, RecursionError):
        return
    if not isinstance(facts, dict):
        return
    stage = facts.get("stage")
    if isinstance(stage, str) and stage in RunStage.__members__:
        found.stage = RunStage(stage)
    percent = _number(facts.get("percent"))
    if percent is not None:
        found.percent = min(100.0, max(0.0, percent))
    eta = _number(facts.get("etaSeconds"))
    if eta is not None:
        found.eta_seconds = max(0.0, eta)
    readings = facts.get("readings")
    for reading in readings if isinstance(readings, list) else ():
        if not isinstance(reading, dict):
            continue
        name, step, value = reading.get("name"), reading.get("step"), _number(reading.get("value"))
        if isinstance(name, str) and 0 < len(name) <= 100 and isinstance(step, int) and value is not None:
            found.readings.append(Reading(name, step, value, at))
    end = facts.get("end")
    if isinstance(end, dict) and end.get("reason") in ("SUCCEEDED", "CODE_ERROR", "DATA_ERROR", "DIVERGED"):
        found.end_reason = EndReason(end["reason"])
        message = end.get("message")
        found.end_message = masked(message)[:2_000] if isinstance(message, str) else None


def _number(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
