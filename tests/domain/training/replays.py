"""Trainings to replay: how real ones go on, told by the wall clock, which the estimator knows nothing of.

A training does its steps at a speed that the machine gives it from moment to moment: throttled when hot, slowed by
neighbours, stopped for checkpoints and evaluations, slow while it compiles, with data of different length. Somebody
polls, now and then, and sees what the trainer prints.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

KINDS = (
    "steady",
    "compiles",
    "throttles",
    "neighbors",
    "checkpoints",
    "curriculum",
    "loader",
    "moves",
    "stalls",
    "tail",
)


@dataclass(frozen=True, slots=True)
class Replay:
    """One training as it was seen from outside."""

    kind: str
    seconds: float
    """How long it really took."""
    looks: tuple[tuple[float, float], ...]
    """Seconds since it began, percent that was to be seen then."""
    history: tuple[float, ...]
    """How long earlier ones took."""
    hints: tuple[float | None, ...]
    """What the trainer or provider said remains, at each look."""


def replays(count: int, seed: int) -> Iterator[Replay]:
    """So many trainings, the same for the same seed."""
    for number in range(count):
        random = Random(seed * 1_000_003 + number)
        yield _replay(KINDS[number % len(KINDS)], random)


def _replay(kind: str, random: Random) -> Replay:
    finished = _finished(kind, random)
    total = finished[-1]
    looks = _looks(finished, random)
    history = [total * math.exp(random.gauss(0, 0.25)) for _ in range(random.choice([0, 0, 1, 4, 12]))]
    says = random.choice(["nothing", "nothing", "bar", "provider"])
    guess = total * math.exp(random.gauss(0, 0.3))
    hints: list[float | None] = []
    for at, percent in looks:
        if says == "bar" and percent > 0:
            hints.append(round(at / percent * (100 - percent)))
        elif says == "provider":
            hints.append(max(0.0, guess - at))
        else:
            hints.append(None)
    return Replay(kind, total, tuple(looks), tuple(history), tuple(hints))


def _finished(kind: str, random: Random) -> list[float]:
    """When each step was over."""
    steps = random.choice([60, 200, 500, 1_500])
    step_seconds = math.exp(random.uniform(math.log(60), math.log(4_000))) / steps
    jitter = random.choice([0.02, 0.1, 0.3])
    now = random.uniform(0, 20)
    finished = []
    slow_until = 0.0
    whole = steps * step_seconds
    heat = random.uniform(1.1, 1.6)
    hot_after = random.uniform(0.1, 0.4) * whole
    swing, turns = random.uniform(0.1, 0.4), random.uniform(0.5, 3)
    every = max(2, round(steps / random.choice([3, 5, 10, 20])))
    pause = random.uniform(0.2, 2.0) * step_seconds * every * 0.3
    move_at, move_to = random.uniform(0.1, 0.9), math.exp(random.gauss(0, 0.3))
    for step in range(steps):
        cost = step_seconds * max(0.05, random.gauss(1, jitter))
        part = step / steps
        if kind == "compiles" and step < 3:
            cost += 0.04 * whole
        elif kind == "throttles":
            cost *= 1 + (heat - 1) * (1 - math.exp(-now / hot_after))
        elif kind == "neighbors":
            if slow_until < now and random.random() < 4 / steps:
                slow_until = now + random.expovariate(1 / (0.1 * whole))
            cost *= 1.6 if now < slow_until else 1
        elif kind == "checkpoints" and step % every == every - 1:
            cost += pause
        elif kind == "curriculum":
            cost *= 1 + swing * math.sin(2 * math.pi * turns * part)
        elif kind == "loader" and random.random() < 0.05:
            cost += step_seconds * random.lognormvariate(1, 1)
        elif kind == "moves" and part > move_at:
            cost *= move_to
        elif kind == "stalls" and random.random() < 1.5 / steps:
            cost += whole * random.uniform(0.02, 0.12)
        elif kind == "tail" and part > 0.8:
            cost *= 1.25
        now += cost
        finished.append(now)
    return finished


def _looks(finished: list[float], random: Random) -> list[tuple[float, float]]:
    """What a poll sees that comes every few seconds, later less often."""
    decimals = random.choice([0, 1, 3])
    wait, slowest = random.choice([1.0, 5.0, 10.0]), random.choice([5.0, 20.0, 60.0])
    total, steps = finished[-1], len(finished)
    slowest = min(slowest, total / 25)
    now, done = random.uniform(0, wait), 0
    looks = []
    while now < total:
        while done < steps and finished[done] <= now:
            done += 1
        looks.append((now, min(99.9, round(100 * done / steps, decimals))))
        now += min(wait, max(slowest, 0.5)) * random.uniform(0.7, 1.5)
        wait *= 1.05
    return looks
