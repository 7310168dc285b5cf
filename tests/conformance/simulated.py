"""What the drivers of simulated providers have in common."""

import anyio

from jobs.simulators.kit import Truth
from tests.conformance.driver import Driver


class SimulatedDriver(Driver):
    """A provider that is simulated."""

    step_seconds = 0.5
    """By how much the clock is moved."""
    pause_seconds = 0.03
    """What the simulator is given to do what is due by then."""

    async def truths(self) -> list[Truth]:
        simulator = self.ground.simulators.by_provider[self.provider]
        return [truth for truth in simulator.truths() if truth.account == self.account]

    async def pass_time(self) -> None:
        self.ground.clock.advance(self.step_seconds)
        await anyio.sleep(self.pause_seconds)
