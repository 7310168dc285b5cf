"""RUNPOD, simulated: pods whose scripts are played, and the doors at which they report."""

import json
from uuid import UUID

from domain.training.report import Report
from domain.training.status import Provider
from jobs.pod_reports import AttemptFacts, report_of
from jobs.programs import Program
from jobs.providers.base import Account, Position, Trainer, TrainingOrder
from jobs.providers.runpod.trainer import RunPodTrainer
from tests.conformance.driver import Leaves, Play, Wrote
from tests.conformance.ground import Ground
from tests.conformance.simulated import SimulatedDriver
from tests.jobs.providers.runpod.home import Home


class RunPodDriver(SimulatedDriver):
    provider = Provider.RUNPOD
    prefix = "rpa_"
    leaves = Leaves.NOTHING
    stranger = "zz00zz00zz00zz"
    tells_its_end = False
    misses = False
    has_stages_in_order = False
    gpu_types = ("NVIDIA GeForce RTX 4090", "NVIDIA H100 80GB HBM3")
    by_itself = frozenset({"finished"})
    pause_seconds = 0.12  # a played script looks at the clock ten times a second

    def __init__(self, ground: Ground) -> None:
        super().__init__(ground)
        self.homes: dict[UUID, Home] = {}
        self.taken: dict[UUID, int] = {}
        """How many reports of each run were handed on."""

    def build(self, account: Account) -> Trainer:
        return RunPodTrainer(account, self.ground.http, list_seconds=0.0)

    def order(self, play: Play = Play.SUCCEEDS) -> TrainingOrder:
        order = self.made("tabular-classification", {}, b"a,b\n1,2\n", "CSV", gpu_type=self.gpu_types[0])
        assert order.dataset is not None
        home = self.homes[order.run_id]
        home.grant, home.content = order.dataset.token.reveal(), b"a,b\n1,2\n"
        return order

    def scenario_of(self, play: Play) -> str:
        return {Play.SUCCEEDS: "success", Play.FAILS: "fails_while_training", Play.GOES_ON: "stuck"}[play]

    async def wrote(self, order: TrainingOrder, reference: str) -> Wrote:
        text = self.ground.simulators.runpod.output_of(reference)
        return Wrote(len(text.encode()), text.splitlines())

    async def heard(self, order: TrainingOrder, position: Position) -> Report | None:
        home, count = self.homes[order.run_id], self.taken.get(order.run_id, 0)
        if count == len(home.reports):
            return None
        self.taken[order.run_id] = count + 1
        facts = AttemptFacts(
            number=1,
            log_offset=position.offset,
            log_state=position.log_state,
            begun_at=position.begun_at or self.now,
            is_training=True,
        )
        read = report_of(json.dumps(home.reports[count]).encode(), facts, self.now)
        assert not read.problems, read.problems
        return read.report

    async def has_model(self, order: TrainingOrder, trainer: Trainer, end: Report) -> bool:
        """It came before the end was told."""
        home = self.homes[order.run_id]
        return set(home.artifacts) == {"weights.bin", "artifact.json"} and not home.ended_before

    def home_of(self, run_id: UUID, token: str) -> str:
        home = self.homes[run_id] = Home(str(run_id), token, Program({}, "", "true"))
        return self.ground.places.put(home.app)
