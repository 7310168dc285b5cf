"""The questions about a sandbox's folder that the file system and the kernel answer: who holds it, who lives in it."""

import contextlib
import fcntl
import os
import signal
import struct
import time
from pathlib import Path

_WHOLE_FILE = "hhqqi4x"
"""`struct flock` of 64-bit Linux."""


def try_lock(path: Path) -> int | None:
    """An open descriptor that holds the lock, or None when another process holds it.

    The lock belongs to the open file and not to the process (F_OFD_SETLK), so it is handed over by handing over the
    descriptor; the kernel gives it free when the last copy is closed, however its holders end.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_WHOLE_FILE, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock; asked without taking it, so that asking disturbs nobody."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        question = struct.pack(_WHOLE_FILE, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question)
        return bool(struct.unpack(_WHOLE_FILE, answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(descriptor)


def marker_of(folder: Path) -> str:
    """What every process of a sandbox carries as RUNWIRE_SANDBOX: another installation has other folders."""
    return str(folder.resolve())


def inhabitants(folder: Path) -> set[int]:
    """Living processes that carry the folder's marker or whose working directory is inside it."""
    wanted = f"RUNWIRE_SANDBOX={marker_of(folder)}".encode()
    inside = os.path.realpath(folder)
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # A process may end, or belong to another user, between any two of these lines.
            if _is_dead(name):
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                if wanted in file.read().split(b"\0"):
                    found.add(int(name))
                    continue
            where = os.readlink(f"/proc/{name}/cwd").removesuffix(" (deleted)")
            if where == inside or where.startswith(inside + os.sep):
                found.add(int(name))
    return found - {os.getpid()}


def end_inhabitants(folder: Path, limit_seconds: float) -> bool:
    """Kill what lives in a folder without a supervisor; True once nothing is left."""
    deadline = time.monotonic() + limit_seconds
    while living := inhabitants(folder):
        if time.monotonic() > deadline:
            return False
        for pid in living:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)  # in a thread: the kernel takes a moment to bury them
    return True


def link_or_copy(source: Path, target: Path) -> None:
    """The same content in another place: a hard link where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:
        with open(source, "rb") as reader, open(target, "wb") as writer:
            while block := reader.read(1 << 20):
                writer.write(block)


def sync_folder(folder: Path) -> None:
    """Make the folder's list of names survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_dead(name: str) -> bool:
    with open(f"/proc/{name}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
