"""What runs in a simulated pod: its start command for real, or a scripted pod that trains nothing."""

import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from jobs.programs import Program
from jobs.simulators.kit import SimulatorClock, serving
from jobs.simulators.runpod import RunPodSimulator
from tests.jobs.providers.runpod.conftest import NOW, TOKEN
from tests.jobs.providers.runpod.home import Home
from tests.jobs.providers.runpod.stage import Stage, stage_served

pytestmark = pytest.mark.anyio
KEY = "rpa_sim_acme"
ROOT = Path(__file__).parent.parent.parent.parent
BODY = {"name": "run-42", "image": "busybox", "gpu": {"id": "NVIDIA GeForce RTX 4090"}}
RUN_ID = UUID(int=42)
ORPHAN = """
import os, sys
from jobs.simulators.runpod.scripts import Containers
Containers().start("x7k2p0qh4m1zsd", "bash -c 'setsid sleep 98765 & sleep 98765'", {})
print("started", flush=True)
sys.stdin.read()
os._exit(9)
"""


async def until(what: Callable[[], object]) -> None:
    with anyio.fail_after(20):
        while not what():
            await anyio.sleep(0.02)


def running(words: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in path.read_text():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


class TestRealScripts:
    @pytest.fixture
    def simulator(self) -> RunPodSimulator:
        return RunPodSimulator(SimulatorClock(NOW), provisioning_seconds=0.0, starting_seconds=0.0)

    @pytest.fixture(scope="class")
    async def stage(self) -> AsyncIterator[Stage]:
        async with stage_served() as stage:
            yield stage

    @pytest.fixture
    async def http(self, stage: Stage, simulator: RunPodSimulator) -> AsyncIterator[httpx2.AsyncClient]:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            stage.playing(simulator) as url,
            httpx2.AsyncClient(base_url=url, headers=headers, timeout=5, trust_env=False) as client,
        ):
            yield client

    async def created(self, http: httpx2.AsyncClient, script: str, **other: Any) -> str:
        answer = await http.post("/v2/pods", json={**BODY, "args": f"bash -c '{script}'", **other})
        assert answer.status_code == 201, answer.text
        pod_id: str = answer.json()["id"]
        return pod_id

    async def test_a_pod_knows_itself_and_may_end_itself(
        self, http: httpx2.AsyncClient, simulator: RunPodSimulator
    ) -> None:
        other = await self.created(http, "sleep 30")
        pod_id = await self.created(http, 'env; pwd; python3 -c "print(6 * 7)"; sleep 30', env={"WORD": 'a "b"\n'})
        await until(lambda: "\n42\n" in simulator.output_of(pod_id))
        lines = simulator.output_of(pod_id).splitlines()
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        assert (said["RUNPOD_POD_ID"], said["RUNPOD_GPU_COUNT"], said["WORD"]) == (pod_id, "1", 'a "b"')
        assert said["RUNPOD_API_BASE_URL"] == str(http.base_url).rstrip("/")
        assert said["HOME"].endswith(f"{pod_id}/home")
        assert "PYTEST_CURRENT_TEST" not in said

        headers = {"Authorization": f"Bearer {said['RUNPOD_API_KEY']}"}
        assert (await http.get(f"/v2/pods/{pod_id}", headers=headers)).status_code == 200
        assert (await http.get("/v2/pods", headers=headers)).status_code == 403
        assert (await http.get(f"/v2/pods/{other}", headers=headers)).status_code == 403
        action = {"action": "terminate"}
        assert (await http.post(f"/v2/pods/{pod_id}/action", json=action, headers=headers)).status_code == 204
        assert (await http.get(f"/v2/pods/{other}", headers=headers)).status_code == 401, "its key died with it"

    async def test_a_container_that_ends_leaves_its_pod_exited(
        self, http: httpx2.AsyncClient, simulator: RunPodSimulator
    ) -> None:
        pod_id = await self.created(http, "echo bye; exit 3")
        await until(lambda: simulator.truths()[0].state == "failed")
        pod = (await http.get(f"/v2/pods/{pod_id}")).json()
        assert (pod["status"], pod["cost"], pod["runtime"]) == ("EXITED", 0.0, None)
        assert simulator.output_of(pod_id) == "bye\n"

    async def test_stopped_and_started_again(self, http: httpx2.AsyncClient, simulator: RunPodSimulator) -> None:
        pod_id = await self.created(http, 'trap "echo asked; exit" TERM; echo here; while true; do sleep 0.1; done')
        await until(lambda: simulator.output_of(pod_id) == "here\n")
        assert (await http.post(f"/v2/pods/{pod_id}/action", json={"action": "stop"})).json()["status"] == "EXITED"
        await until(lambda: simulator.output_of(pod_id) == "here\nasked\n")
        assert (await http.post(f"/v2/pods/{pod_id}/action", json={"action": "start"})).json()["status"] == "RUNNING"
        await until(lambda: simulator.output_of(pod_id) == "here\n")

    @pytest.mark.parametrize("scenario", ["exits", "pod_vanished", "breaks"])
    async def test_the_clock_ends_scripts(
        self, http: httpx2.AsyncClient, simulator: RunPodSimulator, scenario: str
    ) -> None:
        simulator.script("acme", [scenario])
        pod_id = await self.created(http, "echo here; sleep 77777")
        await until(lambda: simulator.output_of(pod_id) == "here\n")
        simulator.clock.advance(simulator.training_seconds)
        await until(lambda: running("sleep\00077777") == [])
        assert simulator.truths()[0].state == ("gone" if scenario == "pod_vanished" else "failed")

    async def test_logs_are_streamed_and_resumed(self, http: httpx2.AsyncClient, simulator: RunPodSimulator) -> None:
        pod_id = await self.created(http, "for n in 1 2 3 4; do echo line $n; done; sleep 30")
        await until(lambda: "line 4" in simulator.output_of(pod_id))

        async def lines(count: int, **asked: Any) -> list[str]:
            found: list[str] = []
            async with http.stream("GET", f"/v2/pods/{pod_id}/logs", **asked) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-cache", "no")
                with anyio.fail_after(5):
                    async for line in answer.aiter_lines():
                        if line.startswith(("id: ", "data: ")):
                            found.append(line)
                        if len(found) == 2 * count:
                            break
            return found

        events = await lines(4, params={"source": "container"})
        assert [line.split('"line": ')[1] for line in events[1::2]] == [f'"line {n}"}}' for n in range(1, 5)]
        assert events[0].startswith("id: 2026-11-20T10:00:0") and events[0].endswith("/000000000001")
        cursor = {"Last-Event-ID": events[2].removeprefix("id: ")}
        assert await lines(2, params={"source": "container"}, headers=cursor) == events[4:]
        assert await lines(1, params={"source": "container", "tail": "1"}) == events[6:]
        assert '"source": "system"' in (await lines(1))[1]
        assert (await http.get(f"/v2/pods/{pod_id}/logs", params={"tail": "5001"})).status_code == 422

    def test_the_simulators_end_is_the_scripts_end(self) -> None:
        """Even if it is killed."""
        with subprocess.Popen(
            [sys.executable, "-c", ORPHAN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdout is not None and process.stdin is not None
            assert process.stdout.readline() == b"started\n"
            assert _soon(lambda: len(running("sleep\00098765")) >= 2)
            process.kill()
        assert _soon(lambda: running("sleep\00098765") == [])

    async def test_mounted_under_a_prefix(self) -> None:
        simulator = RunPodSimulator(SimulatorClock(NOW), provisioning_seconds=0.0, starting_seconds=0.0)

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with anyio.create_task_group() as group:
                group.start_soon(simulator.run)
                yield
                group.cancel_scope.cancel()

        app = Starlette(routes=[Mount("/runpod", simulator.app)], lifespan=lifespan)
        headers = {"Authorization": f"Bearer {KEY}"}
        async with (
            serving(app) as url,
            httpx2.AsyncClient(base_url=f"{url}/runpod", headers=headers, timeout=5, trust_env=False) as http,
        ):
            pod_id = await self.created(http, "echo $RUNPOD_API_BASE_URL; sleep 30")
            await until(lambda: simulator.output_of(pod_id))
            assert simulator.output_of(pod_id) == f"{url}/runpod\n"
        assert [heard.path for heard in simulator.journal.entries] == ["/v2/pods"]


class TestScriptedPods:
    @asynccontextmanager
    async def playing(
        self, scenario: str, *, content: bytes | None = None, uploads: bool = True, **home: Any
    ) -> AsyncIterator[tuple[Home, RunPodSimulator]]:
        """A pod that plays the scenario, twenty times as fast as the clock of the wall."""
        doors = Home(str(RUN_ID), TOKEN, Program({}, "", "true"), content or b"", **home)
        simulator = RunPodSimulator(SimulatorClock(NOW, speed=20), runs_scripts=False, uploads=uploads)
        headers = {"Authorization": f"Bearer {KEY}.{scenario}"}
        async with (
            serving(doors.app) as home_url,
            serving(simulator.app) as url,
            httpx2.AsyncClient(base_url=url, headers=headers, timeout=5, trust_env=False) as http,
        ):
            variables = {"RUNWIRE_URL": home_url, "RUNWIRE_TOKEN": TOKEN, "RUNWIRE_RUN_ID": str(RUN_ID)}
            if content is not None:
                variables |= {
                    "RUNWIRE_DATASET_URL": f"{home_url}/datasets/download",
                    "RUNWIRE_DATASET_TOKEN": doors.grant,
                    "RUNWIRE_DATASET_SHA256": doors.sha256,
                }
            answer = await http.post("/v2/pods", json={**BODY, "args": "true", "env": variables})
            assert answer.status_code == 201, answer.text
            yield doors, simulator

    async def test_success(self) -> None:
        async with self.playing("success", content=b"a,b\n") as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert home.end == {"reason": "SUCCEEDED", "message": "", "exitCode": 0, "line": None}
        assert home.stages == ["DOWNLOADING_DATA", "INSTALLING", "TRAINING", "SAVING"]
        assert home.stored == ["weights.bin", "artifact.json"]
        losses = [p["value"] for report in home.reports for p in report["points"] if p["name"] == "loss"]
        assert len(losses) == 20 and losses[-1] < losses[0] / 5
        percents = [report["percent"] for report in home.reports if report["percent"] is not None]
        assert percents == sorted(percents)
        assert "step 20/20 loss" in home.log
        (truth,) = simulator.truths()
        assert (truth.state, truth.cost_micros > 0) == ("succeeded", True)

    async def test_without_an_artifact(self) -> None:
        async with self.playing("success", uploads=False) as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert (home.stored, simulator.truths()[0].state) == ([], "succeeded")

    @pytest.mark.parametrize(
        ("scenario", "reason"),
        [("fails_while_training", "CODE_ERROR"), ("diverges", "DIVERGED"), ("bad_data", "DATA_ERROR")],
    )
    async def test_failures(self, scenario: str, reason: str) -> None:
        async with self.playing(scenario, content=b"a,b\n") as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert home.end is not None
        assert (home.end["reason"], simulator.truths()[0].state) == (reason, "failed")
        if scenario == "fails_while_training":
            assert "Traceback (most recent call last):" in home.log
        if scenario == "diverges":
            assert "NaN" in [point["value"] for report in home.reports for point in report["points"]]

    async def test_a_refused_download(self) -> None:
        async with self.playing("success", content=b"a,b\n", download_status=[403]) as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert home.end is not None
        assert home.end["message"] == "The dataset could not be downloaded: the server answered 403."

    async def test_a_refused_artifact(self) -> None:
        async with self.playing("success", artifact_status=413) as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert home.end is not None
        assert home.end["reason"] == "CODE_ERROR"

    @pytest.mark.parametrize(("scenario", "percent"), [("stuck", 45.0), ("frozen_at_99", 99.0)])
    async def test_endless_ones_go_on_with_heartbeats(self, scenario: str, percent: float) -> None:
        async with self.playing(scenario) as (home, simulator):
            await until(lambda: any(report["percent"] == percent for report in home.reports))
            heard = len(home.reports)
            simulator.clock.advance(40)
            await until(lambda: len(home.reports) >= heard + 2)
            assert simulator.truths()[0].state == "training"
        assert max(report["percent"] or 0 for report in home.reports) == percent
        assert home.end is None

    async def test_silence(self) -> None:
        async with self.playing("silent") as (home, simulator):
            await until(lambda: any(report["percent"] == 45.0 for report in home.reports))
            heard = len(home.reports)
            simulator.clock.advance(3_600)
            await anyio.sleep(0.3)
            assert len(home.reports) == heard
            assert (simulator.truths()[0].state, simulator.truths()[0].is_alive) == ("training", True)

    async def test_doubled_reports(self) -> None:
        async with self.playing("doubled_reports", uploads=False) as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert home.requests.count("report") >= 2 * len(home.reports) - 1
        assert home.end is not None

    async def test_a_clock_that_is_wrong(self) -> None:
        async with self.playing("clock_skewed", uploads=False) as (home, _):
            await until(lambda: home.end)
        sent = datetime.fromisoformat(home.reports[0]["sentAt"])
        assert abs(sent - (NOW - timedelta(hours=1))) < timedelta(minutes=5)

    async def test_a_wish_to_stop(self) -> None:
        async with self.playing("stuck") as (home, simulator):
            await until(lambda: home.reports)
            home.stops = True
            simulator.clock.advance(30)
            await until(lambda: not simulator.truths()[0].is_alive)
        assert (home.end, simulator.truths()[0].state) == (None, "canceled")

    async def test_faults_at_our_door_are_survived(self) -> None:
        async with self.playing("success", report_statuses=[500, 429, 503]) as (home, simulator):
            await until(lambda: not simulator.truths()[0].is_alive)
        assert simulator.truths()[0].state == "succeeded"
        assert [report["sequence"] for report in home.reports] == list(range(1, len(home.reports) + 1))


def _soon(what: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return what()
