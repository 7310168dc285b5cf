"""Supervised children: restarted when they die, given up when they keep dying, gone when they are stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from graph.cli import processes
from graph.cli.processes import Process, Supervisor, bound, rotate

QUIET = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
PARENT = """
import signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


class Scene:
    """A supervisor, what it said, and a folder for logs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.news: list[str] = []
        self.supervisor = Supervisor(self.news.append)

    def process(self, program: str, *, restart: bool = True) -> Process:
        command = [sys.executable, "-c", program]
        return Process("child", command, {"PATH": os.environ["PATH"]}, self.folder / "child.log", restart=restart)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.supervisor.stop(limit_seconds=0)


def until(is_so: Callable[[], bool], what: str, limit_seconds: float = 10) -> None:
    deadline = time.monotonic() + limit_seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {limit_seconds} seconds: {what}"
        time.sleep(0.01)


def test_a_killed_child_is_started_again(scene: Scene) -> None:
    process = scene.process(QUIET)
    scene.supervisor.start(process)
    first = process.pid
    process.kill()
    until(lambda: process.pid not in (None, first), "a new child")
    assert scene.news == ["child was ended by SIGKILL; it starts again in 0.2 seconds.", "child was started again."]
    assert process.deaths == 1


def test_a_child_that_keeps_dying_is_given_up(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE_SECONDS", 0.001)
    process = scene.process("print('no luck'); raise SystemExit(3)")
    scene.supervisor.start(process)
    assert scene.supervisor.gave_up.wait(20)
    assert process.deaths == 5
    assert scene.news[-1] == "child ended with code 3 5 times within a minute and is not started again."
    assert process.tail() == "\n".join(["no luck"] * 5)


def test_a_child_that_is_not_to_be_restarted_stays_dead(scene: Scene) -> None:
    process = scene.process("raise SystemExit(0)", restart=False)
    scene.supervisor.start(process)
    until(lambda: process.deaths == 1, "its death")
    assert scene.news == ["child ended with code 0."]
    assert not process.is_running


def test_stopping_asks_first_and_leaves_no_child_of_a_child(scene: Scene) -> None:
    process = scene.process(PARENT)
    scene.supervisor.start(process)
    until(lambda: process.tail() != "", "the grandchild's pid")
    grandchild = psutil.Process(int(process.tail()))
    assert scene.supervisor.stop() == []
    until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE, "its end")
    assert process.exit_code == -signal.SIGTERM
    assert scene.news == []


def test_a_child_that_does_not_listen_is_killed(scene: Scene) -> None:
    process = scene.process(STUBBORN)
    scene.supervisor.start(process)
    until(lambda: process.tail() == "ready", "its handler")
    assert scene.supervisor.stop(limit_seconds=0.1) == ["child"]
    assert process.exit_code == -signal.SIGKILL


def test_a_stopped_child_can_be_started_again(scene: Scene) -> None:
    process = scene.process(QUIET)
    scene.supervisor.start(process)
    scene.supervisor.stop([process])
    assert not process.is_running
    scene.supervisor.start(process)
    assert process.is_running


def test_a_program_that_is_not_there_is_told(scene: Scene) -> None:
    process = scene.process(QUIET, restart=False)
    process.command = ("/nowhere/program",)
    scene.supervisor.start(process)
    until(lambda: process.deaths == 1, "its death")
    assert "No such file or directory" in str(process.problem("ended"))


def test_children_end_with_their_supervisor_when_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from graph.cli.processes import Process, Supervisor\n"
        "child = Process('child', [sys.executable, '-c', 'import signal; signal.pause()'], dict(os.environ),"
        " Path('child.log').absolute())\n"
        "Supervisor(print).start(child); print(child.pid, flush=True); signal.pause()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.communicate()
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child's end")


def test_logs_of_earlier_starts_are_kept_for_a_while(tmp_path: Path) -> None:
    log = tmp_path / "api.log"
    for start in range(6):
        rotate(log)
        log.write_text(str(start))
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "api.log": "5",
        "api.log.1": "4",
        "api.log.2": "3",
        "api.log.3": "2",
    }


def test_a_log_that_grows_too_long_begins_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_LIMIT_BYTES", 10)
    log = tmp_path / "api.log"
    log.write_text("more than ten bytes")
    bound(log)
    assert (log.read_text(), log.with_name("api.log.1").read_text()) == ("", "more than ten bytes")
