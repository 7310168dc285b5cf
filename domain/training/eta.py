"""When a training will be over: a middle, a range that holds the truth four times in five, and how sure that is.

Three witnesses are asked: the pace observed so far, the user's own earlier runs, and what the provider or the trainer
itself says. Each gives remaining seconds and its own doubt (the standard deviation of their logarithm, since a training
errs by a factor and not by minutes); they are weighed by the inverse square of their doubts, and where they contradict
each other, each is doubted more.

The constants below were set on simulated trainings of other kinds than those of `tests/domain/training/test_eta.py`,
which measures how often the range holds.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_SAMPLES = 24
MOST_HISTORY = 50
LONGEST_SECONDS = 366 * 86_400.0
"""No estimate is longer."""
RANGE_DEVIATIONS = 1.2816
"""On each side of the middle of a normal distribution so many standard deviations hold 80 %."""

LEAST_DOUBT = 0.02
MOST_DOUBT = 1.5
LOOK_DOUBT = 0.4
"""Of the time between two looks, so much is not known of when a percentage was reached."""
SURPRISE_DOUBT = 0.4
"""The next parts will surprise as those before did, by so much of it; more of them more, as far as …"""
MOST_PARTS_AHEAD = 8.0
PRIOR_SURPRISE = 0.09
"""What a part surprises by while none was seen, which counts as …"""
PRIOR_WEIGHT = 1.5
"""… so many parts."""
CHANGE_DOUBT = 0.065
"""What has never happened yet: more of it the more is left for each part that was seen, as far as …"""
MOST_CHANGE = 4.0
STALL_DOUBT = 1.0
"""For each part of the whole time in which nothing was to be seen, after more than three usual waits."""
HISTORY_DOUBT = 0.2
"""Another training of the same kind, if its data were the same."""
HISTORY_SPREAD = 0.3
"""How far such trainings are apart, while there are too few to tell."""
HINT_DOUBT = 0.35
PARTS = 10
FADING = 0.7
"""Each part counts so much of what the next one counts."""
MOST_TREND = 0.7
"""No trend changes the pace by more than this (of its logarithm)."""
TREND_REACH = 0.7
"""A trend goes on for so much of the progress that it was seen in."""

_SAMPLES, _GAP = "samples", "gap"


@dataclass(frozen=True, slots=True)
class EtaRange:
    """Remaining seconds: `low_seconds ≤ seconds ≤ high_seconds`, all finite and none negative."""

    seconds: float
    low_seconds: float
    high_seconds: float
    """The truth is between low and high in about 80 % of cases."""
    confidence: float
    """0 to 1: how narrow the range is for its middle. 1 is certain, ½ is a range as wide as twice its middle."""


@dataclass(frozen=True, slots=True)
class _Word:
    """What one witness says."""

    seconds: float
    doubt: float


def observe(state: Mapping[str, Any], *, elapsed_seconds: float, percent: float) -> dict[str, Any]:
    """The state with one more look: after so many seconds of training so much of it was done.

    Small JSON, whatever was observed; keys of others in it stay as they are. A look without progress changes nothing:
    what counts is when a percentage was first seen.
    """
    samples, gap = _samples(state), _gap(state)
    kept = dict(state)
    at, done = _sane(elapsed_seconds), _sane(percent)
    if at is None or done is None or done > 100:
        return kept
    if samples:
        before_at, before = samples[-1]
        if done <= before or at <= before_at:
            return kept
        gap = at - before_at if gap == 0 else 0.7 * gap + 0.3 * (at - before_at)
    samples.append((round(at, 3), round(done, 4)))
    kept[_SAMPLES], kept[_GAP] = [list(sample) for sample in _thinned(samples)], round(gap, 3)
    return kept


def estimate(
    state: Mapping[str, Any],
    *,
    elapsed_seconds: float,
    percent: float | None,
    history_seconds: Sequence[float] = (),
    hint_seconds: float | None = None,
) -> EtaRange | None:
    """How long the training still takes, by all that is known; None if nothing is.

    `history_seconds`: how long the user's earlier trainings of this kind took as a whole. `hint_seconds`: what remains
    in the provider's or trainer's own words.
    """
    elapsed, done = _sane(elapsed_seconds) or 0.0, _sane(percent)
    if done is not None and done >= 100:
        return EtaRange(0.0, 0.0, 0.0, 1.0)
    if done is not None:
        state = observe(state, elapsed_seconds=elapsed, percent=done)
    said = [
        word
        for word in (
            _by_pace(_samples(state), _gap(state), elapsed),
            _by_history(history_seconds, elapsed, done or 0.0),
            _by_hint(hint_seconds),
        )
        if word is not None
    ]
    return _range(_weighed(said)) if said else None


def _by_pace(samples: list[tuple[float, float]], gap: float, elapsed: float) -> _Word | None:
    """The rest at the pace so far, of which the newer counts more, going on as it has been changing."""
    if not samples or samples[-1][1] <= 0:
        return None
    if len(samples) == 1:
        samples = [(0.0, 0.0), *samples]  # nothing is known but the beginning
        gap = samples[-1][0]
    (first_at, first), (last_at, last) = samples[0], samples[-1]
    span, gained, left = last_at - first_at, last - first, 100 - last
    if span <= 0 or gained <= 0:
        return None
    parts = _parts(samples)
    ahead = min((last + 100) / 2, last - gained / 3 + TREND_REACH * gained)
    seconds = left * math.exp(_expected(parts, ahead))
    waited = max(0.0, elapsed - last_at)
    seconds -= min(waited, 2 * gap, 0.5 * seconds)  # so long it may have gone on without being looked at
    parts_ahead = min(MOST_PARTS_AHEAD, left / gained * len(parts))
    doubt = math.sqrt(
        LEAST_DOUBT**2
        + (LOOK_DOUBT * gap / (span + gap)) ** 2
        + (LOOK_DOUBT * gap / (seconds + gap)) ** 2
        + (SURPRISE_DOUBT * _surprise(parts)) ** 2 * (1 + parts_ahead / 3)
        + CHANGE_DOUBT**2 * min(MOST_CHANGE, left / gained)
        + (STALL_DOUBT * max(0.0, waited - 3 * gap) / (span + seconds)) ** 2
    )
    return _Word(seconds, doubt)


def _parts(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The training so far in a few parts of about the same size: where each has its middle, and its pace (the logarithm
    of seconds per percent)."""
    first, last = samples[0][1], samples[-1][1]
    found: list[tuple[float, float]] = []
    begin_at, begin = samples[0]
    for at, done in samples[1:]:
        if done - begin >= 0.9 * (last - first) / PARTS or (done == last and not found):
            found.append(((begin + done) / 2, math.log((at - begin_at) / (done - begin))))
            begin_at, begin = at, done
    return found


def _expected(parts: list[tuple[float, float]], ahead: float) -> float:
    """The pace where the middle of the rest is: newer parts count more, and a trend goes on if there is one."""
    weights = [FADING ** (len(parts) - 1 - number) for number in range(len(parts))]
    total = sum(weights)
    level = sum(weight * pace for weight, (_, pace) in zip(weights, parts, strict=True)) / total
    center = sum(weight * middle for weight, (middle, _) in zip(weights, parts, strict=True)) / total
    return level + max(-MOST_TREND, min(MOST_TREND, _trend(parts) * (ahead - center)))


def _trend(parts: list[tuple[float, float]]) -> float:
    """By how much the pace changes per percent, as far as that is more than chance."""
    if len(parts) < 4:
        return 0.0
    middle = statistics.fmean(at for at, _ in parts)
    mean = statistics.fmean(pace for _, pace in parts)
    square = sum((at - middle) ** 2 for at, _ in parts)
    slope = sum((at - middle) * (pace - mean) for at, pace in parts) / square if square > 0 else 0.0
    rest = sum((pace - mean - slope * (at - middle)) ** 2 for at, pace in parts)
    chance = rest / (len(parts) - 2) / square if square > 0 else 0.0
    return slope * max(0.0, 1 - 2 * chance / slope**2) if slope != 0 else 0.0


def _surprise(parts: list[tuple[float, float]]) -> float:
    """How far the pace of a part was from what the parts before it let expect: a deviation."""
    errors = [parts[number][1] - _expected(parts[:number], parts[number][0]) for number in range(1, len(parts))]
    squares = sum(error**2 for error in errors) + PRIOR_WEIGHT * PRIOR_SURPRISE**2
    return math.sqrt(squares / (len(errors) + PRIOR_WEIGHT))


def _by_history(history: Sequence[float], elapsed: float, done: float) -> _Word | None:
    """The rest of what such trainings took."""
    logs = [math.log(min(value, LONGEST_SECONDS)) for value in history[:MOST_HISTORY] if _sane(value)]
    if not logs:
        return None
    total = math.exp(statistics.median(logs))
    spread = statistics.stdev(logs) if len(logs) > 2 else HISTORY_SPREAD
    doubt = math.sqrt(HISTORY_DOUBT**2 + spread**2 * (1 + 1 / len(logs)))
    seconds = max(total - elapsed, 0.1 * total * (1 - done / 100))
    return _Word(seconds, min(MOST_DOUBT, doubt * max(1.0, total / seconds) if seconds > 0 else MOST_DOUBT))


def _by_hint(hint: float | None) -> _Word | None:
    seconds = _sane(hint)
    return _Word(seconds, HINT_DOUBT) if seconds is not None else None


def _weighed(said: list[_Word]) -> _Word:
    logs = [math.log(max(word.seconds, 0.1)) for word in said]
    weights = [1 / min(MOST_DOUBT, max(word.doubt, LEAST_DOUBT)) ** 2 for word in said]
    total = sum(weights)
    middle = sum(weight * log for weight, log in zip(weights, logs, strict=True)) / total
    apart = sum(weight * (log - middle) ** 2 for weight, log in zip(weights, logs, strict=True))
    doubt = math.sqrt((1 + max(0.0, apart - (len(said) - 1))) / total)
    return _Word(math.exp(middle), min(MOST_DOUBT, doubt))


def _range(word: _Word) -> EtaRange:
    seconds = min(max(word.seconds, 0.0), LONGEST_SECONDS)
    factor = math.exp(RANGE_DEVIATIONS * word.doubt)
    low, high = seconds / factor, min(seconds * factor, LONGEST_SECONDS)
    middle = max(seconds, 1e-9)
    return EtaRange(seconds, min(low, seconds), max(high, seconds), 1 / (1 + (high - low) / (2 * middle)))


def _thinned(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The first and the last, and between them those that lie apart."""
    while len(samples) > MOST_SAMPLES:
        spare = min(range(1, len(samples) - 1), key=lambda at: samples[at + 1][1] - samples[at - 1][1])
        del samples[spare]
    return samples


def _samples(state: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The samples as they were kept; what is none is left out, and none goes backwards."""
    kept = state.get(_SAMPLES)
    found: list[tuple[float, float]] = []
    for sample in kept[-MOST_SAMPLES:] if isinstance(kept, list | tuple) else ():
        if not isinstance(sample, list | tuple) or len(sample) != 2:
            continue
        at, done = _sane(sample[0]), _sane(sample[1])
        if at is None or done is None or done > 100:
            continue
        if not found or (at > found[-1][0] and done > found[-1][1]):
            found.append((at, done))
    return found


def _gap(state: Mapping[str, Any]) -> float:
    """Seconds between two looks that saw progress, lately."""
    return _sane(state.get(_GAP)) or 0.0


def _sane(value: object) -> float | None:
    """A number of seconds or percent that can be true."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= LONGEST_SECONDS:
        return None
    return float(value)
