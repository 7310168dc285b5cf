"""What a provider can do, in our words. Each vendor's words end in its own folder.

Every method can be called twice with the same result, has a time limit of its own, and raises only the errors below.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from domain.secret import Secret
from domain.training.report import Report


class ProviderError(Exception):
    """A provider did not do what was asked. `str(error)` is a sentence without secrets."""


class ProviderBusy(ProviderError):
    """Not now: out of capacity, rate limited or not reachable. Ask again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ProviderRefused(ProviderError):
    """Never, as asked: the request itself was refused."""


class ProviderLost(ProviderError):
    """The provider does not know what we ask about."""


@dataclass(frozen=True, slots=True)
class DatasetOrder:
    """Where a trainer fetches its data, and what it must then hold."""

    url: str
    """The download address, without the token."""
    token: Secret
    """The grant; sent as `Authorization: Bearer`."""
    format: str
    """CSV, JSONL or ZIP."""
    bytes: int
    sha256: str
    """Hex."""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """All that a trainer needs to start one attempt of a run."""

    tag: str
    """The attempt's unique name; starting the same tag twice is one training."""
    run_id: UUID
    attempt: int
    recipe: str
    hyperparameters: Mapping[str, Any]
    dataset: DatasetOrder | None
    time_limit_seconds: int
    memory_limit_bytes: int
    disk_limit_bytes: int


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far an attempt's log was read, and what was known of the attempt then."""

    offset: int
    attempt: int


class Trainer(Protocol):
    """Starts trainings, tells how they do, stops them."""

    async def start(self, order: TrainingOrder) -> str:
        """Start the training once and give the provider's reference. Raises `ProviderBusy`, `ProviderRefused`."""
        ...

    async def find(self, tag: str) -> str | None:
        """The reference of the training that was started with this tag, if the provider has one."""
        ...

    async def report(self, reference: str, position: LogPosition, now: datetime) -> Report:
        """What the training says now: new whole log lines after the position, progress, its end.

        A report with an outcome holds the log's tail; `ProviderLost` if the provider never heard of it."""
        ...

    async def stop(self, reference: str) -> bool:
        """Ask for the end; True once the provider confirms that nothing of it is left."""
        ...


@dataclass(frozen=True, slots=True)
class AppOrder:
    """All that a host needs to serve one trained model."""

    tag: str
    """The deployment's unique name; starting the same tag twice is one app."""
    run_id: UUID
    artifact_location: str
    artifact_sha256: str
    memory_limit_bytes: int


@dataclass(frozen=True, slots=True)
class RunningApp:
    """An app that answers, and where. The address is for our proxy only and never shown."""

    reference: str
    host: str
    port: int


class AppHost(Protocol):
    """Serves trained models."""

    async def start(self, order: AppOrder) -> RunningApp:
        """Start the app once and wait until it answers. Raises `ProviderBusy`, `ProviderRefused`."""
        ...

    async def is_alive(self, reference: str) -> bool:
        """Whether the app's process is there."""
        ...

    async def stop(self, reference: str) -> bool:
        """End the app; True once nothing of it is left."""
        ...
