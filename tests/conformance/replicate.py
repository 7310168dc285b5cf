"""REPLICATE, simulated."""

from domain.training.status import Provider
from jobs.providers.base import Account, Trainer, TrainingOrder
from jobs.providers.replicate.trainer import ReplicateTrainer
from tests.conformance.driver import Leaves, Play, Wrote
from tests.conformance.simulated import SimulatedDriver

WISH = {
    "trainer": "ostris/flux-dev-lora-trainer",
    "triggerWord": "TOK",
    "steps": 1_000,
    "destination": None,
    "hardware": "gpu-t4",
    "visibility": "private",
    "billedHardware": "gpu-h100",
    "input": None,
}


class ReplicateDriver(SimulatedDriver):
    provider = Provider.REPLICATE
    prefix = "r8_"
    leaves = Leaves.HOSTED
    stranger = "zz00zz00zz00zz00zz00zz00zz"
    step_seconds = 1.0
    by_itself = frozenset({"quotes"})

    def build(self, account: Account) -> Trainer:
        return ReplicateTrainer(account, self.ground.http)

    def order(self, play: Play = Play.SUCCEEDS) -> TrainingOrder:
        return self.made("flux-lora", WISH, b"PK\x03\x04", "ZIP")

    def scenario_of(self, play: Play) -> str:
        return {Play.SUCCEEDS: "success", Play.FAILS: "fails_while_training", Play.GOES_ON: "stuck"}[play]

    async def wrote(self, order: TrainingOrder, reference: str) -> Wrote:
        training = self.ground.simulators.replicate.trainings[reference]
        log = training.log_at(self.now)
        # Bars are refreshed by a carriage return, and not each refresh is told.
        plain = [line for line in log.split("\n") if line and "\r" not in line and "%|" not in line]
        return Wrote(len(log), plain)
