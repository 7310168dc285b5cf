"""The simulators as a process of their own, out of the storm's reach; it tells what really happened at `/truths`.

python -m tests.chaos.simulating PORT SEED QUEUE_SECONDS TRAINING_SECONDS
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from domain.training.status import Provider
from graph.cli.processes import Process, Supervisor
from graph.cli.stack import free_port
from jobs.simulators.kit import Truth
from jobs.simulators.server import Simulators
from tests.chaos.plan import SOLD_OUT, Durations
from tests.e2e.harness import passed_on, until

ROOT = Path(__file__).parent.parent.parent
REQUESTS = (6_000, 300_000, 1_000_000)
"""Per minute, hour and day at RunPod: its own sixty a minute are an account's, and in test mode each scenario asks for
itself."""


class SimulatorsProcess:
    """The simulators on a port of their own, as long as the block lasts."""

    def __init__(self, folder: Path, seed: int, durations: Durations) -> None:
        port = free_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        words = [port, seed, durations.queue, durations.training]
        command = [sys.executable, "-m", "tests.chaos.simulating", *map(str, words)]
        environment = {**passed_on(), "PYTHONPATH": str(ROOT)}
        self.process = Process("simulators", command, environment, folder / "logs" / "simulators.log", restart=False)
        self._supervisor = Supervisor(lambda news: None)

    def __enter__(self) -> Self:
        self._supervisor.start(self.process)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._supervisor.stop(limit_seconds=10.0)

    async def ready(self) -> None:
        """They answer."""

        async def answers() -> bool:
            assert self.process.is_running, f"The simulators ended: {self.process.tail()}"
            try:
                await self.truths()
            except httpx2.HTTPError:
                return False
            return True

        await until("the simulators answer", answers, look_seconds=0.1)

    async def truths(self) -> list[Truth]:
        """What really happened to everything that was ever created."""
        async with httpx2.AsyncClient(timeout=20, trust_env=False) as http:
            answer = await http.get(f"{self.url}/truths")
            answer.raise_for_status()
        return [_truth_of(facts) for facts in answer.json()]


def provider_of(truth: Truth) -> Provider:
    """Simulators write their vendor's name as they like."""
    return Provider(truth.provider.upper())


def _truth_of(facts: dict[str, Any]) -> Truth:
    times = {
        name: datetime.fromisoformat(facts[name]) if facts[name] is not None else None
        for name in ("created_at", "ended_at")
    }
    return Truth(**{**facts, **times})


def main(arguments: Sequence[str]) -> None:
    port, seed = int(arguments[0]), int(arguments[1])
    queue, training = float(arguments[2]), float(arguments[3])
    simulators = Simulators(
        seed=seed,
        replicate={"starting_seconds": queue, "training_seconds": training, "oversized_characters": 2_500_000},
        runpod={
            "runs_scripts": False,
            "provisioning_seconds": queue / 3,
            "starting_seconds": queue,
            "training_seconds": training,
            "quotas": REQUESTS,
        },
        astria={"queue_seconds": queue, "training_seconds": training},
        e2b={"accident_after_seconds": training / 2},
    )
    simulators.runpod.sold_out.update(SOLD_OUT)

    async def truths(request: Request) -> JSONResponse:
        return JSONResponse([_plain(truth) for truth in simulators.truths()])

    simulators.app.router.routes.insert(0, Route("/truths", truths))
    # The event loop of `jobs.simulators.__main__`, for its reason.
    options: dict[str, Any] = {
        "loop": "asyncio",
        "access_log": False,
        "log_level": "warning",
        "timeout_graceful_shutdown": 1,
    }
    uvicorn.run(simulators.app, host="127.0.0.1", port=port, **options)


def _plain(truth: Truth) -> dict[str, Any]:
    times = {
        name: moment.isoformat() if moment is not None else None
        for name, moment in (("created_at", truth.created_at), ("ended_at", truth.ended_at))
    }
    return {**asdict(truth), **times}


if __name__ == "__main__":
    main(sys.argv[1:])
