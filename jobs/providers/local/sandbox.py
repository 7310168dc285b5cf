"""One sandbox of this machine: a folder under `<data dir>/sandboxes/<tag>` that a supervisor process owns.

    NEW → RUNNING → EXITED      the supervisor wrote how it ended, when nothing of it was left
                └─→ VANISHED    the supervisor was killed, or the machine stopped

Every step is safe to repeat after `kill -9` between any two of them: the folder appears whole by a rename, the locked
`supervisor.lock` is handed to the supervisor when it is born, and `started.json` keeps it from starting twice.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from anyio import to_thread

from jobs.providers.base import ProviderBusy, ProviderRefused
from jobs.providers.local import folders

SUPERVISOR = Path(__file__).with_name("supervisor.py")
START_LIMIT_SECONDS = 15.0
STOP_LIMIT_SECONDS = 15.0
LOG_LIMIT_BYTES = 64 * 1024 * 1024
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class SandboxState(StrEnum):
    """Where a sandbox is in its life."""

    NEW = "NEW"
    RUNNING = "RUNNING"
    EXITED = "EXITED"
    VANISHED = "VANISHED"


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a sandbox's program ended, as its supervisor saw it."""

    exit_code: int | None
    signal: int | None
    end_reason: str | None
    """A limit or a wish that ended it; None when the program ended by itself."""
    message: str | None
    ended_at: float
    """Unix seconds."""


@dataclass(frozen=True, slots=True)
class Program:
    """What a sandbox runs, and within which limits."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    memory_limit_bytes: int
    disk_limit_bytes: int
    time_limit_seconds: float | None
    """None: no limit."""
    mask: Sequence[str] = ()
    """Secrets that the log must not show."""
    process_limit: int = 256
    open_files_limit: int = 4096
    nice: int = 5
    """Trainings give way to the processes that answer people."""
    stop_grace_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class LogLines:
    """Whole raw lines of a log, and where the next ones start."""

    lines: tuple[bytes, ...]
    end: int
    """Byte offset after the last of the lines."""
    at_end: bool
    """Whether the file held no further whole line."""


class Sandbox:
    """A sandbox by its tag. Making this object touches nothing."""

    def __init__(self, data_dir: Path, tag: str) -> None:
        if not _TAG.fullmatch(tag):
            raise ValueError("A sandbox's tag is made of at most 100 letters, digits, dots, dashes and underscores.")
        self.tag = tag
        self.folder = sandboxes_of(data_dir) / tag
        self.home = self.folder / "home"

    @classmethod
    async def find(cls, data_dir: Path, tag: str) -> Self | None:
        """The sandbox with this tag, if its folder exists."""
        if not _TAG.fullmatch(tag):
            return None
        sandbox = cls(data_dir, tag)
        return sandbox if await to_thread.run_sync(sandbox.folder.is_dir) else None

    async def create(self, program: Program, fill: Callable[[Path], None]) -> None:
        """Make the folder, at once and whole; `fill` puts files into its home first. Nothing if it is there."""
        await to_thread.run_sync(self._create, program, fill)

    async def start(self) -> None:
        """Start the supervisor unless there is, or was, one. Raises `ProviderBusy`."""
        await to_thread.run_sync(self._start)

    async def state(self) -> SandboxState:
        """Where it is in its life."""
        return await to_thread.run_sync(self._state)

    async def exit_record(self) -> ExitRecord | None:
        """How it ended; None before it did, or when it vanished."""
        return await to_thread.run_sync(self._exit_record)

    async def read_log(self, offset: int, limit_bytes: int, limit_lines: int) -> LogLines:
        """Whole lines from a byte offset on."""
        return await to_thread.run_sync(self._read_log, offset, limit_bytes, limit_lines)

    async def stop(self) -> bool:
        """Ask for the end and wait for it; True when no process of it is left."""
        return await to_thread.run_sync(self._stop)

    async def remove(self) -> bool:
        """Stop it and delete its folder; False, and nothing deleted, while something of it is left."""
        if not await self.stop():
            return False
        await to_thread.run_sync(self._remove)
        return True

    def _create(self, program: Program, fill: Callable[[Path], None]) -> None:
        if self.folder.is_dir():
            return
        if not os.path.exists("/proc/self/stat"):
            raise ProviderRefused("The provider LOCAL needs Linux: its sandboxes are watched through /proc.")
        parent = self.folder.parent
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = parent / f".new-{uuid.uuid4().hex}"
        draft.mkdir(mode=0o700)
        try:
            home = draft / "home"
            home.mkdir(mode=0o700)
            (home / "tmp").mkdir(mode=0o700)
            write_private(draft / "spec.json", json.dumps(self._spec(program)))
            write_private(draft / "supervisor.lock", "")
            fill(home)
            folders.sync_folder(draft)
            # Another worker may have been faster: its folder is not empty, so this rename fails.
            with contextlib.suppress(OSError):
                os.rename(draft, self.folder)
            folders.sync_folder(parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        if not self.folder.is_dir():
            raise ProviderBusy("The sandbox's folder could not be made; is the disk full?", 30.0)

    def _spec(self, program: Program) -> dict[str, Any]:
        home = os.fspath(self.home.absolute())
        environment = {
            "HOME": home,
            "TMPDIR": os.path.join(home, "tmp"),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **program.environment,
            "RUNWIRE_SANDBOX": folders.marker_of(self.folder),
        }
        return {
            "tag": self.tag,
            "argv": list(program.argv),
            "environment": environment,
            "mask": list(program.mask),
            "timeLimitSeconds": program.time_limit_seconds,
            "memoryLimitBytes": program.memory_limit_bytes,
            "diskLimitBytes": program.disk_limit_bytes,
            "processLimit": program.process_limit,
            "openFilesLimit": program.open_files_limit,
            "logLimitBytes": LOG_LIMIT_BYTES,
            "nice": program.nice,
            "stopGraceSeconds": program.stop_grace_seconds,
        }

    def _start(self) -> None:
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while not self._was_started():
            lock = folders.try_lock(self.folder / "supervisor.lock")
            if lock is not None:  # else its supervisor is about to start, or another worker is about to start it
                try:
                    if self._was_started():
                        return
                    self._spawn(lock)
                finally:
                    os.close(lock)  # the supervisor holds a copy of its own of the same lock
            if time.monotonic() > deadline:
                raise ProviderBusy("The sandbox's supervisor does not start.", 10.0)
            time.sleep(0.01)

    def _spawn(self, lock: int) -> None:
        """Start the supervisor with the lock as its standard input; it leaves our process tree before we go on."""
        errors = os.open(self.folder / "supervisor.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            starter = subprocess.Popen(
                [sys.executable, "-I", os.fspath(SUPERVISOR), os.fspath(self.folder.absolute())],
                stdin=lock,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd="/",
                env={"LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"},
                start_new_session=True,
            )
        except OSError as error:
            raise ProviderBusy("The sandbox's supervisor could not be started.", 10.0) from error
        finally:
            os.close(errors)
        try:
            starter.wait(timeout=START_LIMIT_SECONDS)
        except subprocess.TimeoutExpired as error:
            starter.kill()
            starter.wait()
            raise ProviderBusy("The sandbox's supervisor does not start.", 10.0) from error

    def _was_started(self) -> bool:
        return (self.folder / "started.json").exists() or (self.folder / "exit.json").exists()

    def _state(self) -> SandboxState:
        locked = folders.is_locked(self.folder / "supervisor.lock")
        # Asked after the lock: a supervisor writes its record before it lets go.
        if (self.folder / "exit.json").exists():
            return SandboxState.EXITED
        if (self.folder / "started.json").exists():
            return SandboxState.RUNNING if locked else SandboxState.VANISHED
        return SandboxState.NEW

    def _exit_record(self) -> ExitRecord | None:
        try:
            record = json.loads((self.folder / "exit.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return ExitRecord(
            exit_code=record["exitCode"],
            signal=record["signal"],
            end_reason=record["endReason"],
            message=record["message"],
            ended_at=record["endedAt"],
        )

    def _read_log(self, offset: int, limit_bytes: int, limit_lines: int) -> LogLines:
        try:
            with open(self.folder / "log", "rb") as file:
                file.seek(offset)
                data = file.read(limit_bytes)
        except FileNotFoundError:
            return LogLines((), offset, at_end=True)
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        at_end = len(data) < limit_bytes and len(lines) <= limit_lines
        lines = lines[:limit_lines]
        return LogLines(tuple(lines), offset + sum(len(line) + 1 for line in lines), at_end)

    def _stop(self) -> bool:
        deadline = time.monotonic() + STOP_LIMIT_SECONDS
        if not self.folder.is_dir():
            return folders.end_inhabitants(self.folder, STOP_LIMIT_SECONDS)
        if not (self.folder / "exit.json").exists():
            write_private(self.folder / "stop", "")
        while time.monotonic() < deadline:
            lock = folders.try_lock(self.folder / "supervisor.lock")
            if lock is not None:
                try:
                    # With the lock in our hands nobody can start it, and its supervisor is gone.
                    self._cancel_if_new()
                    return folders.end_inhabitants(self.folder, deadline - time.monotonic())
                finally:
                    os.close(lock)
            time.sleep(0.05)
        return False

    def _cancel_if_new(self) -> None:
        if self._was_started():
            return
        record = {
            "exitCode": None,
            "signal": None,
            "endReason": "CANCELED_BY_USER",
            "message": "The sandbox was stopped before it started.",
            "endedAt": time.time(),
        }
        draft = self.folder / "exit.json.new"
        write_private(draft, json.dumps(record))
        os.replace(draft, self.folder / "exit.json")

    def _remove(self) -> None:
        """Take the name away first, so that nobody ever finds half a sandbox."""
        gone = self.folder.with_name(f".gone-{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.folder, gone)
        shutil.rmtree(gone, ignore_errors=True)


def sandboxes_of(data_dir: Path) -> Path:
    """The folder that holds a data dir's sandboxes."""
    return data_dir.absolute() / "sandboxes"


def tags_of(data_dir: Path) -> list[str]:
    """The tags of all sandboxes of a data dir, sorted."""
    try:
        return sorted(name for name in os.listdir(sandboxes_of(data_dir)) if _TAG.fullmatch(name))
    except FileNotFoundError:
        return []


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
