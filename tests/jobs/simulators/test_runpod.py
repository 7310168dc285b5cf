"""RunPod's REST v2 as the simulator speaks it, seen by the vendor's own SDK and by plain HTTP."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio
import httpx2
import pytest
import runpod  # type: ignore[import-untyped]  # the SDK has no types
from anyio import to_thread

from jobs.simulators.kit import SimulatorClock
from jobs.simulators.runpod import RunPodSimulator
from jobs.simulators.runpod.routes import NO_CAPACITY, NO_CAPACITY_500
from tests.jobs.providers.runpod.stage import Stage, stage_served

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
KEY = "rpa_sim_acme"
GPU = "NVIDIA GeForce RTX 4090"
IMAGE = "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04"
BODY = {"name": "run-42", "image": IMAGE, "gpu": {"id": GPU, "count": 1}, "disk": 40}
Sdk = Callable[..., Awaitable[Any]]


@pytest.fixture
def clock() -> SimulatorClock:
    """Moves only when a test moves it."""
    return SimulatorClock(NOW, speed=0)


@pytest.fixture
def simulator(clock: SimulatorClock) -> RunPodSimulator:
    return RunPodSimulator(clock, provisioning_seconds=10, starting_seconds=121, quotas=(500, 3_000, 50_000))


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with stage_served() as stage:
        yield stage


@pytest.fixture
async def url(stage: Stage, simulator: RunPodSimulator) -> AsyncIterator[str]:
    async with stage.playing(simulator) as url:
        yield url


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=5, trust_env=False) as client:
        yield client


@pytest.fixture
def sdk(url: str, monkeypatch: pytest.MonkeyPatch) -> Sdk:
    """Calls the SDK's functions in a thread, as `acme`."""
    monkeypatch.setenv("RUNPOD_API_BASE_URL", url)
    monkeypatch.setattr(runpod, "api_key", KEY)

    async def call(function: str, *arguments: Any, **named: Any) -> Any:
        return await to_thread.run_sync(partial(getattr(runpod, function), *arguments, **named))

    return call


async def created(http: httpx2.AsyncClient, scenario: str | None = None, **other: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {KEY}.{scenario}"} if scenario else {}
    answer = await http.post("/v2/pods", json={**BODY, **other}, headers=headers)
    assert answer.status_code == 201, answer.text
    pod: dict[str, Any] = answer.json()
    return pod


def problem(answer: httpx2.Response) -> tuple[int, str, list[str]]:
    assert answer.headers["content-type"] == "application/problem+json"
    content = answer.json()
    assert content["status"] == answer.status_code and content["title"]
    return answer.status_code, content["detail"], content.get("errors", [])


class TestThroughTheSdk:
    async def test_a_pod_lives_and_ends(self, sdk: Sdk, clock: SimulatorClock) -> None:
        pod = await sdk(
            "create_pod", "run-42", IMAGE, GPU, cloud_type="SECURE", env={"RUN_ID": '4"2\n'}, ports="8888/http"
        )
        assert pod["status"] == "PROVISIONING"
        assert pod["env"] == {"RUN_ID": '4"2\n'}
        assert pod["cost"] == 0.69
        clock.advance(10)
        assert (await sdk("get_pod", pod["id"]))["status"] == "STARTING"
        clock.advance(121 + 37)
        running = await sdk("get_pod", pod["id"])
        assert running["status"] == "RUNNING"
        assert running["runtime"]["uptime"] == 37
        assert running["startedAt"] == "2026-11-20T10:02:11Z"
        assert [one["id"] for one in await sdk("get_pods")] == [pod["id"]]
        assert (await sdk("stop_pod", pod["id"]))["status"] == "EXITED"
        assert (await sdk("get_pod", pod["id"]))["cost"] == 0.0
        assert (await sdk("resume_pod", pod["id"]))["status"] == "STARTING"
        assert await sdk("terminate_pod", pod["id"]) is None
        assert await sdk("get_pod", pod["id"]) is None
        assert await sdk("get_pods") == []

    async def test_the_catalog(self, sdk: Sdk, simulator: RunPodSimulator) -> None:
        assert GPU in [gpu["id"] for gpu in await sdk("get_gpus")]
        gpu = await sdk("get_gpu", GPU)
        assert (gpu["price"], gpu["availability"]) == ({"secure": 0.69, "community": 0.34}, "HIGH")
        simulator.sold_out.add(GPU)
        assert (await sdk("get_gpu", GPU))["availability"] == "NONE"
        with pytest.raises(ValueError, match="No GPU found"):
            await sdk("get_gpu", "NVIDIA Abacus")

    async def test_keys_given_per_call_open_their_own_account(self, sdk: Sdk) -> None:
        pod = await sdk("create_pod", "run-42", IMAGE, GPU)
        assert await sdk("get_pods", api_key="rpa_sim_other") == []
        assert await sdk("get_pod", pod["id"], api_key="rpa_sim_other") is None

    @pytest.mark.parametrize(
        ("scenario", "status", "words"),
        [
            ("no_capacity", 400, NO_CAPACITY),
            ("no_capacity_500", 500, NO_CAPACITY_500),
            ("no_money", 402, "insufficient balance"),
            ("no_access", 403, "access denied"),
            ("unprocessable", 422, "Request validation failed."),
            ("throttled", 429, "rate limit exceeded for the minute window"),
            ("unstable", 500, "internal server error"),
        ],
    )
    async def test_refusals(self, sdk: Sdk, simulator: RunPodSimulator, scenario: str, status: int, words: str) -> None:
        from runpod.error import QueryError  # type: ignore[import-untyped]  # the SDK has no types

        simulator.script("acme", [scenario])
        with pytest.raises(QueryError) as refused:
            await sdk("create_pod", "run-42", IMAGE, GPU)
        assert (refused.value.status_code, str(refused.value)) == (status, words)
        assert simulator.truths() == []

    async def test_a_wrong_key(self, sdk: Sdk) -> None:
        from runpod.error import AuthenticationError

        for key in ("rpa_nobody", "r8_sim_acme", "rpa_sim_acme.unauthorized"):
            with pytest.raises(AuthenticationError):
                await sdk("get_pods", api_key=key)


class TestThePagesExamples:
    async def test_the_pod_of_the_page(self, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        body: dict[str, Any] = {
            **BODY,
            "env": {"RUN_ID": "42"},
            "ports": ["8888/http"],
            "dataCenterIds": ["EU-RO-1"],
            "cloud": "SECURE",
        }
        pod = await created(http, **body)
        clock.advance(10 + 121 + 37)
        assert (await http.get(f"/v2/pods/{pod['id']}")).json() == {
            "id": pod["id"],
            "name": "run-42",
            "status": "RUNNING",
            "actions": ["stop", "restart", "terminate"],
            "image": IMAGE,
            "args": "",
            "disk": 40,
            "mounts": {},
            "ports": ["8888/http"],
            "env": {"RUN_ID": "42"},
            "registry": None,
            "gpu": {"id": GPU, "count": 1},
            "cloud": "SECURE",
            "dataCenterId": "EU-RO-1",
            "cudaVersion": "12.8",
            "ssh": {"proxy": None, "direct": None},
            "template": None,
            "cost": 0.69,
            "locked": False,
            "globalNetworking": {"enabled": False},
            "runtime": {
                "uptime": 37,
                "gpus": [{"util": 91, "memoryUtil": 40}],
                "cpu": {"util": 12},
                "memory": {"util": 20},
                "ports": [{"private": 8888, "public": 60000, "type": "http", "ip": "100.65.0.101"}],
            },
            "createdAt": "2026-11-20T10:00:00Z",
            "startedAt": "2026-11-20T10:02:11Z",
        }

    async def test_every_documented_field_is_taken(self, http: httpx2.AsyncClient) -> None:
        every: dict[str, Any] = {
            "gpu": {"id": GPU, "count": 2, "allowedCudaVersions": ["12.8"]},
            "args": "bash -c 'true'",
            "mounts": {"persistent": {"size": 10, "path": "/workspace"}},
            "registry": None,
            "globalNetworking": True,
            "startSsh": True,
            "startJupyter": False,
        }
        pod = await created(http, **every)
        assert (pod["cost"], pod["mounts"]) == (1.38, every["mounts"])
        cpu = {"name": "run-43", "image": IMAGE, "cpu": {"id": "cpu5c", "vcpuCount": 4}}
        answer = await http.post("/v2/pods", json={**cpu, "mounts": {"network": [{"volumeId": "v", "path": "/v"}]}})
        assert answer.json()["cpu"] == {"id": "cpu5c", "vcpuCount": 4, "memory": 8}

    async def test_an_edit(self, http: httpx2.AsyncClient) -> None:
        pod = await created(http)
        answer = await http.patch(f"/v2/pods/{pod['id']}", json={"name": "renamed", "locked": True})
        assert (answer.json()["name"], answer.json()["locked"]) == ("renamed", True)
        assert problem(await http.patch(f"/v2/pods/{pod['id']}", json={"gpu": {}}))[0] == 422

    async def test_catalog_centers_and_bills(self, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        gpus = await http.get("/v2/catalog/gpus", params={"include": "AVAILABILITY", "product": "POD", "count": 2})
        assert {gpu["availability"] for gpu in gpus.json()["gpus"]} == {"HIGH"}
        wish = {"include": "AVAILABILITY", "product": "POD", "cloud": "COMMUNITY"}
        community = (await http.get("/v2/catalog/gpus", params=wish)).json()["gpus"]
        assert next(gpu["availability"] for gpu in community if gpu["id"] == "NVIDIA L4") == "NONE"
        assert problem(await http.get("/v2/catalog/gpus", params={"include": "AVAILABILITY"}))[0] == 400
        centers = await http.get("/v2/catalog/datacenters", params={"include": "GPU_AVAILABILITY", "regions": "EUROPE"})
        assert [center["id"] for center in centers.json()["dataCenters"]] == ["EU-RO-1", "EU-SE-1"]
        pod = await created(http)
        clock.advance(3_600)
        bill = (await http.get("/v2/billing/pods", params={"podId": pod["id"]})).json()
        assert bill["metadata"]["totals"] == {"totalAmount": 0.69, "gpuAmount": 0.69, "cpuAmount": 0, "diskAmount": 0}


class TestStrictness:
    @pytest.mark.parametrize(
        ("change", "status", "words"),
        [
            ({"bogus": 1}, 422, "$: additional properties 'bogus' not allowed"),
            ({"gpu": {"id": GPU, "kind": 1}}, 422, "$.gpu: additional properties 'kind' not allowed"),
            ({"env": {"STEPS": 3}}, 422, "$.env.STEPS: got integer, want string"),
            ({"disk": "40"}, 422, "$.disk: got string, want integer"),
            ({"disk": 0}, 422, "$.disk: minimum: got 0, want 1"),
            ({"name": ""}, 422, "$.name: minLength: got 0, want 1"),
            ({"ports": ["8888"]}, 422, "$.ports[0]: want port/protocol"),
            ({"cloud": "ALL"}, 422, "$.cloud: value must be one of 'SECURE', 'COMMUNITY'"),
            ({"image": None}, 422, "$.image: got null, want string"),
            ({"mounts": {"persistent": {"size": 5, "path": "/w"}}}, 422, "$.mounts: .persistent: .size: minimum"),
            ({"cpu": {"id": "cpu5c", "vcpuCount": 2}}, 400, "exactly one of gpu or cpu must be set"),
            ({"gpu": {"id": "NVIDIA Abacus"}}, 400, "unknown GPU type NVIDIA Abacus"),
            (
                {"gpu": {"id": "NVIDIA L4"}, "cloud": "COMMUNITY"},
                400,
                "NVIDIA L4 is not offered in the COMMUNITY cloud",
            ),
            ({"env": {f"V{number}": "" for number in range(51)}}, 400, "at most 50 environment variables"),
            ({"templateId": "30zmvf89kd"}, 404, "template not found"),
        ],
    )
    async def test_bodies(self, http: httpx2.AsyncClient, change: dict[str, Any], status: int, words: str) -> None:
        got, detail, errors = problem(await http.post("/v2/pods", json={**BODY, **change}))
        assert got == status
        assert words in (errors[0] if errors else detail).replace("$.mounts.persistent.", "$.mounts: .persistent: .")

    async def test_what_is_no_json(self, http: httpx2.AsyncClient) -> None:
        assert problem(await http.post("/v2/pods", content="{", headers={"Content-Type": "application/json"}))[0] == 400
        assert (
            problem(await http.post("/v2/pods", content=json.dumps(BODY), headers={"Content-Type": "text/plain"}))[0]
            == 400
        )
        assert problem(await http.post("/v2/pods", json=[]))[2] == ["$: got array, want object"]

    async def test_unknown_paths_and_methods(self, http: httpx2.AsyncClient) -> None:
        assert problem(await http.get("/v2/podz"))[0] == 404
        answer = await http.put("/v2/pods", json={})
        assert problem(answer)[0] == 405
        assert "POST" in answer.headers["allow"]

    async def test_without_a_key(self, http: httpx2.AsyncClient) -> None:
        answer = await http.get("/v2/pods", headers={"Authorization": ""})
        assert problem(answer) == (401, "missing bearer token", [])
        assert "ratelimit" not in answer.headers

    async def test_an_unknown_scenario_is_told(self, http: httpx2.AsyncClient) -> None:
        answer = await http.post("/v2/pods", json=BODY, headers={"Authorization": f"Bearer {KEY}.sucess"})
        assert problem(answer)[:2] == (400, "the simulator knows no scenario sucess")

    async def test_actions(self, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        pod = await created(http)
        path = f"/v2/pods/{pod['id']}/action"
        assert problem(await http.post(path, json={"action": "start"}))[0] == 409
        assert problem(await http.post(path, json={"action": "explode"}))[0] == 422
        clock.advance(131)
        assert (await http.post(path, json={"action": "restart"})).json()["status"] == "RUNNING"
        answer = await http.post(path, json={"action": "terminate"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert problem(await http.post(path, json={"action": "terminate"}))[0] == 404
        assert problem(await http.delete(f"/v2/pods/{pod['id']}"))[0] == 404


class TestQuotas:
    async def test_headers_say_what_is_left(self, url: str, clock: SimulatorClock, simulator: RunPodSimulator) -> None:
        simulator.quotas = (2, 3_000, 50_000)
        headers = {"Authorization": "Bearer rpa_sim_busy"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
            first = await http.get("/v2/pods")
            assert first.headers["ratelimit"] == '"minute";r=1;t=60, "hour";r=2999;t=3600, "day";r=49999;t=86400'
            assert first.headers["ratelimit-policy"] == '"minute";q=2;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400'
            await http.get("/v2/pods")
            clock.advance(48)
            third = await http.get("/v2/pods")
            assert problem(third) == (429, "rate limit exceeded for the minute window", [])
            assert third.headers["retry-after"] == "12"
            clock.advance(12)
            assert (await http.get("/v2/pods")).status_code == 200


class TestScenarios:
    async def status(self, http: httpx2.AsyncClient, pod: dict[str, Any]) -> str | int:
        answer = await http.get(f"/v2/pods/{pod['id']}")
        return answer.json()["status"] if answer.is_success else answer.status_code

    @pytest.mark.parametrize(
        ("scenario", "seen"),
        [
            ("success", ["PROVISIONING", "STARTING", "RUNNING", "RUNNING"]),
            ("fails_at_start", ["PROVISIONING", "STARTING", "ERROR", "ERROR"]),
            ("stuck_starting", ["PROVISIONING", "STARTING", "STARTING", "STARTING"]),
            ("exits", ["PROVISIONING", "STARTING", "RUNNING", "EXITED"]),
            ("breaks", ["PROVISIONING", "STARTING", "RUNNING", "ERROR"]),
            ("pod_vanished", ["PROVISIONING", "STARTING", "RUNNING", 404]),
            ("not_found_later", ["PROVISIONING", 404, 404, 404]),
            ("hidden_at_first", [404, "STARTING", "RUNNING", "RUNNING"]),
        ],
    )
    async def test_lives(
        self, http: httpx2.AsyncClient, clock: SimulatorClock, scenario: str, seen: list[str | int]
    ) -> None:
        pod = await created(http, scenario)
        found = [await self.status(http, pod)]
        for seconds in (10, 121, 3):
            clock.advance(seconds)
            found.append(await self.status(http, pod))
        assert found == seen
        listed = [one["id"] for one in (await http.get("/v2/pods")).json()["pods"]]
        assert (pod["id"] in listed) is (seen[-1] != 404)

    async def test_no_runtime(self, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        pod = await created(http, "no_runtime")
        clock.advance(1_000)
        answer = (await http.get(f"/v2/pods/{pod['id']}")).json()
        assert (answer["status"], answer["runtime"]) == ("RUNNING", None)

    async def test_a_lingering_pod(self, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        pod = await created(http, "lingers")
        assert (await http.delete(f"/v2/pods/{pod['id']}")).status_code == 204
        assert await self.status(http, pod) == "PROVISIONING"
        clock.advance(3)
        assert await self.status(http, pod) == 404

    async def test_a_conflict_comes_once(self, http: httpx2.AsyncClient) -> None:
        pod = await created(http, "conflict")
        answers = [await http.post(f"/v2/pods/{pod['id']}/action", json={"action": "terminate"}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [409, 204]

    @pytest.mark.parametrize(
        ("scenario", "seen"),
        [
            ("no_capacity_once", [400, 201]),
            ("no_capacity_twice", [400, 400, 201]),
            ("throttled", [429, 429, 429, 201]),
            ("unstable", [500, 500, 500, 201]),
        ],
    )
    @pytest.mark.parametrize("by_key", [True, False])
    async def test_refused_so_many_times(
        self, http: httpx2.AsyncClient, simulator: RunPodSimulator, scenario: str, seen: list[int], by_key: bool
    ) -> None:
        headers = {"Authorization": f"Bearer {KEY}.{scenario}"} if by_key else {}
        if not by_key:
            simulator.script("acme", [scenario])
        for number, status in enumerate(seen, start=1):
            answer = await http.post("/v2/pods", json={**BODY, "name": f"run-42-{number}"}, headers=headers)
            assert answer.status_code == status
            if status == 429:
                assert answer.headers["retry-after"] == "1"

    async def test_a_lost_reply(self, http: httpx2.AsyncClient) -> None:
        with pytest.raises(httpx2.HTTPError):
            await created(http, "reply_lost")
        assert [pod["name"] for pod in (await http.get("/v2/pods")).json()["pods"]] == ["run-42"]

    async def test_a_late_reply(self, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(created, http, "reply_late")
            while not (await http.get("/v2/pods")).json()["pods"]:
                await anyio.sleep(0.01)
            clock.advance(3)

    async def test_sold_out_types(self, http: httpx2.AsyncClient, simulator: RunPodSimulator) -> None:
        simulator.sold_out.add(GPU)
        assert problem(await http.post("/v2/pods", json=BODY))[:2] == (400, NO_CAPACITY)
        await created(http, gpu={"id": "NVIDIA L4"})


class TestTruths:
    async def test_cost_is_price_times_lifetime(
        self, http: httpx2.AsyncClient, clock: SimulatorClock, simulator: RunPodSimulator
    ) -> None:
        pod = await created(http)
        clock.advance(1_000)
        await http.post(f"/v2/pods/{pod['id']}/action", json={"action": "stop"})
        clock.advance(5_000)
        await http.post(f"/v2/pods/{pod['id']}/action", json={"action": "start"})
        clock.advance(800)
        await http.delete(f"/v2/pods/{pod['id']}")
        clock.advance(9_999)
        (truth,) = simulator.truths()
        assert (truth.reference, truth.tag, truth.account, truth.scenario) == (pod["id"], "run-42", "acme", "success")
        assert (truth.state, truth.is_alive) == ("canceled", False)
        assert truth.billed_seconds == 1_800
        assert truth.cost_micros == truth.price_micros_per_hour // 2 == 345_000

    async def test_the_journal_holds_no_key(self, http: httpx2.AsyncClient, simulator: RunPodSimulator) -> None:
        await created(http)
        (heard,) = simulator.journal.of("POST", "/v2/pods")
        assert (heard.account, heard.status) == ("acme", 201)
        assert KEY not in str(heard.headers)
