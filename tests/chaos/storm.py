"""The storm: workers and APIs get `kill -9` or stand still, Redis dies and forgets, one accident after the other.

Postgres is spared, and so are the simulators, which stand for the world outside.
"""

import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from graph.cli.processes import Process
from tests.e2e.harness import World

WORKER, API, REDIS, STANDSTILL = "workers killed", "APIs killed", "Redis emptied", "workers stood still"
WEIGHTS = {WORKER: 0.42, API: 0.26, REDIS: 0.26, STANDSTILL: 0.06}
PAUSE_SECONDS = (1.0, 4.5)
"""Between one accident and the next."""
DEAD_SECONDS = (0.0, 1.0)
"""How long somebody who was killed is missing."""
STANDSTILL_SECONDS = (11.0, 14.0)
"""Longer than a lease: another worker goes on meanwhile, and then this one does, and knows nothing of it."""


@dataclass
class Storm:
    """Draws its accidents from the seed."""

    world: World
    seed: int
    pace: float = 1.0
    """How much faster than usual."""
    accidents: Counter[str] = field(default_factory=Counter)
    log: list[tuple[float, str, str]] = field(default_factory=list)
    """When each happened by the system's clock, which it was, and to whom."""
    _still: set[str] = field(default_factory=set)
    _over: anyio.Event = field(default_factory=anyio.Event)
    is_raging: bool = False

    async def rage(self) -> None:
        """Until `calm`; then all that was begun is ended, and everybody whom it hit is there again."""
        chance = random.Random(f"storm:{self.seed}")
        self.is_raging = True
        async with anyio.create_task_group() as group:
            while not self._over.is_set():
                with anyio.move_on_after(chance.uniform(*PAUSE_SECONDS) / self.pace):
                    await self._over.wait()
                    break
                kind = chance.choices([*WEIGHTS], [*WEIGHTS.values()])[0]
                victim, seconds = chance.random(), chance.random()
                await self._befall(group, kind, victim, seconds)
        self.is_raging = False

    def calm(self) -> None:
        self._over.set()

    async def _befall(self, group: TaskGroup, kind: str, victim: float, seconds: float) -> None:
        match kind:
            case _ if kind in (WORKER, API):
                crowd = self.world.workers if kind == WORKER else self.world.apis
                process = crowd[int(victim * len(crowd))]
                self._note(kind, process.name)
                await self.world.kill(process)
                await anyio.sleep(_within(DEAD_SECONDS, seconds))
                await self.world.begin(process)
            case _ if kind == REDIS:
                self._note(kind, "redis")
                await self.world.redis_dies()
                await anyio.sleep(_within(DEAD_SECONDS, seconds))
                await anyio.to_thread.run_sync(self.world.redis.start)
            case _:
                process = self.world.workers[int(victim * len(self.world.workers))]
                if not self._still:  # one at a time: somebody must go on
                    group.start_soon(self._stand_still, process, _within(STANDSTILL_SECONDS, seconds))

    async def _stand_still(self, process: Process, seconds: float) -> None:
        self._note(STANDSTILL, process.name)
        self._still.add(process.name)
        process.kill(signal.SIGSTOP)
        await anyio.sleep(seconds)
        process.kill(signal.SIGCONT)
        self._still.discard(process.name)

    def _note(self, kind: str, name: str) -> None:
        self.accidents[kind] += 1
        self.log.append((time.time(), kind, name))


def _within(span: tuple[float, float], share: float) -> float:
    return span[0] + (span[1] - span[0]) * share
