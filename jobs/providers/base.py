"""What a provider can do, in our words. Each vendor's words end in its own folder.

Every method can be called twice with the same result, has a time limit of its own, and raises only the errors below.

    ProviderError
    ├── ProviderBusy           not now: rate limited, overloaded or not reachable; ask again later
    │   └── NoCapacity         no free machine of this kind; another kind or provider may have one
    ├── ProviderRefused        never, as asked
    │   └── CredentialRefused  the key is wrong, or its account may not (no rights, no money)
    └── ProviderLost           the provider does not know what we ask about
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol, runtime_checkable
from uuid import UUID

from domain.secret import Secret
from domain.training.report import Report
from domain.training.status import Provider


class ProviderError(Exception):
    """A provider did not do what was asked. `str(error)` is a sentence without secrets."""


class ProviderBusy(ProviderError):
    """Not now: out of capacity, rate limited or not reachable. Ask again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NoCapacity(ProviderBusy):
    """No machine of the wanted kind is free. A few more tries may find one; then another kind or provider may."""

    def __init__(self, message: str, retry_after_seconds: float = 10.0) -> None:
        super().__init__(message, retry_after_seconds)


class ProviderRefused(ProviderError):
    """Never, as asked: the request itself was refused."""


class CredentialRefused(ProviderRefused):
    """The key is wrong, or the account behind it may not: no rights, no money. The user can mend it."""


class ProviderLost(ProviderError):
    """The provider does not know what we ask about."""


_KEY = re.compile(r"[\x21-\x7e]{0,512}")


@dataclass(frozen=True, slots=True)
class Account:
    """With whose key a provider is asked, and where.

    Raises `CredentialRefused` for a key that no request can carry: libraries stumble over its signs in ways of their
    own, and repeat the whole header in what they say of it.
    """

    provider: Provider
    api_key: Secret
    base_url: str
    """Without a slash at its end; the vendor's own address, or a simulator's."""
    integration_id: UUID | None = None
    """The user's own credential; None for the operator's."""
    is_test: bool = False
    """Whether it is a simulator's: nothing costs money there."""

    def __post_init__(self) -> None:
        if _KEY.fullmatch(self.api_key.reveal()) is None:
            raise CredentialRefused(f"The key for {self.provider.value} holds signs that no key can have.")


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a provider is asked about one training: often while it is young, less so later."""

    first_seconds: float
    longest_seconds: float
    doubling_seconds: float = 120.0
    """The age at which the wait has doubled for the first time, and so on at each doubling of the age."""

    def seconds_at(self, age_seconds: float) -> float:
        """The wait until the next look at a training that began so long ago."""
        grown = self.first_seconds * max(1.0, 1.0 + age_seconds / self.doubling_seconds)
        return min(self.longest_seconds, grown)


@dataclass(frozen=True, slots=True)
class DatasetOrder:
    """Where a trainer fetches its data, and what it must then hold."""

    url: str
    """The download address, without the token."""
    token: Secret
    """The grant; sent as `Authorization: Bearer`, or as `?token=` by those who can send no headers."""
    format: str
    """CSV, JSONL or ZIP."""
    bytes: int
    sha256: str
    """Hex."""
    name: str = ""
    """As its owner calls it; never a path."""
    open: Callable[[], BinaryIO] | None = None
    """Opens the stored bytes on this machine, to be read in a thread; for providers that are sent the data with the
    order instead of an address."""

    @property
    def address(self) -> Secret:
        """The address with the grant in it."""
        joint = "&" if "?" in self.url else "?"
        return Secret(f"{self.url}{joint}token={self.token.reveal()}")


@dataclass(frozen=True, slots=True)
class HomeOrder:
    """How a script at the provider speaks with us: `POST {url}/runs/{run_id}/reports` and the doors beside it."""

    url: str
    """Our public address without a slash at its end."""
    token: Secret
    """The attempt's own; dead once the attempt is over."""


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """All that a trainer needs to start one attempt of a run."""

    tag: str
    """The attempt's unique name (`run-<32 hex>-<number>`), by which `find` finds what was started for it. Whoever may
    have started it already asks that first: so it is one training."""
    run_id: UUID
    attempt: int
    recipe: str
    hyperparameters: Mapping[str, Any]
    dataset: DatasetOrder | None
    time_limit_seconds: int
    memory_limit_bytes: int
    disk_limit_bytes: int
    model_name: str = ""
    """As the user calls the model; any printable text."""
    gpu_type: str | None = None
    image: str | None = None
    home: HomeOrder | None = None
    """For scripts that report to us."""
    callback_url: Secret | None = None
    """Where the provider may call, made for this attempt; None where the outside cannot reach us."""
    keep_seconds: int = 0
    """How long a machine is kept after success; 0 by default, since it costs money."""


@dataclass(frozen=True, slots=True)
class Started:
    """A training that a provider has."""

    reference: str
    """The provider's own id."""
    url: str | None = None
    """The provider's page about it, for people."""
    price_micros_per_hour: int = 0
    """List price while it runs, in millionths of a US dollar; 0 where the provider charges otherwise."""
    version: str | None = None
    """What of the provider's code it runs, where that has a version."""
    began_at: datetime | None = None
    """When it was made, by the provider's own word; what costs by the hour has cost since then."""
    has_begun: bool = True
    """False for a place that was made for the training, in which nothing was begun yet: `start` goes on with it."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far an attempt was followed, and what was known of it then."""

    offset: int
    """How far its log was read: bytes for a file, characters for a growing text."""
    attempt: int
    tag: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    log_state: Mapping[str, Any] = field(default_factory=dict)
    """What reading the log up to `offset` has taught (`jobs.trainer_logs`)."""
    begun_at: datetime | None = None
    """When the provider was asked for it."""
    heard_at: datetime | None = None
    """When its script last spoke to us."""
    price_micros_per_hour: int = 0
    known_cost_micros: int = 0


class Trainer(Protocol):
    """Starts trainings with one account, tells how they do, stops them."""

    @property
    def pace(self) -> Pace: ...

    @property
    def bills_from_creation(self) -> bool:
        """Whether each second of what was started costs, from its creation until its end is confirmed, as a machine's
        does; else only the provider's own word tells what is to be paid."""
        ...

    async def start(self, order: TrainingOrder) -> Started:
        """Start the training once. Raises `NoCapacity`, `ProviderBusy`, `ProviderRefused`; `ProviderLost` where what
        was made for it is gone again.

        A lost answer is not searched for here: whoever calls asks `find` before it calls `start` again."""
        ...

    async def find(self, tag: str) -> Started | None:
        """The training that was started with this tag, if the provider has one."""
        ...

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        """What the training says now: new whole log lines after the position, progress, cost, its end.

        A report with an outcome holds the log's tail. Raises `ProviderLost` if the provider does not know it (any
        more); where a provider may be late to know what it has, that is a suspicion in the report instead."""
        ...

    async def stop(self, reference: str) -> bool:
        """Ask for the end; True once the provider confirms that nothing of it is left or can cost anything."""
        ...


@dataclass(frozen=True, slots=True)
class Quote:
    """What a training would cost, as far as the provider tells."""

    gpu_type: str | None
    price_micros_per_hour: int | None
    """None where the provider charges a flat price."""
    flat_micros: int | None
    is_available: bool | None
    """None where the provider does not tell."""
    expected_seconds: float | None
    """The provider's own hint how long it takes."""
    is_estimate: bool = True


@dataclass(frozen=True, slots=True)
class FinishedModel:
    """A model that exists at the provider, read from there."""

    version: str
    """What names it there."""
    url: str | None
    """Where it can be fetched or used."""
    reference: str | None = None
    """The training it came from."""
    finished_at: datetime | None = None


@runtime_checkable
class RemoteTrainer(Trainer, Protocol):
    """A trainer whose work is done elsewhere, with somebody's account."""

    async def whose(self) -> str:
        """Whose account the key opens, for people. Raises `CredentialRefused`, `ProviderBusy`."""
        ...

    async def quotes(self, gpu_types: Sequence[str], hyperparameters: Mapping[str, Any]) -> Sequence[Quote]:
        """Price and stock, one per wanted GPU type, or one where there is no choice."""
        ...

    async def alive(self) -> Mapping[str, str]:
        """Everything of ours that this account has alive: reference → tag. For finding what no run owns."""
        ...

    async def finished(self, version: str) -> FinishedModel:
        """The finished model of that name, read from the provider. Raises `ProviderLost`, `ProviderRefused`."""
        ...


class CallbackForged(Exception):
    """Not by the provider: no valid signature, or too old."""


class CallbackUnreadable(Exception):
    """By the provider perhaps, but in no form that we understand. `str(error)` says what was expected."""


@dataclass(frozen=True, slots=True)
class CallbackBody:
    """A callback as it came."""

    headers: Mapping[str, str]
    """Names in small letters."""
    body: bytes
    received_at: datetime


@runtime_checkable
class ReceivesCallbacks(Protocol):
    """A provider that calls us."""

    async def heard(self, callback: CallbackBody, reference: str, position: Position) -> Report | None:
        """What an authentic callback about this training says; None where it is a hint only, and the provider is to be
        read again. Raises `CallbackForged`, `CallbackUnreadable`."""
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
