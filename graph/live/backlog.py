"""What waits for one subscriber: bounded, and honest about what it had to merge.

Once it is full, runs of progress, metrics, costs and log batches are merged: per type the newest stays and says by
`firstSeq` from which number on it stands. A log batch that stands for several keeps its first and last line and loses
its text. Changes of status, stage and deployment are never merged. Who still cannot follow is told to resume.
"""

from collections import deque
from dataclasses import replace
from itertools import groupby

import anyio

from domain.events import Event

MOST_EVENTS = 256
MOST_BYTES = 1024 * 1024
MERGEABLE = frozenset({"run.progressed", "run.measured", "run.logged", "run.cost_changed"})


class TooSlow(Exception):
    """The subscriber reads too slowly, even for merged events: it has to resume from its cursor."""


class Backlog:
    """Events for one subscriber, in order."""

    def __init__(self, *, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self.most_events = most_events
        self.most_bytes = most_bytes
        self.waiting: deque[tuple[Event, int]] = deque()
        self.bytes = 0
        self.overflowed = False
        self.filled = anyio.Event()

    def push(self, event: Event, weight: int) -> None:
        """Add an event that takes `weight` bytes as JSON; merges, and then gives up, where there is no room."""
        if self.overflowed:
            return
        self.waiting.append((event, weight))
        self.bytes += weight
        if self._is_full():
            self._merge()
        if self._is_full():
            self.overflowed = True
            self.waiting.clear()
            self.bytes = 0
        self.filled.set()

    async def next(self) -> Event:
        """The next event, once there is one. Raises `TooSlow`."""
        while not self.waiting:
            if self.overflowed:
                raise TooSlow
            self.filled = anyio.Event()
            await self.filled.wait()
        event, weight = self.waiting.popleft()
        self.bytes -= weight
        return event

    def _is_full(self) -> bool:
        return len(self.waiting) > self.most_events or self.bytes > self.most_bytes

    def _merge(self) -> None:
        merged: list[tuple[Event, int]] = []
        for mergeable, group in groupby(self.waiting, key=lambda entry: entry[0].type in MERGEABLE):
            entries = list(group)
            merged.extend(merge(entries) if mergeable and len(entries) > 1 else entries)
        self.waiting = deque(merged)
        self.bytes = sum(weight for _, weight in merged)


def merge(entries: list[tuple[Event, int]]) -> list[tuple[Event, int]]:
    """One event per type, each standing for the numbers since the one before it, together for all of them."""
    newest: dict[str, tuple[Event, int]] = {}
    logged_from: int | None = None
    for event, weight in entries:
        newest.pop(event.type, None)
        newest[event.type] = (event, weight)
        if event.type == "run.logged" and logged_from is None:
            logged_from = event.data["fromLine"]
    result: list[tuple[Event, int]] = []
    first = entries[0][0].first_seq
    for event, weight in newest.values():
        if event.type == "run.logged" and event.data["fromLine"] != logged_from:
            event = replace(event, data={"fromLine": logged_from, "toLine": event.data["toLine"], "lines": []})
            weight = 1024
        result.append((event.merged_from(first), weight))
        first = event.seq + 1
    return result
