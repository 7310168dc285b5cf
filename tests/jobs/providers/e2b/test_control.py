"""What E2B's control plane says, in the bodies of its fact page, and how its limits are kept."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain.secret import Secret
from domain.training.status import Provider
from jobs.providers.base import (
    Account,
    CredentialRefused,
    NoCapacity,
    ProviderBusy,
    ProviderError,
    ProviderRefused,
)
from jobs.providers.e2b.control import ControlPlane, SandboxInfo
from jobs.providers.e2b.errors import RateLimited, SandboxGone
from jobs.providers.e2b.sandboxes import E2BSandboxes
from jobs.simulators.e2b import E2BSimulator
from jobs.simulators.e2b.control import Plan
from jobs.simulators.kit import serving

pytestmark = pytest.mark.anyio

KEY = "e2b_0123456789abcdef0123456789abcdef01234567"
CREATED = {
    "templateID": "base",
    "sandboxID": "isim0000000000000001",
    "clientID": "sim",
    "envdVersion": "0.6.2",
    "envdAccessToken": "tok_1",
    "trafficAccessToken": None,
    "domain": None,
}
DETAIL = {
    "templateID": "base",
    "sandboxID": "isim0000000000000001",
    "clientID": "sim",
    "startedAt": "2026-11-20T10:00:00Z",
    "endAt": "2026-11-20T10:30:00.5Z",
    "envdVersion": "0.6.2",
    "envdAccessToken": "tok_1",
    "cpuCount": 2,
    "memoryMB": 512,
    "diskSizeMB": 10240,
    "state": "running",
    "alias": "base",
    "metadata": {"run": "r1", "tag": "run-1", "limit": "60"},
    "domain": None,
    "network": {},
    "lifecycle": {"autoResume": False, "onTimeout": "kill"},
    "something": "new",
}
INFO = SandboxInfo(
    id="isim0000000000000001",
    metadata={"run": "r1", "tag": "run-1", "limit": "60"},
    is_paused=False,
    started_at=datetime(2026, 11, 20, 10, tzinfo=UTC),
    end_at=datetime(2026, 11, 20, 10, 30, 0, 500_000, tzinfo=UTC),
    cpu_count=2,
    memory_mb=512,
)
Answer = Callable[[Request], Response]


@asynccontextmanager
async def vendor(answer: Answer) -> AsyncIterator[tuple[Account, httpx2.AsyncClient, list[Request]]]:
    """A vendor that answers as the test says; and what it was asked."""
    asked: list[Request] = []

    async def route(request: Request) -> Response:
        await request.body()
        asked.append(request)
        return answer(request)

    app = Starlette(routes=[Route("/{path:path}", route, methods=["GET", "POST", "DELETE"])])
    async with serving(app) as base_url, httpx2.AsyncClient(trust_env=False) as http:
        yield Account(Provider.E2B, Secret(KEY), base_url), http, asked


def answering(status: int, body: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request: JSONResponse(body, status, headers=named)


class TestBodies:
    async def test_of_the_fact_page_make_a_sandbox(self) -> None:
        def answer(request: Request) -> Response:
            if request.method == "POST":
                return JSONResponse(CREATED, 201)
            return JSONResponse([] if request.url.path == "/v2/sandboxes" else DETAIL)

        async with vendor(answer) as (account, http, asked):
            assert await E2BSandboxes(account, http).create("run-1", {"run": "r1"}) == INFO
        assert [(one.method, one.url.path) for one in asked] == [
            ("GET", "/v2/sandboxes"),
            ("POST", "/v2/sandboxes"),
            ("GET", "/sandboxes/isim0000000000000001"),
        ]
        assert {one.headers["x-api-key"] for one in asked} == {KEY}
        assert asked[0].query_params["metadata"] == "tag=run-1"
        assert asked[1].headers["idempotency-key"] == "run-1"
        body = json.loads(await asked[1].body())
        assert body == {"templateID": "base", "timeout": 1800, "metadata": {"run": "r1", "tag": "run-1"}, **body}

    async def test_pages_are_followed_and_bounded(self) -> None:
        def answer(request: Request) -> Response:
            page = int(request.query_params.get("nextToken", "0"))
            one = {**DETAIL, "sandboxID": f"i{page}", "startedAt": f"2026-11-20T10:0{9 - page}:00Z"}
            return JSONResponse([one], headers={"X-Next-Token": str(page + 1)} if page < 3 else {})

        async with vendor(answer) as (account, http, asked):
            plane = ControlPlane(account, http)
            assert [one.id for one in await plane.listed()] == ["i3", "i2", "i1", "i0"]
            assert [one.id for one in await plane.listed(most=1)] == ["i0"]
        assert len(asked) == 5

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, {"code": 401, "message": "Invalid API key"}, CredentialRefused),
            (403, {"code": 403, "message": "Team is blocked"}, CredentialRefused),
            (404, {"code": 404, "message": "not there"}, SandboxGone),
            (400, {"code": 400, "message": "bad"}, ProviderRefused),
            (422, {"code": 422, "message": "bad"}, ProviderRefused),
            (429, {"code": 429, "message": "Rate limit exceeded"}, RateLimited),
            (500, {"code": 500, "message": "oops"}, ProviderBusy),
            (503, "busy", ProviderBusy),
            (200, "something else", ProviderBusy),
            (200, {**DETAIL, "startedAt": "yesterday"}, ProviderBusy),
            (200, {**DETAIL, "metadata": []}, None),
            (200, {**DETAIL, "metadata": "tag"}, ProviderBusy),
        ],
    )
    async def test_other_answers(self, status: int, body: Any, kind: type[ProviderError] | None) -> None:
        async with vendor(answering(status, body)) as (account, http, _):
            if kind is None:
                assert (await ControlPlane(account, http).info("isim0000000000000001")).metadata == {}
                return
            with pytest.raises(kind) as caught:
                await ControlPlane(account, http).info("isim0000000000000001")
        assert type(caught.value) is kind
        assert KEY not in str(caught.value) and len(str(caught.value)) < 1000

    @pytest.mark.parametrize(
        ("status", "body", "kind"),
        [
            (401, {"code": 401, "message": "Invalid API key"}, CredentialRefused),
            (403, {"code": 403, "message": "Team is blocked"}, CredentialRefused),
            (400, {"code": 400, "message": "Timeout cannot be greater than 1 hours"}, ProviderRefused),
            (429, {"code": 429, "message": "you have reached the maximum number of concurrent E2B"}, NoCapacity),
            (500, {"code": 500, "message": "x", "error_code": "sandbox_create_failed"}, ProviderBusy),
            (503, {"code": 503, "message": "Failed to place sandbox: no"}, NoCapacity),
            (503, {"code": 503, "message": "", "error_code": "sandbox_no_compatible_node"}, NoCapacity),
            (504, {"code": 504, "message": "Failed to place sandbox in time"}, NoCapacity),
            (502, "bad gateway", ProviderBusy),
            (201, {"sandboxID": "i1"}, ProviderBusy),
            (201, "something else", ProviderBusy),
        ],
    )
    async def test_of_creations_that_are_none(self, status: int, body: Any, kind: type[ProviderError]) -> None:
        def answer(request: Request) -> Response:
            return JSONResponse(body, status) if request.method == "POST" else JSONResponse([])

        async with vendor(answer) as (account, http, asked):
            with pytest.raises(kind) as caught:
                await E2BSandboxes(account, http).create("run-1", {})
        assert type(caught.value) is kind
        assert [one.method for one in asked] == ["GET", "POST"]  # the package's own tries are off
        assert KEY not in str(caught.value)

    async def test_an_answer_that_is_too_large(self) -> None:
        async with vendor(lambda request: Response(b"[" + b" " * 9_000_000 + b"]")) as (account, http, _):
            with pytest.raises(ProviderBusy, match="too large"):
                await ControlPlane(account, http).listed()

    async def test_nobody_there(self) -> None:
        account = Account(Provider.E2B, Secret(KEY), "http://127.0.0.1:9")
        async with httpx2.AsyncClient(trust_env=False) as http:
            with pytest.raises(ProviderBusy, match="lost"):
                await ControlPlane(account, http).listed()
            with pytest.raises(ProviderBusy):
                await E2BSandboxes(account, http).extend("i1", 10)


class TestLimits:
    async def test_retry_after_is_obeyed_without_asking_again(self) -> None:
        limited = answering(429, {"code": 429, "message": "Rate limit exceeded"}, retry_after="7")
        async with vendor(limited) as (account, http, asked):
            plane = ControlPlane(account, http)
            for least in (7.0, 5.0):
                with pytest.raises(RateLimited) as caught:
                    await plane.listed()
                assert least <= caught.value.retry_after_seconds <= 7.0
        assert len(asked) == 1

    async def test_nothing_is_asked_once_nothing_is_left(self) -> None:
        last = answering(200, [], ratelimit_remaining="0", ratelimit_reset="9")
        async with vendor(last) as (account, http, asked):
            boxes = E2BSandboxes(account, http)
            assert await boxes.alive() == {}
            with pytest.raises(RateLimited) as caught:
                await boxes.create("run-1", {})
            assert 8.0 < caught.value.retry_after_seconds <= 9.0
        assert len(asked) == 1

    async def test_the_simulator_s_own_limit_is_never_hit(self) -> None:
        simulator = E2BSimulator(plan=Plan(calls_per_30_seconds=3))
        async with serving(simulator.app) as base_url, httpx2.AsyncClient(trust_env=False) as http:
            plane = ControlPlane(Account(Provider.E2B, Secret("e2b_sim_acme"), base_url), http)
            for _ in range(3):
                await plane.listed()
            for _ in range(3):
                with pytest.raises(RateLimited) as caught:
                    await plane.listed()
                assert 25.0 < caught.value.retry_after_seconds <= 30.0
        assert [one.status for one in simulator.journal.of("GET", "/v2/sandboxes")] == [200, 200, 200]
