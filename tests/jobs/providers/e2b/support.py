"""Orders, a simulator with an account of its own for each test, and ways to follow a training."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import httpx2

from db.artifacts import ArtifactStore
from domain.secret import Secret
from domain.training.recipes import checked_hyperparameters
from domain.training.report import LogText, Report
from domain.training.status import Provider
from jobs.providers.base import Account, DatasetOrder, Position, TrainingOrder
from jobs.providers.e2b.sandboxes import E2BSandboxes
from jobs.providers.e2b.trainer import E2BTrainer
from jobs.simulators.e2b import E2BSimulator
from jobs.simulators.e2b.sandboxes import Sandbox
from jobs.simulators.kit import Heard, Truth

RUN = UUID("01890000-0000-7000-8000-000000000001")
GIB = 1024**3
WAIT_LIMIT_SECONDS = 30.0


@dataclass
class Bench:
    """A simulator, one account there, and the adapter with it."""

    simulator: E2BSimulator
    base_url: str
    http: httpx2.AsyncClient
    folder: Path
    account: str = field(default_factory=lambda: uuid4().hex)
    trainers: list[E2BTrainer] = field(default_factory=list)

    def account_of(self, scenario: str = "") -> Account:
        key = f"e2b_sim_{self.account}" + (f".{scenario}" if scenario else "")
        return Account(Provider.E2B, Secret(key), self.base_url, is_test=True)

    def trainer(self, scenario: str = "", **options: Any) -> E2BTrainer:
        """A new one, as another worker would have it."""
        store = ArtifactStore(self.folder / "artifacts")
        options = {"hold_seconds": 0.25, "call_seconds": 10.0, **options}
        return E2BTrainer(self.account_of(scenario), self.http, keep_artifact=store.keep, **options)

    def sandboxes(self, scenario: str = "", **options: Any) -> E2BSandboxes:
        return E2BSandboxes(self.account_of(scenario), self.http, **options)

    def script(self, *scenarios: str) -> None:
        self.simulator.script(self.account, scenarios)

    def truths(self) -> list[Truth]:
        return [one for one in self.simulator.truths() if one.account == self.account]

    def heard(self, method: str, path: str) -> list[Heard]:
        return [one for one in self.simulator.journal.of(method, path) if one.account == self.account]

    def record(self, reference: str) -> Sandbox:
        return self.simulator.sandboxes.all[reference]

    @property
    def now(self) -> datetime:
        return self.simulator.clock.now()

    async def followed(self, trainer: E2BTrainer, reference: str, tag: str) -> list[Report]:
        """All reports to the end, each read where the one before ended."""
        reports: list[Report] = []
        position = Position(offset=0, attempt=1, tag=tag)
        with anyio.fail_after(WAIT_LIMIT_SECONDS):
            while True:
                report = await trainer.report(reference, position, self.now)
                reports.append(report)
                if report.outcome is not None or report.vanished:
                    return reports
                position = after(position, report)
                await asyncio.sleep(0.02)


def after(position: Position, report: Report) -> Position:
    """The position once the report was stored."""
    if report.log is None:
        return position
    assert report.log.start == position.offset < report.log.end
    cost = report.cost_micros or 0
    return Position(
        report.log.end, position.attempt, position.tag, log_state=dict(report.log.state), known_cost_micros=cost
    )


def lines_of(reports: list[Report]) -> list[LogText]:
    return [line for report in reports if report.log is not None for line in report.log.lines]


def texts_of(reports: list[Report]) -> list[str]:
    return [line.text for line in lines_of(reports)]


def command(text: str, *, tag: str = "", limit_seconds: int = 60, **hyperparameters: Any) -> TrainingOrder:
    """An order for a program of the user's own."""
    return TrainingOrder(
        tag=tag or f"run-{uuid4().hex}-1",
        run_id=RUN,
        attempt=1,
        recipe="command",
        hyperparameters={"command": text, **hyperparameters},
        dataset=None,
        time_limit_seconds=limit_seconds,
        memory_limit_bytes=GIB,
        disk_limit_bytes=GIB,
    )


def recipe(dataset: DatasetOrder, name: str = "tabular-classification", **hyperparameters: Any) -> TrainingOrder:
    """An order for one of ours."""
    return TrainingOrder(
        tag=f"run-{uuid4().hex}-1",
        run_id=RUN,
        attempt=1,
        recipe=name,
        hyperparameters=checked_hyperparameters(name, {"epochs": 1, **hyperparameters}, None),
        dataset=dataset,
        time_limit_seconds=60,
        memory_limit_bytes=GIB,
        disk_limit_bytes=GIB,
    )


def artifact_of(content: str, name: str = "model.bin", **facts: Any) -> str:
    """A command that leaves a model with its receipt."""
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    receipt = {
        "name": name,
        "sha256": sha256,
        "bytes": len(content),
        "details": {"metrics": {"accuracy": 1.0}},
        **facts,
    }
    import json
    import shlex

    return (
        f"mkdir -p artifact && printf %s {shlex.quote(content)} > artifact/{name}"
        f" && printf %s {shlex.quote(json.dumps(receipt))} > artifact/artifact.json"
    )


async def chunks_of(content: bytes) -> AsyncIterator[bytes]:
    yield content


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
