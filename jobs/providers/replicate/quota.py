"""Replicate's rate limit, which all calls of an account share."""

import math
import re
import time
from collections.abc import Callable, Mapping

from jobs.providers.base import ProviderBusy

LONGEST_SECONDS = 600.0
SHORTEST_SECONDS = 1.0
_RESETS_IN = re.compile(r"resets in ~?(\d{1,5})s")


class Quota:
    """What the headers of the answers so far say about the next call."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._closed_until = -math.inf

    @property
    def wait_seconds(self) -> float:
        """How long nothing is to be asked; 0 if it may."""
        return max(0.0, self._closed_until - self._now())

    def check(self) -> None:
        """Raise `ProviderBusy` instead of a call that would be refused."""
        wait = self.wait_seconds
        if wait > 0:
            raise ProviderBusy("Replicate's rate limit for this account is used up for now.", wait)

    def heard(self, status: int, headers: Mapping[str, str], detail: str | None = None) -> None:
        """Learn from an answer: `ratelimit-remaining` and `ratelimit-reset`, `Retry-After`, or the words of a 429."""
        remaining = _number(headers.get("ratelimit-remaining"))
        if status != 429 and (remaining is None or remaining >= 1):
            return
        told = [_number(headers.get("retry-after")), _number(headers.get("ratelimit-reset"))]
        words = _RESETS_IN.search(detail or "")
        told.append(float(words[1]) if words else None)
        waits = [wait for wait in told if wait is not None]
        wait = min(LONGEST_SECONDS, max([SHORTEST_SECONDS, *waits]))
        self._closed_until = max(self._closed_until, self._now() + wait)


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None
