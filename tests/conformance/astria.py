"""ASTRIA, simulated."""

import io
from dataclasses import replace

from domain.training.status import Provider
from jobs.providers.astria.trainer import AstriaTrainer
from jobs.providers.base import Account, DatasetOrder, Trainer, TrainingOrder
from tests.conformance.driver import Leaves, Play, Wrote
from tests.conformance.simulated import SimulatedDriver
from tests.jobs.providers.astria.support import DEFAULTS, images, zipped


class AstriaDriver(SimulatedDriver):
    provider = Provider.ASTRIA
    prefix = "sd_"
    leaves = Leaves.HOSTED
    stranger = "999999999"
    has_log = False
    step_seconds = 1.0
    by_itself = frozenset({"quotes"})

    def build(self, account: Account) -> Trainer:
        return AstriaTrainer(account, self.ground.http)

    def order(self, play: Play = Play.SUCCEEDS) -> TrainingOrder:
        return self.made("image-tune", DEFAULTS, zipped(images()), "ZIP")

    def dataset(self, content: bytes, kind: str, grant: str) -> DatasetOrder:
        return replace(super().dataset(content, kind, grant), open=lambda: io.BytesIO(content))

    def scenario_of(self, play: Play) -> str:
        return {Play.SUCCEEDS: "success", Play.FAILS: "fails_while_training", Play.GOES_ON: "eta_passes"}[play]

    async def wrote(self, order: TrainingOrder, reference: str) -> Wrote:
        return Wrote(0, [])
