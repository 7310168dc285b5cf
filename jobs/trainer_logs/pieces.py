"""Cuts a growing text into pieces at `\\r` and `\\n`, wherever the text itself was cut, with little memory.

A piece that is longer than what may be remembered between two readings comes in parts. Parts end between two words,
never inside one, so that a secret is whole in one of them or is cut off.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from jobs.trainer_logs.state import weight
from jobs.trainer_logs.text import LINE_CHARACTERS, storable

CARRIED_BYTES = 2_600
"""The longest piece in one part, as bytes of JSON in UTF-8."""
WINDOW_CHARACTERS = 32_768
_LIGHT_CHARACTERS = CARRIED_BYTES // 6 - 1
"""A text so short weighs no more than may be carried, whatever it holds: one character is at most 6 bytes of JSON."""


class Ending(StrEnum):
    """What stood behind a piece."""

    REFRESH = "\r"
    """The next piece takes its place."""
    LINE = "\n"
    PART = ""
    """More of the same piece."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What stood between two ends."""

    text: str
    ending: Ending
    is_whole: bool
    """False for a part of a piece that was too long."""


@dataclass(slots=True)
class Splitter:
    """Holds what is not a whole piece yet."""

    carry: str = ""
    given: int = 0
    """Characters of the running piece that were given already, as parts."""

    @classmethod
    def of(cls, state: object) -> Self:
        """As it was kept. What is not of its kind is as at the beginning."""
        carry, given = (state.get("carry"), state.get("given")) if isinstance(state, Mapping) else (None, None)
        return cls(
            storable(carry) if isinstance(carry, str) else "",
            min(max(given, 0), LINE_CHARACTERS) if isinstance(given, int) else 0,
        )

    def kept(self) -> dict[str, Any]:
        """What is kept between readings."""
        return {"carry": self.carry, "given": min(self.given, LINE_CHARACTERS)}

    @property
    def running(self) -> str:
        """The piece that has no end yet, if it is whole so far."""
        return "" if self.given else self.carry.removesuffix("\r")

    def feed(self, text: str) -> Iterator[Piece]:
        """The pieces that are whole now; to be used up before the next text is fed."""
        for start in range(0, len(text), WINDOW_CHARACTERS):
            yield from self._pieces(self.carry + text[start : start + WINDOW_CHARACTERS])

    def finish(self) -> Iterator[Piece]:
        """The rest, as if a line end came."""
        if self.carry or self.given:
            rest, ending = self.carry, Ending.LINE
            if rest.endswith("\r"):
                rest, ending = rest[:-1], Ending.REFRESH
            self.carry = ""
            yield from self._ended(rest, ending)

    def _pieces(self, text: str) -> Iterator[Piece]:
        position = 0
        next_line, next_return = text.find("\n"), text.find("\r")
        while True:
            if 0 <= next_line < position:
                next_line = text.find("\n", position)
            if 0 <= next_return < position:
                next_return = text.find("\r", position)
            if next_line < 0 and next_return < 0:
                break
            end, ending = next_line, Ending.LINE
            after = end + 1
            if next_line < 0 or 0 <= next_return < next_line:
                end, ending, after = next_return, Ending.REFRESH, next_return + 1
                if after == len(text):
                    break  # whether a "\n" follows is not known yet
                if next_line == after:
                    ending, after = Ending.LINE, after + 1
            yield from self._ended(text[position:end], ending)
            position = after
        yield from self._kept(text[position:])

    def _ended(self, text: str, ending: Ending) -> Iterator[Piece]:
        yield from self._parts(text)
        rest, self.carry = self.carry, ""
        is_whole, self.given = self.given == 0, 0
        if is_whole or rest or ending is Ending.LINE:
            yield Piece(rest, ending, is_whole)

    def _kept(self, text: str) -> Iterator[Piece]:
        is_return = text.endswith("\r")
        yield from self._parts(text[:-1] if is_return else text)
        if is_return:
            self.carry += "\r"

    def _parts(self, text: str) -> Iterator[Piece]:
        """Give all parts that are full; carry the rest. Where a part ends depends on nothing but the piece's text."""
        while self.given < LINE_CHARACTERS and (size := _fitting(text)) < len(text):
            cut = _between_words(text, size)
            if cut == 0:  # one enormous word: its beginning is enough
                yield Piece(text[:size] + "…", Ending.PART, False)
                self.given = LINE_CHARACTERS
                break
            yield Piece(text[:cut], Ending.PART, False)
            self.given += cut
            text = text[cut:]
        self.carry = "" if self.given >= LINE_CHARACTERS else text


def _fitting(text: str) -> int:
    """How many of its characters may be carried: as many as fit."""
    if len(text) <= _LIGHT_CHARACTERS:
        return len(text)
    low, high = _LIGHT_CHARACTERS, min(len(text), CARRIED_BYTES)
    if weight(text[:high]) <= CARRIED_BYTES:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if weight(text[:middle]) <= CARRIED_BYTES:
            low = middle
        else:
            high = middle
    return low


def _between_words(text: str, size: int) -> int:
    """Where to end a part of at most this size; 0 where there is no good place. `Bearer` stays with its token."""
    cut = text.rfind(" ", size // 2, size)
    if cut < 0:
        return 0
    before = text[:cut].rstrip()
    return len(before) - 6 if before[-6:].lower() == "bearer" else cut
