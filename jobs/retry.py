"""What is tried again, when and how often: data, so that it can be read in one place."""

from dataclasses import dataclass

CAPACITY_TRIES = 5
"""How often a provider is asked for a free machine of one kind before the next choice gets its turn. Users of RunPod
report that five tries, eight to twelve seconds apart, usually find one."""
CAPACITY_SECONDS = (8.0, 12.0)
"""Between two such tries, drawn at random so that many runs do not ask at once."""
TEST_CAPACITY_SECONDS = (0.5, 1.5)
"""The same in test mode: no machine of a simulator is returned meanwhile."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """`first · 2ⁿ` seconds after the n-th failure in a row, at most `longest`."""

    first_seconds: float
    longest_seconds: float

    def seconds_after(self, failures: int) -> float:
        return float(min(self.longest_seconds, self.first_seconds * 2 ** min(failures, 30)))


STOPPING = Backoff(first_seconds=1.0, longest_seconds=30.0)
"""Asking for an end that the provider has not confirmed."""
