"""A sandbox's folder: its own names for paths, the environment of its commands, and all that lives in it."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import psutil

HOME = PurePosixPath("/home/user")
MARKER = "RUNWIRE_SIMULATED_SANDBOX"
"""Every process of a sandbox carries its folder in it, however it was started and whoever its parent is now."""
END_LIMIT_SECONDS = 5.0
HELPERS = frozenset({"bash", "sh", "dash", "timeout", "setsid", "nohup", "sleep", "tail", "env", "mkdir", "cat"})
"""Processes that only hold others: the scenarios' accidents happen to none of them."""
_HOME_WORD = re.compile(r"/home/user(?![A-Za-z0-9._-])")


class Outside(Exception):
    """A path that leads out of the sandbox."""


class Machine:
    """One sandbox on this machine. `/home/user` is its own folder, and so is each other absolute path of the files API.

    Commands get their paths as they are, except that the words `/home/user` in them mean the folder too.
    """

    def __init__(self, folder: Path, sandbox_id: str) -> None:
        self.folder = folder
        self.sandbox_id = sandbox_id
        self.root = folder / "root"
        self.home = self.root.joinpath(*HOME.parts[1:])
        self.bin = folder / "bin"

    def make(self) -> None:
        for place in (self.home, self.root / "tmp", self.bin):
            place.mkdir(parents=True, mode=0o700)
        # Wrappers and not links: an interpreter finds its packages by the path that it was called by.
        for name, words in (("python", ""), ("python3", ""), ("pip", " -m pip"), ("pip3", " -m pip")):
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{words} "$@"\n')
            script.chmod(0o700)
        # Commands run in a login shell, whose system-wide profile sets a PATH of its own.
        (self.home / ".profile").write_text(f'export PATH={shlex.quote(str(self.bin))}:"$PATH"\n')

    def inside(self, path: str) -> Path:
        """Where a path of the sandbox really is. Raises `Outside`, also for links that lead out."""
        if "\0" in path:
            raise Outside(path)
        if path == "~" or path.startswith("~/"):
            path = str(HOME / path[2:])
        wanted = os.path.normpath(HOME / path) if path else str(HOME)
        real = self.root / wanted.lstrip("/")
        resolved = real.parent.resolve() / real.name if real.name else real.resolve()
        target = resolved.resolve() if resolved.is_symlink() else resolved
        root = self.root.resolve()
        if not (target == root or target.is_relative_to(root)):
            raise Outside(path)
        return resolved

    def outside(self, real: Path) -> str:
        """The sandbox's own name for a real path."""
        return "/" + str(real.relative_to(self.root.resolve()) if real != self.root.resolve() else "").lstrip("/")

    def words(self, text: str) -> str:
        """A command's text, with the real folder for `/home/user`."""
        return _HOME_WORD.sub(lambda _: str(self.home), text)

    def environment(self, *more: Mapping[str, str]) -> dict[str, str]:
        """What a command finds: PATH, HOME, USER, LOGNAME, and the sandbox's and the command's own variables."""
        found = {
            "PATH": f"{self.bin}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.home),
            "USER": "user",
            "LOGNAME": "user",
            "E2B_SANDBOX": "true",
            "E2B_SANDBOX_ID": self.sandbox_id,
            "E2B_TEMPLATE_ID": "base",
            # What follows keeps a sandbox in its folder, and off the network's package registries.
            "TMPDIR": str(self.root / "tmp"),
            # One processor each: many sandboxes share this machine, and their threads would wait for each other.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PIP_NO_INDEX": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        for variables in more:
            found.update({name: self.words(value) for name, value in variables.items()})
        return {**found, MARKER: str(self.folder)}

    def inhabitants(self) -> list[psutil.Process]:
        """Every living process of the sandbox, by the marker that it carries or the folder in which it works."""
        wanted = str(self.folder)
        folder = str(self.folder.resolve())
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if process.environ().get(MARKER) == wanted or Path(process.cwd()).is_relative_to(folder):
                    found.append(process)
        return found

    def tell_all(self, number: signal.Signals) -> None:
        for process in self.inhabitants():
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def workers(self, least_age_seconds: float = 0.4) -> list[psutil.Process]:
        """The programs that do the sandbox's work, the largest first."""
        found = []
        for process in self.inhabitants():
            with contextlib.suppress(psutil.Error):
                if process.name() not in HELPERS and time.time() - process.create_time() >= least_age_seconds:
                    found.append((process.memory_info().rss, process))
        return [process for _, process in sorted(found, key=lambda pair: -pair[0])]

    def listens(self, port: int) -> bool:
        """Whether a process of this sandbox listens on the port; another sandbox's app is none of its business."""
        for process in self.inhabitants():
            with contextlib.suppress(psutil.Error):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                        return True
        return False

    def left_a_model(self) -> bool:
        """Whether a program left its result: a receipt `artifact/artifact.json`, in its home or one folder below it."""
        for receipt in (*self.home.glob("artifact/artifact.json"), *self.home.glob("*/artifact/artifact.json")):
            with contextlib.suppress(OSError, ValueError):
                if isinstance(json.loads(receipt.read_text()), dict):
                    return True
        return False

    def end(self) -> None:
        """Kill all that lives here, and take the folder away."""
        deadline = time.monotonic() + END_LIMIT_SECONDS
        while (living := self.inhabitants()) and time.monotonic() < deadline:
            for process in living:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            time.sleep(0.005)
        shutil.rmtree(self.folder, ignore_errors=True)
