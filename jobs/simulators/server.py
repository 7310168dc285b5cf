"""All simulators on one port, as `runwire simulate` and the test mode have them: `/replicate`, `/runpod`, `/astria`,
`/e2b`, each to be given to its vendor's client as the base address."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from domain.training.status import Provider
from jobs.simulators.kit import Simulator, SimulatorClock, Truth

KEY_PREFIXES = {
    Provider.REPLICATE: "r8_",
    Provider.RUNPOD: "rpa_",
    Provider.ASTRIA: "sd_",
    Provider.E2B: "e2b_",
}


class Simulators:
    """One of each vendor, on one clock."""

    def __init__(self, *, clock: SimulatorClock | None = None, seed: int = 0, **options: dict[str, Any]) -> None:
        from jobs.simulators.astria import AstriaSimulator
        from jobs.simulators.e2b import E2BSimulator
        from jobs.simulators.replicate import ReplicateSimulator
        from jobs.simulators.runpod import RunPodSimulator

        self.clock = clock or SimulatorClock()
        self.replicate = ReplicateSimulator(self.clock, seed=seed, **options.get("replicate", {}))
        self.runpod = RunPodSimulator(self.clock, seed=seed, **options.get("runpod", {}))
        self.astria = AstriaSimulator(self.clock, seed=seed, **options.get("astria", {}))
        self.e2b = E2BSimulator(self.clock, seed=seed, **options.get("e2b", {}))
        self.by_provider: dict[Provider, Simulator] = {
            Provider.REPLICATE: self.replicate,
            Provider.RUNPOD: self.runpod,
            Provider.ASTRIA: self.astria,
            Provider.E2B: self.e2b,
        }
        self.app = Starlette(
            routes=[
                Route("/", self._home, methods=["GET"]),
                *(Mount(f"/{provider.value.lower()}", one.app) for provider, one in self.by_provider.items()),
            ],
            lifespan=self._lifespan,
        )

    def truths(self) -> list[Truth]:
        """What really happened to everything that was ever created."""
        return [truth for one in self.by_provider.values() for truth in one.truths()]

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(one.run()) for one in self.by_provider.values()]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    async def _home(self, request: Request) -> JSONResponse:
        """Which base addresses, keys and scenarios there are."""
        base = str(request.base_url).rstrip("/")
        return JSONResponse(
            {
                provider.value: {
                    "baseUrl": f"{base}/{provider.value.lower()}",
                    "exampleKey": f"{KEY_PREFIXES[provider]}sim_me.success",
                    "scenarios": dict(one.scenarios),
                }
                for provider, one in self.by_provider.items()
            }
        )


def scenarios() -> dict[Provider, dict[str, str]]:
    """What each vendor's simulator can play: name → what happens, in a sentence."""
    from jobs.simulators.astria import AstriaSimulator
    from jobs.simulators.e2b import E2BSimulator
    from jobs.simulators.replicate import ReplicateSimulator
    from jobs.simulators.runpod import RunPodSimulator

    return {
        Provider.REPLICATE: dict(ReplicateSimulator.scenarios),
        Provider.RUNPOD: dict(RunPodSimulator.scenarios),
        Provider.ASTRIA: dict(AstriaSimulator.scenarios),
        Provider.E2B: dict(E2BSimulator.scenarios),
    }
