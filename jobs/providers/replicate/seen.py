"""A training as Replicate shows it, read leniently: the SDK refuses `aborted` as a status and knows no `metrics`."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

ENDED = frozenset({"succeeded", "failed", "canceled", "aborted"})
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:?\d\d)?")
_TAG = re.compile(r"(?<![0-9a-z])run-[0-9a-f]{32}-\d{1,9}(?!\d)")
_REFERENCE = re.compile(r"[0-9a-z]{8,64}")
DEEPEST = 20


class Unreadable(ValueError):
    """What came is no training. `str(error)` says what was expected."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One training at one moment. What was absent, or of another kind than expected, is None."""

    id: str
    status: str
    model: str | None
    version: str | None
    """The trainer's, not that of the model it makes."""
    input: Any
    destination: str | None
    created_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    logs: str | None
    error: str | None
    output_version: str | None
    """What was made, as `owner/name:sha`."""
    weights: str | None
    worked_seconds: float | None
    """`metrics.predict_time`: what is billed, without the time in the queue."""

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED or (self.completed_at is not None and self.status not in ("starting", "processing"))

    @property
    def tags(self) -> set[str]:
        """The tags of ours that stand in its input."""
        return {tag for text in texts_in(self.input) for tag in _TAG.findall(text)}

    @property
    def made_in(self) -> str | None:
        """The full name of its destination, where it is shown."""
        return (self.output_version or "").partition(":")[0] or self.destination


def seen_of(body: object) -> Seen:
    """The training in an answer's or webhook's JSON. Raises `Unreadable`."""
    if not isinstance(body, Mapping):
        raise Unreadable("An object with a training was expected.")
    if not is_reference(body.get("id")):
        raise Unreadable("The training has no id.")
    if not isinstance(body.get("status"), str):
        raise Unreadable("The training has no status.")
    output, metrics = body.get("output"), body.get("metrics")
    return Seen(
        id=body["id"],
        status=body["status"],
        model=_text(body.get("model")),
        version=_text(body.get("version")),
        input=body.get("input"),
        destination=_text(body.get("destination")),
        created_at=time_of(body.get("created_at")),
        started_at=time_of(body.get("started_at")),
        completed_at=time_of(body.get("completed_at")),
        logs=_text(body.get("logs")),
        error=_words(body.get("error")),
        output_version=_text(output.get("version")) if isinstance(output, Mapping) else None,
        weights=_text(output.get("weights")) if isinstance(output, Mapping) else None,
        worked_seconds=_seconds(metrics.get("predict_time")) if isinstance(metrics, Mapping) else None,
    )


def is_reference(value: object) -> bool:
    """Whether it can be a training's id: 26 small letters and digits in all samples."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def texts_in(value: object, depth: int = 0) -> Iterator[str]:
    """All strings in a JSON value."""
    if isinstance(value, str):
        yield value
    elif depth < DEEPEST and isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(item, depth + 1)


def time_of(value: object) -> datetime | None:
    """An RFC 3339 time with any number of fractional digits: six, eight and nine were seen."""
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return None
    day, clock, fraction, zone = found.groups()
    digits = (fraction or "")[:6].ljust(6, "0")
    try:
        return datetime.fromisoformat(f"{day}T{clock}.{digits}{'+00:00' if zone in (None, 'Z') else zone}").astimezone(
            UTC
        )
    except (ValueError, OverflowError):
        return None


def _seconds(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _words(value: object) -> str | None:
    """An error is a string as far as is known; anything else is shown as it came."""
    if value is None or isinstance(value, str):
        return value or None
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "An error that cannot be shown."
