"""Every body and header that RunPod's documentation shows, read by the adapter; the simulator makes the same ones."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import anyio
import httpx2
import pytest

from jobs.providers.base import (
    CredentialRefused,
    NoCapacity,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
)
from jobs.providers.runpod.limits import Limits, Window
from jobs.providers.runpod.pods import Pod
from jobs.providers.runpod.trainer import RunPodTrainer
from jobs.simulators.runpod.catalog import GPUS, gpu_json
from tests.jobs.providers.runpod.conftest import GPU, NOW, account_of, order_of, position_of

pytestmark = pytest.mark.anyio
BASE = "http://runpod.test"
POD: dict[str, Any] = {
    "id": "x7k2p0qh4m1zsd",
    "name": "run-42",
    "status": "RUNNING",
    "actions": ["stop", "restart", "terminate"],
    "image": "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04",
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
        "ports": [{"private": 8888, "public": 60141, "type": "http", "ip": "100.65.0.101"}],
    },
    "createdAt": "2026-11-20T10:00:00Z",
    "startedAt": "2026-11-20T10:02:11Z",
}
CREATED = {**POD, "status": "PROVISIONING", "actions": ["start", "terminate"], "runtime": {}, "startedAt": None}
"""As the published example of a creation has it: with actions that the text beside it does not allow."""
CATALOG_GPU: dict[str, Any] = {
    "id": GPU,
    "name": "RTX 4090",
    "pool": "ADA_24",
    "manufacturer": "NVIDIA",
    "memory": 24,
    "secure": True,
    "community": True,
    "price": {"secure": 0.44, "community": 0.31, "serverless": 1.1},
    "maxCount": {"secure": 8, "community": 4},
    "availability": "HIGH",
    "dataCenters": [{"id": "US-KS-2", "name": "US Kansas 2", "availability": "HIGH"}],
}
LIMITS = {
    "RateLimit": '"minute";r=12;t=40, "hour";r=2800;t=1812, "day";r=49500;t=45012',
    "RateLimit-Policy": '"minute";q=60;w=60, "hour";q=3000;w=3600, "day";q=50000;w=86400',
}
CAPACITY = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again.",
    "There are no longer any instances available with enough disk space.",
    "There are not enough free GPUs on the host machine to start this pod.",
    "This machine does not have the resources to deploy your pod. Please try a different machine",
    "There are no instances currently available",
)


def problem(status: int, detail: str, **other: Any) -> httpx2.Response:
    body = {"title": "Problem", "status": status, "detail": detail, **other}
    return httpx2.Response(status, content=json.dumps(body), headers={"Content-Type": "application/problem+json"})


def trainer_of(answer: Callable[[httpx2.Request], httpx2.Response]) -> RunPodTrainer:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return RunPodTrainer(account_of(BASE), http, list_seconds=0.0)


class TestPods:
    @pytest.mark.parametrize("body", [POD, {**POD, "cost": 0.69000001}, {**POD, "startedAt": None, "gpu": None}])
    def test_a_running_one(self, body: dict[str, Any]) -> None:
        created = datetime(2026, 11, 20, 10, tzinfo=UTC)
        assert Pod.of(body) == Pod("x7k2p0qh4m1zsd", "run-42", "RUNNING", 690_000, created, True)

    def test_secrets_in_its_variables_are_not_kept(self) -> None:
        pod = Pod.of({**POD, "env": {"RUNWIRE_TOKEN": "rwp_secret"}})
        assert "rwp_secret" not in repr(pod)

    @pytest.mark.parametrize("body", [None, [], {}, {"id": 7, "status": "RUNNING"}, {"id": "", "status": "RUNNING"}])
    def test_what_is_none(self, body: object) -> None:
        assert Pod.of(body) is None

    @pytest.mark.parametrize("cost", [None, "0.69", True, -1, 1e300, float("nan"), float("inf")])
    def test_what_is_no_price(self, cost: object) -> None:
        pod = Pod.of({**POD, "cost": cost, "createdAt": "yesterday"})
        assert pod is not None
        assert (pod.price_micros_per_hour, pod.created_at) == (0, None)

    async def test_one_odd_pod_hides_no_other(self) -> None:
        trainer = trainer_of(lambda request: httpx2.Response(200, json={"pods": [None, {"id": "?"}, POD]}))
        assert (await trainer.report(POD["id"], position_of(), NOW)).suspicion is None

    async def test_a_creation(self) -> None:
        started = await trainer_of(lambda request: httpx2.Response(201, json=CREATED)).start(order_of())
        assert (started.reference, started.price_micros_per_hour) == ("x7k2p0qh4m1zsd", 690_000)

    async def test_the_vendors_page_about_a_pod(self) -> None:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda request: httpx2.Response(201, json=CREATED)))
        started = await RunPodTrainer(account_of("https://api.runpod.io"), http).start(order_of())
        assert started.url == "https://console.runpod.io/pods?id=x7k2p0qh4m1zsd"

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"id": null}', b"\xff" * 100])
    async def test_an_answer_that_cannot_be_read_is_lost(self, body: bytes) -> None:
        with pytest.raises(ProviderBusy, match="the answer was lost"):
            await trainer_of(lambda request: httpx2.Response(201, content=body)).start(order_of())

    async def test_an_answer_without_end_is_not_read_to_its_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("jobs.providers.runpod.wire.LARGEST_ANSWER_BYTES", 1_000)
        with pytest.raises(ProviderBusy, match="too large"):
            await trainer_of(lambda request: httpx2.Response(200, content=b" " * 2_000)).alive()


class TestCatalog:
    async def test_the_published_entry(self) -> None:
        trainer = trainer_of(lambda request: httpx2.Response(200, json={"gpus": [CATALOG_GPU]}))
        (quote,) = await trainer.quotes([GPU], {})
        assert (quote.price_micros_per_hour, quote.is_available, quote.expected_seconds) == (440_000, True, None)

    def test_the_simulators_entry_has_the_same_parts(self) -> None:
        shown = gpu_json(GPUS[GPU], availability="HIGH")
        assert CATALOG_GPU.keys() - shown.keys() == set()
        assert {name: type(shown[name]) for name in CATALOG_GPU} == {
            name: type(value) for name, value in CATALOG_GPU.items()
        }


class TestRefusals:
    @pytest.mark.parametrize("words", CAPACITY)
    @pytest.mark.parametrize("status", [400, 500])
    async def test_no_capacity_in_all_its_words(self, words: str, status: int) -> None:
        with pytest.raises(NoCapacity, match="RunPod has no free machine of this kind"):
            await trainer_of(lambda request: problem(status, words)).start(order_of())

    async def test_no_capacity_as_the_old_api_says_it(self) -> None:
        body = {"error": "create pod: This machine does not have the resources to deploy your pod."}
        with pytest.raises(NoCapacity):
            await trainer_of(lambda request: httpx2.Response(500, json=body)).start(order_of())

    async def test_thin_stock_is_no_capacity_only_for_a_creation(self) -> None:
        words = "Something went wrong. Please try again later or contact support."
        with pytest.raises(NoCapacity):
            await trainer_of(lambda request: problem(500, words)).start(order_of())
        with pytest.raises(ProviderBusy) as busy:
            await trainer_of(lambda request: problem(500, words)).alive()
        assert not isinstance(busy.value, NoCapacity)

    @pytest.mark.parametrize(
        ("answer", "error", "words"),
        [
            (problem(401, "missing bearer token"), CredentialRefused, "RunPod refused the key."),
            (problem(402, "Insufficient balance"), CredentialRefused, "balance at RunPod is too low"),
            (problem(403, "access denied"), CredentialRefused, "access denied"),
            (problem(404, "resource not found"), ProviderLost, "resource not found"),
            (problem(405, "The requested method is not allowed for this path."), ProviderRefused, "405"),
            (problem(400, "request could not be processed"), ProviderRefused, "could not be processed"),
            (
                problem(422, "Request validation failed.", errors=["$: additional properties 'bogus' not allowed"]),
                *(ProviderRefused, "Request validation failed.; \\$: additional properties 'bogus' not allowed"),
            ),
            (problem(502, "bad gateway"), ProviderBusy, "502"),
            (httpx2.Response(504, content=b"<html>Gateway Time-out</html>"), ProviderBusy, "504"),
        ],
    )
    async def test_each_status(self, answer: httpx2.Response, error: type[ProviderError], words: str) -> None:
        with pytest.raises(error, match=words):
            await trainer_of(lambda request: answer).start(order_of())

    @pytest.mark.parametrize(
        ("told", "waited"), [("12", 12.0), ("soon", 5.0), ("", 5.0), ("nan", 5.0), ("1e9", 3_600.0)]
    )
    async def test_a_full_quota(self, told: str, waited: float) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            response = problem(429, "rate limit exceeded for the minute window")
            response.headers["Retry-After"] = told
            return response

        with pytest.raises(ProviderBusy) as busy:
            await trainer_of(answer).start(order_of())
        assert busy.value.retry_after_seconds == waited

    async def test_long_words_are_cut(self) -> None:
        with pytest.raises(ProviderRefused) as refused:
            await trainer_of(lambda request: problem(400, "x" * 100_000)).start(order_of())
        assert len(str(refused.value)) < 2_100


class TestLimits:
    def test_the_published_headers(self) -> None:
        limits = Limits(clock=lambda: 1_000.0)
        limits.heard({name.lower(): value for name, value in LIMITS.items()})
        assert limits.windows == {
            "minute": Window(12, 1_040.0, 60),
            "hour": Window(2_800, 2_812.0, 3_000),
            "day": Window(49_500, 46_012.0, 50_000),
        }
        assert limits.wait_seconds(urgent=False) == 0

    def test_some_requests_are_kept_for_what_is_urgent(self) -> None:
        now = 1_000.0
        limits = Limits(clock=lambda: now)
        limits.heard({"ratelimit": '"minute";r=6;t=40', "ratelimit-policy": '"minute";q=60;w=60'})
        assert (limits.wait_seconds(urgent=False), limits.wait_seconds(urgent=True)) == (40, 0)
        for _ in range(6):
            limits.sent()
        assert limits.wait_seconds(urgent=True) == 40
        now = 1_040.0
        assert limits.wait_seconds(urgent=False) == 0

    @pytest.mark.parametrize("header", ["", "minute;r=0", '"minute";r=x;t=1', '"minute"', ',,,;;="', '"minute";r=0'])
    def test_what_is_no_limit(self, header: str) -> None:
        limits = Limits()
        limits.heard({"ratelimit": header, "ratelimit-policy": header})
        assert limits.wait_seconds(urgent=False) == 0

    def test_without_headers_nothing_is_known(self) -> None:
        limits = Limits()
        limits.heard({})
        limits.sent()
        assert limits.wait_seconds(urgent=False) == 0


class TestSharedList:
    async def test_a_failure_is_shared_by_all_who_wait(self) -> None:
        """Else each of them would wait for a time limit of its own, one after the other."""
        asked = 0

        async def slow_failure(request: httpx2.Request) -> httpx2.Response:
            nonlocal asked
            asked += 1
            await anyio.sleep(0.05)
            raise httpx2.ReadTimeout("no answer", request=request)

        http = httpx2.AsyncClient(transport=httpx2.MockTransport(slow_failure))
        trainer = RunPodTrainer(account_of(BASE), http)
        failures = 0

        async def ask() -> None:
            nonlocal failures
            with pytest.raises(ProviderBusy):
                await trainer.pods.recent()
            failures += 1

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(ask)
        assert (failures, asked) == (10, 1)
        await ask()
        assert asked == 2

    async def test_a_fresh_list_is_asked_for_after_the_call(self) -> None:
        asked = 0

        def answer(request: httpx2.Request) -> httpx2.Response:
            nonlocal asked
            asked += 1
            return httpx2.Response(200, json={"pods": []})

        trainer = trainer_of(answer)
        trainer.pods.fresh_seconds = 60.0
        await trainer.pods.recent()
        await trainer.pods.recent()
        assert asked == 1
        await trainer.pods.fresh()
        assert asked == 2
