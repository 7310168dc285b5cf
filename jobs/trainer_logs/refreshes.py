"""What of a bar's thousands of looks becomes lines for people: its beginning, every few percent, its end."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from jobs.trainer_logs.text import LINE_CHARACTERS

SHOWN_EVERY_PERCENT = 5.0
MOST_LINES = 400
"""Lines of bars and refreshes that a log gets; afterwards only each percent of the training is shown."""
MOST_BARS = 8
"""So many bars are told apart at a time."""
HELD_CHARACTERS = 60


@dataclass(slots=True)
class Refreshes:
    """Which looks were shown; small enough to be kept between readings."""

    shown: dict[str, float] = field(default_factory=dict)
    """Percent at which a bar was shown last, by a checksum of its name; the newest last."""
    lines: int = 0
    overall: float = -1.0
    """Percent of the training when a bar was shown last."""
    held: str = ""
    """A refresh that is no bar and that nothing has followed yet."""

    @classmethod
    def of(cls, state: object) -> Self:
        """As it was kept; whatever is not of the right kind is as if it was not there."""
        found = cls()
        if not isinstance(state, Mapping):
            return found
        shown = state.get("shown")
        if isinstance(shown, Mapping):
            kept = [(str(key)[:10], value) for key, value in shown.items() if isinstance(value, int | float)]
            found.shown = {key: float(value) for key, value in kept[:MOST_BARS]}
        lines, overall, held = state.get("lines"), state.get("overall"), state.get("held")
        found.lines = min(max(lines, 0), LINE_CHARACTERS) if isinstance(lines, int) else 0
        found.overall = min(100.0, float(overall)) if isinstance(overall, int | float) else -1.0
        found.held = held[:HELD_CHARACTERS] if isinstance(held, str) else ""
        return found

    def kept(self) -> dict[str, Any]:
        """What is kept between readings."""
        return {"shown": dict(self.shown), "lines": self.lines, "overall": self.overall, "held": self.held}

    def shows(self, name: str, percent: float, is_complete: bool, overall: float) -> bool:
        """Whether this look of a bar becomes a line."""
        if not self._has_room(overall):
            return False
        key = str(zlib.crc32(name.encode()))
        last = self.shown.get(key)
        again = last is not None and percent < last
        moved = last is None or percent >= last + SHOWN_EVERY_PERCENT or (is_complete and percent > last)
        if not (moved or again):
            return False
        self.shown.pop(key, None)
        if len(self.shown) >= MOST_BARS:
            del self.shown[next(iter(self.shown))]
        self.shown[key] = percent
        self._count(overall)
        return True

    def replaces(self, text: str, overall: float) -> str:
        """Hold a refresh that is no bar; gives what was held if that was about something else."""
        before, self.held = self.held, text[:HELD_CHARACTERS]
        if before and shape(before) != shape(text) and self._has_room(overall):
            self._count(overall)
            return before
        return ""

    def release(self) -> str:
        """What was held, now that a line end or other words follow."""
        held, self.held = self.held, ""
        return held

    def _has_room(self, overall: float) -> bool:
        return self.lines < MOST_LINES or overall >= self.overall + 1

    def _count(self, overall: float) -> None:
        self.lines = min(self.lines + 1, MOST_LINES)
        self.overall = overall


def shape(text: str) -> str:
    """A refresh without what changes from one to the next."""
    return "".join(sign for sign in text if sign.isalpha())[:16]
