"""Runs a pod's start command for real: a process of this machine, in a folder of its own, with the pod's variables."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

SEARCH_PATH = "/usr/local/bin:/usr/bin:/bin"
END_LIMIT_SECONDS = 5.0
_PYTHON = '#!/bin/sh\nexec {python} {module}"$@"\n'


@dataclass(frozen=True, slots=True)
class ContainerLine:
    """One line that a container wrote."""

    number: int
    at: datetime
    text: str


class Containers:
    """The containers of one simulator. Their folders lie below one folder, which goes with `close`."""

    def __init__(self, search_path: str = SEARCH_PATH) -> None:
        self.search_path = search_path
        self._folder: Path | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._kept: dict[str, list[ContainerLine]] = {}
        self._ahead: dict[str, timedelta] = {}

    def start(self, pod_id: str, arguments: str, variables: Mapping[str, str], now: datetime | None = None) -> None:
        """Run the arguments as a command. What ran in this container before is ended; its disk is wiped.

        `now` is the time of the simulator's clock, by which its lines are told."""
        self.end(pod_id)
        self._ahead[pod_id] = (now or datetime.now(UTC)) - datetime.now(UTC)
        folder = self._root() / pod_id
        for name in ("bin", "home", "workspace"):
            (folder / name).mkdir(parents=True)
        for name, module in (("python3", ""), ("python", ""), ("pip", "-m pip "), ("pip3", "-m pip ")):
            program = folder / "bin" / name
            program.write_text(_PYTHON.format(python=shlex.quote(sys.executable), module=module), encoding="utf-8")
            program.chmod(0o755)
        environment = {
            "RUNWIRE_HOME": str(folder / "workspace" / "runwire"),  # a machine's pods share its file system
            **variables,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder),
            "PATH": f"{folder / 'bin'}:{self.search_path}",
            "LANG": "C.UTF-8",
            # One processor each: many pods share this machine, and their threads would wait for each other.
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }
        runner = [sys.executable, "-I", "-S", str(Path(__file__).with_name("container.py")), str(folder / "output")]
        with open(folder / "runner", "wb") as runner_output:
            self._processes[pod_id] = subprocess.Popen(
                [*runner, *shlex.split(arguments)],
                stdin=subprocess.PIPE,
                stdout=runner_output,
                stderr=subprocess.STDOUT,
                cwd=folder / "workspace",
                env=environment,
                start_new_session=True,
            )

    def exit_code(self, pod_id: str) -> int | None:
        """How the container ended by itself; None while it runs, and for one that was ended or never started."""
        process = self._processes.get(pod_id)
        return process.poll() if process is not None else None

    def ask_to_end(self, pod_id: str) -> None:
        """SIGTERM, as a container is stopped; killed two seconds later."""
        if (process := self._processes.get(pod_id)) is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def end(self, pod_id: str) -> None:
        """Kill the container at once, and wipe its disk. Its output is kept."""
        process = self._processes.pop(pod_id, None)
        if process is None:
            return
        self._kept[pod_id] = self.lines(pod_id)
        if process.stdin is not None:
            process.stdin.close()  # the runner takes everything with it
        try:
            process.wait(END_LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._kept[pod_id] = self.lines(pod_id)
        shutil.rmtree(self._root() / pod_id, ignore_errors=True)

    def running(self) -> list[str]:
        """The pods whose containers run."""
        return [pod_id for pod_id, process in self._processes.items() if process.poll() is None]

    def known(self) -> list[str]:
        """The pods whose containers were started and not ended by us."""
        return list(self._processes)

    def lines(self, pod_id: str) -> list[ContainerLine]:
        """Everything that the container wrote, also after its end."""
        path = self._root() / pod_id / "output"
        if not path.exists():
            return self._kept.get(pod_id, [])
        found = []
        ahead = self._ahead.get(pod_id, timedelta())
        written = path.read_bytes().decode("utf-8", "replace")  # `read_text` would take a bar's \r for a line end
        for number, line in enumerate(written.split("\n")[:-1], start=1):
            seconds, _, text = line.partition(" ")
            found.append(ContainerLine(number, datetime.fromtimestamp(float(seconds), UTC) + ahead, text))
        return found

    def close(self) -> None:
        """End all containers and delete their folders."""
        for pod_id in self.known():
            self.end(pod_id)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _root(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="runpod-"))
        return self._folder
