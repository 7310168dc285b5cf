"""Quotas per account: so many requests per minute, hour and day, and the headers that tell what is left."""

import math
from dataclasses import dataclass, field
from datetime import datetime

WINDOWS = (("minute", 60), ("hour", 3_600), ("day", 86_400))


@dataclass(slots=True)
class Quota:
    """What one account has used of its windows."""

    most: tuple[int, int, int]
    used: list[int] = field(default_factory=lambda: [0, 0, 0])
    until: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """When each window ends, in seconds of the clock."""

    def take(self, now: datetime) -> tuple[str, int] | None:
        """Count one request; or the window that is used up, and the seconds until it ends."""
        moment = now.timestamp()
        for place, (_, length) in enumerate(WINDOWS):
            if moment >= self.until[place]:
                self.used[place] = 0
                self.until[place] = moment + length
        for place, (name, _) in enumerate(WINDOWS):
            if self.used[place] >= self.most[place]:
                return name, self._left_seconds(place, moment)
        self.used = [used + 1 for used in self.used]
        return None

    def headers(self, now: datetime) -> dict[str, str]:
        """`RateLimit` (r requests left, t seconds to the window's end) and `RateLimit-Policy` (q quota, w seconds)."""
        moment = now.timestamp()
        left = [
            f'"{name}";r={max(0, self.most[place] - self.used[place])};t={self._left_seconds(place, moment)}'
            for place, (name, _) in enumerate(WINDOWS)
        ]
        policy = [f'"{name}";q={self.most[place]};w={length}' for place, (name, length) in enumerate(WINDOWS)]
        return {"RateLimit": ", ".join(left), "RateLimit-Policy": ", ".join(policy)}

    def _left_seconds(self, place: int, moment: float) -> int:
        return max(0, math.ceil(self.until[place] - moment))
