"""The judge finds what must not be; a storm that it judges can fail."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from domain.training.status import EndReason, Provider, RunStatus
from jobs.simulators.kit import Truth
from tests.chaos.case import Attempt, Case, Fact, by_tag
from tests.chaos.judge import TICK_SECONDS, findings_of
from tests.chaos.plan import PlannedRun

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
RUN = UUID("01a20c3b-b0c1-741f-8fed-a20b14afa84b")
ADA, BOB = UUID(int=1), UUID(int=2)
TAG = f"run-{RUN.hex}-1"
PRICE = 3_600_000
"""A thousand micro-dollars a second."""


def truth(**facts: Any) -> Truth:
    """A training that succeeded after ten seconds."""
    known: dict[str, Any] = {
        "provider": "E2B",
        "account": "ada",
        "reference": "first",
        "tag": TAG,
        "scenario": "success",
        "state": "succeeded",
        "is_alive": False,
        "created_at": NOON,
        "ended_at": NOON + timedelta(seconds=10),
        "billed_seconds": 10.0,
        "price_micros_per_hour": PRICE,
        "cost_micros": 10_000,
    }
    return Truth(**known | facts)


def attempt(*truths: Truth, **facts: Any) -> Attempt:
    cost = facts.pop("cost_micros", 10_000)
    resource = {"status": "ENDED", "cost_micros": cost, "last_error": None, "ended_at": NOON, **facts.pop("row", {})}
    known: dict[str, Any] = {
        "number": 1,
        "provider": Provider.E2B,
        "tag": TAG,
        "reference": "first",
        "end_reason": EndReason.SUCCEEDED,
        "resource": resource,
    }
    return Attempt(**known | facts, cost_micros=cost, truths=truths)


def fact(seq: int, kind: str, *, seconds: float = 0.0) -> Fact:
    return Fact(seq, kind, NOON + timedelta(seconds=seconds), {}, ADA)


def change(seq: int, before: str | None, after: str, *, final: bool = False, seconds: float = 0.0) -> Fact:
    data = {"from": before, "to": after, "final": final}
    return Fact(seq, "run.status_changed", NOON + timedelta(seconds=seconds), data, ADA)


def case(*attempts: Attempt, status: RunStatus = RunStatus.READY, **facts: Any) -> Case:
    """A run that is as it should be."""
    attempts = attempts or (attempt(truth()),)
    known: dict[str, Any] = {
        "planned": PlannedRun(0, 0, Provider.E2B, "success", 0.0, "nothing"),
        "id": RUN,
        "user_id": ADA,
        "status": status,
        "end_reason": EndReason.SUCCEEDED,
        "stop_reason": None,
        "error_message": None,
        "seq": 2 + len(attempts),
        "cost_micros": sum(one.cost_micros for one in attempts),
        "budget_micros": None,
        "was_canceled": False,
        "created_at": NOON,
        "ended_at": NOON,
        "facts": (
            change(1, None, "QUEUED"),
            *(fact(2 + number, "run.attempt_started") for number in range(len(attempts))),
            change(2 + len(attempts), "QUEUED", status.value, final=True),
        ),
    }
    return Case(attempts=attempts, **known | facts)


def kinds(judged: Case) -> list[str]:
    return [finding.kind for finding in findings_of(judged)]


def test_what_is_as_it_should_be_is_let_pass() -> None:
    assert kinds(case()) == []


class TestState:
    @pytest.mark.parametrize(
        ("state", "status", "reason"),
        [
            ("succeeded", RunStatus.FAILED, EndReason.LOST),
            ("succeeded", RunStatus.FAILED, EndReason.OUT_OF_BUDGET),
            ("failed", RunStatus.READY, EndReason.SUCCEEDED),
            ("failed", RunStatus.FAILED, EndReason.LOST),
            ("gone", RunStatus.READY, EndReason.SUCCEEDED),
            ("gone", RunStatus.FAILED, EndReason.CODE_ERROR),
            ("canceled", RunStatus.FAILED, EndReason.LOST),
            ("canceled", RunStatus.CANCELED, EndReason.CANCELED_BY_USER),
        ],
    )
    def test_another_end_than_the_true_one_is_found(self, state: str, status: RunStatus, reason: EndReason) -> None:
        assert kinds(case(attempt(truth(state=state)), status=status, end_reason=reason)) == ["state"]

    @pytest.mark.parametrize(
        ("state", "status", "reason"),
        [
            ("failed", RunStatus.FAILED, EndReason.CODE_ERROR),
            ("gone", RunStatus.FAILED, EndReason.LOST),
        ],
    )
    def test_the_true_end_is_let_pass(self, state: str, status: RunStatus, reason: EndReason) -> None:
        assert kinds(case(attempt(truth(state=state)), status=status, end_reason=reason)) == []

    def test_what_its_user_canceled_is_canceled_whatever_came_of_it(self) -> None:
        ended: dict[str, Any] = {
            "status": RunStatus.CANCELED,
            "end_reason": EndReason.CANCELED_BY_USER,
            "was_canceled": True,
        }
        for state in ("succeeded", "failed", "canceled"):
            assert kinds(case(attempt(truth(state=state)), **ended)) == []
        assert kinds(case(was_canceled=True)) == ["state"]

    def test_a_budget_ends_what_has_used_it_up_and_nothing_else(self) -> None:
        canceled = attempt(truth(state="canceled"))
        ended: dict[str, Any] = {"status": RunStatus.FAILED, "end_reason": EndReason.OUT_OF_BUDGET}
        assert kinds(case(canceled, budget_micros=20_000, **ended)) == []
        assert kinds(case(canceled, budget_micros=30_000, **ended)) == ["state"]

    def test_a_long_silence_is_told_of(self) -> None:
        ended: dict[str, Any] = {"status": RunStatus.FAILED, "end_reason": EndReason.LOST, "seq": 5}
        expectations: list[tuple[float, list[str]]] = [(90.0, []), (60.0, ["state"])]
        for seconds, expected in expectations:
            facts = (
                change(1, None, "QUEUED"),
                fact(2, "run.attempt_started"),
                change(3, "QUEUED", "TRAINING"),
                fact(4, "run.suspected"),
                change(5, "TRAINING", "FAILED", final=True, seconds=seconds),
            )
            assert kinds(case(attempt(truth(state="canceled")), facts=facts, **ended)) == expected

    def test_nothing_was_made_where_there_was_no_machine(self) -> None:
        refused = attempt(cost_micros=0, reference=None, end_reason=EndReason.NO_CAPACITY)
        second = replace(attempt(truth(tag=f"run-{RUN.hex}-2")), number=2, tag=f"run-{RUN.hex}-2")
        assert kinds(case(refused, second)) == []
        assert kinds(case(replace(refused, truths=(truth(state="canceled"),)), second)) == ["state"]


class TestEvents:
    def test_a_hole_a_double_and_a_missing_end_are_found(self) -> None:
        whole = case()
        assert kinds(replace(whole, facts=(whole.facts[0], *whole.facts[2:]))) == ["events", "events"]
        assert kinds(replace(whole, facts=(*whole.facts, whole.facts[-1]))) == ["events", "events", "events"]
        assert kinds(replace(whole, facts=whole.facts[:-1])) == ["events", "events"]

    def test_an_event_of_somebody_else_is_found(self) -> None:
        whole = case()
        theirs = replace(whole.facts[1], user_id=BOB)
        assert kinds(replace(whole, facts=(whole.facts[0], theirs, whole.facts[2]))) == ["tenants"]


class TestResources:
    def test_what_is_alive_is_found(self) -> None:
        assert kinds(case(attempt(truth(is_alive=True)))) == ["resources"]
        assert kinds(case(attempt(truth(), row={"status": "ENDING"}))) == ["resources"]

    def test_nobody_can_end_what_a_refused_key_does_not_show(self) -> None:
        refused = {"status": "ENDING", "last_error": "Replicate answered 401: Unauthenticated."}
        ended: dict[str, Any] = {"status": RunStatus.FAILED, "end_reason": EndReason.PROVIDER_REFUSED}
        assert kinds(case(attempt(row=refused, reference=None, cost_micros=0), **ended)) == []
        lost = {**refused, "last_error": "Replicate did not answer."}
        assert kinds(case(attempt(row=lost, reference=None, cost_micros=0), **ended)) == ["resources"]

    def test_a_double_must_have_been_ended(self) -> None:
        double = truth(reference="second", state="canceled", cost_micros=5_000)
        assert kinds(case(attempt(truth(), double))) == []
        assert kinds(case(attempt(truth(), replace(double, is_alive=True)))) == ["resources"]
        assert kinds(case(attempt(truth(), replace(double, state="succeeded")))) == ["doubles"]

    def test_a_training_that_is_named_by_its_destination_alone_is_known(self) -> None:
        named = truth(provider="replicate", tag=f"ada/model-1-{RUN.hex[-8:]}")
        stranger = truth(provider="replicate", tag="ada/model-1-00000000")
        rows = [{"run_id": RUN, "number": 1, "tag": TAG}]
        assert by_tag([named, stranger], rows) == {TAG: [named], "ada/model-1-00000000": [stranger]}


class TestCost:
    @pytest.mark.parametrize("seconds", [-TICK_SECONDS - 2, TICK_SECONDS + 2])
    def test_more_than_a_tick_is_found(self, seconds: float) -> None:
        assert kinds(case(attempt(truth(), cost_micros=round(10_000 + 1000 * seconds)))) == ["cost"]

    @pytest.mark.parametrize("seconds", [-TICK_SECONDS / 2, 0.0, TICK_SECONDS])
    def test_a_tick_is_let_pass(self, seconds: float) -> None:
        assert kinds(case(attempt(truth(cost_micros=50_000), cost_micros=round(50_000 + 1000 * seconds)))) == []

    def test_what_the_provider_tells_in_the_end_is_exact(self) -> None:
        there = {"provider": Provider.REPLICATE}
        assert kinds(case(attempt(truth(provider="replicate"), cost_micros=10_002, **there))) == []
        assert kinds(case(attempt(truth(provider="replicate"), cost_micros=10_003, **there))) == ["cost"]

    def test_a_flat_price_is_exact(self) -> None:
        tune = truth(provider="ASTRIA", price_micros_per_hour=0, cost_micros=1_500_000)
        assert kinds(case(attempt(tune, provider=Provider.ASTRIA, cost_micros=1_500_000))) == []
        assert kinds(case(attempt(tune, provider=Provider.ASTRIA, cost_micros=0))) == ["cost"]

    def test_sums_must_agree(self) -> None:
        assert kinds(case(cost_micros=9_000)) == ["cost"]

    def test_what_was_made_again_in_place_of_another_has_cost_too(self) -> None:
        later = NOON + timedelta(seconds=60)
        made = (
            truth(state="gone"),
            truth(reference="second", state="gone", created_at=later, ended_at=later, cost_micros=60_000),
        )
        ended: dict[str, Any] = {"status": RunStatus.FAILED, "end_reason": EndReason.LOST}
        assert kinds(case(attempt(*made, reference="second", cost_micros=10_000), **ended)) == ["cost"]
        assert kinds(case(attempt(*made, reference="second", cost_micros=70_000), **ended)) == []

    def test_a_budget_that_was_passed_by_more_than_a_tick_is_found(self) -> None:
        dear = attempt(truth(cost_micros=50_000), cost_micros=50_000)
        assert kinds(case(dear, budget_micros=30_000)) == []
        assert kinds(case(dear, budget_micros=29_000)) == ["cost"]
