"""A simulated Replicate, an adapter with one account there, and a server with a dataset behind a grant."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.secret import Secret
from domain.training.report import Report
from domain.training.status import Provider
from jobs.providers.base import Account, CallbackBody, DatasetOrder, Position, Started, TrainingOrder
from jobs.providers.replicate.trainer import ReplicateTrainer
from jobs.simulators.replicate import ReplicateSimulator
from tests.jobs.providers.replicate.stage import Stage

RUN = UUID("01930000-aaaa-7000-8000-0000c0ffee01")
TAG = f"run-{RUN.hex}-1"
GRANT = "rwg_the-grant-of-this-dataset"
FLUX = {
    "trainer": "ostris/flux-dev-lora-trainer",
    "triggerWord": "TOK",
    "steps": 1000,
    "destination": None,
    "hardware": "gpu-t4",
    "visibility": "private",
    "billedHardware": "gpu-h100",
    "input": None,
}
ANY = {
    "trainer": "zsxkib/text-classifier-trainer",
    "datasetInput": "train_data",
    "destination": None,
    "hardware": "gpu-t4",
    "visibility": "private",
    "billedHardware": "gpu-l40s",
    "input": None,
}


@dataclass
class Door:
    """Takes webhooks like our own door: raw, with the names of headers in small letters."""

    url: str
    simulator: ReplicateSimulator
    got: list[CallbackBody] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(CallbackBody(headers, await request.body(), self.simulator.wall()))
        return Response(status_code=204)


@dataclass
class Bench:
    """Everything that one test needs; `trainer()` gives adapters of other scenarios or accounts."""

    simulator: ReplicateSimulator
    base_url: str
    files_url: str
    door: Door
    http: httpx2.AsyncClient
    stack: AsyncExitStack

    def trainer(self, scenario: str | None = None, *, account: str = "acme", **options: Any) -> ReplicateTrainer:
        key = f"r8_sim_{account}" + (f".{scenario}" if scenario else "")
        trainer = ReplicateTrainer(Account(Provider.REPLICATE, Secret(key), self.base_url), self.http, **options)
        self.stack.push_async_callback(trainer.close)
        return trainer

    def dataset(self, tag: str = TAG, *, path: str = "/download", token: str = GRANT) -> DatasetOrder:
        url = f"{self.files_url}{path}?for={tag}"
        return DatasetOrder(url=url, token=Secret(token), format="ZIP", bytes=4, sha256="0" * 64)

    def order(
        self, *, attempt: int = 1, recipe: str = "flux-lora", calls_back: bool = False, **more: Any
    ) -> TrainingOrder:
        tag = f"run-{RUN.hex}-{attempt}"
        defaults = FLUX if recipe == "flux-lora" else ANY
        given: dict[str, Any] = {
            "hyperparameters": {**defaults, **more.pop("hyperparameters", {})},
            "dataset": self.dataset(tag),
            "model_name": "Minha Gata É Linda!",
            **more,
        }
        return TrainingOrder(
            tag=tag,
            run_id=RUN,
            attempt=attempt,
            recipe=recipe,
            time_limit_seconds=3_600,
            memory_limit_bytes=1,
            disk_limit_bytes=1,
            callback_url=Secret(f"{self.door.url}?run={tag}") if calls_back else None,
            **given,
        )

    async def report(self, trainer: ReplicateTrainer, started: Started, position: Position | None = None) -> Report:
        return await trainer.report(started.reference, position or position_of(), self.simulator.clock.now())

    async def walk(self, seconds: float, steps: int = 20) -> None:
        """Let the simulator's clock go in small steps, so that what happens on the way happens."""
        for _ in range(steps):
            self.simulator.clock.advance(seconds / steps)
            await asyncio.sleep(0.045)

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        for _ in range(250):
            if holds():
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"It was waited in vain for {what}.")

    def asked(self, method: str, pattern: str) -> int:
        return len(self.simulator.journal.of(method, pattern))


def position_of(offset: int = 0, **more: Any) -> Position:
    return Position(offset=offset, attempt=1, tag=TAG, **{"hyperparameters": FLUX, **more})


def after(position: Position, report: Report) -> Position:
    """Where the follower stands once the report is written down."""
    end, state = (report.log.end, report.log.state) if report.log is not None else (position.offset, position.log_state)
    return position_of(
        end,
        log_state=state,
        hyperparameters=position.hyperparameters,
        price_micros_per_hour=position.price_micros_per_hour,
        known_cost_micros=report.cost_micros or position.known_cost_micros,
    )


def texts(reports: Sequence[Report]) -> list[str]:
    return [line.text for report in reports if report.log is not None for line in report.log.lines]


@asynccontextmanager
async def bench_of(stage: Stage, simulator: ReplicateSimulator) -> AsyncIterator[Bench]:
    async def download(request: Request) -> Response:
        allowed = request.query_params.get("token") == GRANT
        return Response(b"PK\x03\x04" if allowed else b"", status_code=200 if allowed else 403)

    async with AsyncExitStack() as stack:
        door = Door("", simulator)
        ours = Starlette(routes=[Route("/download", download), Route("/webhooks", door.take, methods=["POST"])])
        files_url = await stack.enter_async_context(stage.shows(ours))
        door.url = f"{files_url}/webhooks"
        base_url = await stack.enter_async_context(stage.shows(simulator.app, simulator.run))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=5))
        yield Bench(simulator, base_url, files_url, door, http, stack)
