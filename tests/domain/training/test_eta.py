"""How often the range holds the true end, and that it is a range whatever comes."""

import json
import math
from collections import defaultdict
from collections.abc import Iterator
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.training.eta import EtaRange, estimate, observe
from tests.domain.training.replays import KINDS, Replay, replays
from tests.jobs.trainer_logs.golden import AT, goldens, pieces_of

POINTS = (10, 25, 50, 75, 90)
SEEDS = (20260115, 1, 3)
WILD = st.floats() | st.integers()


@st.composite
def states(draw: st.DrawFn) -> dict[str, object]:
    """Kept by us, or by nobody who knows how."""
    state: dict[str, object] = {}
    for at, percent in draw(st.lists(st.tuples(WILD, WILD), max_size=30)):
        state = observe(state, elapsed_seconds=at, percent=percent)
    if draw(st.booleans()):
        state["samples"] = draw(st.none() | st.lists(st.tuples(WILD, WILD).map(list) | st.none(), max_size=30))
        state["gap"] = draw(st.none() | st.text() | WILD)
    return state


@given(states(), WILD, st.none() | WILD, st.lists(WILD, max_size=5), st.none() | WILD)
def test_is_a_range_whatever_comes(
    state: dict[str, object], elapsed: float, percent: float | None, history: list[float], hint: float | None
) -> None:
    found = estimate(state, elapsed_seconds=elapsed, percent=percent, history_seconds=history, hint_seconds=hint)
    if found is not None:
        assert 0 <= found.low_seconds <= found.seconds <= found.high_seconds
        assert math.isfinite(found.high_seconds)
        assert 0 <= found.confidence <= 1


@given(st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 100)), max_size=200))
def test_what_is_kept_stays_small_and_goes_through_json(looks: list[tuple[float, float]]) -> None:
    state: dict[str, object] = {"history": [1.0]}
    for at, percent in looks:
        state = json.loads(json.dumps(observe(state, elapsed_seconds=at, percent=percent), allow_nan=False))
    assert len(json.dumps(state)) < 1_000
    assert state["history"] == [1.0]
    samples = state.get("samples", [])
    assert isinstance(samples, list)
    assert samples == sorted(samples)


def _golden_replays() -> Iterator[Replay]:
    """The golden logs' own timelines: each piece of a log that somebody watched came ten seconds after the last."""
    for golden in goldens():
        reader = golden.reader()
        looks: list[tuple[float, float]] = []
        for number, piece in enumerate(pieces_of(golden.text)):
            percent = reader.feed(piece, AT).percent
            if percent is not None and (not looks or percent > looks[-1][1]):
                looks.append((10.0 * number, percent))
        if len(looks) >= 20 and looks[-1][1] > 99:
            yield Replay(golden.name, looks[-1][0], tuple(looks[:-1]), (), tuple([None] * len(looks)))


def _estimates(replay: Replay) -> Iterator[tuple[int, float, EtaRange]]:
    """At each point of progress: what remained in truth, and what was told."""
    state: dict[str, object] = {}
    points = list(POINTS)
    for (at, percent), hint in zip(replay.looks, replay.hints, strict=False):
        state = observe(state, elapsed_seconds=at, percent=percent)
        passed = [point for point in points if percent >= point]
        if not passed:
            continue
        points = [point for point in points if point > percent]
        found = estimate(state, elapsed_seconds=at, percent=percent, history_seconds=replay.history, hint_seconds=hint)
        assert found is not None
        yield passed[-1], replay.seconds - at, found


def test_nothing_is_said_when_nothing_is_known() -> None:
    assert estimate({}, elapsed_seconds=100, percent=None) is None
    assert estimate({}, elapsed_seconds=100, percent=0.0) is None


def test_at_the_end_nothing_remains() -> None:
    assert estimate({}, elapsed_seconds=100, percent=100.0) == EtaRange(0.0, 0.0, 0.0, 1.0)


def test_a_steady_pace_goes_on() -> None:
    state: dict[str, object] = {}
    for step in range(51):
        state = observe(state, elapsed_seconds=30 + 4.0 * step, percent=float(step))
    found = estimate(state, elapsed_seconds=230, percent=50.0)
    assert found is not None
    assert found.seconds == pytest.approx(200, rel=0.01)
    assert 150 < found.low_seconds < 195
    assert 205 < found.high_seconds < 250
    assert found.confidence > 0.8


def test_a_warm_up_is_not_held_against_the_rest() -> None:
    state: dict[str, object] = {}
    for at, percent in [(60, 0), (90, 1), (94, 2), (98, 3), *((98 + 4 * n, 3 + n) for n in range(1, 38))]:
        state = observe(state, elapsed_seconds=at, percent=percent)
    found = estimate(state, elapsed_seconds=246, percent=40)
    assert found is not None
    assert found.low_seconds < 240 < found.high_seconds
    assert found.seconds == pytest.approx(240, rel=0.1)


def test_silence_first_shortens_the_rest_and_then_makes_it_doubtful() -> None:
    state: dict[str, object] = {}
    for step in range(51):
        state = observe(state, elapsed_seconds=4.0 * step, percent=float(step))
    at_once, soon, late = (estimate(state, elapsed_seconds=200 + wait, percent=50.0) for wait in (0, 6, 300))
    assert at_once is not None and soon is not None and late is not None
    assert soon.seconds == pytest.approx(at_once.seconds - 6)
    assert late.seconds == pytest.approx(at_once.seconds - 8)
    assert late.confidence < 0.6 < soon.confidence


def test_before_the_first_step_history_and_hint_are_all_there_is() -> None:
    by_history = estimate({}, elapsed_seconds=60, percent=None, history_seconds=[590, 600, 660])
    by_hint = estimate({}, elapsed_seconds=60, percent=None, hint_seconds=500)
    by_both = estimate({}, elapsed_seconds=60, percent=None, history_seconds=[590, 600, 660], hint_seconds=500)
    assert by_history is not None and by_hint is not None and by_both is not None
    assert by_history.seconds == pytest.approx(540)
    assert by_hint.seconds == pytest.approx(500)
    assert 500 < by_both.seconds < 540
    assert by_both.confidence > max(by_history.confidence, by_hint.confidence)


def test_witnesses_that_contradict_each_other_are_doubted() -> None:
    alike = estimate({}, elapsed_seconds=0, percent=None, history_seconds=[600] * 5, hint_seconds=600)
    apart = estimate({}, elapsed_seconds=0, percent=None, history_seconds=[600] * 5, hint_seconds=6_000)
    assert alike is not None and apart is not None
    assert apart.confidence < alike.confidence / 1.5


@pytest.mark.parametrize("seed", SEEDS)
def test_the_range_holds_the_true_end_in_70_to_90_percent_of_cases(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    held: dict[object, list[bool]] = defaultdict(list)
    widths: dict[int, list[float]] = defaultdict(list)
    everything = [*replays(200, seed), *_golden_replays()]
    for replay in everything:
        for point, truth, found in _estimates(replay):
            is_held = found.low_seconds <= truth <= found.high_seconds
            for key in (point, replay.kind, "all"):
                held[key].append(is_held)
            widths[point].append((found.high_seconds - found.low_seconds) / (2 * max(found.seconds, 1.0)))
    coverage = {key: sum(cases) / len(cases) for key, cases in held.items()}
    with capsys.disabled():
        print(
            f"\n80 % range of {len(everything)} trainings holds the true end in {coverage['all']:.1%} of cases; ",
            end="",
        )
        print(", ".join(f"at {point} %: {coverage[point]:.1%} (± {median(widths[point]):.0%})" for point in POINTS))
        print(", ".join(f"{kind} {coverage[kind]:.0%}" for kind in KINDS))
    assert len(everything) >= 205
    assert 0.7 <= coverage["all"] <= 0.9
    for point in POINTS:
        assert 0.7 <= coverage[point] <= 0.9, point
        assert len(held[point]) > 150
    # A range that holds because it is wide is of no use.
    assert median(widths[50]) < 0.25
    assert median(widths[90]) < median(widths[10])
