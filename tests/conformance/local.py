"""LOCAL: sandboxes of this machine. Its account is a folder, and its clock is the real one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from domain.training.recipes import checked_hyperparameters
from domain.training.status import Provider
from jobs.providers.base import Account, Trainer, TrainingOrder
from jobs.providers.local.folders import inhabitants
from jobs.providers.local.sandbox import Sandbox, SandboxState
from jobs.providers.local.trainer import LocalTrainer
from jobs.simulators.kit import Truth
from tests.conformance.driver import Driver, Leaves, Play, Wrote
from tests.conformance.ground import Ground
from tests.jobs.recipes.data import as_csv, digits

MARK = "::runwire "
"""How the lines begin that are for the product and not for people."""


class LocalDriver(Driver):
    provider = Provider.LOCAL
    leaves = Leaves.ARTIFACT
    stranger = "run-ffffffffffffffffffffffffffffffff-1"
    goes_by_itself = True

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.data_dir = ground.folder / "local"  # shared, so that the sandboxes' environment is made once
        self.tags: list[str] = []

    @property
    def now(self) -> datetime:
        return datetime.now(UTC)

    def build(self, account: Account) -> Trainer:
        return LocalTrainer(self.data_dir)

    def key(self, scenario: str = "") -> str:
        return ""

    def order(self, play: Play = Play.SUCCEEDS) -> TrainingOrder:
        wishes: Mapping[Play, Mapping[str, object]] = {
            Play.SUCCEEDS: {"epochs": 4},
            Play.FAILS: {"targetColumn": "no such column"},
            Play.GOES_ON: {"epochs": 10_000, "hiddenLayers": [64]},
        }
        given = checked_hyperparameters("tabular-classification", {"targetColumn": "label", **wishes[play]}, None)
        order = self.made("tabular-classification", given, as_csv(digits(100)), "CSV")
        self.tags.append(order.tag)
        return order

    def scenario_of(self, play: Play) -> str:
        return ""

    async def truths(self) -> list[Truth]:
        return [await self._truth(tag) for tag in self.tags if await Sandbox.find(self.data_dir, tag) is not None]

    async def pass_time(self) -> None:
        await anyio.sleep(0.1)

    async def wrote(self, order: TrainingOrder, reference: str) -> Wrote:
        raw = await anyio.Path(self._log(reference)).read_bytes()
        texts = [line.split(" ", 2)[2] for line in raw.decode().splitlines()]
        return Wrote(len(raw), [text for text in texts if not text.startswith(MARK)])

    def _log(self, tag: str) -> Path:
        return Sandbox(self.data_dir, tag).folder / "log"

    async def _truth(self, tag: str) -> Truth:
        sandbox = Sandbox(self.data_dir, tag)
        living = await anyio.to_thread.run_sync(inhabitants, sandbox.folder)
        state = await sandbox.state()
        return Truth(
            provider="LOCAL",
            account=self.account,
            reference=tag,
            tag=tag,
            scenario="",
            state="training" if living else "gone",
            is_alive=bool(living) or state is SandboxState.RUNNING,
            created_at=self.now,
            ended_at=None,
            billed_seconds=0,
            price_micros_per_hour=0,
            cost_micros=0,
        )
