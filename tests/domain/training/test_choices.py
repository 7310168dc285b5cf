"""Where a run's work may be done, and what it may cost until it is stopped."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.training.budget import STOPPING_SECONDS, seconds_left, spent_by_now
from domain.training.choices import RUNPOD_GPUS, Choice, ProviderChoice, choice_of, choices_of
from domain.training.rules import RuleAction, action_for
from domain.training.status import Provider, WarningCode

INTEGRATION = UUID(int=7)


def test_places_come_in_the_users_order_and_once_each() -> None:
    wanted = [
        ProviderChoice(Provider.RUNPOD, ("A", "B", "A")),
        ProviderChoice(Provider.E2B),
        ProviderChoice(Provider.RUNPOD, ("B", "C"), INTEGRATION),
        ProviderChoice(Provider.E2B),
    ]
    assert choices_of(wanted) == [
        Choice(Provider.RUNPOD, "A"),
        Choice(Provider.RUNPOD, "B"),
        Choice(Provider.E2B),
        Choice(Provider.RUNPOD, "B", INTEGRATION),
        Choice(Provider.RUNPOD, "C", INTEGRATION),
    ]


def test_a_machine_without_a_named_gpu_tries_several() -> None:
    assert [choice.gpu_type for choice in choices_of([ProviderChoice(Provider.RUNPOD)])] == list(RUNPOD_GPUS)


@pytest.mark.parametrize("choice", [Choice(Provider.RUNPOD, "A", INTEGRATION), Choice(Provider.LOCAL)])
def test_a_choice_survives_its_row(choice: Choice) -> None:
    assert Choice.of_json(choice.as_json()) == choice


def test_a_run_from_before_there_were_choices_has_its_provider() -> None:
    assert choice_of([], 0, Provider.LOCAL) == Choice(Provider.LOCAL)


def test_a_budget_is_left_some_seconds_early() -> None:
    """A dollar an hour and half of a dollar left: half an hour, less what stopping takes."""
    assert seconds_left(1_000_000, 500_000, 1_000_000) == 1800 - STOPPING_SECONDS
    assert seconds_left(1_000_000, 1_000_000, 1_000_000) <= 0


def test_what_costs_nothing_by_time_is_never_stopped_for_it() -> None:
    assert seconds_left(0, 0, 0) == float("inf")
    assert seconds_left(1, 2, 0) == 0


@given(
    budget=st.integers(0, 10**12), price=st.integers(1, 10**10), spent=st.integers(0, 10**12), seconds=st.floats(0, 1e6)
)
def test_who_looks_as_told_never_passes_the_budget(budget: int, price: int, spent: int, seconds: float) -> None:
    left = seconds_left(budget, spent, price)
    if left > 0:
        looked_again = spent_by_now(spent, price, min(left, seconds))
        assert looked_again <= budget + 1


def test_what_has_no_rule_is_told() -> None:
    rules = {"NAN_LOSS": "STOP"}
    assert action_for(rules, WarningCode.NAN_LOSS) is RuleAction.STOP
    assert action_for(rules, WarningCode.SILENCE) is RuleAction.WARN
