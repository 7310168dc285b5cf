"""One training: what it is at any time of the clock, and how the API shows it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from jobs.simulators.kit import Truth, seeded
from jobs.simulators.replicate.catalog import Trainer, cost_micros, micros_per_hour
from jobs.simulators.replicate.trainer_log import LogPlan, Piece, pieces_of, text_until

FINAL = frozenset({"succeeded", "failed", "canceled", "aborted"})
NEVER = 10.0**9
"""Seconds until what never happens."""
OVERSIZED_CHARACTERS = 6_000_000
_TAG = re.compile(r"run-[0-9a-f]{32}-\d+")
_TRACEBACK = (
    "\nTraceback (most recent call last):\n"
    '  File "/src/train.py", line 512, in train\n'
    "    job.run()\n"
    "RuntimeError: CUDA error: an illegal memory access was encountered\n"
)


@dataclass(frozen=True, slots=True)
class End:
    status: str
    at: datetime
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """A training at one moment."""

    status: str
    started_at: datetime | None
    completed_at: datetime | None
    error: str | None

    @property
    def is_final(self) -> bool:
        return self.status in FINAL


@dataclass(slots=True)
class SimulatedTraining:
    """What was asked, and what is known of how it goes; everything else follows from the clock."""

    id: str
    account: str
    scenario: str
    trainer: Trainer
    destination: str
    input: Mapping[str, Any]
    webhook: str | None
    events: frozenset[str]
    base_url: str
    created_at: datetime
    starting_seconds: float
    training_seconds: float
    new_version: str
    oversized_characters: int = OVERSIZED_CHARACTERS
    canceled_at: datetime | None = None
    fetch_is_due: bool = False
    """Whether its data is really to be fetched, and was not yet."""
    fetch_error: str | None = None
    faults_left: list[int] = field(default_factory=list)
    """Answers that reads of it get first."""
    pieces: list[Piece] = field(default_factory=list)
    """Its whole log, once somebody has looked."""

    @property
    def start_at(self) -> datetime:
        """When its work is to begin."""
        return self.created_at + timedelta(seconds=self._starting)

    def is_gone_at(self, now: datetime) -> bool:
        """Whether the API has forgotten it."""
        return self.scenario == "not_found_later" and now >= self.start_at + timedelta(seconds=2)

    def look(self, now: datetime) -> Look:
        """The training as it is at that time."""
        end = self._end()
        if self.canceled_at is not None and (end is None or self.canceled_at < end.at):
            end = End("canceled", self.canceled_at)
        began = self.start_at <= now
        if end is not None and end.at <= now:
            has_worked = self.start_at < end.at
            if has_worked:
                started: datetime | None = self.start_at
            elif end.status == "canceled":
                started = end.at - timedelta(microseconds=3)
            else:
                started = None
            return Look(end.status, started, end.at, end.error)
        if not began:
            return Look("starting", None, None, None)
        return Look("processing", self.start_at, None, None)

    def log_at(self, now: datetime) -> str:
        """All that its trainer has printed until then."""
        look = self.look(now)
        elapsed = ((look.completed_at or now) - self.start_at).total_seconds()
        if elapsed <= 0 or self.scenario == "fails_at_start":
            return ""
        if self.fetch_is_due or self.fetch_error is not None:
            return self._printed(0.0)
        if self.scenario == "bad_data":
            return self._printed(0.0) + ("Extracted 0 files from the archive\n" if look.is_final else "")
        text = self._printed(elapsed)
        return text + _TRACEBACK if look.status == "failed" else text

    def cancel(self, now: datetime) -> None:
        """Whoever asks twice, or too late, changes nothing."""
        if self.canceled_at is None and not self.look(now).is_final:
            self.canceled_at = now + timedelta(seconds=3 if self.scenario == "cancel_late" else 0)

    def shown(self, now: datetime, *, in_list: bool = False) -> dict[str, Any]:
        """The object that reads, webhooks and, without its log, lists give."""
        look = self.look(now)
        shown: dict[str, Any] = {
            "completed_at": self._time(look.completed_at),
            "created_at": self._time(self.created_at),
            "error": look.error,
            "id": self.id,
            "input": dict(self.input),
            "logs": None if in_list else self.log_at(now) or None,
            "metrics": self._metrics(look),
            "model": self.trainer.full_name,
            "output": self._output(look),
            "source": "api",
            "started_at": self._time(look.started_at),
            "status": look.status,
            "urls": self._urls("trainings"),
            "version": self.trainer.version,
            "webhook_completed": None,
        }
        if in_list:
            del shown["logs"], shown["webhook_completed"]
        return shown

    def shown_as_created(self) -> dict[str, Any]:
        """The answer to its creation: without times and metrics, and with addresses that lead elsewhere."""
        return {
            "id": self.id,
            "model": self.trainer.full_name,
            "version": self.trainer.version,
            "input": dict(self.input),
            "logs": "",
            "error": None,
            "status": "starting",
            "created_at": self._time(self.created_at),
            "urls": self._urls("predictions"),
        }

    def shown_as_canceled(self, now: datetime) -> dict[str, Any]:
        return {**self.shown(now), "urls": self._urls("predictions")}

    def truth(self, now: datetime) -> Truth:
        look = self.look(now)
        states = {"starting": "preparing", "processing": "training", "aborted": "failed"}
        gone = self.is_gone_at(now)
        seconds = self._worked_seconds(look, now)
        found = _TAG.search(str(dict(self.input)))
        return Truth(
            provider="replicate",
            account=self.account,
            reference=self.id,
            tag=found[0] if found else self.destination,
            scenario=self.scenario,
            state="gone" if gone else states.get(look.status, look.status),
            is_alive=not look.is_final and not gone,
            created_at=self.created_at,
            ended_at=look.completed_at,
            billed_seconds=seconds,
            price_micros_per_hour=micros_per_hour(self.trainer.hardware),
            cost_micros=cost_micros(self.trainer.hardware, seconds),
        )

    @property
    def _starting(self) -> float:
        if self.scenario in ("no_capacity", "aborted"):
            return NEVER
        return 60.0 if self.scenario == "slow_start" else self.starting_seconds

    def _end(self) -> End | None:
        """How it ends if nobody cancels it."""
        start = self.start_at

        def after(seconds: float, status: str, error: str | None = None) -> End:
            return End(status, start + timedelta(seconds=seconds), error)

        match self.scenario:
            case "no_capacity" | "stuck" | "frozen_at_99":
                return None
            case "aborted":
                return End("aborted", self.created_at + timedelta(seconds=self.starting_seconds))
            case "fails_at_start":
                return after(0, "failed", "Director: unexpected error handling prediction (E8765)")
            case "not_found_later":
                return after(2, "canceled")  # nobody can see it any more; it costs nothing from here on
        if self.fetch_is_due:
            return None
        if self.fetch_error is not None:
            return after(0.2, "failed", self.fetch_error)
        texts = {name: value for name, value in self.input.items() if isinstance(value, str)}
        name = next((name for name, text in texts.items() if "://" in text), "input")
        match self.scenario:
            case "bad_data":
                return after(0.5, "failed", f"{name}: the archive holds no images")
            case "fails_while_training":
                words = "CUDA error: an illegal memory access was encountered"
                return after(self.training_seconds * 0.6, "failed", words)
            case "canceled_elsewhere":
                return after(2, "canceled")
        return after(self.training_seconds, "succeeded")

    def _printed(self, elapsed: float) -> str:
        if not self.pieces:
            self.pieces.extend(pieces_of(self._plan()))
        return text_until(self.pieces, elapsed)

    def _plan(self) -> LogPlan:
        steps = self.input.get("steps", self.input.get("max_train_steps", 1000))
        return LogPlan(
            job_name=self.trainer.job_name,
            steps=steps if isinstance(steps, int) and steps > 0 else 1000,
            seconds=self.training_seconds,
            seed=self.id,
            last_fraction={"stuck": 0.4, "frozen_at_99": 0.99, "fails_while_training": 0.45}.get(self.scenario, 1.0),
            padding_characters=self.oversized_characters if self.scenario == "webhook_oversized" else 0,
        )

    def _worked_seconds(self, look: Look, now: datetime) -> float:
        """What is billed: run time, without the time in the queue."""
        if look.started_at is None:
            return 0.0
        return max(0.0, ((look.completed_at or now) - look.started_at).total_seconds())

    def _metrics(self, look: Look) -> dict[str, float]:
        if look.completed_at is None:
            return {}
        total = (look.completed_at - self.created_at).total_seconds()
        if look.started_at is None:
            return {"total_time": total}
        return {"predict_time": self._worked_seconds(look, look.completed_at), "total_time": total}

    def _output(self, look: Look) -> dict[str, str] | None:
        if look.status != "succeeded":
            return None
        weights = f"{self.base_url}/delivery/{self.id}/trained_model.tar"
        return {"version": f"{self.destination}:{self.new_version}", "weights": weights}

    def _urls(self, kind: str) -> dict[str, str]:
        """Answers to creations and cancellations name predictions, under which no training is found."""
        address = f"{self.base_url}/v1/{kind}/{self.id}"
        return {"get": address, "cancel": f"{address}/cancel"}

    def _time(self, at: datetime | None) -> str | None:
        if at is None:
            return None
        digits = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}"
        return (
            f"{digits}{seeded(0, self.id).randrange(1, 1000):03d}Z" if self.scenario == "nine_digits" else f"{digits}Z"
        )
