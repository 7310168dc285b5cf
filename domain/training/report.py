"""What any signal says about a run: the only thing that `training.record` takes.

A report is plain data. It may come late, twice or out of order; folding it is `training/fold.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from domain.training.status import EndReason, LogLevel, ReportSource, RunStage, RunStatus, WarningCode


@dataclass(frozen=True, slots=True)
class LogText:
    """One whole line that a trainer wrote, without its line end, at most 8,192 characters."""

    text: str
    at: datetime
    level: LogLevel = LogLevel.INFO


@dataclass(frozen=True, slots=True)
class LogChunk:
    """The lines between two offsets of an attempt's log.

    It is stored only if the attempt's log was read up to exactly `start` before; so a chunk that comes twice, or
    that another worker read too, is taken once.
    """

    start: int
    """Where the provider's log was read from: bytes for a file, characters for a growing text."""
    end: int
    lines: tuple[LogText, ...]
    state: Mapping[str, Any] = field(default_factory=dict)
    """What reading the log up to `end` has taught; small JSON, kept with the offset and given to the next reading."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One value of one metric at one step. Finite."""

    name: str
    step: int
    value: float
    at: datetime


@dataclass(frozen=True, slots=True)
class StoredArtifact:
    """A file that training produced, where the provider keeps it."""

    name: str
    location: str
    """A path or address that only the provider's adapter understands."""
    bytes: int
    sha256: str
    """Hex."""
    details: dict[str, object]
    """What the trainer says of it: metrics, columns, classes, a stored row to prove a deployment with."""


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model that stays at the provider, which answers there: nothing of it is to be served by us."""

    version: str
    """What names it at the provider."""
    url: str | None
    """Where its weights can be fetched, or where it is used."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something about a training that its owner should know, and may have asked to be stopped for."""

    code: WarningCode
    message: str
    """In a sentence, with the value that was seen."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A provider's or script's own word that it has ended."""

    end_reason: EndReason
    message: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.end_reason is EndReason.SUCCEEDED


@dataclass(frozen=True, slots=True)
class Report:
    """Everything one signal said at once; whatever it did not say is None or empty."""

    source: ReportSource
    attempt: int
    at: datetime
    """The signal's own time, UTC."""
    event_id: str | None = None
    """The provider's id of the signal, where it has one."""
    status: RunStatus | None = None
    """PREPARING, TRAINING or DEPLOYING; ends are told by `outcome`."""
    stage: RunStage | None = None
    percent: float | None = None
    """The trainer's own progress, 0 to 100. Overall progress is `10 + 0.85 · percent`."""
    eta_seconds: float | None = None
    """Seconds until training ends, in the trainer's own words."""
    log: LogChunk | None = None
    readings: tuple[Reading, ...] = ()
    expected_seconds: float | None = None
    """How long the whole training takes, as the provider itself says."""
    began_at: datetime | None = None
    """When the training began, by the provider's clock."""
    cost_micros: int | None = None
    """What the attempt has cost so far, by the provider's own facts; it never falls."""
    warnings: tuple[Warned, ...] = ()
    artifact: StoredArtifact | None = None
    hosted: HostedModel | None = None
    outcome: Outcome | None = None
    suspicion: str | None = None
    """Silence or 404: inferred, so it ends nothing by itself."""
    vanished: bool = False
    """The provider itself says that the work is gone without a word: the attempt is over, the run may try again."""

    @property
    def says_nothing(self) -> bool:
        """Whether it only says that the training is still there."""
        said = (self.status, self.stage, self.percent, self.eta_seconds, self.artifact, self.outcome, self.suspicion)
        moved = self.log is not None and self.log.end > self.log.start
        return not (moved or self.readings or self.warnings or self.vanished or any(one is not None for one in said))
