"""Orders workers from `tests.e2e.dying_worker`, each with the point at which it is to die, and hears how they ended."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import psutil
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from tests.e2e.harness import Run, World, until


class Doomed:
    """One worker that looks after one run only."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.gone = anyio.Event()
        self.died_at: str | None = None
        """The point that ended it; None where somebody else did."""

    async def until_asleep(self) -> None:
        """Wait until it sleeps at its point."""

        async def sleeps() -> bool:
            return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

        await until("the worker sleeps", sleeps)

    def wake(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)


class DoomedWorkers:
    """The process that forks them."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.living: dict[int, Doomed] = {}
        self._asking = anyio.Lock()
        self._answer: Doomed | None = None
        self._answered = anyio.Event()

    async def order(
        self, run: Run, *, die_at: Sequence[str] = (), sleep_at: str | None = None, trace: Path | None = None
    ) -> Doomed:
        """A worker for this run, that dies at the first of these points, and writes down the points that it passes."""
        assert self.process.stdin is not None
        order = {"run": str(run.row), "die_at": [*die_at], "sleep_at": sleep_at, "trace": str(trace) if trace else None}
        async with self._asking:
            self._answered = anyio.Event()
            await self.process.stdin.send(json.dumps(order).encode() + b"\n")
            with anyio.fail_after(20):
                await self._answered.wait()
            assert self._answer is not None
            return self._answer

    async def listen(self) -> None:
        """Take what the forking process says, until it ends."""
        assert self.process.stdout is not None
        unread = ""
        async for text in TextReceiveStream(self.process.stdout):
            *lines, unread = (unread + text).split("\n")
            for line in lines:
                self._hear(json.loads(line))

    def _hear(self, said: dict[str, Any]) -> None:
        if "pid" in said:
            self._answer = self.living[said["pid"]] = Doomed(said["pid"])
            self._answered.set()
        elif (worker := self.living.pop(said["ended"], None)) is not None:
            worker.died_at = said["at"]
            worker.gone.set()


@asynccontextmanager
async def doomed_workers(world: World) -> AsyncIterator[DoomedWorkers]:
    """Where workers are ordered; all of them are gone when the block ends."""
    log = world.folder / "logs" / "doomed.log"
    with log.open("ab") as errors:
        process = await anyio.open_process(
            [sys.executable, "-m", "tests.e2e.dying_worker"], env=world.stack.environment, stderr=errors
        )
    async with process, anyio.create_task_group() as group:
        workers = DoomedWorkers(process)
        group.start_soon(workers.listen)
        try:
            yield workers
        finally:
            assert process.stdin is not None
            await process.stdin.aclose()
            with anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await process.wait()
            group.cancel_scope.cancel()
