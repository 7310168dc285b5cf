"""All that is known about each run after the storm: what the product wrote down, and what the simulators know."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.training.status import EndReason, Provider, RunStatus
from jobs.simulators.kit import Truth
from tests.chaos.people import StartedRun
from tests.chaos.plan import PlannedRun
from tests.chaos.simulating import provider_of
from tests.e2e.harness import Rows

_TAG = re.compile(r"run-[0-9a-f]{32}-\d+")
_DESTINATION = re.compile(r"[^/]+/.+-(?P<run>[0-9a-f]{8})(?:-(?P<attempt>\d+))?")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of `run_attempts` with its row of `provider_resources`, if it came so far."""

    number: int
    provider: Provider
    tag: str
    reference: str | None
    end_reason: EndReason | None
    cost_micros: int
    resource: Mapping[str, Any] | None
    truths: tuple[Truth, ...]
    """What was really made for it, the oldest first."""

    @property
    def truth(self) -> Truth | None:
        """What really happened to the training that the product followed, or would have."""
        known = [truth for truth in self.truths if truth.reference == self.reference]
        return known[0] if known else self.truths[0] if self.truths else None

    @property
    def doubles(self) -> list[Truth]:
        """Those that should not have been made: the attempt had another one, and that was not gone."""
        return [one for one in self.truths if one is not self.truth and not _was_replaced(one, self.truths)]

    @property
    def paid(self) -> list[Truth]:
        """Those that the product knows of, and pays for."""
        doubles = self.doubles
        return [one for one in self.truths if one not in doubles]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event of the run's stream."""

    seq: int
    type: str
    at: datetime
    data: Mapping[str, Any]
    user_id: UUID


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    planned: PlannedRun
    id: UUID
    user_id: UUID
    status: RunStatus
    end_reason: EndReason | None
    stop_reason: EndReason | None
    error_message: str | None
    seq: int
    cost_micros: int
    budget_micros: int | None
    was_canceled: bool
    """Whether the product had accepted a cancellation before the end."""
    created_at: datetime
    ended_at: datetime | None
    attempts: tuple[Attempt, ...]
    facts: tuple[Fact, ...] = field(repr=False)

    @property
    def last(self) -> Attempt:
        return self.attempts[-1]

    @property
    def has_trained(self) -> bool:
        """Whether its users were ever told that its last attempt trains."""
        begun = [fact.seq for fact in self.facts if fact.type == "run.attempt_started"]
        return any(
            fact.type == "run.status_changed" and fact.data["to"] == "TRAINING" and fact.seq > begun[-1]
            for fact in self.facts
        )

    @property
    def silent_seconds(self) -> float:
        """How long it had been suspected at its end, as its users were told; 0 if it was not."""
        told = [fact.at for fact in self.facts if fact.type == "run.suspected"]
        return (self.facts[-1].at - told[-1]).total_seconds() if told else 0.0

    @property
    def seconds(self) -> float:
        """How long it took from the wish to its end."""
        return (self.ended_at - self.created_at).total_seconds() if self.ended_at is not None else float("inf")

    @property
    def name(self) -> str:
        return f"run {self.planned.number} ({self.id}, {self.last.provider} {self.planned.scenario})"


async def cases_of(rows: Rows, started: Sequence[StartedRun], truths: Sequence[Truth]) -> list[Case]:
    """What is known about these runs."""
    ids = [one.run.row for one in started]
    runs = {row["id"]: row for row in await rows.all("SELECT * FROM training_runs WHERE id = ANY($1)", ids)}
    resources = {
        row["tag"]: row for row in await rows.all("SELECT * FROM provider_resources WHERE run_id = ANY($1)", ids)
    }
    attempts = await rows.all("SELECT * FROM run_attempts WHERE run_id = ANY($1) ORDER BY run_id, number", ids)
    events = await rows.all("SELECT * FROM run_events WHERE run_id = ANY($1) ORDER BY run_id, seq", ids)
    made = by_tag(truths, attempts)
    found = []
    for one in started:
        row = runs[one.run.row]
        found.append(
            Case(
                planned=one.planned,
                id=row["id"],
                user_id=row["user_id"],
                status=RunStatus(row["status"]),
                end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
                stop_reason=EndReason(row["stop_reason"]) if row["stop_reason"] else None,
                error_message=row["error_message"],
                seq=row["seq"],
                cost_micros=row["cost_micros"],
                budget_micros=row["budget_micros"],
                was_canceled=row["id"] in one.person.canceled,
                created_at=row["created_at"],
                ended_at=row["ended_at"],
                attempts=tuple(
                    _attempt_of(attempt, resources.get(attempt["tag"]), made.get(attempt["tag"], []))
                    for attempt in attempts
                    if attempt["run_id"] == row["id"]
                ),
                facts=tuple(
                    Fact(event["seq"], event["type"], event["at"], json.loads(event["data"]), event["user_id"])
                    for event in events
                    if event["run_id"] == row["id"]
                ),
            )
        )
    return found


def by_tag(truths: Iterable[Truth], attempts: Sequence[Mapping[str, Any]]) -> dict[str, list[Truth]]:
    """The truths by the attempt that they were made for; those of nobody's under their own tag."""
    by_destination = {(row["run_id"].hex[-8:], row["number"]): row["tag"] for row in attempts}
    found: dict[str, list[Truth]] = {}
    for truth in sorted(truths, key=lambda truth: truth.created_at):
        tag = truth.tag
        destination = _DESTINATION.fullmatch(tag)
        if not _TAG.fullmatch(tag) and provider_of(truth) is Provider.REPLICATE and destination is not None:
            # A training without any address among its inputs is named by its destination alone.
            tag = by_destination.get((destination["run"], int(destination["attempt"] or 1)), tag)
        found.setdefault(tag, []).append(truth)
    return found


def _was_replaced(truth: Truth, others: Sequence[Truth]) -> bool:
    """Whether it had gone without a word before another one was made in its place."""
    end = truth.ended_at
    return truth.state == "gone" and end is not None and any(other.created_at >= end for other in others)


def _attempt_of(row: Mapping[str, Any], resource: Mapping[str, Any] | None, truths: Sequence[Truth]) -> Attempt:
    return Attempt(
        number=row["number"],
        provider=Provider(row["provider"]),
        tag=row["tag"],
        reference=row["reference"],
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        cost_micros=row["cost_micros"],
        resource=resource,
        truths=tuple(truths),
    )
