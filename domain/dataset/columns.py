"""What an upload's columns hold: counted batch by batch, in memory that does not grow with the rows."""

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
"""Texts that say nothing, in lower case; the recipes read the same ones so."""
BOOLEANS = frozenset({"true", "false", "yes", "no"})
MOST_CATEGORIES = 50
EXAMPLES = 3
EXAMPLE_CHARACTERS = 80
DISTINCT_TOTAL = 500_000
"""Distinct values remembered for all columns of a file together."""
DISTINCT_LIMIT = 10_000
"""Distinct values remembered for one column."""


class ColumnKind(StrEnum):
    """What a column's values are, missing ones aside."""

    INTEGER = "INTEGER"
    NUMBER = "NUMBER"
    BOOLEAN = "BOOLEAN"
    CATEGORY = "CATEGORY"
    """Few texts, each used at least twice on average."""
    TEXT = "TEXT"
    JSON = "JSON"
    """Lists or objects."""
    EMPTY = "EMPTY"
    """Nothing but missing values."""


class ColumnTally:
    """Everything counted about one column so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.present = 0
        self.is_structured = False
        self._is_number = True
        self._is_whole = True
        self._is_boolean = True
        self._minimum = math.inf
        self._maximum = -math.inf
        self._total = 0.0
        self._seen: set[int] = set()
        self._seen_all = True
        self._examples: list[str] = []

    def add(self, values: Sequence[str], *, distinct_limit: int = DISTINCT_LIMIT) -> None:
        """Count a batch of texts."""
        texts = list(map(str.strip, values))
        if self._is_number:
            numbers = _numbers_of(texts)
            if numbers is None or not math.isfinite(sum(numbers)):  # something missing, infinite or no number at all
                texts = _present(texts)
                numbers = _numbers_of(texts)
            if numbers is None:
                self._is_number = False
            elif numbers:
                texts = self._add_numbers(texts, numbers)
        else:
            texts = _present(texts)
        if not texts:
            return
        self.present += len(texts)
        self._is_boolean = self._is_boolean and not self._is_number and all(t.lower() in BOOLEANS for t in set(texts))
        if len(self._examples) < EXAMPLES:
            fresh = map(_example_of, dict.fromkeys(texts))
            self._examples = list(dict.fromkeys([*self._examples, *fresh]))[:EXAMPLES]
        if self._seen_all:
            # Hashes instead of texts: texts may be a megabyte each.
            self._seen.update(map(hash, texts))
            if len(self._seen) > distinct_limit:
                self._seen_all = False

    def _add_numbers(self, texts: list[str], numbers: list[float]) -> list[str]:
        """Infinite numbers say nothing, as in the recipes. Gives the texts that remain."""
        if not math.isfinite(sum(numbers)):
            kept = [index for index, number in enumerate(numbers) if math.isfinite(number)]
            texts, numbers = [texts[index] for index in kept], [numbers[index] for index in kept]
            if not numbers:
                return texts
        self._is_whole = self._is_whole and all(map(float.is_integer, numbers))
        self._minimum = min(self._minimum, *numbers)
        self._maximum = max(self._maximum, *numbers)
        self._total += sum(numbers)
        return texts

    @property
    def kind(self) -> ColumnKind:
        if self.is_structured:
            return ColumnKind.JSON
        if not self.present:
            return ColumnKind.EMPTY
        if self._is_number:
            return ColumnKind.INTEGER if self._is_whole else ColumnKind.NUMBER
        if self._is_boolean:
            return ColumnKind.BOOLEAN
        few = self._seen_all and len(self._seen) <= MOST_CATEGORIES and 2 * len(self._seen) <= self.present
        return ColumnKind.CATEGORY if few else ColumnKind.TEXT

    def report(self, rows: int) -> dict[str, Any]:
        """The column's entry in `Dataset.columns`; rows that never named the column count as missing."""
        kind = self.kind
        is_number = kind in (ColumnKind.INTEGER, ColumnKind.NUMBER)
        mean = self._total / self.present if is_number else None
        return {
            "name": self.name,
            "kind": kind.value,
            "missing": rows - self.present,
            "distinct": len(self._seen),
            "is_distinct_exact": self._seen_all,
            "minimum": self._minimum if is_number else None,
            "maximum": self._maximum if is_number else None,
            "mean": mean if mean is not None and math.isfinite(mean) else None,
            "examples": self._examples,
        }


def _numbers_of(texts: list[str]) -> list[float] | None:
    try:
        return list(map(float, texts))
    except ValueError:
        return None


def _present(texts: list[str]) -> list[str]:
    return [text for text in texts if text.lower() not in MISSING]


def _example_of(text: str) -> str:
    """Cut, and without what PostgreSQL's JSON cannot hold."""
    cut = text if len(text) <= EXAMPLE_CHARACTERS else text[: EXAMPLE_CHARACTERS - 1] + "…"
    return cut.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
