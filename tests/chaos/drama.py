"""The runs are started one after the other, and some are canceled, while the storm rages, until all have ended."""

import time
from collections.abc import Callable
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from domain.training.status import Provider
from tests.chaos.judge import Finding
from tests.chaos.people import Person, StartedRun
from tests.chaos.plan import Plan, PlannedRun
from tests.chaos.storm import Storm
from tests.e2e.harness import World

RUN_SECONDS = 420.0
"""How long a run may take to end, with everything that is done to it."""
LOOK_SECONDS = 0.25
TOLD_SECONDS = 15.0
AT_ONCE_HERE = 2
"""Runs of LOCAL that go on at the same time: they really train."""
ENDED = "SELECT id FROM training_runs WHERE id = ANY($1) AND status IN ('READY', 'FAILED', 'CANCELED')"
TOO_LATE = "SELECT status, stage, attempt, suspected_at, next_check_at, lease_until FROM training_runs WHERE id = $1"


class Drama:
    """Plays a plan. `tell` hears now and then how far it is."""

    def __init__(
        self,
        plan: Plan,
        world: World,
        people: list[Person],
        storm: Storm,
        readers: TaskGroup,
        tell: Callable[[str], None],
    ) -> None:
        self.plan = plan
        self.world = world
        self.people = people
        self.storm = storm
        self.readers = readers
        self.tell = tell
        self.started: list[StartedRun] = []
        self.findings: list[Finding] = []
        self._waiting: dict[UUID, anyio.Event] = {}
        self._places = anyio.Semaphore(plan.at_once)
        self._places_here = anyio.Semaphore(AT_ONCE_HERE)
        self._began = time.monotonic()

    async def perform(self) -> None:
        """Until every run has ended, or was given up."""
        async with anyio.create_task_group() as group:
            group.start_soon(self.storm.rage)
            group.start_soon(self._look)
            group.start_soon(self._tell)
            async with anyio.create_task_group() as lives:
                for planned in self.plan.runs:
                    await anyio.sleep(planned.pause_seconds)
                    await self._places.acquire()
                    lives.start_soon(self._live, planned)
            self.storm.calm()
            while self.storm.is_raging:
                await anyio.sleep(LOOK_SECONDS)
            group.cancel_scope.cancel()

    async def _live(self, planned: PlannedRun) -> None:
        """One run, from its start to its end."""
        try:
            if planned.provider is not Provider.LOCAL:
                return await self._through(planned)
            async with self._places_here:
                await self._through(planned)
        finally:
            self._places.release()

    async def _through(self, planned: PlannedRun) -> None:
        person = self.people[planned.person]
        one = await person.start(planned, self.readers)
        self.started.append(one)
        ended = self._waiting[one.run.row] = anyio.Event()
        if planned.cancel_after_seconds is not None:
            with anyio.move_on_after(planned.cancel_after_seconds):
                await ended.wait()
            await person.cancel(one.run)
        with anyio.move_on_after(RUN_SECONDS):
            await ended.wait()
        if self._waiting.pop(one.run.row, None) is not None and not ended.is_set():
            async with self.world.database() as rows:
                why = await rows.one(TOO_LATE, one.run.row)
            self.findings.append(Finding("state", f"run {planned.number} ({one.run.row})", f"it does not end: {why}"))

    async def _look(self) -> None:
        """Notice what has ended."""
        async with self.world.database() as rows:
            while True:
                for run_id in await rows.column(ENDED, [*self._waiting]):
                    self._waiting.pop(run_id).set()
                await anyio.sleep(LOOK_SECONDS)

    async def _tell(self) -> None:
        while True:
            await anyio.sleep(TOLD_SECONDS)
            accidents = ", ".join(f"{kind} {count}" for kind, count in sorted(self.storm.accidents.items()))
            ended = len(self.started) - len(self._waiting)
            seconds = time.monotonic() - self._began
            self.tell(f"  {seconds:4.0f} s: {len(self.started)} runs started, {ended} ended; {accidents}")
