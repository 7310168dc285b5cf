"""What came of a seed, in figures for people."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from domain.training.status import Provider
from jobs.simulators.kit import Truth
from tests.chaos.case import Case
from tests.chaos.judge import ROUNDING_MICROS, TICK_SECONDS, Finding, difference_of, is_unknowable


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that was counted, and everything that must not be."""

    seed: int
    findings: Sequence[Finding]
    accidents: Counter[str]
    cases: Sequence[Case]
    truths: Sequence[Truth]
    drops: int
    """Connections that readers lost."""
    messages: int
    """What they were told."""
    seconds: float
    rest_seconds: float
    """From the last run's end until nothing was alive."""

    def lines(self) -> Iterator[str]:
        """The report."""
        ends = Counter(f"{case.status}/{case.end_reason}" for case in self.cases)
        attempts = [attempt for case in self.cases for attempt in case.attempts]
        doubles = [double for attempt in attempts for double in attempt.doubles]
        yield f"seed {self.seed}: {len(self.cases)} runs, {len(attempts)} attempts, {len(self.truths)} trainings made"
        yield "  accidents: " + _counted(self.accidents)
        yield "  runs by provider: " + _counted(Counter(case.planned.provider.value for case in self.cases))
        yield "  ends: " + _counted(ends)
        yield f"  canceled by their users: {sum(case.was_canceled for case in self.cases)}"
        longest = sorted(self.cases, key=lambda case: -case.seconds)[:3]
        yield "  longest: " + "; ".join(f"{case.seconds:.0f} s {case.name}" for case in longest)
        open_ones = sum(is_unknowable(attempt) and attempt.resource is not None for attempt in attempts)
        yield f"  nothing was made, and the key is refused, so that nobody can find that out: {open_ones}"
        lost = sum(double.cost_micros for double in doubles)
        yield f"  doubles, found and ended: {len(doubles)}, which cost {lost} millionths of a dollar beside the ledger"
        yield f"  ledgers, with a tick of {TICK_SECONDS:g} seconds where only time tells a price:"
        yield from (line for provider in Provider if (line := self._cost_line(provider)))
        yield f"  readers were told {self.messages} messages over {self.drops} lost connections"
        yield f"  {self.seconds:.0f} s in all; {self.rest_seconds:.1f} s from the last end until nothing was alive"
        yield f"  findings: {len(self.findings)}"
        yield from (f"    {finding}" for finding in self.findings)

    def every_run(self) -> Iterator[str]:
        """A line for each run: what it was, how it ended, and what really happened to each of its attempts."""
        for case in sorted(self.cases, key=lambda case: case.planned.number):
            fate = f"canceled after {case.planned.cancel_after_seconds:.1f} s" if case.was_canceled else ""
            budget = f"budget {case.budget_micros}" if case.budget_micros is not None else ""
            attempts = "; ".join(
                f"{attempt.provider} {attempt.end_reason} [{', '.join(truth.state for truth in attempt.truths)}]"
                for attempt in case.attempts
            )
            told = " ".join(filter(None, (case.name, case.planned.material, fate, budget)))
            yield f"  {case.seconds:5.1f} s {told}: {case.status}/{case.end_reason} <- {attempts}"

    def _cost_line(self, provider: Provider) -> str:
        found = [
            difference
            for case in self.cases
            for attempt in case.attempts
            if attempt.provider is provider and (difference := difference_of(attempt)) is not None
        ]
        if not found:
            return ""
        worst = max(found, key=lambda one: abs(one.micros))
        exact = sum(abs(one.micros) <= ROUNDING_MICROS for one in found)
        return (
            f"    {provider.value}: {exact} of {len(found)} exact; the largest difference is {worst.micros:+d}"
            f" millionths of a dollar, {worst.seconds:+.2f} s of the price"
        )


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counter.most_common()) or "none"
