"""Which of the values that a log prints are readings: each once, at its step, and not more than a picture can show."""

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from domain.training.report import Reading, Warned
from domain.training.status import WarningCode
from jobs.trainer_logs.following import Following
from jobs.trainer_logs.sign import Claim, Sign
from jobs.trainer_logs.state import MOST, Kept

READINGS_PER_COUNTER = 1_000
"""Of the looks of a bar so many steps are kept at most."""
ROWS_APART = 500
"""Rows are kept if their step is one part in so many beyond the last; so the first thousand steps all are."""
MOST_NAMES = 6
"""Metrics of a bar that are told apart; a bar repeats its values until there are new ones."""


@dataclass(slots=True)
class Measuring(Kept):
    """What was read, as far as the next reading depends on it."""

    looked_at: int = -1
    """The last step at which a bar's values were kept."""
    row: int = 0
    """The last step of a row."""
    kept_row: int = -1
    """The last step at which a row's values were kept."""
    diverged: bool = False
    seen: dict[str, float] = field(default_factory=dict)
    """A bar's last values, by a checksum of their name."""

    @classmethod
    def of(cls, state: object) -> Self:
        """As it was kept."""
        found = super(Measuring, cls).of({**state, "seen": None} if isinstance(state, Mapping) else None)
        seen = state.get("seen") if isinstance(state, Mapping) else None
        found.seen = {}
        for key, value in list(seen.items())[:MOST_NAMES] if isinstance(seen, Mapping) else ():
            if isinstance(value, int | float) and math.isfinite(value):
                found.seen[str(key)[:10]] = float(value)
        return found

    def kept(self) -> dict[str, Any]:
        """What is kept between readings."""
        return super(Measuring, self).kept() | {"seen": dict(self.seen)}

    def readings(self, sign: Sign, follow: Following, at: datetime) -> Iterator[Reading]:
        """The values of the sign that are new."""
        if sign.is_look:
            yield from self._of_look(sign, follow, at)
            return
        step = self._step_of_row(sign, follow)
        validates = any(name.startswith("val_") for name in sign.values)
        apart = max(1, self.kept_row // ROWS_APART)
        if not validates and self.kept_row >= 0 and step < self.kept_row + apart:
            return
        if not validates:
            self.kept_row = step
        for name, value in sign.values.items():
            if math.isfinite(value):
                yield Reading(name, step, value, at)

    def warnings(self, sign: Sign, follow: Following) -> Iterator[Warned]:
        """A loss that is no number, once per log: whoever wants to stop for it stops at the first."""
        for name, value in sign.values.items():
            if name.endswith("loss") and not math.isfinite(value) and not self.diverged:
                self.diverged = True
                yield Warned(WarningCode.NAN_LOSS, f"{name} is {value} at step {follow.step}.")

    def _of_look(self, sign: Sign, follow: Following, at: datetime) -> Iterator[Reading]:
        whole = (sign.total or 0) * (max(follow.epochs, 1) if sign.per_epoch else 1)
        apart = max(1, int(min(whole, MOST)) // READINGS_PER_COUNTER)
        step = follow.step
        is_due = self.looked_at < 0 or step >= self.looked_at + apart or (sign.is_complete and step > self.looked_at)
        took = False
        for name, value in sign.values.items():
            key = str(zlib.crc32(name.encode()))
            if not math.isfinite(value) or self.seen.get(key) == value:
                continue
            if not (is_due or (name.startswith("val_") and sign.is_complete)):
                continue
            if key not in self.seen and len(self.seen) >= MOST_NAMES:
                continue
            self.seen[key] = value
            took = True
            yield Reading(name, step, value, at)
        if took and is_due:
            self.looked_at = step

    def _step_of_row(self, sign: Sign, follow: Following) -> int:
        if sign.step is not None:
            return min(sign.step, MOST)
        if sign.per_epoch:
            return follow.step
        step = follow.step
        if sign.epoch is not None and follow.epochs and follow.steps:
            step = min(round(sign.epoch / follow.epochs * follow.steps), MOST)
        elif sign.epoch is not None and step == 0 and sign.begins_epoch:
            step = min(int(sign.epoch), MOST)
        elif any(name == "loss" for name in sign.values):
            step = max(step, self.row + 1)  # a bar lags behind the rows beside it, or there is none
        if sign.claim is not Claim.OTHER:
            self.row = max(self.row, step)
        return max(step, self.row) if not sign.begins_epoch else step
