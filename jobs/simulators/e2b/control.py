"""E2B's control plane: sandboxes are created, listed, paused, resumed and killed here."""

import asyncio
import json
import math
import re
import secrets
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.simulators.e2b.machine import Machine
from jobs.simulators.e2b.processes import Processes
from jobs.simulators.e2b.sandboxes import Sandbox, Sandboxes
from jobs.simulators.kit import Caller, SimulatorClock, WireFault

DEFAULT_LIFE_SECONDS = {"/sandboxes": 15, "/v2/sandboxes": 300}
FIELDS = {
    "templateID": str,
    "timeout": int,
    "metadata": dict,
    "envVars": dict,
    "autoPause": bool,
    "autoPauseMemory": bool,
    "autoResume": dict,
    "allow_internet_access": bool,
    "network": dict,
    "mcp": dict,
    "volumeMounts": list,
    "iam": dict,
    "secure": bool,
}
_IDEMPOTENCY_KEY = re.compile(r"[a-z0-9-]{1,255}")
TEMPLATES = frozenset({"base", "mcp-gateway"})
HEADERS_OF_LIMIT = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset")


class Refusal(Exception):
    """An answer of the control plane that is no success."""

    def __init__(
        self, status: int, message: str, error_code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.body: dict[str, Any] = {"code": status, "message": message}
        if error_code is not None:
            self.body["error_code"] = error_code
        self.headers = dict(headers or {})

    def response(self) -> Response:
        return JSONResponse(self.body, self.status, headers=self.headers)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an account may do."""

    most_sandboxes: int = 100
    creations_per_second: int = 5
    longest_life_hours: int = 24
    calls_per_30_seconds: int = 20_000


class World(Protocol):
    """What the control plane needs of the simulator."""

    clock: SimulatorClock
    plan: Plan
    sandboxes: Sandboxes
    late_seconds: float

    def scenario_of(self, caller: Caller, name: str) -> str: ...

    def tried(self, account: str, name: str) -> int: ...

    def new_machine(self) -> Machine: ...


class Window:
    """A limit per account, told in the headers that E2B sends."""

    def __init__(self, clock: SimulatorClock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds
        self._taken: dict[str, deque[datetime]] = {}

    def take(self, account: str, most: int) -> dict[str, str]:
        """The headers of an allowed call. Raises `Refusal` (429)."""
        now = self.clock.now()
        taken = self._taken.setdefault(account, deque())
        while taken and (now - taken[0]).total_seconds() >= self.seconds:
            taken.popleft()
        if len(taken) >= most:
            wait = max(1, math.ceil(self.seconds - (now - taken[0]).total_seconds()))
            values = (str(most), "0", str(wait))
            headers = {**dict(zip(HEADERS_OF_LIMIT, values, strict=True)), "Retry-After": str(wait)}
            raise Refusal(429, "Rate limit exceeded", headers=headers)
        taken.append(now)
        reset = math.ceil(self.seconds - (now - taken[0]).total_seconds())
        return dict(zip(HEADERS_OF_LIMIT, (str(most), str(most - len(taken)), str(reset)), strict=True))


class ControlPlane:
    """The routes of `https://api.e2b.app`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.creations = Window(world.clock, 1.0)
        self.calls = Window(world.clock, 30.0)
        self._answered: dict[tuple[str, str], Sandbox] = {}

    def routes(self) -> list[Route]:
        one = "/sandboxes/{sandbox_id}"
        return [
            Route("/sandboxes", self._door(self.create), methods=["POST"]),
            Route("/sandboxes", self._door(self.list_all), methods=["GET"]),
            Route("/v2/sandboxes", self._door(self.create), methods=["POST"]),
            Route("/v2/sandboxes", self._door(self.list_all), methods=["GET"]),
            Route(one, self._door(self.info), methods=["GET"]),
            Route(one, self._door(self.kill), methods=["DELETE"]),
            Route(one + "/timeout", self._door(self.set_timeout), methods=["POST"]),
            Route(one + "/refreshes", self._door(self.refresh), methods=["POST"]),
            Route(one + "/pause", self._door(self.pause), methods=["POST"]),
            Route(one + "/connect", self._door(self.connect), methods=["POST"]),
            Route("/v2" + one + "/connect", self._door(self.connect), methods=["POST"]),
            Route(one + "/metrics", self._door(self.metrics), methods=["GET"]),
        ]

    def _door(self, route: Any) -> Any:
        """The key, the rate limit and the error shape of every call."""

        async def answer(request: Request) -> Response:
            try:
                caller = self._caller(request)
                limits = self.calls.take(caller.account, self.world.plan.calls_per_30_seconds)
                response: Response = await route(request, caller)
            except Refusal as refusal:
                return refusal.response()
            for name, value in limits.items():
                response.headers.setdefault(name, value)
            return response

        return answer

    def _caller(self, request: Request) -> Caller:
        key = request.headers.get("x-api-key")
        if key is None:
            raise Refusal(401, "Authorization header is missing")
        caller = Caller.of_key(key) if key.startswith("e2b_") else None
        if caller is None or caller.scenario == "unauthorized":
            raise Refusal(401, "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.")
        return caller

    async def create(self, request: Request, caller: Caller) -> Response:
        wish = await _json(request)
        limits = self.creations.take(caller.account, self.world.plan.creations_per_second)
        metadata, variables, life = self._checked(wish, request.url.path)
        key = request.headers.get("idempotency-key")
        if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
            raise Refusal(400, "Idempotency-Key must be 1-255 lowercase letters, digits or hyphens")
        name = metadata.get("tag") or key or secrets.token_hex(8)
        scenario = self.world.scenario_of(caller, name)
        known = self._answered.get((caller.account, key)) if key is not None else None
        if known is None:
            self._refuse(scenario, self.world.tried(caller.account, name))
            if len(self.world.sandboxes.living(caller.account)) >= self.world.plan.most_sandboxes:
                raise _too_many(self.world.plan.most_sandboxes)
            known = self._make(wish, caller, scenario, metadata, variables, life)
            if key is not None:
                self._answered[caller.account, key] = known
            if scenario == "reply_lost":
                raise WireFault("The sandbox is there, its creator will not hear of it.")
        if scenario == "reply_late":
            await self._wait(self.world.late_seconds)
        return JSONResponse(known.access(), 201, headers=limits)

    def _make(
        self,
        wish: Mapping[str, Any],
        caller: Caller,
        scenario: str,
        metadata: dict[str, str],
        variables: dict[str, str],
        life: int,
    ) -> Sandbox:
        machine = self.world.new_machine()
        machine.make()
        now = self.world.clock.now()
        sandbox = Sandbox(
            id=machine.sandbox_id,
            account=caller.account,
            tag=metadata.get("tag", ""),
            scenario=scenario,
            metadata=metadata,
            token=secrets.token_hex(16),
            machine=machine,
            processes=Processes(machine, variables),
            created_at=now,
            started_at=now,
            end_at=now + timedelta(seconds=life),
            auto_pause=bool(wish.get("autoPause")),
            network=wish.get("network"),
        )
        self.world.sandboxes.all[sandbox.id] = sandbox
        return sandbox

    def _refuse(self, scenario: str, tries: int) -> None:
        """What the scenario answers to this try of a creation, if it is not a sandbox. `tries` counts from 1."""
        if scenario == "fails_at_start":
            raise Refusal(500, "Failed to create sandbox", "sandbox_create_failed")
        if scenario == "no_capacity" or tries <= {"no_capacity_once": 1, "no_capacity_twice": 2}.get(scenario, 0):
            message = "Failed to place sandbox: no node has the capacity now"
            raise Refusal(503, message, "sandbox_capacity_unavailable")
        if scenario == "no_node":
            raise Refusal(503, "Failed to place sandbox: no compatible node", "sandbox_no_compatible_node")
        if scenario == "placement_late" and tries <= 1:
            raise Refusal(504, "Failed to place sandbox in time", "sandbox_placement_timeout")
        if scenario == "too_many" or (scenario == "too_many_once" and tries <= 1):
            raise _too_many(self.world.plan.most_sandboxes)
        if scenario == "unauthorized":
            raise Refusal(401, "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.")
        if scenario == "no_money":
            raise Refusal(403, "Team is blocked: billing limit reached")
        if scenario == "conflict":
            raise Refusal(409, "Sandbox is being changed by another request")
        if scenario == "unprocessable":
            raise Refusal(422, "The template cannot be started: its build is not ready")
        if scenario == "throttled" and tries <= 2:
            headers = dict(zip(HEADERS_OF_LIMIT, ("5", "0", "1"), strict=True))
            raise Refusal(429, "Rate limit exceeded", headers={**headers, "Retry-After": "1"})
        if scenario == "unstable" and tries <= 2:
            raise Refusal(500 if tries == 1 else 502, "Internal server error")

    def _checked(self, wish: Mapping[str, Any], path: str) -> tuple[dict[str, str], dict[str, str], int]:
        """Metadata, variables and life of a creation. Raises `Refusal`."""
        for name, value in wish.items():
            kind = FIELDS.get(name)
            if kind is None:
                raise Refusal(400, f'Error when parsing request: unknown field "{name}"')
            if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
                raise Refusal(400, f'Error when parsing request: field "{name}" has the wrong type')
        if not wish.get("templateID"):
            raise Refusal(400, 'Error when parsing request: property "templateID" is missing')
        if wish["templateID"] not in TEMPLATES:
            raise Refusal(404, f"template '{wish['templateID']}' not found")
        life = wish.get("timeout")
        if life is None:
            life = DEFAULT_LIFE_SECONDS["/v2/sandboxes" if path.endswith("/v2/sandboxes") else "/sandboxes"]
        if life <= 0:
            raise Refusal(400, "Timeout must be greater than 0")
        self._check_life(life)
        return _strings(wish, "metadata"), _strings(wish, "envVars"), life

    def _check_life(self, seconds: float) -> None:
        hours = self.world.plan.longest_life_hours
        if seconds > hours * 3600:
            raise Refusal(400, f"Timeout cannot be greater than {hours} hours")

    async def list_all(self, request: Request, caller: Caller) -> Response:
        query = request.query_params
        states = {"running", "paused"} if "/v2/" in request.url.path else {"running"}
        if query.get("state"):
            states = set(query["state"].split(","))
            if not states <= {"running", "paused"}:
                raise Refusal(400, "parameter \"state\" in query has an error: value is not one of 'running', 'paused'")
        try:
            limit, start = int(query.get("limit", "100")), int(query.get("nextToken") or 0)
        except ValueError:
            raise Refusal(400, 'parameter "limit" in query has an error: value is not a number') from None
        if not 1 <= limit <= 100:
            raise Refusal(400, 'parameter "limit" in query has an error: number must be at least 1 and at most 100')
        wanted = {unquote(name): unquote(value) for name, value in parse_qsl(query.get("metadata", ""))}
        found = [
            one
            for one in self._living(caller)
            if one.state in states and all(one.metadata.get(name) == value for name, value in wanted.items())
        ]
        found.sort(key=lambda one: one.created_at, reverse=query.get("order", "desc") == "desc")
        headers = {"X-Total-Running": str(sum(one.is_running for one in found))}
        if len(found) > start + limit:
            headers["X-Next-Token"] = str(start + limit)
        return JSONResponse([one.listed() for one in found[start : start + limit]], headers=headers)

    async def info(self, request: Request, caller: Caller) -> Response:
        return JSONResponse(self._one(request, caller).detail())

    async def kill(self, request: Request, caller: Caller) -> Response:
        sandbox = self._one(request, caller)
        self.world.sandboxes.end(sandbox, "killed", self.world.clock.now())
        if sandbox.ending is not None:
            await asyncio.wait({sandbox.ending})
        return Response(status_code=204)

    async def set_timeout(self, request: Request, caller: Caller) -> Response:
        life = _whole_number(await _json(request, {"timeout"}), "timeout")
        self._keep_alive(self._running(request, caller), max(0, life), may_shorten=True)
        return Response(status_code=204)

    async def refresh(self, request: Request, caller: Caller) -> Response:
        life = _whole_number(await _json(request, {"duration"}), "duration")
        self._keep_alive(self._running(request, caller), max(0, life), may_shorten=False)
        return Response(status_code=204)

    def _keep_alive(self, sandbox: Sandbox, seconds: float, *, may_shorten: bool) -> None:
        now = self.world.clock.now()
        left = self.world.plan.longest_life_hours * 3600 - (now - sandbox.started_at).total_seconds()
        if left < 0:
            raise Refusal(400, "Max instance length exceeded")
        end_at = now + timedelta(seconds=min(left, seconds))
        if may_shorten or end_at > sandbox.end_at:
            sandbox.end_at = end_at

    async def pause(self, request: Request, caller: Caller) -> Response:
        await _json(request, {"memory", "require_healthy_guest", "requireHealthyGuest"}, optional=True)
        sandbox = self._one(request, caller)
        if not sandbox.is_running:
            raise Refusal(409, f"Error pausing sandbox - sandbox '{sandbox.id}' is already paused")
        self.world.sandboxes.pause(sandbox, self.world.clock.now())
        return Response(status_code=204)

    async def connect(self, request: Request, caller: Caller) -> Response:
        wish = await _json(request, {"timeout", "memory"})
        life = _whole_number(wish, "timeout", 300)
        self._check_life(life)
        sandbox = self._one(request, caller)
        was_running = sandbox.is_running
        if not was_running:
            now = self.world.clock.now()
            self.world.sandboxes.resume(sandbox, now)
            sandbox.end_at = now
        self._keep_alive(sandbox, life, may_shorten=False)
        return JSONResponse(sandbox.access(), 200 if was_running else 201)

    async def metrics(self, request: Request, caller: Caller) -> Response:
        sandbox = self._one(request, caller)
        used = await asyncio.to_thread(lambda: sum(one.memory_info().rss for one in sandbox.machine.workers(0.0)))
        now = self.world.clock.now()
        return JSONResponse(
            [
                {
                    "timestamp": now.isoformat(),
                    "timestampUnix": int(now.timestamp()),
                    "cpuCount": 2,
                    "cpuUsedPct": 0.0,
                    "memTotal": 512 * 1024 * 1024,
                    "memUsed": used,
                    "memCache": 0,
                    "diskTotal": 10 * 1024**3,
                    "diskUsed": 0,
                }
            ]
        )

    def _living(self, caller: Caller) -> list[Sandbox]:
        now = self.world.clock.now()
        for one in self.world.sandboxes.living(caller.account):
            self.world.sandboxes.settle(one, now)
        return self.world.sandboxes.living(caller.account)

    def _one(self, request: Request, caller: Caller) -> Sandbox:
        sandbox_id = request.path_params["sandbox_id"].partition("-")[0]
        for one in self._living(caller):
            if one.id == sandbox_id:
                return one
        raise Refusal(404, f"Sandbox \"{sandbox_id}\" doesn't exist or you don't have access to it")

    def _running(self, request: Request, caller: Caller) -> Sandbox:
        sandbox = self._one(request, caller)
        if not sandbox.is_running:
            raise Refusal(404, f"Sandbox \"{sandbox.id}\" doesn't exist or you don't have access to it")
        return sandbox

    async def _wait(self, seconds: float) -> None:
        until = self.world.clock.now() + timedelta(seconds=seconds)
        while self.world.clock.now() < until:  # noqa: ASYNC110 - the clock is moved by others, and tells nobody
            await asyncio.sleep(0.02)


def _too_many(most: int) -> Refusal:
    return Refusal(
        429,
        f"you have reached the maximum number of concurrent E2B sandboxes ({most}). If you need more, please "
        "contact us at 'https://e2b.dev/docs/getting-help'",
    )


async def _json(request: Request, fields: set[str] | None = None, *, optional: bool = False) -> dict[str, Any]:
    """The body as an object, with no other than these fields. Raises `Refusal`."""
    body = await request.body()
    if optional and not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refusal(400, f'request body has an error: header Content-Type has unexpected value "{kind}"')
    try:
        wish = json.loads(body)
    except ValueError:
        raise Refusal(400, "Error when parsing request: invalid JSON") from None
    if not isinstance(wish, dict):
        raise Refusal(400, "Error when parsing request: an object is expected")
    if fields is not None and (unknown := sorted(set(wish) - fields)):
        raise Refusal(400, f'Error when parsing request: unknown field "{unknown[0]}"')
    return wish


def _whole_number(wish: Mapping[str, Any], name: str, default: int | None = None) -> int:
    value = wish.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refusal(400, f'Error when parsing request: field "{name}" has the wrong type')
    return value


def _strings(wish: Mapping[str, Any], name: str) -> dict[str, str]:
    found = wish.get(name) or {}
    if not all(isinstance(value, str) for value in found.values()):
        raise Refusal(400, f'Error when parsing request: values of "{name}" must be strings')
    return dict(found)
