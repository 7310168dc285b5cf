"""What of a bar's thousands of looks becomes lines for people: its beginning, every few percent, its end."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from jobs.trainer_logs.state import weight

SHOWN_EVERY_PERCENT = 5.0
MOST_LINES = 400
"""Lines of bars and refreshes that a log gets; afterwards only each percent of the training is shown."""
MOST_BARS = 6
"""So many bars are told apart at a time."""
HELD_BYTES = 400
"""The longest text that can be held back, as bytes of JSON; longer ones are lines at once."""
SHAPE_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Look:
    """One look of a bar, as text."""

    text: str
    name: str
    """Whose look it is."""
    percent: float
    """Of that bar."""
    is_complete: bool
    is_closed: bool
    """Whether a line end follows it: the last look of its bar."""
    is_other: bool
    """Whether it is about other work than training."""


@dataclass(slots=True)
class Refreshes:
    """Which looks were shown; small enough to be kept between readings."""

    shown: dict[str, float] = field(default_factory=dict)
    """Percent at which a bar was shown last, by a checksum of its name; the newest last."""
    lines: int = 0
    overall: float = -1.0
    """Percent of the training when a bar was shown last."""
    held: str = ""
    """The last look of a bar that is complete but may get better values, or a refresh in words."""
    holder: int = 0
    """A checksum of whose text is held."""
    follows_words: bool = False
    """Whether the last line was one of words: after it an empty line is one too."""

    @classmethod
    def of(cls, state: object) -> Self:
        """As it was kept. What is not of its kind is as at the beginning."""
        found = cls()
        if not isinstance(state, Mapping):
            return found
        shown = state.get("shown")
        for key, value in list(shown.items())[:MOST_BARS] if isinstance(shown, Mapping) else ():
            if isinstance(value, int | float) and math.isfinite(value):
                found.shown[str(key)[:10]] = min(999.0, float(value))
        lines, overall, held, holder = (state.get(name) for name in ("lines", "overall", "held", "holder"))
        found.lines = min(max(lines, 0), MOST_LINES) if isinstance(lines, int) else 0
        found.overall = min(100.0, float(overall)) if isinstance(overall, int | float) else -1.0
        found.held = held if isinstance(held, str) and _is_light(held) else ""
        found.holder = min(max(holder, 0), 2**32) if isinstance(holder, int) else 0
        found.follows_words = state.get("followsWords") is True
        return found

    def kept(self) -> dict[str, Any]:
        """What is kept between readings."""
        return {
            "shown": dict(self.shown),
            "lines": self.lines,
            "overall": self.overall,
            "held": self.held,
            "holder": self.holder,
            "followsWords": self.follows_words,
        }

    def look(self, look: Look, overall: float) -> list[str]:
        """The lines that a look makes: itself, what was held, or none."""
        self.follows_words = False
        key = zlib.crc32(look.name.encode())
        is_held = bool(self.held) and self.holder == key
        if is_held and look.is_complete:
            if look.is_closed or not _is_light(look.text):
                self.held = ""
                return [look.text]
            self.held = look.text
            return []
        lines = self.release() if is_held or not look.is_other else []
        if not self._shows(key, look, overall):
            return lines
        if look.is_complete and not look.is_closed and not self.held and _is_light(look.text):
            self.held, self.holder = look.text, key
            return lines
        return [*lines, look.text]

    def words(self, text: str, overall: float) -> list[str]:
        """A refresh in words takes the place of the one before, if it is about the same. Gives the lines that it
        makes."""
        key = zlib.crc32(_shape(text).encode())
        lines: list[str] = []
        if self.held and self.holder == key:
            self.held = ""
        elif self.held and self._has_room(overall):
            lines = self.release()
        if _is_light(text):
            self.held, self.holder = text, key
        elif self._has_room(overall):
            lines.append(text)
        return lines

    def line(self, text: str) -> list[str]:
        """A whole line of words comes: what was held becomes one before it, if it was about something else."""
        self.follows_words = True
        if self.held and self.holder == zlib.crc32(_shape(text).encode()):
            self.held = ""
        return self.release()

    def release(self) -> list[str]:
        """What was held, now that a line end or something else follows."""
        held, self.held = self.held, ""
        return [held] if held else []

    def _shows(self, key: int, look: Look, overall: float) -> bool:
        name = str(key)
        last = self.shown.get(name)
        is_near = last is not None and last <= look.percent < last + SHOWN_EVERY_PERCENT
        if is_near and (not look.is_complete or look.percent == last):
            return False
        if not self._has_room(overall):
            return False
        self.shown.pop(name, None)
        if len(self.shown) >= MOST_BARS:
            del self.shown[next(iter(self.shown))]
        self.shown[name] = look.percent
        return True

    def _has_room(self, overall: float) -> bool:
        """Whether one more line is allowed; then it is counted."""
        if self.lines >= MOST_LINES and overall < self.overall + 1:
            return False
        self.lines = min(self.lines + 1, MOST_LINES)
        self.overall = overall
        return True


def _is_light(text: str) -> bool:
    return len(text) <= HELD_BYTES and weight(text) <= HELD_BYTES


def _shape(text: str) -> str:
    """A refresh without what changes from one to the next."""
    return "".join(sign for sign in text[: 4 * SHAPE_CHARACTERS] if sign.isalpha())[:SHAPE_CHARACTERS]
