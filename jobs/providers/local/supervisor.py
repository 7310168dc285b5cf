"""The process that owns one sandbox: its program, limits, descendants, log and exit record.

    python -I supervisor.py <folder>        with the folder's locked `supervisor.lock` as standard input

Standard library only: it imports nothing of the product, so that it outlives an upgrade, and whoever started it.
In the folder:

    spec.json          what to run and within which limits (read once; its secrets are then removed)
    supervisor.lock    locked for exactly as long as this process lives
    started.json       written before the program starts: from here on it must not be started again
    log                one line each: `<unix µs> <O|E|S> <text>`; O stdout, E stderr, S the supervisor itself
    stop               whoever makes this file asks for the end
    exit.json          how it ended; written last, when no descendant is left
    home/              the program's working directory and HOME

It is a subreaper: whatever its program leaves behind, also after `setsid` or a double fork, becomes its child, so
"no child is left" is the proof that nothing is left. When it is itself killed, the kernel kills the direct child
(PR_SET_PDEATHSIG), and the rest carries the marker RUNWIRE_SANDBOX in its environment.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import selectors
import signal
import struct
import subprocess
import sys
import time
from typing import Any

TICK_SECONDS = 0.2
DISK_EVERY_SECONDS = 1.5
DRAIN_SECONDS = 2.0
LINE_CHARACTERS = 8_192
LINE_BUFFER_BYTES = 65_536  # more than 8,192 characters of four bytes, so a secret at the cut is seen whole
CARRIAGE_SECONDS = 0.25
STRUCTURED = "::runwire "
STRUCTURED_EXTRA_BYTES = 4 * 1024 * 1024
DISK_ENTRIES = 200_000
HIDDEN = "•••"

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38
LIBC = ctypes.CDLL(None, use_errno=True)
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def prctl(option: int, value: int) -> None:
    """One prctl; failure is told by OSError."""
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def write_atomically(path: str, content: dict[str, Any]) -> None:
    """The file holds all of it or what it held before, also after a power cut."""
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
        json.dump(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class Log:
    """The bounded log file, in whole lines."""

    def __init__(self, path: str, limit_bytes: int, mask: list[str], home: str) -> None:
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.left = limit_bytes
        self.structured_left = STRUCTURED_EXTRA_BYTES
        self.mask = sorted((secret for secret in mask if secret), key=len, reverse=True)
        self.home = home  # told as "~": where it lies on this machine is nobody's business
        self.full = False

    def write(self, stream: str, raw: bytes) -> None:
        """One line without its end; longer ones are cut, secrets hidden, what Postgres refuses removed."""
        text = raw.decode("utf-8", "replace").replace("\x00", "")
        for secret in self.mask:
            text = text.replace(secret, HIDDEN)
        text = text.replace(self.home, "~")
        if len(text) > LINE_CHARACTERS:
            text = text[: LINE_CHARACTERS - 1] + "…"
        line = f"{time.time_ns() // 1000} {stream} {text}\n".encode()
        if self.full or len(line) > self.left:
            # The word about the end must come through, however loud the program was.
            if stream == "O" and text.startswith(STRUCTURED) and len(line) <= self.structured_left:
                self.structured_left -= len(line)
                self._append(line)
            if not self.full:
                self.full = True
                said = "WARNING The log reached its limit; further lines are not kept."
                self._append(f"{time.time_ns() // 1000} S {said}\n".encode())
            return
        self.left -= len(line)
        self._append(line)

    def say(self, text: str) -> None:
        """A line of the supervisor's own."""
        self.write("S", text.encode())

    def _append(self, line: bytes) -> None:
        # A full disk must not end the supervisor: it still has descendants to end.
        with contextlib.suppress(OSError):
            os.write(self.file, line)


class LineReader:
    """Cuts one stream of the program into lines.

    A line that ends with a bare carriage return is a progress bar's: of those, the newest is kept four times a second.
    """

    def __init__(self, stream: str, log: Log) -> None:
        self.stream = stream
        self.log = log
        self.buffer = b""
        self.discarding = False
        self.held: bytes | None = None
        self.carriage_at = 0.0

    def feed(self, data: bytes) -> None:
        self.buffer += data
        start = 0
        while True:
            end, width = self._line_end(start)
            if end < 0:
                break
            self._line(self.buffer[start:end], carriage=self.buffer[end : end + width] == b"\r")
            start = end + width
        self.buffer = self.buffer[start:]
        if len(self.buffer) > LINE_BUFFER_BYTES:
            self._line(self.buffer, carriage=False)
            self.buffer = b""
            self.discarding = True

    def finish(self) -> None:
        """The stream has ended: what is left is the last line."""
        rest = self.buffer.rstrip(b"\r")
        self.buffer = b""
        if rest:
            self._line(rest, carriage=False)
        self._release()

    def _line_end(self, start: int) -> tuple[int, int]:
        newline = self.buffer.find(b"\n", start)
        carriage = self.buffer.find(b"\r", start, newline if newline >= 0 else len(self.buffer))
        if carriage < 0:
            return newline, 1
        if carriage + 1 == newline:
            return carriage, 2
        if carriage + 1 == len(self.buffer):
            return -1, 0  # the newline that belongs to it may be on its way
        return carriage, 1

    def _line(self, raw: bytes, carriage: bool) -> None:
        if self.discarding:
            self.discarding = False
            return
        if not carriage:
            self._release()
            self.log.write(self.stream, raw)
        elif raw.strip():
            self.held = raw
            if time.monotonic() - self.carriage_at >= CARRIAGE_SECONDS:
                self._release()

    def _release(self) -> None:
        if self.held is not None:
            self.log.write(self.stream, self.held)
            self.held = None
            self.carriage_at = time.monotonic()


def descendants() -> dict[int, tuple[int, int, bool]]:
    """All living descendants of this process: pid → (process group, resident bytes, is a zombie)."""
    parents: dict[int, int] = {}
    facts: dict[int, tuple[int, int, bool]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                # The name in parentheses may hold spaces and parentheses.
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        pid = int(name)
        parents[pid] = int(fields[1])
        facts[pid] = (int(fields[2]), int(fields[21]) * PAGE_BYTES, fields[0] in (b"Z", b"X"))
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, tuple[int, int, bool]] = {}
    waiting = list(children.get(os.getpid(), ()))
    while waiting:
        pid = waiting.pop()
        found[pid] = facts[pid]
        waiting.extend(children.get(pid, ()))
    return found


def proportional_bytes(pid: int, resident: int) -> int:
    """Memory of a process with shared pages divided among their users; its resident size where that is not told."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return resident


def disk_bytes(folder: str) -> int:
    """What the folder's files occupy. Folders with absurdly many files count as endlessly large."""
    total = entries = 0
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as listing:
                for entry in listing:
                    entries += 1
                    if entries > DISK_ENTRIES:
                        return 1 << 62
                    with contextlib.suppress(OSError):
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(entry.path)
        except OSError:
            continue
    return total


def machine_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since it started."""
    try:
        with open("/proc/vmstat", "rb") as file:
            return next((int(line.split()[1]) for line in file if line.startswith(b"oom_kill ")), 0)
    except OSError:
        return 0


class Supervisor:
    """Runs the program of one folder to its end, once."""

    def __init__(self, folder: str, spec: dict[str, Any]) -> None:
        self.folder = folder
        self.home = os.path.join(folder, "home")
        self.spec = spec
        self.log = Log(os.path.join(folder, "log"), spec["logLimitBytes"], spec.get("mask", []), self.home)
        self.selector = selectors.DefaultSelector()
        self.readers: dict[int, LineReader] = {}
        self.main_pid = 0
        self.main_status: int | None = None
        self.end_reason: str | None = None
        self.message: str | None = None
        self.peak_bytes = 0
        self.started_at = time.monotonic()
        self.disk_checked_at = self.started_at
        self.oom_kills = machine_oom_kills()

    def run(self) -> None:
        """Start, watch, end all that is left, write the exit record."""
        wake, self.wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self.wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signaled)
        self.selector.register(wake, selectors.EVENT_READ)
        self.wake_reader = wake
        if not self._stop_wanted():
            self._start()
            while self.main_status is None and self.end_reason is None:
                self._turn(TICK_SECONDS)
                self._check()
        self._end_descendants()
        self._drain()
        self._write_exit()

    def _signaled(self, number: int, frame: object) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self._end("CANCELED_BY_USER", "The sandbox was asked to stop.")

    def _start(self) -> None:
        """Start the program in a session of its own, with an environment of its own and its own limits."""
        out_reader, out_writer = os.pipe2(os.O_CLOEXEC)
        err_reader, err_writer = os.pipe2(os.O_CLOEXEC)
        try:
            # From the main thread on purpose: PR_SET_PDEATHSIG fires when the *thread* that forked ends.
            program = subprocess.Popen(
                self.spec["argv"],
                stdin=subprocess.DEVNULL,
                stdout=out_writer,
                stderr=err_writer,
                cwd=self.home,
                env=self.spec["environment"],
                start_new_session=True,
                preexec_fn=self._prepare_child,  # noqa: PLW1509 - this process has one thread
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._end("PROVIDER_ERROR", f"The program could not be started: {type(error).__name__}.")
            return
        finally:
            os.close(out_writer)
            os.close(err_writer)
        self.main_pid = program.pid
        program.returncode = 0  # we wait for all children ourselves
        for reader, stream in ((out_reader, "O"), (err_reader, "E")):
            os.set_blocking(reader, False)
            self.readers[reader] = LineReader(stream, self.log)
            self.selector.register(reader, selectors.EVENT_READ)

    def _prepare_child(self) -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o077)
        os.nice(self.spec["nice"])
        limits = [
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_NOFILE, self.spec["openFilesLimit"]),
            (resource.RLIMIT_FSIZE, self.spec["diskLimitBytes"]),
        ]
        for kind, limit in limits:
            hard = resource.getrlimit(kind)[1]
            value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (value, value))
        # When the machine runs out of memory, the kernel shall take the program and not its supervisor.
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("500")

    def _turn(self, seconds: float) -> bool:
        """Wait a moment, take what the program wrote, bury the dead. False when no child is left."""
        for key, _ in self.selector.select(seconds):
            if key.fd == self.wake_reader:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake_reader, 4096)
            else:
                self._read(key.fd)
        return self._reap()

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, 65_536)
        except BlockingIOError:
            return
        if data:
            self.readers[fd].feed(data)
            return
        self.readers.pop(fd).finish()
        self.selector.unregister(fd)
        os.close(fd)

    def _reap(self) -> bool:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.main_pid:
                self.main_status = status

    def _check(self) -> None:
        """The limits, each with its own end."""
        now = time.monotonic()
        limit = self.spec["timeLimitSeconds"]
        if self.main_status is not None or self._stop_wanted():
            return
        if limit is not None and now - self.started_at > limit:
            self._end("TIMED_OUT", f"The time limit of {limit:g} seconds was reached.")
            return
        living = {pid: fact for pid, fact in descendants().items() if not fact[2]}
        used = sum(resident for _, resident, _ in living.values())
        if used > self.spec["memoryLimitBytes"] and len(living) > 1:
            used = sum(proportional_bytes(pid, resident) for pid, (_, resident, _) in living.items())
        self.peak_bytes = max(self.peak_bytes, used)
        if used > self.spec["memoryLimitBytes"]:
            self._end("MEMORY_LIMIT", f"The memory limit of {_mebibytes(self.spec['memoryLimitBytes'])} was passed.")
        elif len(living) > self.spec["processLimit"]:
            self._end("CODE_ERROR", f"The program started more than {self.spec['processLimit']} processes.")
        elif now - self.disk_checked_at >= DISK_EVERY_SECONDS:
            self._check_disk()
            self.disk_checked_at = time.monotonic()

    def _check_disk(self) -> None:
        if disk_bytes(self.folder) > self.spec["diskLimitBytes"]:
            self._end("DISK_LIMIT", f"The disk limit of {_mebibytes(self.spec['diskLimitBytes'])} was passed.")

    def _stop_wanted(self) -> bool:
        if os.path.exists(os.path.join(self.folder, "stop")):
            self._end("CANCELED_BY_USER", "The sandbox was asked to stop.")
        return self.end_reason is not None

    def _end(self, reason: str, message: str) -> None:
        """The first reason stays."""
        if self.end_reason is None:
            self.end_reason, self.message = reason, message

    def _end_descendants(self) -> None:
        """Ask all that is left to end, then kill, until the kernel says that we have no child."""
        if not self._reap():
            return
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self.spec["stopGraceSeconds"]
        while time.monotonic() < deadline:
            if not self._turn(0.05):
                return
        while self._reap():
            self._send(signal.SIGKILL)
            self._turn(0.02)

    def _send(self, number: int) -> None:
        living = descendants()
        own_group = os.getpgid(0)
        # A whole group at once: it cannot fork faster than it is killed. Groups of descendants hold descendants only,
        # since the program began a session of its own.
        for group in {group for group, _, _ in living.values()} - {own_group, 0}:
            with contextlib.suppress(OSError):
                os.killpg(group, number)
        if number == signal.SIGKILL:
            for pid in living:
                with contextlib.suppress(OSError):
                    os.kill(pid, number)

    def _drain(self) -> None:
        """Nobody writes any more: read what is still in the pipes."""
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.readers and time.monotonic() < deadline:
            self._turn(0.05)
        for reader in self.readers.values():
            reader.finish()

    def _write_exit(self) -> None:
        code = number = None
        if self.main_status is not None:
            if os.WIFSIGNALED(self.main_status):
                number = os.WTERMSIG(self.main_status)
            else:
                code = os.WEXITSTATUS(self.main_status)
        if self.end_reason is None and code != 0:
            # The program may have failed because of a limit between two looks.
            if number == signal.SIGKILL and machine_oom_kills() > self.oom_kills:
                self._end("MEMORY_LIMIT", "The machine ran out of memory.")
            elif disk_bytes(self.folder) >= self.spec["diskLimitBytes"]:
                self._end("DISK_LIMIT", f"The disk limit of {_mebibytes(self.spec['diskLimitBytes'])} was reached.")
        if self.end_reason is not None and self.message is not None:
            self.log.say(f"WARNING {self.message}")
        record = {
            "exitCode": code,
            "signal": number,
            "endReason": self.end_reason,
            "message": self.message,
            "endedAt": time.time(),
            "peakMemoryBytes": self.peak_bytes,
        }
        write_atomically(os.path.join(self.folder, "exit.json"), record)


def _mebibytes(count: int) -> str:
    return f"{count / 1_048_576:,.0f} MiB"


def close_inherited() -> None:
    """Close all but the three standard streams."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(name))


def take_over_lock(folder: str) -> bool:
    """Keep the lock that came as standard input; False if somebody else holds it."""
    path = os.path.join(folder, "supervisor.lock")
    if not os.path.samestat(os.fstat(0), os.stat(path)):
        raise SystemExit("The folder's locked supervisor.lock must be standard input.")
    keeper = os.dup(0)  # not inherited by children, so they cannot keep it locked
    whole_file = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        fcntl.fcntl(keeper, fcntl.F_OFD_SETLK, whole_file)
    except BlockingIOError:
        return False
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return True


def main(folder: str) -> None:
    """Become a daemon, then run the folder's program unless it was started before."""
    folder = os.path.abspath(folder)
    close_inherited()
    if not take_over_lock(folder):
        return
    if os.fork() != 0:
        os._exit(0)  # whoever started us waits for this process and has no child afterwards
    os.chdir("/")
    os.umask(0o077)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if os.path.exists(os.path.join(folder, "started.json")) or os.path.exists(os.path.join(folder, "exit.json")):
        return
    spec_path = os.path.join(folder, "spec.json")
    with open(spec_path, encoding="utf-8") as file:
        spec = json.load(file)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    write_atomically(os.path.join(folder, "started.json"), {"pid": os.getpid(), "startedAt": time.time()})
    write_atomically(spec_path, {**spec, "mask": []})
    supervisor = Supervisor(folder, spec)
    try:
        supervisor.run()
    except Exception as error:
        # Whatever we did wrong: nothing of the program may be left, and somebody must hear of it.
        supervisor._end("PROVIDER_ERROR", f"The sandbox failed: {type(error).__name__}.")
        supervisor._end_descendants()
        supervisor._write_exit()
        raise


if __name__ == "__main__":
    main(sys.argv[1])
