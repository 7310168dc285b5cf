"""What a seed means: who starts what, when, and what is to befall it. The same seed is the same plan."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from domain.training.status import Provider

SOLD_OUT = ("NVIDIA GeForce RTX 4090", "NVIDIA L4")
"""GPU types of which the simulated RunPod has none at all, so that runs have to go on to the next one."""
FREE = ("NVIDIA RTX A5000", "NVIDIA A40", "NVIDIA L40S")


class Course(StrEnum):
    """What a plan has to know of a scenario: how long it goes, if nobody interferes."""

    SHORT = "short"
    """It ends by itself within seconds."""
    LONG = "long"
    """It ends, but our own patience with it is a minute and more."""
    ENDLESS = "endless"
    """It never ends unless somebody ends it."""


LONG: Mapping[Provider, frozenset[str]] = {
    Provider.REPLICATE: frozenset({"slow_start", "not_found_later"}),
    Provider.RUNPOD: frozenset({"exits", "pod_vanished", "not_found_later", "silent"}),
    Provider.ASTRIA: frozenset(
        {
            *("reply_lost", "gateway_timeout_created", "gateway_timeout_lost"),
            *("throttled", "unstable", "not_found_later", "deleted_while_training"),
        }
    ),
    Provider.E2B: frozenset({"not_found_later", "expired"}),
}
ENDLESS: Mapping[Provider, frozenset[str]] = {
    Provider.REPLICATE: frozenset({"stuck", "frozen_at_99", "no_capacity"}),
    Provider.RUNPOD: frozenset({"stuck", "frozen_at_99", "stuck_starting", "no_runtime"}),
    Provider.ASTRIA: frozenset({"stuck", "eta_passes", "frozen_at_99"}),
    Provider.E2B: frozenset({"stuck", "fails_at_start", "too_many", "conflict", "hangs"}),
}
COSTLY: Mapping[Provider, frozenset[str]] = {
    Provider.REPLICATE: frozenset({"stuck", "frozen_at_99"}),
    Provider.RUNPOD: frozenset({"stuck", "frozen_at_99", "stuck_starting", "no_runtime"}),
    Provider.ASTRIA: frozenset(),
    Provider.E2B: frozenset({"stuck"}),
}
"""Those of the endless ones whose time costs money, so that a budget ends them."""
TIMED: Mapping[Provider, frozenset[str]] = {
    Provider.REPLICATE: frozenset({"stuck", "frozen_at_99"}),
    Provider.RUNPOD: frozenset({"stuck", "frozen_at_99"}),
    Provider.ASTRIA: frozenset({"eta_passes", "frozen_at_99"}),
    Provider.E2B: frozenset({"stuck"}),
}
"""Those in which the training has begun, so that its time limit ends them."""
MICROS_PER_SECOND: Mapping[Provider, float] = {
    Provider.REPLICATE: 1525.0,
    Provider.RUNPOD: 0.27e6 / 3600,
    Provider.E2B: 30.25,
}
"""List prices of what the plans order, to draw budgets by."""
DEAREST_MICROS_PER_SECOND: Mapping[Provider, float] = {
    Provider.REPLICATE: 1525.0,
    Provider.RUNPOD: 0.86e6 / 3600,
    Provider.ASTRIA: 0.0,
    Provider.E2B: 30.25,
    Provider.LOCAL: 0.0,
}
"""The dearest of them."""
SHARES: Mapping[Provider, float] = {
    Provider.REPLICATE: 0.27,
    Provider.RUNPOD: 0.27,
    Provider.ASTRIA: 0.20,
    Provider.E2B: 0.20,
    Provider.LOCAL: 0.06,
}
SUCCESS = 0.35
CANCELED = 0.15
BUDGETED = 0.15
FAILING = 0.15
"""Parts of the runs that would end by themselves."""
MATERIALS: Mapping[Provider, tuple[str, ...]] = {
    Provider.REPLICATE: ("pictures", "pictures", "address", "nothing"),
    Provider.RUNPOD: ("rows", "nothing"),
    Provider.ASTRIA: ("pictures", "addresses"),
    Provider.E2B: ("rows", "nothing", "nothing"),
    Provider.LOCAL: ("rows",),
}
"""What runs are trained on, in the words of `wishes.py`."""
STOPPING_SECONDS = 10.0
"""So long before its budget is used up a run is stopped, as users are told."""
SHORTEST_TIME_LIMIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run."""

    number: int
    person: int
    """Whose."""
    provider: Provider
    scenario: str | None
    """None for LOCAL, which plays none."""
    pause_seconds: float
    """Between the start of the one before and this one's."""
    material: str
    """What it is trained on, in the words of `wishes.py`."""
    cancel_after_seconds: float | None = None
    budget_micros: int | None = None
    time_limit_seconds: int | None = None
    gpu_types: tuple[str, ...] = ()
    fallback: Provider | None = None
    fails: bool = False
    """Whether the user's own program fails, where there is one."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How long simulated trainings take, in seconds."""

    queue: float
    training: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that chance decides before it begins; the storm draws from the same seed."""

    seed: int
    people: int
    at_once: int
    """Runs that go on at the same time, at most."""
    durations: Durations
    runs: tuple[PlannedRun, ...]

    @classmethod
    def of(
        cls, seed: int, runs: int, scenarios: Mapping[Provider, Sequence[str]], *, with_long_ones: bool = True
    ) -> "Plan":
        """The plan that a seed means. `scenarios` are the names that each provider's simulator plays."""
        chance = random.Random(f"plan:{seed}")
        people = max(2, min(6, runs // 7))
        drawn = [_drawn(chance, number, people, scenarios, with_long_ones) for number in range(runs)]
        first = [run for run in drawn if _is_long(run)]
        rest = [run for run in drawn if not _is_long(run)]
        return cls(
            seed=seed,
            people=people,
            at_once=16 if runs <= 30 else 24,
            durations=Durations(queue=chance.uniform(0.3, 1.0), training=chance.uniform(2.0, 4.0)),
            runs=tuple(_mixed(chance, first, rest)),
        )


def course_of(provider: Provider, scenario: str | None) -> Course:
    if scenario in ENDLESS.get(provider, ()):
        return Course.ENDLESS
    return Course.LONG if scenario in LONG.get(provider, ()) else Course.SHORT


def _is_long(run: PlannedRun) -> bool:
    return run.time_limit_seconds is not None or course_of(run.provider, run.scenario) is Course.LONG


def _mixed(chance: random.Random, first: list[PlannedRun], rest: list[PlannedRun]) -> list[PlannedRun]:
    """The long ones among the first fifth of all, so that the end does not wait for them alone."""
    found = list(rest)
    for run in first:
        found.insert(chance.randrange(0, len(rest) // 5 + 1), run)
    return found


def _drawn(
    chance: random.Random,
    number: int,
    people: int,
    scenarios: Mapping[Provider, Sequence[str]],
    with_long_ones: bool,
) -> PlannedRun:
    provider = chance.choices([*SHARES], [*SHARES.values()])[0]
    scenario = None
    if provider is not Provider.LOCAL:
        playable = [
            name
            for name in sorted(scenarios[provider])
            if with_long_ones or course_of(provider, name) is not Course.LONG
        ]
        scenario = "success" if chance.random() < SUCCESS else chance.choice(playable)
    gpu_types, fallback = _places(chance, provider, scenario)
    run = PlannedRun(
        number=number,
        person=chance.randrange(people),
        provider=provider,
        scenario=scenario,
        pause_seconds=chance.uniform(0.0, 1.2),
        material=chance.choice(MATERIALS[provider]),
        gpu_types=gpu_types,
        fallback=fallback,
        fails=scenario == "success" and chance.random() < FAILING,
    )
    return _with_fate(chance, run, with_long_ones)


def _places(chance: random.Random, provider: Provider, scenario: str | None) -> tuple[tuple[str, ...], Provider | None]:
    """GPU types and a further provider, for those that have them."""
    kind = chance.random()
    sold_out, free = chance.choice(SOLD_OUT), chance.choice(FREE)
    if provider is not Provider.RUNPOD:
        return (), None
    if kind < 0.5:
        return (free,), None
    if kind < 0.75:
        return (sold_out, free), None
    if kind < 0.9 and scenario == "success":
        return (sold_out,), Provider.E2B
    return ((sold_out,) if kind < 0.95 else FREE[:2]), None


def _with_fate(chance: random.Random, run: PlannedRun, with_long_ones: bool) -> PlannedRun:
    """Who ends it, where it does not end by itself; and for some that do, somebody who interferes."""
    kind, soon, late = chance.random(), chance.uniform(0.0, 6.0), chance.uniform(1.5, 8.0)
    if course_of(run.provider, run.scenario) is Course.ENDLESS:
        if kind < 0.3 and run.scenario in COSTLY[run.provider]:
            return replace(run, budget_micros=_budget(chance, run.provider, chance.uniform(0.5, 4.0)))
        if kind > 0.8 and with_long_ones and run.scenario in TIMED[run.provider]:
            return replace(run, time_limit_seconds=SHORTEST_TIME_LIMIT_SECONDS)
        return replace(run, cancel_after_seconds=late)
    if run.scenario == "cancel_late" or kind < CANCELED:
        run = replace(run, cancel_after_seconds=soon)
    if run.provider in MICROS_PER_SECOND and chance.random() < BUDGETED:
        run = replace(run, budget_micros=_budget(chance, run.provider, chance.choice((0.5, 2.0, 600.0))))
    return run


def _budget(chance: random.Random, provider: Provider, seconds: float) -> int:
    """A budget that is used up after about so long."""
    return round(MICROS_PER_SECOND[provider] * (STOPPING_SECONDS + seconds) * chance.uniform(1.0, 1.1))
