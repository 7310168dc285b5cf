"""Child processes under supervision: started, watched, restarted, and gone when we are.

Each child has a session of its own, so that Ctrl-C reaches only us and its whole group can be ended. On Linux the
kernel kills a child when the thread that started it ends; so one thread starts them all and lives as long as they may.
"""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from db.embedded import launch

STOP_SECONDS = 30.0
"""A little more than the API takes to let its readers go."""
KILL_SECONDS = 5.0
"""Until a killed child is gone."""
LOOK_SECONDS = 0.05
DEATHS_TOO_MANY = 5
DEATHS_WITHIN_SECONDS = 60.0
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
LOG_LIMIT_BYTES = 16 * 1024 * 1024
LOGS_KEPT = 3


class ProcessError(Exception):
    """A child does not run as it should. The sentence holds the end of its log."""

    def __init__(self, name: str, problem: str, log: Path, tail: str) -> None:
        self.name = name
        self.tail = tail
        super().__init__(f"{name} {problem}. The end of {log}:\n{tail or '(the log is empty)'}")


class Process:
    """A program with its environment and its log, run again when it dies by itself or is killed."""

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path, *, restart: bool = True
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.environment = dict(environment)
        self.log = log
        self.restart = restart
        self.deaths = 0
        """How often it ended without being asked to."""
        self.gave_up = False
        self.wanted = False
        self._popen: subprocess.Popen[bytes] | None = None
        self._died_at: deque[float] = deque()
        self._start_at = 0.0

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen is not None and self.is_running else None

    @property
    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the last one that ended; negative is the signal that ended it."""
        return self._popen.poll() if self._popen is not None else None

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to it and all its group, as an accident would; it is restarted afterwards."""
        if self._popen is not None and self._popen.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)

    def wait(self, limit_seconds: float) -> bool:
        """Whether it has ended within the limit."""
        if self._popen is None:
            return True
        try:
            self._popen.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as file:
            file.seek(max(0, self.log.stat().st_size - 64 * 1024))
            return "\n".join(file.read().decode(errors="replace").splitlines()[-lines:])

    def problem(self, words: str) -> ProcessError:
        return ProcessError(self.name, words, self.log, self.tail())

    def spawn(self) -> None:
        """Start it. Called by the supervisor's thread."""
        launcher = [sys.executable, "-I", "-S", launch.__file__, os.getpid(), int(signal.SIGKILL)]
        with open(self.log, "ab", opener=_private) as log:
            self._popen = subprocess.Popen(
                [str(word) for word in (*launcher, os.geteuid(), os.getegid(), *self.command)],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def look(self, now: float) -> str | None:
        """Notice its death, and start it again when it is time to. News for the operator, if there is any."""
        if not self.wanted or self.gave_up or self.is_running:
            return None
        if self._start_at:
            if now < self._start_at:
                return None
            self._start_at = 0.0
            self.spawn()
            return f"{self.name} was started again."
        return self._died(now)

    def _died(self, now: float) -> str:
        self.deaths += 1
        self._died_at.append(now)
        while self._died_at[0] < now - DEATHS_WITHIN_SECONDS:
            self._died_at.popleft()
        how = ended_how(self.exit_code)
        if not self.restart:
            self.wanted = False
            return f"{self.name} {how}."
        if len(self._died_at) >= DEATHS_TOO_MANY:
            self.gave_up = True
            return f"{self.name} {how} {DEATHS_TOO_MANY} times within a minute and is not started again."
        pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** (len(self._died_at) - 1))
        self._start_at = now + pause
        return f"{self.name} {how}; it starts again in {pause:g} seconds."


class Supervisor:
    """The thread that starts children and looks after them. `on_news` gets a sentence for each thing that happens."""

    def __init__(self, on_news: Callable[[str], None]) -> None:
        self.processes: list[Process] = []
        self.on_news = on_news
        self.gave_up = threading.Event()
        """Set when a child is not restarted any more."""
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, process: Process) -> None:
        """Run it from now on. Raises OSError when it cannot be started at all."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="supervisor", daemon=True)
            self._thread.start()
        if process not in self.processes:
            process.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            rotate(process.log)
            self.processes.append(process)
        started: Future[None] = Future()

        def spawn() -> None:
            try:
                if not process.is_running:
                    process.spawn()
                process.wanted, process.gave_up = True, False
                started.set_result(None)
            except BaseException as error:  # for the thread that waits
                started.set_exception(error)

        self._calls.put(spawn)
        started.result()

    def stop(self, processes: Sequence[Process] | None = None, *, limit_seconds: float = STOP_SECONDS) -> list[str]:
        """Ask them (default: all) to end, and kill after the limit. Returns the names of those that were killed."""
        stopping = self.processes if processes is None else processes
        for process in stopping:
            process.wanted = False
        self._pass_by()
        for process in stopping:
            process.kill(signal.SIGTERM)
        deadline = time.monotonic() + limit_seconds
        killed = []
        for process in stopping:
            if not process.wait(max(0.0, deadline - time.monotonic())):
                killed.append(process.name)
            process.kill()
            process.wait(KILL_SECONDS)
            _end_group(process)
        if processes is None:
            self._end()
        return killed

    def kill(self) -> None:
        """SIGKILL for all of them, at once."""
        for process in self.processes:
            process.wanted = False
        for process in self.processes:
            process.kill()
            process.wait(KILL_SECONDS)
            _end_group(process)

    def _pass_by(self) -> None:
        """Return when the thread has seen what is wanted now, so that it starts nothing behind our back."""
        if self._thread is not None and self._thread.is_alive():
            passed = threading.Event()
            self._calls.put(passed.set)
            passed.wait(5)

    def _end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join(5)
            self._thread = None

    def _work(self) -> None:
        bound_logs_at = 0.0
        while not self._ended.is_set():
            with contextlib.suppress(queue.Empty):
                self._calls.get(timeout=LOOK_SECONDS)()
            now = time.monotonic()
            for process in tuple(self.processes):
                self._look(process, now)
            if now >= bound_logs_at:
                bound_logs_at = now + 30
                for process in tuple(self.processes):
                    bound(process.log)

    def _look(self, process: Process, now: float) -> None:
        try:
            news = process.look(now)
        except OSError as error:
            process.gave_up = True
            news = f"{process.name} could not be started: {error}."
        if news:
            self.on_news(news)
        if process.gave_up:
            self.gave_up.set()


def ended_how(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was ended by {signal.Signals(-exit_code).name}"
    return f"ended with code {exit_code}"


def rotate(log: Path) -> None:
    """What an earlier start wrote becomes `<log>.1`, that `<log>.2`; the oldest goes."""
    if not log.exists() or not log.stat().st_size:
        return
    for number in range(LOGS_KEPT - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    log.replace(log.with_name(f"{log.name}.1"))


def bound(log: Path) -> None:
    """Begin a log anew that has grown too long. Its writer only ever appends, and goes on with the same file."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def _end_group(process: Process) -> None:
    """What a child left of its own in its group."""
    if process._popen is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process._popen.pid, signal.SIGKILL)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
