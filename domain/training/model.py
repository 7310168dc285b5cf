"""Tables of runs: what was wished, the tries, what the trainer wrote and measured, what it left behind."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from domain.base import BIG, BYTES, DOUBLE, JSON_TYPE, TEXT, TEXT_ARRAY, Owned, Row, enum_type
from domain.training.status import ACTIVE, EndReason, LogLevel, Provider, RunStage, RunStatus

_ACTIVE = ", ".join(f"'{status}'" for status in sorted(ACTIVE))


class TrainingConfig(Row, Owned, table=True):
    """A saved set of settings to start runs from. What a run's own input says goes before it."""

    __tablename__ = "training_configs"
    __table_args__ = (sa.UniqueConstraint("user_id", "name"),)

    name: str = Field(sa_type=TEXT)
    provider: Provider | None = Field(default=None, sa_type=enum_type(Provider))
    recipe: str | None = Field(default=None, sa_type=TEXT)
    hyperparameters: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    gpu_types: list[str] = Field(default_factory=list, sa_type=TEXT_ARRAY)
    image: str | None = Field(default=None, sa_type=TEXT)
    time_limit_seconds: int | None = None
    updated_at: datetime


class TrainingRun(Row, Owned, table=True):
    """A user's wish to have something trained, and where it stands."""

    __tablename__ = "training_runs"
    __table_args__ = (
        sa.UniqueConstraint("user_id", "idempotency_key"),
        sa.CheckConstraint("progress >= 0 AND progress <= 100", name="progress"),
        sa.Index("ix_training_runs_due", "next_check_at", postgresql_where=sa.text(f"status IN ({_ACTIVE})")),
        sa.Index("ix_training_runs_tags", "tags", postgresql_using="gin"),
    )

    model_id: UUID = Field(foreign_key="ai_models.id", ondelete="CASCADE", index=True)
    dataset_id: UUID | None = Field(default=None, foreign_key="datasets.id", index=True)
    training_config_id: UUID | None = None
    retry_of_id: UUID | None = None
    provider: Provider = Field(sa_type=enum_type(Provider))
    recipe: str | None = Field(default=None, sa_type=TEXT)
    hyperparameters: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    tags: list[str] = Field(default_factory=list, sa_type=TEXT_ARRAY)
    notes: dict[str, Any] = Field(default_factory=dict, sa_column=sa.Column("metadata", JSON_TYPE, nullable=False))
    """`metadata` everywhere but here, where SQLAlchemy keeps that name for itself."""
    deploy: bool = True
    time_limit_seconds: int
    budget_micros: int | None = Field(default=None, sa_type=BIG)
    image: str | None = Field(default=None, sa_type=TEXT)
    keep_seconds: int = 0
    """How long a machine is kept after success; 0 by default, since it costs money."""
    choices: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON_TYPE)
    """Where the work may be done, in the user's order (`domain.training.choices`); attempts go through them."""
    rules: dict[str, str] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """What is done about each `WarningCode`: `WARN`, `STOP` or `IGNORE`; those not named have their default."""
    test_mode: bool = False
    """Whether simulators do the work, free of charge."""
    scenario: str | None = Field(default=None, sa_type=TEXT)
    """What the simulator is to play; test mode only."""
    idempotency_key: str | None = Field(default=None, sa_type=TEXT)
    request_digest: str | None = Field(default=None, sa_type=TEXT)
    """What the idempotency key was first used for."""

    status: RunStatus = Field(default=RunStatus.QUEUED, sa_type=enum_type(RunStatus))
    stage: RunStage = Field(default=RunStage.WAITING, sa_type=enum_type(RunStage))
    progress: float = Field(default=0.0, sa_type=DOUBLE)
    progress_estimated: bool = True
    eta_seconds: float | None = Field(default=None, sa_type=DOUBLE)
    eta_low_seconds: float | None = Field(default=None, sa_type=DOUBLE)
    eta_high_seconds: float | None = Field(default=None, sa_type=DOUBLE)
    eta_confidence: float | None = Field(default=None, sa_type=DOUBLE)
    end_reason: EndReason | None = Field(default=None, sa_type=enum_type(EndReason))
    error_message: str | None = Field(default=None, sa_type=TEXT)
    cost_micros: int = Field(default=0, sa_type=BIG)
    announced_cost_micros: int = Field(default=0, sa_type=BIG)
    stop_reason: EndReason | None = Field(default=None, sa_type=enum_type(EndReason, name="stop_reason"))
    """Why we are stopping it, until the provider has confirmed; then it is the end reason."""
    stop_message: str | None = Field(default=None, sa_type=TEXT)
    attempt: int = 0
    choice: int = 0
    """Which of its choices the current attempt tries."""
    vanished: int = 0
    """How many attempts were gone without a word."""
    warned: list[str] = Field(default_factory=list, sa_type=TEXT_ARRAY)
    """The warnings that this attempt's owner was told of already."""
    seq: int = Field(default=0, sa_type=BIG)
    """The number of the run's newest event."""
    log_lines: int = Field(default=0, sa_type=BIG)
    app_slug: str | None = Field(default=None, sa_type=TEXT)
    """Slug of the app that serves the result; the address is built from it on read."""
    started_at: datetime | None = None
    """When the trainer's program began."""
    ended_at: datetime | None = None
    suspected_at: datetime | None = None
    last_signal_at: datetime | None = None
    announced_progress: float = Field(default=0.0, sa_type=DOUBLE)
    announced_at: datetime | None = None
    """The last `run.progressed` event, since those are at most two a second."""

    next_check_at: datetime
    """When a worker must look at the run again."""
    lease_owner: UUID | None = None
    lease_until: datetime | None = None


class RunAttempt(Row, Owned, table=True):
    """One try of a run at one provider."""

    __tablename__ = "run_attempts"
    __table_args__ = (sa.UniqueConstraint("run_id", "number"),)

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE")
    number: int
    provider: Provider = Field(sa_type=enum_type(Provider))
    choice: int = 0
    """Which of the run's choices it tries."""
    gpu_type: str | None = Field(default=None, sa_type=TEXT)
    integration_id: UUID | None = None
    """The user's own credential that it is done with; None for the operator's."""
    tag: str = Field(sa_type=TEXT, unique=True)
    reference: str | None = Field(default=None, sa_type=TEXT, index=True)
    """The provider's own id."""
    provider_url: str | None = Field(default=None, sa_type=TEXT)
    end_reason: EndReason | None = Field(default=None, sa_type=enum_type(EndReason))
    error_message: str | None = Field(default=None, sa_type=TEXT)
    cost_micros: int = Field(default=0, sa_type=BIG)
    log_offset: int = Field(default=0, sa_type=BIG)
    """How far the provider's log was read; commits together with the lines."""
    log_state: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """What reading the log so far has taught; commits with the offset."""
    eta_state: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """What the observed rate has taught (`domain.training.eta`)."""
    price_micros_per_hour: int = Field(default=0, sa_type=BIG)
    capacity_tries: int = 0
    """How often the provider had no free machine for it."""
    report_sequence: int = Field(default=0, sa_type=BIG)
    """The number of the newest report of its script that was applied."""
    heard_at: datetime | None = None
    """When its script last spoke to us."""
    started_at: datetime | None = None
    """When the provider was asked for it."""
    training_began_at: datetime | None = None
    """When its trainer's program began."""
    ended_at: datetime | None = None


class PodTokenKind(StrEnum):
    """What a token of an attempt is for: a script that reports to us, or the address that a provider calls."""

    POD = "POD"
    CALLBACK = "CALLBACK"


class PodToken(Row, Owned, table=True):
    """The right of one attempt's script or provider to speak to us; worthless once the attempt is over."""

    __tablename__ = "pod_tokens"

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE", index=True)
    attempt: int
    kind: PodTokenKind = Field(sa_type=enum_type(PodTokenKind))
    hash: bytes = Field(sa_type=BYTES, unique=True)
    expires_at: datetime


class EtaPrediction(Row, Owned, table=True):
    """What was said about a training's end when it had come so far, and what it turned out to be."""

    __tablename__ = "eta_predictions"
    __table_args__ = (sa.UniqueConstraint("run_id", "attempt", "checkpoint"),)

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE")
    attempt: int
    provider: Provider = Field(sa_type=enum_type(Provider))
    checkpoint: int
    """Percent of the training that was done."""
    elapsed_seconds: float = Field(sa_type=DOUBLE)
    predicted_seconds: float = Field(sa_type=DOUBLE)
    """Remaining, as was said then."""
    low_seconds: float = Field(sa_type=DOUBLE)
    high_seconds: float = Field(sa_type=DOUBLE)
    actual_seconds: float | None = Field(default=None, sa_type=DOUBLE)
    """Remaining, as it was; None until the training has ended well."""


class LogLine(SQLModel, table=True):
    """One line that a trainer wrote, numbered within its run."""

    __tablename__ = "run_logs"
    __table_args__ = (sa.PrimaryKeyConstraint("run_id", "line"),)

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE", primary_key=True)
    line: int = Field(primary_key=True, sa_type=BIG)
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    attempt: int
    at: datetime
    level: LogLevel = Field(sa_type=enum_type(LogLevel))
    text: str = Field(sa_type=TEXT)


class MetricPoint(SQLModel, table=True):
    """One value of one metric at one step of one attempt."""

    __tablename__ = "run_metrics"
    __table_args__ = (sa.PrimaryKeyConstraint("run_id", "name", "attempt", "step"),)

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE", primary_key=True)
    name: str = Field(primary_key=True, sa_type=TEXT)
    attempt: int = Field(primary_key=True)
    step: int = Field(primary_key=True, sa_type=BIG)
    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE")
    value: float = Field(sa_type=DOUBLE)
    at: datetime


class Artifact(Row, Owned, table=True):
    """A file that training left behind."""

    __tablename__ = "run_artifacts"
    __table_args__ = (sa.UniqueConstraint("run_id", "attempt", "name"),)

    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE")
    attempt: int
    name: str = Field(sa_type=TEXT)
    location: str = Field(sa_type=TEXT)
    bytes: int = Field(sa_type=BIG)
    sha256: str = Field(sa_type=TEXT)
    details: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)


class WorkerProcess(SQLModel, table=True):
    """A worker that was seen lately; belongs to nobody."""

    __tablename__ = "workers"

    id: UUID = Field(primary_key=True)
    host: str = Field(sa_type=TEXT)
    pid: int
    started_at: datetime
    seen_at: datetime
