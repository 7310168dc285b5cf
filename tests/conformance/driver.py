"""What the suite needs of a provider: a trainer, an order, a way to let time pass, and what is really there.

A driver belongs to one test: it has an account of its own, in which nothing else happens.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID, uuid4

import anyio

from domain.secret import Secret
from domain.training.report import Report
from domain.training.status import Provider
from jobs.providers.base import (
    Account,
    DatasetOrder,
    HomeOrder,
    Position,
    ProviderLost,
    RemoteTrainer,
    Trainer,
    TrainingOrder,
)
from jobs.simulators.kit import Truth
from tests.conformance.ground import Ground

STRANGER = "run-00000000000000000000000000000000-1"
"""A tag that nobody ever starts."""
TIME_LIMIT_SECONDS = 600
GIB = 1024**3


class Play(StrEnum):
    """What a training comes to."""

    SUCCEEDS = "SUCCEEDS"
    FAILS = "FAILS"
    GOES_ON = "GOES_ON"
    """Until somebody ends it."""


class Leaves(StrEnum):
    """What a report of success holds."""

    ARTIFACT = "ARTIFACT"
    """A file on this machine."""
    HOSTED = "HOSTED"
    """A model that stays at the provider."""
    NOTHING = "NOTHING"
    """Its script has sent the model before."""


@dataclass(frozen=True, slots=True)
class Wrote:
    """What a training really wrote."""

    end: int
    """The length of its log, in what offsets are counted in."""
    lines: Sequence[str]
    """Lines that must be told, each different from all others; there may be more."""


class Driver(ABC):
    """One provider, with one account there."""

    provider: ClassVar[Provider]
    prefix: ClassVar[str] = ""
    """How its keys begin; empty where there are none."""
    leaves: ClassVar[Leaves]
    stranger: ClassVar[str]
    """A reference as the provider makes them, of a training that it never had."""
    has_log: ClassVar[bool] = True
    goes_by_itself: ClassVar[bool] = False
    """Whether its trainings are programs of this machine, which go on whatever the clock says."""
    tells_its_end: ClassVar[bool] = True
    """Whether a look at the provider tells how a training ended; else only its own script does."""
    misses: ClassVar[bool] = True
    """Whether what the provider does not know is lost. RunPod may be late with what it knows, so that a pod which is
    missing there is a suspicion in its reports, and no more."""
    has_stages_in_order: ClassVar[bool] = True
    """Whether its stages come in the order of `RunStage`. A pod fetches its data before it installs anything; its run
    then stays in the later stage, as `domain.training.fold` has it."""
    gpu_types: ClassVar[Sequence[str]] = ()
    """Machines to choose between; none where there is no choice."""
    by_itself: ClassVar[frozenset[str]] = frozenset()
    """Methods that ask nobody."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.account = f"c-{uuid4().hex[:12]}"
        self.secrets: dict[str, str] = {}
        """Everything that was shown to the provider and must not come back; what it is, and its text."""

    @abstractmethod
    def build(self, account: Account) -> Trainer:
        """The adapter, as a worker makes it."""

    @abstractmethod
    def order(self, play: Play = Play.SUCCEEDS) -> TrainingOrder:
        """Another training that comes to this."""

    @abstractmethod
    def scenario_of(self, play: Play) -> str:
        """What the simulator is to play."""

    @abstractmethod
    async def truths(self) -> list[Truth]:
        """What there ever was in this account."""

    @abstractmethod
    async def pass_time(self) -> None:
        """Let a little happen."""

    @abstractmethod
    async def wrote(self, order: TrainingOrder, reference: str) -> Wrote:
        """The training's log, read beside the adapter."""

    async def heard(self, order: TrainingOrder, position: Position) -> Report | None:
        """What the training's own script has told us meanwhile; each time the next."""
        return None

    async def has_model(self, order: TrainingOrder, trainer: Trainer, end: Report) -> bool:
        """Whether what the success promised is there."""
        if end.artifact is not None:
            content = await anyio.Path(end.artifact.location).read_bytes()
            return hashlib.sha256(content).hexdigest() == end.artifact.sha256
        if end.hosted is None or not isinstance(trainer, RemoteTrainer):
            return False
        try:
            return (await trainer.finished(end.hosted.version)).version == end.hosted.version
        except ProviderLost:
            return False

    @property
    def base_url(self) -> str:
        return f"{self.ground.simulators_url}/{self.provider.value.lower()}"

    @property
    def now(self) -> datetime:
        return self.ground.clock.now()

    def key(self, scenario: str = "") -> str:
        return f"{self.prefix}sim_{self.account}" + (f".{scenario}" if scenario else "")

    def trainer(self, scenario: str = "", *, key: str | None = None, base_url: str | None = None) -> Trainer:
        """A new one, as another worker would have it."""
        text = key if key is not None else self.key(scenario)
        if text:
            self.secrets[f"the key {len(self.secrets)}"] = text
        trainer = self.build(Account(self.provider, Secret(text), base_url or self.base_url, is_test=True))
        close = getattr(trainer, "close", None)
        if close is not None:
            self.ground.stack.push_async_callback(close)
        return trainer

    def remote(self, scenario: str = "", **options: str) -> RemoteTrainer:
        """The same for those that have accounts."""
        trainer = self.trainer(scenario, **options)
        assert isinstance(trainer, RemoteTrainer)
        return trainer

    def made(
        self, recipe: str, hyperparameters: Mapping[str, Any], content: bytes, kind: str, **more: Any
    ) -> TrainingOrder:
        """An order with data to fetch, a home to report to and an address to call, all with secrets of their own."""
        run_id = uuid4()
        tag = f"run-{run_id.hex}-1"
        grant, pod, callback = (f"{prefix}{uuid4().hex}{uuid4().hex[:11]}" for prefix in ("rwg_", "rwp_", "rwp_"))
        self.secrets |= {f"the grant of {tag}": grant, f"the token of {tag}": pod, f"the address of {tag}": callback}
        self.ground.files.contents[grant] = content
        return TrainingOrder(
            tag=tag,
            run_id=run_id,
            attempt=1,
            recipe=recipe,
            hyperparameters=hyperparameters,
            dataset=self.dataset(content, kind, grant),
            time_limit_seconds=TIME_LIMIT_SECONDS,
            memory_limit_bytes=2 * GIB,
            disk_limit_bytes=GIB,
            model_name="one of many",
            home=HomeOrder(self.home_of(run_id, pod), Secret(pod)),
            callback_url=Secret(f"{self.ground.files_url}/webhooks/{self.provider.value.lower()}/{callback}"),
            **more,
        )

    def dataset(self, content: bytes, kind: str, grant: str) -> DatasetOrder:
        digest = hashlib.sha256(content).hexdigest()
        return DatasetOrder(f"{self.ground.files_url}/download", Secret(grant), kind, len(content), digest)

    def home_of(self, run_id: UUID, token: str) -> str:
        """Where a script of this run reports; nobody is there unless a driver puts somebody there."""
        return f"{self.ground.files_url}/home"
