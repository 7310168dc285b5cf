"""What waits for one subscriber: bounded, merged with its numbers told, and never losing a status."""

from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.events import Event, Stream, StreamKind
from graph.live.backlog import Backlog, TooSlow

pytestmark = pytest.mark.anyio

STREAM = Stream(StreamKind.RUN, UUID(int=1))
NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)


def event(seq: int, type: str = "run.progressed", **data: Any) -> Event:
    if type == "run.logged":
        data = {"fromLine": seq * 10, "toLine": seq * 10 + 9, "lines": [{"text": "x"}]}
    return Event(type=type, stream=STREAM, seq=seq, at=NOON, data=data)


async def drained(backlog: Backlog) -> list[Event]:
    return [await backlog.next() for _ in range(len(backlog.waiting))]


async def test_with_room_nothing_is_merged() -> None:
    backlog = Backlog()
    for seq in range(1, 101):
        backlog.push(event(seq), 100)
    assert [(e.first_seq, e.seq) for e in await drained(backlog)] == [(n, n) for n in range(1, 101)]


async def test_full_progress_is_merged_and_tells_from_where() -> None:
    backlog = Backlog(most_events=3)
    for seq in range(1, 6):
        backlog.push(event(seq), 100)
    assert [(e.first_seq, e.seq) for e in await drained(backlog)] == [(1, 4), (5, 5)]


async def test_log_batches_are_cut_to_their_lines() -> None:
    backlog = Backlog(most_events=2)
    for seq in range(1, 4):
        backlog.push(event(seq, "run.logged"), 100)
    (merged,) = await drained(backlog)
    assert (merged.first_seq, merged.seq) == (1, 3)
    assert merged.data == {"fromLine": 10, "toLine": 39, "lines": []}


async def test_who_cannot_follow_even_statuses_is_told() -> None:
    backlog = Backlog(most_events=3)
    for seq in range(1, 6):
        backlog.push(event(seq, "run.status_changed"), 100)
    with pytest.raises(TooSlow):
        await backlog.next()


TYPES = st.sampled_from(["run.progressed", "run.measured", "run.logged", "run.status_changed", "run.stage_changed"])


@given(st.lists(TYPES, min_size=1, max_size=120), st.integers(3, 20))
@settings(max_examples=200, deadline=None)
def test_numbers_have_no_hole_and_no_status_is_lost(types: list[str], room: int) -> None:
    backlog = Backlog(most_events=room)
    for seq, type in enumerate(types, start=1):
        backlog.push(event(seq, type), 100)
    if backlog.overflowed:
        assert sum(type in ("run.status_changed", "run.stage_changed") for type in types) > room / 6
        return
    told = [entry for entry, _ in backlog.waiting]
    assert len(told) <= room
    assert told[0].first_seq == 1 and told[-1].seq == len(types)
    assert all(after.first_seq == before.seq + 1 for before, after in pairwise(told))
    kept = [(e.type, e.seq) for e in told if e.type in ("run.status_changed", "run.stage_changed")]
    assert kept == [(t, n) for n, t in enumerate(types, 1) if t in ("run.status_changed", "run.stage_changed")]


@given(st.lists(st.tuples(TYPES, st.booleans()), min_size=1, max_size=80))
@settings(max_examples=100, deadline=None)
def test_a_reader_who_comes_and_goes_still_gets_every_number(steps: list[tuple[str, bool]]) -> None:
    backlog = Backlog(most_events=6)
    last = 0
    for seq, (type, reads) in enumerate(steps, start=1):
        backlog.push(event(seq, type), 10)
        if backlog.overflowed:
            return
        if reads:
            entry, weight = backlog.waiting.popleft()
            backlog.bytes -= weight
            assert entry.first_seq == last + 1
            last = entry.seq
    for entry, _ in backlog.waiting:
        assert entry.first_seq == last + 1
        last = entry.seq
    assert last == len(steps)
