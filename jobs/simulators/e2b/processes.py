"""Commands in a sandbox: real processes, and whoever listens to them."""

import asyncio
import base64
import contextlib
import signal
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psutil

from jobs.simulators.e2b.machine import Machine, Outside
from jobs.simulators.e2b.wire import ConnectFault

CHUNK_BYTES = 32 * 1024
BACKLOG_EVENTS = 64
KEEPALIVE_SECONDS = 90.0
REMEMBERED_SECONDS = 30.0
"""How long a process that has ended can still be asked for its end."""


@dataclass(eq=False, slots=True)
class Listener:
    """One client that is connected to a process."""

    events: asyncio.Queue[dict[str, Any]] = field(default_factory=lambda: asyncio.Queue(BACKLOG_EVENTS))


class RunningProcess:
    """One command. Its output goes to those who are connected while it is written, and to nobody later."""

    def __init__(self, process: asyncio.subprocess.Process, config: Mapping[str, Any], tag: str | None) -> None:
        self.process = process
        self.config = config
        self.tag = tag
        self.pid = process.pid
        self.deadline: datetime | None = None
        """When it is killed, by the simulator's clock: what the client sent as Connect-Timeout-Ms."""
        self.timed_out = False
        self.end: dict[str, Any] | None = None
        self.ended_at: datetime | None = None
        self.cut: ConnectFault | None = None
        """Why the streams ended before the process did."""
        self._listeners: set[Listener] = set()
        self._ended = asyncio.Event()

    async def events(self, keepalive_seconds: float) -> AsyncGenerator[dict[str, Any], None]:
        """What a client sees from now on: the start, output, keepalives, the end. Raises `ConnectFault`."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield {"event": {"start": {"pid": self.pid}}}
            while not (self._ended.is_set() and listener.events.empty()):
                event = await self._next(listener, keepalive_seconds)
                if event is not None:
                    yield {"event": event}
                if self.cut is not None:
                    raise self.cut
            yield {"event": {"end": self.end}}
            if self.timed_out:
                raise ConnectFault("deadline_exceeded", "context deadline exceeded")
        finally:
            self._listeners.discard(listener)
            while not listener.events.empty():  # whoever waits to hand something over goes on
                listener.events.get_nowait()

    def cut_streams(self, fault: ConnectFault) -> None:
        """End every stream now; the process is not concerned."""
        self.cut = fault
        for listener in list(self._listeners):
            with contextlib.suppress(asyncio.QueueFull):
                listener.events.put_nowait({"keepalive": {}})

    async def _next(self, listener: Listener, keepalive_seconds: float) -> dict[str, Any] | None:
        getting = asyncio.ensure_future(listener.events.get())
        ending = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({getting, ending}, timeout=keepalive_seconds, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
            return None if ending.done() else {"keepalive": {}}
        finally:
            for task in (getting, ending):
                task.cancel()
            await asyncio.wait({getting, ending})

    async def follow(self) -> None:
        """Read both outputs to their ends, then wait for the process: in this order, as the agent does."""
        assert self.process.stdout is not None and self.process.stderr is not None
        await asyncio.gather(self._pump("stdout", self.process.stdout), self._pump("stderr", self.process.stderr))
        code = await self.process.wait()
        if code < 0:
            name = signal.Signals(-code).name.removeprefix("SIG").lower()
            words = {"kill": "killed", "term": "terminated"}.get(name, name)
            self.end = {"exitCode": -1, "exited": False, "status": f"signal: {words}", "error": f"signal: {words}"}
        else:
            self.end = {"exitCode": code, "exited": True, "status": f"exit status {code}"}
            if code:
                self.end["error"] = f"exit status {code}"
        self._ended.set()

    async def _pump(self, name: str, stream: asyncio.StreamReader) -> None:
        while chunk := await stream.read(CHUNK_BYTES):
            event = {"data": {name: base64.b64encode(chunk).decode()}}
            for listener in list(self._listeners):
                if listener in self._listeners:
                    await listener.events.put(event)


class Processes:
    """All commands of one sandbox."""

    def __init__(self, machine: Machine, variables: Mapping[str, str]) -> None:
        self.machine = machine
        self.variables = variables
        self.known: dict[int, RunningProcess] = {}
        self._following: set[asyncio.Task[None]] = set()
        self.left_behind = False
        """Whether a command ended while something that it had started went on: a program in the background."""

    async def start(self, message: Mapping[str, Any], deadline: datetime | None) -> RunningProcess:
        """Raises `ConnectFault`."""
        config = message.get("process")
        if not isinstance(config, dict) or not isinstance(config.get("cmd"), str) or not config["cmd"]:
            raise ConnectFault("invalid_argument", "a process needs a command")
        if message.get("pty") is not None:
            raise ConnectFault("unimplemented", "the simulator has no terminals")
        try:
            cwd = self.machine.inside(config.get("cwd") or "")
        except Outside:
            raise ConnectFault("invalid_argument", "cwd leads out of the simulated sandbox") from None
        if not cwd.is_dir():
            raise ConnectFault("invalid_argument", f"cwd '{config.get('cwd')}' does not exist")
        words = [self.machine.words(str(word)) for word in config.get("args") or ()]
        try:
            process = await asyncio.create_subprocess_exec(
                config["cmd"],
                *words,
                cwd=cwd,
                env=self.machine.environment(self.variables, config.get("envs") or {}),
                stdin=asyncio.subprocess.PIPE if message.get("stdin") else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ConnectFault("invalid_argument", f"error starting process: {error}") from None
        running = RunningProcess(process, config, message.get("tag"))
        running.deadline = deadline
        self.known[running.pid] = running
        task = asyncio.ensure_future(self._follow(running))
        self._following.add(task)
        task.add_done_callback(self._following.discard)
        return running

    def find(self, message: Mapping[str, Any]) -> RunningProcess:
        """By number or tag, living or just ended. Raises `ConnectFault`."""
        selector = message.get("process")
        if not isinstance(selector, dict):
            raise ConnectFault("invalid_argument", "a process is to be named")
        for one in self.known.values():
            if one.pid == selector.get("pid") or (one.tag is not None and one.tag == selector.get("tag")):
                return one
        words = f"pid {selector['pid']}" if "pid" in selector else f"tag {selector.get('tag')}"
        raise ConnectFault("not_found", f"process with {words} not found")

    def living(self, message: Mapping[str, Any]) -> RunningProcess:
        found = self.find(message)
        if found.end is not None:
            raise ConnectFault("not_found", f"process with pid {found.pid} not found")
        return found

    def look(self, now: datetime) -> None:
        """Kill what is over its time, and forget what ended long ago."""
        for pid, one in list(self.known.items()):
            if one.end is not None:
                one.ended_at = one.ended_at or now
                if (now - one.ended_at).total_seconds() > REMEMBERED_SECONDS:
                    del self.known[pid]
            elif one.deadline is not None and now >= one.deadline and not one.timed_out:
                one.timed_out = True
                with contextlib.suppress(ProcessLookupError):
                    one.process.kill()

    def in_the_background(self) -> list[psutil.Process]:
        """What lives in the sandbox beside the commands that go on and what those have started: whoever looks at a
        program is not that program."""
        commands = {one.pid for one in self.known.values() if one.end is None}
        found = []
        for process in self.machine.inhabitants():
            with contextlib.suppress(psutil.Error):
                if commands.isdisjoint({process.pid, *(parent.pid for parent in process.parents())}):
                    found.append(process)
        return found

    def cut_streams(self, fault: ConnectFault) -> None:
        for one in self.known.values():
            one.cut_streams(fault)

    def mend_streams(self) -> None:
        """After a pause: whoever connects from now on sees what comes."""
        for one in self.known.values():
            one.cut = None

    async def _follow(self, running: RunningProcess) -> None:
        await running.follow()
        if not self.left_behind:
            self.left_behind = bool(await asyncio.to_thread(self.machine.inhabitants))

    async def ended(self) -> None:
        """Once all have ended, for whoever has killed them."""
        if self._following:
            await asyncio.wait(set(self._following), timeout=5)
