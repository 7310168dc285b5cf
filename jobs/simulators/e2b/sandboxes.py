"""What the simulator knows of each sandbox, and how its life goes on with the clock."""

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import psutil

from jobs.simulators.e2b.machine import Machine
from jobs.simulators.e2b.processes import Processes
from jobs.simulators.e2b.wire import ConnectFault
from jobs.simulators.kit import Truth

CPU_COUNT = 2
MEMORY_MB = 512
DISK_MB = 10 * 1024
PICO_DOLLARS_PER_SECOND = CPU_COUNT * 14_000_000 + MEMORY_MB * 4_500_000 // 1024
"""2 vCPU at 0.000014 dollars a second each, and half a GiB at 0.0000045."""
PRICE_MICROS_PER_HOUR = PICO_DOLLARS_PER_SECOND * 3600 // 1_000_000
ENVD_VERSION = "0.6.2"


@dataclass(slots=True)
class Sandbox:
    """One sandbox, living or gone."""

    id: str
    account: str
    tag: str
    """The metadata's `tag`, by which its creator finds it."""
    scenario: str
    metadata: dict[str, str]
    token: str
    machine: Machine
    processes: Processes
    created_at: datetime
    started_at: datetime
    """Of the present stretch of running: a resumed sandbox begins anew."""
    end_at: datetime
    auto_pause: bool = False
    network: dict[str, Any] | None = None
    state: str = "running"
    """`running` or `paused`; else how it ended: `killed`, `expired` or `vanished`."""
    ended_at: datetime | None = None
    verdict: str = ""
    """For one that has ended: what its program had come to by then."""
    earlier_seconds: float = 0.0
    """What it ran before it was last resumed."""
    accident_at: datetime | None = None
    """When the scenario's accident happened to its programs."""
    broken_streams: int = 0
    ending: "asyncio.Task[None] | None" = field(default=None, repr=False)

    @property
    def is_alive(self) -> bool:
        return self.ended_at is None

    @property
    def is_running(self) -> bool:
        return self.state == "running"

    def seconds(self, now: datetime) -> float:
        """What is billed: the time in which it ran."""
        if self.state == "paused":
            return self.earlier_seconds
        return self.earlier_seconds + ((self.ended_at or now) - self.started_at).total_seconds()

    def detail(self) -> dict[str, Any]:
        """As the call for one sandbox tells it."""
        return {
            **self.listed(),
            "envdAccessToken": self.token,
            "allowInternetAccess": None,
            "domain": None,
            **({"network": self.network} if self.network is not None else {}),
            "lifecycle": {"autoResume": False, "onTimeout": "pause" if self.auto_pause else "kill"},
        }

    def listed(self) -> dict[str, Any]:
        """As the list tells it."""
        return {
            "templateID": "base",
            "alias": "base",
            "sandboxID": self.id,
            "clientID": "sim",
            "startedAt": _stamp(self.started_at),
            "endAt": _stamp(self.end_at),
            "envdVersion": ENVD_VERSION,
            "cpuCount": CPU_COUNT,
            "memoryMB": MEMORY_MB,
            "diskSizeMB": DISK_MB,
            "state": self.state,
            "metadata": self.metadata,
        }

    def access(self) -> dict[str, Any]:
        """As creating and connecting tell it."""
        return {
            "templateID": "base",
            "alias": "base",
            "sandboxID": self.id,
            "clientID": "sim",
            "envdVersion": ENVD_VERSION,
            "envdAccessToken": self.token,
            "trafficAccessToken": None,
            "domain": None,
        }

    def truth(self, now: datetime) -> Truth:
        seconds = self.seconds(now)
        return Truth(
            provider="E2B",
            account=self.account,
            reference=self.id,
            tag=self.tag,
            scenario=self.scenario,
            state=self.verdict or self.judged(),
            is_alive=self.is_alive,
            created_at=self.created_at,
            ended_at=self.ended_at,
            billed_seconds=seconds,
            price_micros_per_hour=PRICE_MICROS_PER_HOUR,
            cost_micros=round(seconds * PICO_DOLLARS_PER_SECOND / 1_000_000),
        )

    def judged(self) -> str:
        """What its program has come to: there is no status of a training here, only processes and what they left."""
        if self.machine.left_a_model():
            return "succeeded"
        if not self.processes.left_behind:
            return "preparing"
        return "training" if self.processes.in_the_background() else "failed"


class Sandboxes:
    """All sandboxes of a simulator."""

    def __init__(self, accident_after_seconds: float) -> None:
        self.all: dict[str, Sandbox] = {}
        self.accident_after_seconds = accident_after_seconds

    def living(self, account: str) -> list[Sandbox]:
        return [one for one in self.all.values() if one.account == account and one.is_alive]

    async def look(self, now: datetime) -> None:
        """Let happen what is due."""
        for one in list(self.all.values()):
            if one.is_alive:
                self.settle(one, now)
                if one.is_running:
                    one.processes.look(now)
                    await self._accident(one, now)

    def settle(self, sandbox: Sandbox, now: datetime) -> None:
        """Expiry by the clock, at each look: afterwards the sandbox is what it is at this moment."""
        if not sandbox.is_alive:
            return
        early = sandbox.created_at + timedelta(seconds=self.accident_after_seconds)
        if sandbox.scenario == "not_found_later" and now >= early:
            self.end(sandbox, "vanished", early)
        elif sandbox.scenario == "expired" and sandbox.is_running and now >= early:
            self.end(sandbox, "expired", early)
        elif sandbox.is_running and now >= sandbox.end_at:
            if sandbox.auto_pause:
                self.pause(sandbox, sandbox.end_at)
            else:
                self.end(sandbox, "expired", sandbox.end_at)

    def end(self, sandbox: Sandbox, how: str, when: datetime) -> None:
        """The sandbox is gone from this moment on; its processes and its folder are taken away beside."""
        seconds = sandbox.seconds(when)
        was_running = sandbox.is_running
        sandbox.verdict = sandbox.judged()
        if sandbox.verdict != "succeeded":
            ended = {"training": "canceled", "preparing": "canceled"}.get(sandbox.verdict, sandbox.verdict)
            sandbox.verdict = ended if how == "killed" else "gone"
        sandbox.state = how
        sandbox.ended_at = when
        sandbox.earlier_seconds = seconds
        sandbox.started_at = when
        if was_running:
            sandbox.processes.cut_streams(
                ConnectFault("unavailable", "the connection to sandbox ended before the stream completed")
            )
        sandbox.ending = asyncio.ensure_future(_taken_away(sandbox))

    def pause(self, sandbox: Sandbox, when: datetime) -> None:
        sandbox.earlier_seconds = sandbox.seconds(when)
        sandbox.state = "paused"
        sandbox.end_at = when
        sandbox.processes.cut_streams(ConnectFault("canceled", "the sandbox is being paused"))
        sandbox.machine.tell_all(signal.SIGSTOP)

    def resume(self, sandbox: Sandbox, when: datetime) -> None:
        sandbox.state = "running"
        sandbox.started_at = when
        sandbox.processes.mend_streams()
        sandbox.machine.tell_all(signal.SIGCONT)

    async def end_all(self) -> None:
        for one in self.all.values():
            if one.is_alive:
                self.end(one, "killed", one.end_at)
        tasks = {one.ending for one in self.all.values() if one.ending is not None}
        if tasks:
            await asyncio.wait(tasks)

    async def _accident(self, sandbox: Sandbox, now: datetime) -> None:
        """What befalls the programs in two scenarios: the largest is killed, or all of them stand still."""
        if sandbox.scenario not in ("fails_while_training", "stuck") or sandbox.accident_at is not None:
            return
        if (now - sandbox.created_at).total_seconds() < self.accident_after_seconds:
            return
        workers = await asyncio.to_thread(sandbox.machine.workers)
        if not workers or not sandbox.is_running:
            return
        sandbox.accident_at = now
        if sandbox.scenario == "stuck":
            for worker in workers:
                with contextlib.suppress(psutil.Error):
                    worker.suspend()
        else:
            with contextlib.suppress(psutil.Error):
                workers[0].kill()


async def _taken_away(sandbox: Sandbox) -> None:
    await asyncio.to_thread(sandbox.machine.end)
    await sandbox.processes.ended()


def _stamp(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
