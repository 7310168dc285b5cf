"""One server process that we own: started, watched, stopped, killed, and found again when its owner was killed.

On Linux the kernel ends the server when we end, however we end. It takes "we" to be the *thread* that started it, so
all servers are started by one thread that lives as long as the process. Where that is not to be had, and for what
slips through, the next start ends whatever still runs in the server's folder.
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
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import psutil

from db.embedded import launch
from db.embedded.account import Account
from db.embedded.errors import DidNotStart

LOG_LIMIT_BYTES = 4 * 1024 * 1024
STOP_LIMIT_SECONDS = 10.0
LEFTOVER_LIMIT_SECONDS = 5.0


class ServerProcess:
    """A program that works in `folder`, writes `log`, and is asked to end by `stop_signal`."""

    def __init__(
        self, program: str, folder: Path, log: Path, *, stop_signal: signal.Signals, orphan_signal: signal.Signals
    ):
        self.program = program
        self.folder = folder
        self.log = log
        self.stop_signal = stop_signal
        self.orphan_signal = orphan_signal
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self.is_running else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str], account: Account) -> None:
        """Start it in a session of its own, so that Ctrl-C at the terminal is ours to handle. It gets no secrets."""
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.trim_log()
        arguments = [os.getpid(), int(self.orphan_signal), account.uid, account.gid, *command]
        launcher = [sys.executable, "-I", "-S", launch.__file__, *map(str, arguments)]
        with open(self.log, "ab", opener=_private) as log:
            self._process = _starter.run(
                lambda: subprocess.Popen(
                    launcher,
                    cwd=self.folder,
                    env=bare_environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def wait_until(self, is_ready: Callable[[], bool], *, limit_seconds: float) -> None:
        """Wait for the server's answer. Raises DidNotStart when it ends or the time is up; then it does not run."""
        deadline = time.monotonic() + limit_seconds
        while time.monotonic() < deadline:
            if not self.is_running:
                code = self._process.returncode if self._process else None
                raise DidNotStart(self.program, f"it ended with code {code}", self.log_tail())
            if is_ready():
                return
            time.sleep(0.01)
        self.kill()
        raise DidNotStart(self.program, f"no answer in {limit_seconds:g} seconds", self.log_tail())

    def stop(self, with_signal: signal.Signals | None = None) -> None:
        """Ask it to end; after 10 seconds kill it with its children."""
        if self._process is None:
            return
        if self.is_running:
            self._process.send_signal(with_signal or self.stop_signal)
        try:
            self._process.wait(STOP_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """SIGKILL for the process and all its children. The process first, so that no child is born meanwhile."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._end_leftovers(signal.SIGKILL)

    def end_leftovers(self) -> None:
        """End what an earlier owner left behind. Only the holder of the data directory's lock may call this."""
        if not self._end_leftovers(self.orphan_signal):
            self._end_leftovers(signal.SIGKILL)

    def _end_leftovers(self, signal_number: signal.Signals) -> bool:
        """True when none is left. One that only waits to be reaped, by whoever is its parent now, has no folder."""
        signaled: set[psutil.Process] = set()
        deadline = time.monotonic() + LEFTOVER_LIMIT_SECONDS
        while leftovers := self._leftovers():
            for leftover in leftovers - signaled:
                with contextlib.suppress(psutil.NoSuchProcess):
                    leftover.send_signal(signal_number)
            signaled |= leftovers
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    def _leftovers(self) -> set[psutil.Process]:
        """The program's processes that work in our folder, whoever started them."""
        folder = str(self.folder.resolve())
        return {process for process in psutil.process_iter() if _works_in(process, self.program, folder)}

    def log_tail(self, lines: int = 15) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def trim_log(self) -> None:
        """Keep the log below its limit: what it holds becomes `<log>.1`, and it begins anew.

        The server goes on writing to the same file, for it only ever appends; a line written in this very moment may
        be lost.
        """
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT_BYTES:
            shutil.copyfile(self.log, self.log.with_name(self.log.name + ".1"))
            os.truncate(self.log, 0)


def bare_environment() -> dict[str, str]:
    """What a server may know of our environment: where programs and libraries are."""
    names = ("PATH", "LD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH")
    return {"LC_ALL": "C", "TZ": "UTC"} | {name: os.environ[name] for name in names if name in os.environ}


class _Starter:
    """The thread that starts the servers."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def run(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a fork has no threads
                self._thread = threading.Thread(target=self._serve, name="embedded-servers", daemon=True)
                self._thread.start()
        result: Future[subprocess.Popen[bytes]] = Future()

        def call() -> None:
            try:
                result.set_result(start())
            except BaseException as error:  # handed over to the thread that waits
                result.set_exception(error)

        self._calls.put(call)
        return result.result()

    def _serve(self) -> None:
        while True:
            self._calls.get()()


_starter = _Starter()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _works_in(process: psutil.Process, program: str, folder: str) -> bool:
    try:
        return process.name() == program and process.cwd() == folder
    except psutil.Error:
        return False
