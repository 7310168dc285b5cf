"""RunPod's quotas per key, as its answers tell them, so that they are obeyed before they are used up.

RateLimit: "minute";r=12;t=40, "hour";r=2800;t=1812         r requests are left until t seconds from now
RateLimit-Policy: "minute";q=60;w=60, "hour";q=3000;w=3600   q are allowed in w seconds
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

LONGEST_WAIT_SECONDS = 3_600.0
SPARE_SHARE = 0.1
SPARE_MOST = 6
"""So many requests of a window are kept for what cannot wait: ending pods."""
_MEMBER = re.compile(r'"(?P<name>[a-z]+)"(?P<facts>(?:\s*;\s*[a-z]+=\d+)+)')
_FACT = re.compile(r"([a-z]+)=(\d+)")


@dataclass(slots=True)
class Window:
    left: int
    until: float
    """When it begins anew, on the monotonic clock."""
    quota: int | None = None

    @property
    def spare(self) -> int:
        return min(SPARE_MOST, int((self.quota or 0) * SPARE_SHARE))


@dataclass(slots=True)
class Limits:
    """What is left of each window."""

    clock: Callable[[], float] = time.monotonic
    windows: dict[str, Window] = field(default_factory=dict)
    blocked_until: float = 0.0

    def wait_seconds(self, *, urgent: bool) -> float:
        """0 if a request may be sent now; what is not urgent leaves some requests to what is."""
        now = self.clock()
        waits = [self.blocked_until - now]
        for window in self.windows.values():
            if window.until > now and window.left <= (0 if urgent else window.spare):
                waits.append(window.until - now)
        return max(0.0, *waits)

    def sent(self) -> None:
        """Count a request whose answer will tell more, or nothing."""
        for window in self.windows.values():
            window.left -= 1

    def heard(self, headers: Mapping[str, str]) -> None:
        """Take what an answer tells."""
        now = self.clock()
        policy = _members(headers.get("ratelimit-policy", ""))
        for name, facts in _members(headers.get("ratelimit", "")).items():
            if "r" in facts and "t" in facts:
                until = now + min(facts["t"], LONGEST_WAIT_SECONDS * 24)
                self.windows[name] = Window(facts["r"], until, policy.get(name, {}).get("q"))

    def refused(self, headers: Mapping[str, str]) -> float:
        """Take a 429; gives the seconds to wait."""
        try:
            wait = float(headers.get("retry-after", ""))
        except ValueError:
            wait = 5.0
        wait = min(LONGEST_WAIT_SECONDS, max(1.0, wait)) if wait == wait else 5.0  # a NaN is not equal to itself
        self.blocked_until = max(self.blocked_until, self.clock() + wait)
        return wait


def _members(header: str) -> dict[str, dict[str, int]]:
    return {
        found["name"]: {name: int(value[:9]) for name, value in _FACT.findall(found["facts"])}
        for found in _MEMBER.finditer(header[:1_000])
    }
