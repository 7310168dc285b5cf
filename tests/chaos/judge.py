"""Whether what the product says is what really happened. What must be is derived from the simulator's truth alone, and
from what the users asked for; the names of scenarios are not looked at."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from domain.training.status import EndReason, Provider, RunStatus
from jobs.simulators.kit import Truth
from tests.chaos.case import Attempt, Case
from tests.chaos.plan import DEAREST_MICROS_PER_SECOND, STOPPING_SECONDS

FAILURES = frozenset(
    {
        *(EndReason.PROVIDER_ERROR, EndReason.CODE_ERROR, EndReason.DATA_ERROR),
        *(EndReason.DIVERGED, EndReason.MEMORY_LIMIT),
    }
)
"""How a training fails by itself."""
NEVER_MADE = frozenset({EndReason.PROVIDER_REFUSED, EndReason.NO_CAPACITY, EndReason.QUEUE_TIMED_OUT})
OURS = frozenset({EndReason.OUT_OF_BUDGET, EndReason.TIMED_OUT})
"""Limits of the user's that we end a training by."""
LOST_SECONDS = 89.0
"""A run of which nobody knows anything is given up after a minute and a half, as users are told."""
TICK_SECONDS = 20.0
"""What the ledger may differ by, in seconds of the resource's price: the longest pause between two looks (5 s), the
lease of a worker that was killed (10 s), and the sweep that ends what nobody owns (5 s)."""
ROUNDING_MICROS = 2
STAMP_SECONDS = 1.0
"""RunPod tells when a pod was created by the whole second."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be."""

    kind: str
    who: str
    words: str

    def __str__(self) -> str:
        return f"[{self.kind}] {self.who}: {self.words}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run must have ended."""

    status: RunStatus
    reasons: frozenset[EndReason]
    why: str


def verdict_of(case: Case) -> Verdict:
    """By what really happened to the run's last attempt."""
    if case.was_canceled:
        return Verdict(RunStatus.CANCELED, frozenset({EndReason.CANCELED_BY_USER}), "its user canceled it")
    truth = case.last.truth
    if case.last.provider is Provider.LOCAL:
        return Verdict(RunStatus.READY, frozenset({EndReason.SUCCEEDED}), "it trains here")
    if truth is None:
        reasons = NEVER_MADE | ({EndReason.OUT_OF_BUDGET} if _is_too_little(case) else set())
        return Verdict(RunStatus.FAILED, reasons, "nothing was ever made for it")
    match truth.state:
        case "succeeded":
            return Verdict(RunStatus.READY, frozenset({EndReason.SUCCEEDED}), "the training succeeded")
        case "failed":
            reasons = FAILURES
            if case.last.provider is Provider.RUNPOD:
                reasons |= {EndReason.LOST}  # a container that exited without a word has failed, and nobody can say so
            return Verdict(RunStatus.FAILED, reasons, "the training failed")
        case "canceled":
            return _verdict_of_canceled(case, truth)
        case "gone":
            return Verdict(RunStatus.FAILED, frozenset({EndReason.LOST}), "the work was gone without a word")
        case state:
            return Verdict(RunStatus.FAILED, frozenset(), f"the training is still {state}")


def _verdict_of_canceled(case: Case, truth: Truth) -> Verdict:
    """Somebody ended the training, and it was not the run's user: we did, or somebody at the provider."""
    if _is_over_budget(case, truth):
        return Verdict(RunStatus.FAILED, frozenset({EndReason.OUT_OF_BUDGET}), "it was stopped for its budget")
    if case.planned.time_limit_seconds is not None:
        return Verdict(RunStatus.FAILED, frozenset({EndReason.TIMED_OUT}), "it was stopped for its time limit")
    if not case.has_trained:
        return Verdict(RunStatus.FAILED, NEVER_MADE, "what was made for it was ended before it could begin")
    if case.last.provider is Provider.REPLICATE:
        return Verdict(RunStatus.CANCELED, frozenset({EndReason.CANCELED_BY_OPERATOR}), "it was canceled there")
    if case.last.provider is Provider.ASTRIA:
        return Verdict(RunStatus.FAILED, frozenset({EndReason.LOST}), "it was deleted there, which nobody can see")
    if case.silent_seconds >= LOST_SECONDS:
        return Verdict(RunStatus.FAILED, frozenset({EndReason.LOST}), "it was ended after a long silence")
    return Verdict(RunStatus.READY, frozenset(), "it was ended, and nobody had wanted that")


def _is_too_little(case: Case) -> bool:
    """Whether the budget does not last until one could stop what is to be made, so that it is not even made."""
    if case.budget_micros is None:
        return False
    return case.budget_micros <= DEAREST_MICROS_PER_SECOND[case.last.provider] * STOPPING_SECONDS


def _is_over_budget(case: Case, truth: Truth) -> bool:
    """Whether it had cost so much that it had to be stopped, give or take a tick."""
    if case.budget_micros is None:
        return False
    ahead = (STOPPING_SECONDS + STAMP_SECONDS) * truth.price_micros_per_hour / 3600
    spent = sum(truth.cost_micros for attempt in case.attempts for truth in attempt.paid)
    return spent + ahead + ROUNDING_MICROS >= case.budget_micros


def findings_of(case: Case) -> Iterator[Finding]:
    """All that must not be about one run."""
    yield from _about_state(case)
    yield from _about_events(case)
    for attempt in case.attempts:
        yield from _about_resource(case, attempt)
        yield from _about_doubles(case, attempt)
        yield from _about_cost(case, attempt)
    yield from _about_sums(case)


def _about_state(case: Case) -> Iterator[Finding]:
    verdict = verdict_of(case)
    if case.status is not verdict.status or case.end_reason not in verdict.reasons:
        is_so = f"{case.status}/{case.end_reason}"
        must = f"{verdict.status}/{'|'.join(sorted(verdict.reasons))}"
        truth = case.last.truth
        yield Finding("state", case.name, f"{is_so} and not {must}: {verdict.why}. {case.error_message} {truth}")
    for attempt in case.attempts[:-1]:
        if attempt.end_reason not in (EndReason.NO_CAPACITY, EndReason.LOST):
            yield Finding(
                "state", case.name, f"attempt {attempt.number} ended as {attempt.end_reason}, and another came"
            )
        truth = attempt.truth
        if attempt.end_reason is EndReason.LOST and (truth is None or truth.state != "gone"):
            yield Finding("state", case.name, f"attempt {attempt.number} was not lost: {truth}")
        if attempt.end_reason is EndReason.NO_CAPACITY and attempt.truths:
            yield Finding("state", case.name, f"attempt {attempt.number} had a machine: {attempt.truths}")


def _about_events(case: Case) -> Iterator[Finding]:
    numbers = [fact.seq for fact in case.facts]
    if numbers != list(range(1, case.seq + 1)):
        yield Finding("events", case.name, f"the numbers are {numbers} and the run's own is {case.seq}")
    if any(fact.user_id != case.user_id for fact in case.facts):
        yield Finding("tenants", case.name, "an event belongs to somebody else")
    changes = [fact for fact in case.facts if fact.type == "run.status_changed"]
    finals = [fact.seq for fact in changes if fact.data["final"]]
    if finals != [case.seq] or changes[-1].data["to"] != case.status:
        yield Finding("events", case.name, f"final ones are {finals} of {case.seq}")
    chain = [(fact.data["from"], fact.data["to"]) for fact in changes]
    opened = sum(fact.type == "run.attempt_started" for fact in case.facts)
    if opened != len(case.attempts):
        yield Finding("events", case.name, f"{opened} attempts were told, and there are {len(case.attempts)}")
    for (_, to), (after, _) in itertools.pairwise(chain):
        if to != after:
            yield Finding("events", case.name, f"statuses do not join: {chain}")


def _about_resource(case: Case, attempt: Attempt) -> Iterator[Finding]:
    resource = attempt.resource
    if resource is None:
        if attempt.truths:
            yield Finding("resources", case.name, f"what was made was never written down: {attempt.truths}")
    elif resource["status"] != "ENDED" and not is_unknowable(attempt):
        yield Finding("resources", case.name, f"{attempt.tag} is {resource['status']} ({resource['last_error']})")
    for truth in attempt.truths:
        if truth.is_alive:
            yield Finding("resources", case.name, f"alive: {truth}")


def is_unknowable(attempt: Attempt) -> bool:
    """Whether nothing was made, and the key is refused, so that nobody can find that out. It is asked for ever."""
    error = str((attempt.resource or {}).get("last_error"))
    return not attempt.truths and ("401" in error or "refuse" in error)


def _about_doubles(case: Case, attempt: Attempt) -> Iterator[Finding]:
    for double in attempt.doubles:
        if not double.is_alive and double.state not in ("canceled", "gone"):
            yield Finding("doubles", case.name, f"a double was never ended, and came to its own end: {double}")


@dataclass(frozen=True, slots=True)
class Difference:
    """How the ledger differs from what a resource really cost."""

    micros: int
    """Ledger minus truth."""
    seconds: float
    """The same in seconds of its price; 0 for what has a flat price."""


def difference_of(attempt: Attempt) -> Difference | None:
    """None where nothing was made or written down. Doubles are not in the ledger: nobody knows what they cost."""
    if attempt.resource is None or attempt.truth is None:
        return None
    micros = int(attempt.resource["cost_micros"]) - sum(truth.cost_micros for truth in attempt.paid)
    price = attempt.truth.price_micros_per_hour
    return Difference(micros, micros * 3600 / price if price else 0.0)


def _about_cost(case: Case, attempt: Attempt) -> Iterator[Finding]:
    difference, truth = difference_of(attempt), attempt.truth
    if difference is None or truth is None or abs(difference.micros) <= ROUNDING_MICROS:
        return
    if attempt.provider is Provider.REPLICATE and truth.state in ("succeeded", "failed", "canceled"):
        allowed = 0.0  # the provider itself says in the end what it has billed
    elif attempt.provider is Provider.ASTRIA:
        allowed = 0.0  # one flat price
    else:
        allowed = (TICK_SECONDS + STAMP_SECONDS) * len(attempt.paid)
    if abs(difference.seconds) > allowed or not truth.price_micros_per_hour:
        resource = attempt.resource or {}
        words = (
            f"{attempt.tag}: the ledger says {resource.get('cost_micros')}"
            f" ({difference.seconds:+.1f} s; ended {resource.get('ended_at')}, really {truth.ended_at}). {truth}"
        )
        yield Finding("cost", case.name, words)


def _about_sums(case: Case) -> Iterator[Finding]:
    attempts = sum(attempt.cost_micros for attempt in case.attempts)
    resources = sum(int(attempt.resource["cost_micros"]) for attempt in case.attempts if attempt.resource is not None)
    if not case.cost_micros == attempts == resources:
        words = f"the run says {case.cost_micros}, its attempts {attempts}, its resources {resources}"
        yield Finding("cost", case.name, words)
    if case.budget_micros is not None:
        price = max((a.truth.price_micros_per_hour for a in case.attempts if a.truth is not None), default=0)
        most = case.budget_micros + price * TICK_SECONDS / 3600
        if case.cost_micros > most:
            yield Finding("cost", case.name, f"it cost {case.cost_micros} of {case.budget_micros}")
