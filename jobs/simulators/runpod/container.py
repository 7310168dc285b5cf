"""A container's first process, as a program of its own: `python container.py LOG COMMAND…`.

It runs the command, writes each line of its output into LOG with the time before it, and ends everything that descends
from the command as soon as the command ends, its own input is closed, or SIGTERM comes. Input is closed too when the
simulator is killed, so that no pod outlives it.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import IO

SUBREAPER = 36
"""`PR_SET_CHILD_SUBREAPER`: orphans among the descendants become our children, so none is missed."""
GRACE_SECONDS = 2.0
LAST_WORDS_SECONDS = 1.0


def main(log: str, command: list[str]) -> int:
    """The command's exit code."""
    with suppress(OSError, AttributeError):  # elsewhere than on Linux orphans are missed
        ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    asked: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def ask(number: int, _: object) -> None:
        """Also in the moment before the command has begun: else we would end, and it would go on without us."""
        asked.append(number)
        for child in children:
            _ask_to_end(child)

    signal.signal(signal.SIGTERM, ask)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert child.stdout is not None
    children.append(child)
    if asked:
        _ask_to_end(child)
    stamping = threading.Thread(target=_stamp, args=(child.stdout, log), daemon=True)
    stamping.start()
    threading.Thread(target=_end_with_input, args=(stamping,), daemon=True).start()
    code = child.wait()
    _end_descendants()
    stamping.join(LAST_WORDS_SECONDS)
    return code if code >= 0 else 128 - code


def _stamp(source: IO[bytes], log: str) -> None:
    with open(log, "ab", buffering=0) as file:
        for line in source:
            file.write(f"{time.time():.3f} ".encode() + line.rstrip(b"\n") + b"\n")


def _end_with_input(stamping: threading.Thread) -> None:
    with suppress(OSError):
        while os.read(0, 1):
            pass
    _end_descendants()
    stamping.join(LAST_WORDS_SECONDS)
    os._exit(137)


def _ask_to_end(child: "subprocess.Popen[bytes]") -> None:
    """As a container is stopped: SIGTERM to the first process, and the rest after a while."""
    with suppress(OSError):
        child.send_signal(signal.SIGTERM)
    late = threading.Timer(GRACE_SECONDS, child.kill)
    late.daemon = True
    late.start()


def _end_descendants() -> None:
    for _ in range(50):
        found = _descendants()
        if not found:
            return
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
        with suppress(OSError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _descendants() -> list[int]:
    """All that live below this process; the dead that nobody has waited for yet are not among them."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if not name.isdigit():
            continue
        with suppress(OSError, ValueError, IndexError), open(f"/proc/{name}/stat", encoding="utf-8") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
