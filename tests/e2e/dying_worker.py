"""`python -m tests.e2e.dying_worker`: workers that kill themselves at a chosen point of a run's life.

A point is a commit of the process, or a call of a provider, or the moment just before or after it. Nothing in the
product knows of this: commits and calls are wrapped here, from outside.

One process imports the product and then forks a worker for each order that it reads from standard input, one JSON
object per line: `{"run": uuid, "die_at": ["<point>", …], "sleep_at": "<point>" | null, "trace": path | null}`.
For each it answers `{"pid": …}`, and `{"ended": pid, "at": "<point>" | null}` when that one is gone. The workers end
with it.
"""

import ast
import asyncio
import ctypes
import functools
import inspect
import json
import os
import select
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession

from db import unit_of_work
from db.logs import configure_logging
from db.settings import Settings
from domain.training import queries
from jobs import deploying, runner, worker
from jobs.providers.local.app_host import LocalAppHost
from jobs.providers.local.sandbox import Sandbox
from jobs.providers.local.trainer import LocalTrainer
from jobs.proving import prove

LEASE_SECONDS = 1.0
RENEW_SECONDS = 0.3
SWEEP_SECONDS = 0.2
"""All shorter than the product's, so that a successor needs not wait so long."""
LOOK_SECONDS = 0.02
PR_SET_PDEATHSIG = 1
CALLS: dict[type[Any], tuple[str, ...]] = {
    LocalTrainer: ("find", "start", "report", "stop"),
    LocalAppHost: ("start", "is_alive", "stop"),
    Sandbox: ("create", "start"),
}
"""What is asked of the provider `local`, and the two steps within a start."""


@dataclass
class Fate:
    """Which points end this process, whichever comes first, and which it has passed."""

    run_id: UUID
    last_words: int
    """The pipe into which it writes the point at which it dies."""
    die_at: frozenset[str] = frozenset()
    sleep_at: str | None = None
    """Where it stops, as a machine does that is suspended, until somebody wakes it."""
    trace: Path | None = None
    passed: set[str] = field(default_factory=set)

    def pass_by(self, point: str) -> None:
        """Go on, or end here as `kill -9` would."""
        if self.trace is not None and point not in self.passed:
            with self.trace.open("a", encoding="utf-8") as file:
                file.write(f"{point}\n")
        self.passed.add(point)
        if point == self.sleep_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        if point in self.die_at:
            os.write(self.last_words, point.encode())
            os.kill(os.getpid(), signal.SIGKILL)


_fates: list[Fate] = []
"""One, once this process is a worker."""


class WatchedSession(AsyncSession):
    """A session whose commits are points, where they belong to a run that is being looked after."""

    async def commit(self) -> None:
        name = _commit_name(sys._getframe())
        if name is not None:
            _fates[0].pass_by(f"before commit of {name}")
        await super().commit()
        if name is not None:
            _fates[0].pass_by(f"after commit of {name}")


def install() -> None:
    """Wrap commits and provider calls, and look after one run only."""
    setattr(unit_of_work, AsyncSession.__name__, WatchedSession)
    runner.LEASE_SECONDS = deploying.LEASE_SECONDS = LEASE_SECONDS
    runner.SWEEP_SECONDS = SWEEP_SECONDS
    runner.RENEW_SECONDS = deploying.RENEW_SECONDS = RENEW_SECONDS
    for owner, names in CALLS.items():
        for name in names:
            setattr(owner, name, _watched(getattr(owner, name), f"{owner.__name__}.{name}"))
    setattr(deploying, prove.__name__, _watched(prove, "prove"))
    claim = queries.claim_due

    async def claim_ours(*arguments: Any, **named: Any) -> list[UUID]:
        return await claim(*arguments, **{**named, "run_id": _fates[0].run_id})

    queries.claim_due = claim_ours


def _watched(call: Callable[..., Coroutine[Any, Any, Any]], name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    original = inspect.unwrap(call)

    @functools.wraps(original)
    async def watched(*arguments: Any, **named: Any) -> Any:
        if not _is_of_a_run(sys._getframe()):
            return await call(*arguments, **named)
        # A run has a sandbox that trains and one that serves: they start in different steps of its life.
        point = f"{name} ({arguments[0].tag.partition('-')[0]})" if isinstance(arguments[0], Sandbox) else name
        _fates[0].pass_by(f"before {point}")
        answer = await call(*arguments, **named)
        _fates[0].pass_by(f"after {point}")
        return answer

    return watched


def _commit_name(frame: FrameType | None) -> str | None:
    """What the transaction that is about to commit did, in words of the code that opened it."""
    if not _is_of_a_run(frame):
        return None
    told: list[Any] = []
    while frame is not None:
        if frame.f_code.co_name == "begin" and frame.f_code.co_filename == unit_of_work.__file__:
            told = frame.f_locals["work"].events
        elif Path(frame.f_code.co_filename).is_relative_to(Path(worker.__file__).parent):
            if frame.f_code.co_name == "begin":  # JobContext only passes it on
                frame = frame.f_back
                continue
            if "claimed" in frame.f_locals and not frame.f_locals["claimed"]:
                return None  # nothing was due
            return _call_in(frame.f_code.co_filename, frame.f_lineno) + _told(told)
        frame = frame.f_back
    return None


def _is_of_a_run(frame: FrameType | None) -> bool:
    """Whether the runner is at work, and not one of the sweeps beside it."""
    while frame is not None:
        if frame.f_code.co_filename == runner.__file__:
            return True
        frame = frame.f_back
    return False


@functools.cache
def _call_in(path: str, line: int) -> str:
    """The verb or question in the body of the `async with` that stands at this line."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    block = next(node for node in ast.walk(tree) if isinstance(node, ast.AsyncWith) and node.lineno == line)
    calls = [node for part in block.body for node in ast.walk(part) if isinstance(node, ast.Call)]
    verbs = [ast.unparse(call.func) for call in calls if call.args and ast.unparse(call.args[0]).startswith("work")]
    return verbs[-1] if verbs else ast.unparse(calls[0].func)


def _told(events: list[Any]) -> str:
    """The status that the run has with it, where that is another one."""
    statuses = [event.data["to"] for event in events if event.type == "run.status_changed"]
    return f" → {statuses[-1]}" if statuses else ""


class Forge:
    """Forks workers and tells how they end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.last_words: dict[int, int] = {}

    def fork(self, order: dict[str, Any]) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK)
        pid = os.fork()
        if pid == 0:
            try:
                self._be_worker(order, writer)
            finally:
                os._exit(0)
        os.close(writer)
        self.last_words[pid] = reader
        _say(pid=pid)

    def bury(self) -> None:
        """Tell of the dead, if there are any."""
        while self.last_words:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            reader = self.last_words.pop(pid)
            _say(ended=pid, at=os.read(reader, 1000).decode() or None)
            os.close(reader)

    def _be_worker(self, order: dict[str, Any], last_words: int) -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        trace = Path(order["trace"]) if order["trace"] else None
        _fates.append(Fate(UUID(order["run"]), last_words, frozenset(order["die_at"]), order["sleep_at"], trace))
        asyncio.run(worker.work(self.settings))


def main() -> None:
    settings = Settings().checked()
    configure_logging(settings)
    install()
    forge = Forge(settings)
    orders = b""
    while True:
        if select.select([0], [], [], LOOK_SECONDS)[0]:
            data = os.read(0, 65536)
            if not data:
                return  # whoever ordered us has gone, and the workers go with us
            *lines, orders = (orders + data).split(b"\n")
            for line in lines:
                forge.fork(json.loads(line))
        forge.bury()


def _say(**facts: object) -> None:
    os.write(1, json.dumps(facts).encode() + b"\n")


if __name__ == "__main__":
    main()
