"""E2B, simulated: sandboxes in which the programs really run."""

import anyio

from db.artifacts import ArtifactStore
from domain.training.status import Provider
from jobs.providers.base import Account, Trainer, TrainingOrder
from jobs.providers.e2b.trainer import E2BTrainer
from tests.conformance.driver import Leaves, Play, Wrote
from tests.conformance.simulated import SimulatedDriver
from tests.jobs.providers.e2b.support import artifact_of

MARK = "::runwire "
"""How the lines begin that are for the product and not for people."""


PROGRAMS = {
    Play.SUCCEEDS: "; ".join(
        f'echo line {number}; echo \'{MARK}{{"stage": "TRAINING", "percent": {20 * number}}}\'; sleep 0.1'
        for number in range(1, 6)
    )
    + f"; cat data/content; {artifact_of('weights')}",
    Play.FAILS: "echo about to fail; echo 'RuntimeError: it broke' >&2; exit 3",
    Play.GOES_ON: "echo it begins; while true; do sleep 1; done",
}


class E2BDriver(SimulatedDriver):
    provider = Provider.E2B
    prefix = "e2b_"
    leaves = Leaves.ARTIFACT
    stranger = "izz00zz00zz00zz00zz00"
    goes_by_itself = True
    by_itself = frozenset({"quotes", "finished"})

    def build(self, account: Account) -> Trainer:
        keep = ArtifactStore(self.ground.folder / "artifacts").keep
        return E2BTrainer(account, self.ground.http, keep_artifact=keep, hold_seconds=0.1, call_seconds=10.0)

    def order(self, play: Play = Play.SUCCEEDS) -> TrainingOrder:
        return self.made("command", {"command": PROGRAMS[play]}, b"the last line\n", "CSV")

    def scenario_of(self, play: Play) -> str:
        return "success"

    async def wrote(self, order: TrainingOrder, reference: str) -> Wrote:
        folder = self.ground.simulators.e2b.sandboxes.all[reference].machine.home / "training"
        raw = await anyio.Path(folder / ".runwire/log").read_text()
        return Wrote(len(raw.encode()), [line for line in raw.splitlines() if not line.startswith(MARK)])
