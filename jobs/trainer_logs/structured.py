"""Our own programs' structured lines: `::runwire ` and a JSON object on one line. A program may write what it likes, so
only what is well-formed is taken.

::runwire {"stage": "TRAINING", "percent": 30.0, "etaSeconds": 12.5}
::runwire {"readings": [{"name": "loss", "step": 12, "value": 0.2134}]}
::runwire {"end": {"reason": "DIVERGED", "message": "…"}}
"""

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.secret import masked
from domain.training.report import Outcome, Reading
from domain.training.status import EndReason, RunStage
from jobs.trainer_logs.state import MOST
from jobs.trainer_logs.text import storable

MARK = "::runwire "
MESSAGE_CHARACTERS = 2_000
NAME_CHARACTERS = 100
_ENDS = {
    reason.value: reason
    for reason in (EndReason.SUCCEEDED, EndReason.CODE_ERROR, EndReason.DATA_ERROR, EndReason.DIVERGED)
}


@dataclass(frozen=True, slots=True)
class Structured:
    """What one structured line says."""

    stage: RunStage | None = None
    percent: float | None = None
    """0 to 100, of the training."""
    eta_seconds: float | None = None
    readings: tuple[Reading, ...] = ()
    outcome: Outcome | None = None


def structured_of(text: str, at: datetime) -> Structured | None:
    """What stands behind the mark; None where it is no JSON object."""
    try:
        facts: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict):
        return None
    stage = facts.get("stage")
    percent = finite(facts.get("percent"))
    eta = finite(facts.get("etaSeconds"))
    readings = facts.get("readings")
    return Structured(
        stage=RunStage(stage) if isinstance(stage, str) and stage in RunStage.__members__ else None,
        percent=min(100.0, max(0.0, percent)) if percent is not None else None,
        eta_seconds=max(0.0, eta) if eta is not None else None,
        readings=tuple(
            reading
            for item in (readings if isinstance(readings, list) else ())
            if (reading := _reading(item, at)) is not None
        ),
        outcome=_outcome(facts.get("end")),
    )


def finite(value: object) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _reading(item: object, at: datetime) -> Reading | None:
    if not isinstance(item, dict):
        return None
    name, step, value = item.get("name"), item.get("step"), finite(item.get("value"))
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
        return None
    if isinstance(step, bool) or not isinstance(step, int) or abs(step) > MOST or value is None:
        return None
    return Reading(masked(name), step, value, at)


def _outcome(end: object) -> Outcome | None:
    if not isinstance(end, dict):
        return None
    reason, message = end.get("reason"), end.get("message")
    if not isinstance(reason, str) or reason not in _ENDS:
        return None
    words = masked(storable(message))[:MESSAGE_CHARACTERS] if isinstance(message, str) else None
    return Outcome(_ENDS[reason], words)
