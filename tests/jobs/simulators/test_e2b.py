"""E2B's simulator through its unmodified SDK: the control plane, its refusals, and a sandbox's life by the clock."""

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import httpx2
import psutil
import pytest
from e2b import AsyncSandbox
from e2b.exceptions import (
    AuthenticationException,
    RateLimitException,
    SandboxException,
    SandboxNotFoundException,
    SandboxNotRunningException,
    ServiceBusyException,
)
from starlette.applications import Starlette
from starlette.routing import Mount

from jobs.simulators.e2b import E2BSimulator
from jobs.simulators.e2b.control import Plan
from jobs.simulators.e2b.sandboxes import Sandbox
from jobs.simulators.kit import Heard, SimulatorClock, Truth, serving

pytestmark = pytest.mark.anyio

CREATE_BODY = {
    "templateID": "base",
    "timeout": 1800,
    "metadata": {"run": "r1", "tag": "run-1"},
    "envVars": {"COLOR": "blue"},
    "autoPause": False,
    "allow_internet_access": True,
}
ACCESS = {
    "templateID": "base",
    "alias": "base",
    "sandboxID": str,
    "clientID": "sim",
    "envdVersion": "0.6.2",
    "envdAccessToken": str,
    "trafficAccessToken": None,
    "domain": None,
}


class Served:
    """A simulator on a port, and the SDK's arguments that lead there with an account of its own."""

    def __init__(self, simulator: E2BSimulator, base: str) -> None:
        self.simulator = simulator
        self.base = base
        self.account = uuid4().hex
        self.key = f"e2b_sim_{self.account}"

    def options(self, key: str | None = None, retries: int = 0) -> Any:
        addresses = {"api_url": self.base, "sandbox_url": self.base}
        return {"api_key": key or self.key, **addresses, "retries": retries, "debug": False}

    async def create(self, key: str | None = None, **arguments: Any) -> AsyncSandbox:
        arguments = {"timeout": 1800, "metadata": {"run": "r1", "tag": "run-1"}, **arguments}
        return await AsyncSandbox.create(**arguments, **self.options(key))

    def script(self, *scenarios: str) -> None:
        self.simulator.script(self.account, scenarios)

    def truths(self) -> list[Truth]:
        return [one for one in self.simulator.truths() if one.account == self.account]

    def heard(self, method: str, path: str) -> list[Heard]:
        return [one for one in self.simulator.journal.of(method, path) if one.account == self.account]

    def record(self, sandbox: AsyncSandbox) -> Sandbox:
        return self.simulator.sandboxes.all[sandbox.sandbox_id]


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[tuple[E2BSimulator, str]]:
    """One for all tests of a module: each has its own account."""
    simulator = E2BSimulator()
    async with serving(simulator.app) as base:
        yield simulator, base


@pytest.fixture
def served(server: tuple[E2BSimulator, str]) -> Served:
    return Served(*server)


@pytest.fixture
async def http(served: Served) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"x-api-key": served.key}
    async with httpx2.AsyncClient(base_url=served.base, headers=headers, trust_env=False) as client:
        yield client


class TestCreation:
    async def test_the_answers_are_as_the_fact_page_shows_them(self, served: Served, http: httpx2.AsyncClient) -> None:
        answer = await http.post("/v2/sandboxes", json=CREATE_BODY)
        assert answer.status_code == 201
        access = answer.json()
        assert access == {**ACCESS, "sandboxID": access["sandboxID"], "envdAccessToken": access["envdAccessToken"]}
        assert re.fullmatch(r"i[0-9a-f]{19}", access["sandboxID"])
        detail = (await http.get(f"/sandboxes/{access['sandboxID']}")).json()
        assert {name: detail[name] for name in ("cpuCount", "memoryMB", "state", "metadata", "lifecycle")} == {
            "cpuCount": 2,
            "memoryMB": 512,
            "state": "running",
            "metadata": {"run": "r1", "tag": "run-1"},
            "lifecycle": {"autoResume": False, "onTimeout": "kill"},
        }

    @pytest.mark.parametrize(("path", "seconds"), [("/sandboxes", 15), ("/v2/sandboxes", 300)])
    async def test_a_life_that_was_not_asked_for_is_short(
        self, served: Served, http: httpx2.AsyncClient, path: str, seconds: int
    ) -> None:
        answer = await http.post(path, json={"templateID": "base"})
        sandbox = served.simulator.sandboxes.all[answer.json()["sandboxID"]]
        assert (sandbox.end_at - sandbox.started_at).total_seconds() == seconds

    async def test_the_same_idempotency_key_is_the_same_sandbox(self, served: Served) -> None:
        first = await served.create(idempotency_key="run-1")
        again = await served.create(idempotency_key="run-1")
        other = await served.create(idempotency_key="run-2", metadata={"tag": "run-2"})
        assert first.sandbox_id == again.sandbox_id != other.sandbox_id

    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"color": 1}, 400, 'unknown field "color"'),
            ({"timeout": "long"}, 400, 'field "timeout" has the wrong type'),
            ({"timeout": 0}, 400, "greater than 0"),
            ({"timeout": 25 * 3600}, 400, "greater than 24 hours"),
            ({"metadata": {"run": 1}}, 400, "must be strings"),
            ({"templateID": "mine"}, 404, "'mine' not found"),
            ({"templateID": ""}, 400, "missing"),
        ],
    )
    async def test_what_is_no_creation_is_refused(
        self, http: httpx2.AsyncClient, served: Served, change: dict[str, Any], status: int, words: str
    ) -> None:
        answer = await http.post("/v2/sandboxes", json={**CREATE_BODY, **change})
        assert answer.status_code == status == answer.json()["code"]
        assert words in answer.json()["message"]
        assert served.truths() == []

    async def test_other_mistakes_are_refused_in_the_same_shape(self, http: httpx2.AsyncClient) -> None:
        text = await http.post("/v2/sandboxes", content=b"{}", headers={"content-type": "text/plain"})
        key = await http.post("/v2/sandboxes", json=CREATE_BODY, headers={"idempotency-key": "Run_1"})
        unknown, method = await http.get("/nothing"), await http.put("/sandboxes", json={})
        assert [one.status_code for one in (text, key, unknown, method)] == [400, 400, 404, 405]
        assert all(set(one.json()) == {"code", "message"} for one in (text, key, unknown, method))

    @pytest.mark.parametrize("key", ["", "e2b_sim_me.unauthorized", "e2b_0123456789", "r8_sim_me"])
    async def test_other_keys_are_refused(self, served: Served, key: str) -> None:
        async with httpx2.AsyncClient(base_url=served.base, trust_env=False) as client:
            answer = await client.get("/v2/sandboxes", headers={"x-api-key": key} if key else {})
        assert (answer.status_code, answer.json()["code"]) == (401, 401)
        if key:
            with pytest.raises(AuthenticationException):
                await served.create(key)


class TestScenarios:
    @pytest.mark.parametrize(
        ("scenario", "kind", "words"),
        [
            ("fails_at_start", SandboxException, "500"),
            ("no_capacity", ServiceBusyException, "Failed to place sandbox"),
            ("no_node", ServiceBusyException, "no compatible node"),
            ("too_many", RateLimitException, "maximum number of concurrent E2B sandboxes"),
            ("no_money", SandboxException, "403: Team is blocked"),
            ("conflict", SandboxException, "409"),
            ("unprocessable", SandboxException, "422"),
        ],
    )
    async def test_creations_that_never_succeed(
        self, served: Served, scenario: str, kind: type[Exception], words: str
    ) -> None:
        for _ in range(2):
            with pytest.raises(kind, match=re.escape(words)):
                await served.create(f"{served.key}.{scenario}")
        assert served.truths() == []

    @pytest.mark.parametrize(
        ("scenario", "statuses"),
        [
            ("no_capacity_once", [503, 201]),
            ("no_capacity_twice", [503, 503, 201]),
            ("placement_late", [504, 201]),
            ("too_many_once", [429, 201]),
            ("throttled", [429, 429, 201]),
            ("unstable", [500, 502, 201]),
        ],
    )
    async def test_creations_that_succeed_later(
        self, served: Served, http: httpx2.AsyncClient, scenario: str, statuses: list[int]
    ) -> None:
        served.script(scenario)
        answers = [await http.post("/v2/sandboxes", json=CREATE_BODY) for _ in statuses]
        assert [one.status_code for one in answers] == statuses
        assert [one.scenario for one in served.truths()] == [scenario]
        if scenario == "throttled":
            limits = ("retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
            assert [answers[0].headers[name] for name in limits] == ["1", "5", "0", "1"]
        if scenario == "placement_late":
            assert answers[0].json()["error_code"] == "sandbox_placement_timeout"

    async def test_the_sdk_tries_again_by_itself_where_it_is_let(self, served: Served) -> None:
        served.script("no_capacity_twice")
        await AsyncSandbox.create(timeout=60, idempotency_key="one", **served.options(retries=3))
        assert [one.status for one in served.heard("POST", "/v2/sandboxes")] == [503, 503, 201]

    async def test_a_lost_reply_leaves_a_sandbox_that_can_be_found(self, served: Served) -> None:
        served.script("reply_lost")
        with pytest.raises(Exception) as caught:
            await served.create(idempotency_key="run-1")
        assert not isinstance(caught.value, SandboxException)  # a transport's error, as it comes
        (truth,) = served.truths()
        assert truth.is_alive
        again = await served.create(idempotency_key="run-1")
        assert again.sandbox_id == truth.reference

    async def test_a_late_reply_is_a_sandbox_at_once(self, served: Served) -> None:
        served.script("reply_late")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(served.create)
            with anyio.fail_after(5):
                while not served.truths():
                    await anyio.sleep(0.01)
            assert served.heard("POST", "/v2/sandboxes") == []
            served.simulator.clock.advance(3)

    async def test_scripts_are_of_one_account_and_in_turn(self, served: Served) -> None:
        served.script("no_capacity", "success")
        await served.create("e2b_sim_other")
        with pytest.raises(ServiceBusyException):
            await served.create()
        assert (await served.create(metadata={"tag": "run-2"})).sandbox_id
        with pytest.raises(ValueError, match="no scenario nothing"):
            served.script("nothing")


class TestLimits:
    async def test_creations_per_second_and_sandboxes_at_once(self) -> None:
        clock = SimulatorClock()
        simulator = E2BSimulator(clock, plan=Plan(most_sandboxes=2, creations_per_second=1))
        async with serving(simulator.app) as base:
            served = Served(simulator, base)
            await served.create()
            with pytest.raises(RateLimitException, match="Rate limit exceeded"):
                await served.create(metadata={"tag": "run-2"})
            clock.advance(1)
            await served.create(metadata={"tag": "run-2"})
            clock.advance(1)
            with pytest.raises(RateLimitException, match=r"concurrent E2B sandboxes \(2\)"):
                await served.create(metadata={"tag": "run-3"})
            assert len(served.truths()) == 2


class TestLife:
    async def test_it_ends_by_the_clock(self, served: Served) -> None:
        sandbox = await served.create(timeout=100)
        served.simulator.clock.advance(99)
        assert await sandbox.is_running()
        await sandbox.set_timeout(50)
        served.simulator.clock.advance(40)
        assert (await sandbox.get_info()).state.value == "running"
        served.simulator.clock.advance(11)
        assert not await sandbox.is_running()
        with pytest.raises(SandboxNotFoundException):
            await sandbox.get_info()
        with pytest.raises(SandboxNotRunningException, match="was not found"):
            await sandbox.commands.run("true", timeout=0)
        assert await sandbox.kill() is False
        (truth,) = served.truths()
        assert (truth.state, truth.is_alive, round(truth.billed_seconds)) == ("gone", False, 149)
        assert truth.cost_micros == round(truth.billed_seconds * (2 * 14 + 0.5 * 4.5))
        assert truth.price_micros_per_hour == 108_900

    async def test_it_never_lives_longer_than_its_plan(self) -> None:
        clock = SimulatorClock()
        simulator = E2BSimulator(clock, plan=Plan(longest_life_hours=1))
        async with serving(simulator.app) as base:
            served = Served(simulator, base)
            sandbox = await served.create(timeout=3600)
            clock.advance(1800)
            await sandbox.set_timeout(3600)
            info = await sandbox.get_info()
            assert round((info.end_at - info.started_at).total_seconds()) == 3600

    async def test_paused_costs_nothing_and_goes_on(self, served: Served) -> None:
        sandbox = await served.create(timeout=100)
        await sandbox.commands.run(
            "(i=0; while sleep 0.05; do i=$((i+1)); echo $i > count; done) >&- 2>&- &", timeout=0
        )
        assert await sandbox.pause() is True
        assert await sandbox.pause() is False
        (paused,) = served.truths()
        home = served.record(sandbox).machine.home
        counted = await anyio.Path(home / "count").read_text() if (home / "count").exists() else ""
        served.simulator.clock.advance(1000)
        assert not await sandbox.is_running()
        assert [one.billed_seconds for one in served.truths()] == [paused.billed_seconds]
        again = await AsyncSandbox.connect(sandbox.sandbox_id, timeout=60, **served.options())
        with anyio.fail_after(5):
            while (await again.commands.run("cat count || true", timeout=0)).stdout.strip() in ("", counted.strip()):
                await anyio.sleep(0.02)

    async def test_connecting_makes_a_life_longer_and_never_shorter(self, served: Served) -> None:
        sandbox = await served.create(timeout=100)
        before = (await sandbox.get_info()).end_at
        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=5, **served.options())
        assert (await sandbox.get_info()).end_at == before
        await AsyncSandbox.connect(sandbox.sandbox_id, timeout=500, **served.options())
        assert (await sandbox.get_info()).end_at > before

    async def test_a_sandbox_may_pause_itself_instead_of_ending(self, served: Served) -> None:
        sandbox = await served.create(timeout=60, lifecycle={"on_timeout": "pause"})
        served.simulator.clock.advance(61)
        assert (await sandbox.get_info()).state.value == "paused"

    @pytest.mark.parametrize(("scenario", "state"), [("not_found_later", "vanished"), ("expired", "expired")])
    async def test_two_scenarios_end_it_early(self, served: Served, scenario: str, state: str) -> None:
        served.script(scenario)
        sandbox = await served.create(timeout=1000)
        assert await sandbox.is_running()
        served.simulator.clock.advance(2)
        assert not await sandbox.is_running()
        assert served.record(sandbox).state == state

    async def test_nothing_of_it_is_left(self, served: Served) -> None:
        sandbox = await served.create()
        await sandbox.commands.run("setsid nohup sleep 1000 >/dev/null 2>&1 &", timeout=0)
        machine = served.record(sandbox).machine
        with anyio.fail_after(10):  # until setsid has become nohup, and nohup sleep
            while [one.name() for one in machine.inhabitants()] != ["sleep"]:
                await anyio.sleep(0.01)
        living = machine.inhabitants()
        assert await sandbox.kill() is True
        assert not machine.folder.exists()
        assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in living)

    async def test_the_simulator_leaves_nothing_when_it_ends(self, tmp_path: Path) -> None:
        simulator = E2BSimulator(folder=tmp_path / "sandboxes")
        async with serving(simulator.app) as base:
            sandbox = await Served(simulator, base).create()
            await sandbox.commands.run("setsid nohup sleep 1000 >/dev/null 2>&1 &", timeout=0)
            machine = simulator.sandboxes.all[sandbox.sandbox_id].machine
            assert len(machine.inhabitants()) == 1
        assert machine.inhabitants() == []
        assert not (tmp_path / "sandboxes").exists()

    async def test_not_even_when_it_is_killed(self, tmp_path: Path) -> None:
        code = """
import asyncio, os, signal, sys
from pathlib import Path
from jobs.simulators.e2b import E2BSimulator
from jobs.simulators.kit import serving
from tests.jobs.simulators.test_e2b import Served

async def main():
    simulator = E2BSimulator(folder=Path(sys.argv[1]))
    async with serving(simulator.app) as base:
        sandbox = await Served(simulator, base).create()
        await sandbox.commands.run("setsid nohup sleep 1000 >/dev/null 2>&1 & echo $!", timeout=0)
        print(simulator.sandboxes.all[sandbox.sandbox_id].machine.inhabitants()[0].pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
        folder = tmp_path / "sandboxes"
        told = await anyio.run_process([sys.executable, "-c", code, str(folder)], check=False)
        sleeper = int(told.stdout)
        with anyio.fail_after(10):
            while folder.exists():
                await anyio.sleep(0.02)
        assert not psutil.pid_exists(sleeper) or psutil.Process(sleeper).status() == psutil.STATUS_ZOMBIE


class TestLists:
    async def test_by_metadata_and_state_a_page_at_a_time(self, served: Served) -> None:
        created = [await served.create(metadata={"tag": f"run-{number}"}) for number in range(3)]
        await served.create("e2b_sim_other", metadata={"tag": "run-0"})
        await created[1].pause()
        from e2b import SandboxQuery
        from e2b.api.client.models import SandboxState

        pages = AsyncSandbox.list(limit=2, **served.options())
        seen = [[one.sandbox_id for one in await pages.next_items()]]
        assert pages.has_next
        seen.append([one.sandbox_id for one in await pages.next_items()])
        assert not pages.has_next
        assert seen == [[created[2].sandbox_id, created[1].sandbox_id], [created[0].sandbox_id]]
        named = AsyncSandbox.list(query=SandboxQuery(metadata={"tag": "run-1"}), **served.options())
        assert [one.sandbox_id for one in await named.next_items()] == [created[1].sandbox_id]
        running = AsyncSandbox.list(query=SandboxQuery(state=[SandboxState.RUNNING]), **served.options())
        assert len(await running.next_items()) == 2


async def test_it_works_under_a_prefix() -> None:
    simulator = E2BSimulator()
    outer = Starlette(routes=[Mount("/e2b", simulator.app)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(simulator.run)
        async with serving(outer) as base:
            served = Served(simulator, f"{base}/e2b")
            sandbox = await served.create()
            await sandbox.files.write("greeting", "hello")
            assert (await sandbox.commands.run("cat greeting", timeout=0)).stdout == "hello"
            assert len(served.heard("POST", "/files")) == 1
        tasks.cancel_scope.cancel()
    assert not simulator.folder.exists()
