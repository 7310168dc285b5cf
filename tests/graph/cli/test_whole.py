"""`runwire up` and `runwire demo` as they are typed: real servers, real processes, a real training."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from graph.cli.session import LocalSession

pytestmark = pytest.mark.timeout(240)

START_SECONDS = 60
GIVEN = ("DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "APPS_URL", "ENVIRONMENT", "PORT", "HOST", "PROVIDER", "PROMPT")


def runwire(*arguments: str, data_dir: Path, **options: Any) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name not in GIVEN}
    command = [sys.executable, "-m", "graph.cli", *arguments, "--data-dir", str(data_dir), "--json"]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def done(*arguments: str, data_dir: Path, seconds: float = START_SECONDS) -> tuple[int, list[dict[str, Any]]]:
    """The exit code, and what was printed."""
    process = runwire(*arguments, data_dir=data_dir)
    out, _ = process.communicate(timeout=seconds)
    return process.returncode, [json.loads(line) for line in out.splitlines()]


def ask(told: dict[str, str], query: str) -> Any:
    """The data of an answer of the API whose addresses were printed."""
    headers = {"Authorization": f"Bearer {told['token']}"}
    return httpx2.post(told["graphql"], json={"query": query}, headers=headers, trust_env=False).json()["data"]


def of_the_directory(data_dir: Path) -> list[str]:
    """The processes that work in a data directory or were told of it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and str(data_dir) in " ".join(
                [process.cwd(), *process.cmdline(), *process.environ().values()]
            ):
                found.append(f"{process.pid} {process.cmdline()}")
    return found


def until(is_so: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
        time.sleep(0.02)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    assert of_the_directory(tmp_path / "data") == []


@contextlib.contextmanager
def up(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    process = runwire("up", "--port", "0", data_dir=data_dir)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.communicate()[1]
        yield process, json.loads(line)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=START_SECONDS)


def test_up_stays_heals_and_leaves_nothing_behind(data_dir: Path, tmp_path: Path) -> None:
    with up(data_dir) as (process, told):
        # It answers, and the other commands find it.
        # Who runs it on a database of its own looks after it.
        me = {"email": "you@runwire.local", "isOperator": True}
        assert ask(told, "{ viewer { email isOperator } }") == {"viewer": me}
        assert httpx2.get(told["playground"], trust_env=False).status_code == 200
        assert told["apps"] == told["url"].replace("127.0.0.1", "localhost")
        session = LocalSession.read(data_dir)
        assert session is not None
        assert session.token == told["token"]

        # All is well but what only production needs.
        code, findings = done("check", data_dir=data_dir)
        assert [finding for finding in findings if finding["state"] == "FAILED"] == []
        assert {finding["check"] for finding in findings} >= {"migrations", "policies", "role api", "worker", "address"}
        assert code == 0

        # A second one on the same data is refused.
        code, (refusal,) = done("up", data_dir=data_dir)
        assert code == 1
        assert f"already running on {data_dir} (process {process.pid})" in refusal["error"]["message"]

        # A killed worker is started again, and trains.
        worker = next(child for child in psutil.Process(process.pid).children() if child.cmdline()[-1] == "jobs")
        worker.kill()
        rows = "".join(f"{number},{number % 2}\n" for number in range(200))
        (tmp_path / "rows.csv").write_text(f"number,target\n{rows}")
        wish = ["--name", "endless", "-s", "epochs=10000", "-s", "hiddenLayers=[512,512]", "--no-watch"]
        code, (run,) = done("train", str(tmp_path / "rows.csv"), *wish, data_dir=data_dir)
        assert code == 0
        question = f'{{ trainingRun(id: "{run["id"]}") {{ status }} }}'
        until(lambda: ask(told, question)["trainingRun"]["status"] == "TRAINING", "the training")

        # Ctrl-C ends all of it, the training too.
        process.send_signal(signal.SIGINT)
        _, news = process.communicate(timeout=START_SECONDS)
        assert process.returncode == 130
        assert "worker-1 was ended by SIGKILL; it starts again" in news
        assert of_the_directory(data_dir) == []

    # Data survives between starts.
    with up(data_dir) as (_, told_again):
        assert told_again["token"] == told["token"]
        assert ask(told_again, question)["trainingRun"] is not None


def test_up_says_why_it_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    code, (refusal,) = done("up", data_dir=tmp_path / "file" / "data")
    assert code == 1
    assert str(tmp_path / "file") in refusal["error"]["message"]


def test_demo_trains_shows_and_asks(data_dir: Path) -> None:
    code, told = done("demo", data_dir=data_dir, seconds=200)
    assert code == 0
    *messages, result = told
    assert (result["heldOutRows"], result["accuracy"] >= 0.9) == (360, True)
    assert messages[0]["__typename"] == "Snapshot"
    assert messages[-1]["status"] == "READY"
    first = messages[0]["seq"]
    assert [message["firstSeq"] for message in messages[1:]] == [message["seq"] + 1 for message in messages[:-1]]
    assert messages[-1]["seq"] > first
    kinds = {message["__typename"] for message in messages}
    assert kinds >= {"RunStageChanged", "RunLogged", "RunMeasured", "RunProgressed", "RunDeploymentReady"}
