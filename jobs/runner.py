"""Which runs this worker looks after: takes leases of due ones, keeps them while it works, lets go when it ends.

The sweep over Postgres is the truth of what is due; a ring from arq only makes it sooner.
"""

import logging
import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import anyio
from anyio.abc import TaskGroup

from domain.errors import Unavailable
from domain.training import queries, service
from domain.training.status import EndReason
from jobs.context import JobContext
from jobs.running import look_after

logger = logging.getLogger("runwire.jobs")

LEASE_SECONDS = 10.0
"""A worker that was killed is missed after so long, and another takes its runs."""
RENEW_SECONDS = 3.0
SWEEP_SECONDS = 1.0
AGAIN_AFTER_ERROR_SECONDS = 5.0
MOST_FAILURES = 10
"""Faults of ours in a row after which a run is given up."""
STOP_SECONDS = 3.0
"""How long giving leases back may take when the worker ends; they run out by themselves."""
RELEASE_AGAIN_SECONDS = 0.5
MOST_RUNS = 64
"""Runs that one worker looks after at once."""

Caretaker = Callable[[JobContext, UUID, Callable[[float], Awaitable[None]]], Awaitable[float]]


class Runner:
    """Looks after runs until it is stopped. `ring` may be called from anywhere in the process."""

    def __init__(self, context: JobContext, *, caretaker: Caretaker = look_after) -> None:
        self.context = context
        self.caretaker = caretaker
        self.bells: dict[UUID, anyio.Event] = {}
        """The runs looked after, each with the bell that wakes its caretaker."""
        self.looked_at: dict[UUID, datetime] = {}
        """When each was last begun to be looked at: a wish that came later is not overlooked when it is let go."""
        self.due = anyio.Event()
        self.failures: dict[UUID, int] = {}
        """How often looking after a run failed, one time after the other."""
        self.stopping = False

    async def ring(self, run_id: UUID) -> None:
        """Somebody wants this run looked at now."""
        bell = self.bells.get(run_id)
        if bell is not None:
            bell.set()
        else:
            self.due.set()

    async def run(self) -> None:
        """Sweep, look after, renew, until cancelled; then let go of everything, so that others go on at once."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._renew)
                await self._sweep(group)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(STOP_SECONDS):
                await self._let_go()

    async def _sweep(self, group: TaskGroup) -> None:
        while not self.stopping:
            try:
                for run_id in await self._claim():
                    self.bells[run_id] = anyio.Event()
                    group.start_soon(self._care, run_id)
            except Unavailable:
                logger.warning("Postgres does not answer; the sweep goes on when it does.")
            except Exception:
                logger.exception("The sweep stumbled, and goes on.")
            with anyio.move_on_after(SWEEP_SECONDS):
                await self.due.wait()
            self.due = anyio.Event()

    async def _claim(self) -> list[UUID]:
        room = MOST_RUNS - len(self.bells)
        if room <= 0:
            return []
        async with self.context.begin() as work:
            claimed = await queries.claim_due(
                work.session,
                worker_id=self.context.worker_id,
                now=self.context.clock.now(),
                lease_seconds=LEASE_SECONDS,
                count=room,
            )
        return [run_id for run_id in claimed if run_id not in self.bells]

    async def _care(self, run_id: UUID) -> None:
        """One run, until it ends, waits, or something unexpected happens; then the lease goes back."""
        seconds, release_seconds = 0.0, STOP_SECONDS
        self.looked_at[run_id] = self.context.clock.now()
        try:
            seconds = await self.caretaker(self.context, run_id, lambda seconds: self._wait(run_id, seconds))
            self.failures.pop(run_id, None)
        except Unavailable:
            logger.warning("Postgres does not answer; the run is looked at again.", extra={"run_id": str(run_id)})
            seconds, release_seconds = 1.0, LEASE_SECONDS
        except Exception:
            facts = {"run_id": str(run_id), "error_id": secrets.token_hex(8)}
            logger.exception("Looking after a run failed; it is looked at again.", extra=facts)
            seconds = AGAIN_AFTER_ERROR_SECONDS
            await self._stumbled(run_id, facts["error_id"])
        finally:
            self.bells.pop(run_id, None)
            with anyio.CancelScope(shield=True), anyio.move_on_after(release_seconds):
                await self._release(run_id, seconds)
            self.looked_at.pop(run_id, None)

    async def _stumbled(self, run_id: UUID, error_id: str) -> None:
        """A fault of ours. What fails again and again in the same run is that run's end, so that it does not hang."""
        self.failures[run_id] = self.failures.get(run_id, 0) + 1
        if self.failures[run_id] < MOST_FAILURES:
            return
        try:
            async with self.context.begin() as work:
                message = f"We failed to look after this run; quote {error_id} to whoever operates it."
                await service.give_up(work, run_id, EndReason.PROVIDER_ERROR, message)
            self.failures.pop(run_id)
        except Exception:
            logger.exception("The run could not be ended either.", extra={"run_id": str(run_id)})

    async def _wait(self, run_id: UUID, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self.bells[run_id].wait()
        self.bells[run_id] = anyio.Event()
        self.looked_at[run_id] = self.context.clock.now()

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(RENEW_SECONDS)
            if not self.bells:
                continue
            try:
                async with self.context.begin() as work:
                    await queries.renew_leases(
                        work.session,
                        worker_id=self.context.worker_id,
                        run_ids=list(self.bells),
                        now=self.context.clock.now(),
                        lease_seconds=LEASE_SECONDS,
                    )
            except Unavailable:
                logger.warning("Leases were not renewed; another worker may take the runs, which does no harm.")
            except Exception:
                logger.exception("Renewing the leases stumbled, and goes on.")

    async def _release(self, run_id: UUID, seconds: float) -> None:
        """Give a lease back, as soon as Postgres answers; the caller says how long to try."""
        while True:
            try:
                async with self.context.begin() as work:
                    return await queries.release(
                        work.session,
                        worker_id=self.context.worker_id,
                        run_id=run_id,
                        next_check_at=self.context.clock.now() + timedelta(seconds=seconds),
                        looked_at=self.looked_at.get(run_id) or self.context.clock.now(),
                    )
            except Unavailable:
                logger.warning("A lease was not given back; it is tried again.", extra={"run_id": str(run_id)})
            await anyio.sleep(RELEASE_AGAIN_SECONDS)

    async def _let_go(self) -> None:
        for run_id in list(self.bells):
            await self._release(run_id, 0)
