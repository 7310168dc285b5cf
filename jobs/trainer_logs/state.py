"""How small things are kept as JSON between two readings of a log."""

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Self

MOST = 2**31 - 1
"""No count is larger: what GraphQL's `Int` can hold."""
WORD_CHARACTERS = 48


def weight(text: str) -> int:
    """How many bytes the text takes as JSON, in UTF-8."""
    return len(json.dumps(text, ensure_ascii=False).encode())


class Kept:
    """A dataclass of numbers, flags and short words with defaults, that is kept between readings."""

    __slots__ = ()

    @classmethod
    def of(cls, state: object) -> Self:
        """As it was kept. What is not of its kind is as at the beginning: an older version may have kept it."""
        found = cls()
        if isinstance(state, Mapping):
            for field in fields(cls):  # type: ignore[arg-type]  # every subclass is a dataclass
                default = getattr(found, field.name)
                setattr(found, field.name, _like(default, state.get(field.name)))
        return found

    def kept(self) -> dict[str, Any]:
        """Only what differs from the beginning, so that it stays small."""
        fresh = type(self)()
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]  # every subclass is a dataclass
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(fresh, name)}


def _like(default: object, value: object) -> object:
    if isinstance(default, bool):
        return value if isinstance(value, bool) else default
    if isinstance(default, str):
        return value[:WORD_CHARACTERS] if isinstance(value, str) else default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    if isinstance(default, float):
        return min(100.0, max(-1.0, float(value)))
    return int(max(-1, min(value, 2**32)))
