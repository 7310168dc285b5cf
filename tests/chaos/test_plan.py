"""The same seed is the same plan, and every scenario has a place in it."""

from collections import Counter

import pytest

from domain.training.status import Provider
from jobs.simulators.server import scenarios
from tests.chaos.plan import COSTLY, ENDLESS, LONG, TIMED, Course, course_of
from tests.chaos.play import plan_of
from tests.chaos.wishes import wish_of


def test_a_seed_is_a_plan() -> None:
    assert plan_of(7, 50) == plan_of(7, 50)
    assert plan_of(7, 50) != plan_of(8, 50)


def test_what_never_ends_by_itself_is_ended_by_somebody() -> None:
    endless = [
        run
        for seed in range(20)
        for run in plan_of(seed, 200).runs
        if course_of(run.provider, run.scenario) is Course.ENDLESS
    ]
    assert endless
    for run in endless:
        fates = (run.cancel_after_seconds, run.budget_micros, run.time_limit_seconds)
        assert any(fate is not None for fate in fates), run


def test_the_quick_plan_has_nothing_long() -> None:
    runs = [run for seed in range(20) for run in plan_of(seed, 20, with_long_ones=False).runs]
    assert {course_of(run.provider, run.scenario) for run in runs} == {Course.SHORT, Course.ENDLESS}
    assert all(run.time_limit_seconds is None for run in runs)


def test_everything_comes_about() -> None:
    """Over some seeds each provider plays each of its scenarios, and each kind of fate befalls somebody."""
    runs = [run for seed in range(20) for run in plan_of(seed, 200).runs]
    played = Counter((run.provider, run.scenario) for run in runs)
    assert set(played) == {
        (Provider.LOCAL, None),
        *((provider, name) for provider, plays in scenarios().items() for name in plays),
    }
    for fate in ("cancel_after_seconds", "budget_micros", "time_limit_seconds", "fallback"):
        assert any(getattr(run, fate) is not None for run in runs), fate
    assert any(len(run.gpu_types) > 1 for run in runs)


@pytest.mark.parametrize("table", [LONG, ENDLESS, COSTLY, TIMED])
def test_no_table_names_a_scenario_that_is_gone(table: dict[Provider, frozenset[str]]) -> None:
    known = scenarios()
    assert {provider: names - known[provider].keys() for provider, names in table.items()} == {
        provider: frozenset() for provider in table
    }


def test_each_run_has_a_key_of_its_own() -> None:
    wishes = [wish_of(run, {"rows": "rows-id", "pictures": "pictures-id"}) for run in plan_of(3, 200).runs]
    assert len({wish["idempotencyKey"] for wish in wishes}) == 200
