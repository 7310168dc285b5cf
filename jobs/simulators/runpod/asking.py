"""The door of the API: who asks, within which quota, and how refusals look."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from jobs.simulators.kit import Caller
from jobs.simulators.runpod.checking import Rejected
from jobs.simulators.runpod.pods import Pod

if TYPE_CHECKING:
    from jobs.simulators.runpod.simulator import RunPodSimulator

TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    409: "Conflict",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
}
THROTTLE_SECONDS = 1
REFUSED_KEYS = {"unauthorized": (401, "invalid bearer token"), "no_access": (403, "access denied")}
"""Keys with these endings open nothing at all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of somebody who is known."""

    request: Request
    simulator: "RunPodSimulator"
    caller: Caller
    only_pod: str | None
    """Set for a pod's own key, which opens nothing else."""
    now: datetime

    @property
    def base_url(self) -> str:
        """Where the simulator was reached, with the prefix it may be mounted under."""
        url = self.request.url
        return f"{url.scheme}://{url.netloc}{self.request.scope.get('root_path', '')}".rstrip("/")

    def pod(self) -> Pod:
        """The pod that the path names. Raises `Rejected`."""
        pod_id = self.request.path_params["id"]
        if self.only_pod not in (None, pod_id):
            raise Rejected(403, "access denied")
        pod = self.simulator.state(self.caller.account).pods.get(pod_id)
        if pod is None or not pod.is_visible(self.now):
            raise Rejected(404, "pod not found")
        return pod

    async def json(self) -> Any:
        """The body. Raises `Rejected`."""
        if self.request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise Rejected(400, "content type must be application/json")
        try:
            return json.loads(await self.request.body())
        except (ValueError, RecursionError):
            raise Rejected(400, "request body is not valid JSON") from None


Answer = Callable[[Asked], Awaitable[Response]]


def bearer_of(request: Request) -> str:
    """The key that was shown, or nothing."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


async def problem_of(request: Request, error: Exception) -> Response:
    """What no route knows, in the API's own form."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _problem(404, "resource not found", {})
    return _problem(405, "The requested method is not allowed for this path.", dict(error.headers or {}))


def door_of(simulator: "RunPodSimulator", answers: Mapping[str, Answer]) -> Callable[[Request], Awaitable[Response]]:
    async def door(request: Request) -> Response:
        now = simulator.clock.now()
        try:
            caller, only_pod = _known(simulator, request)
        except Rejected as rejected:
            return _problem(rejected.status, rejected.detail, {})
        quota = simulator.state(caller.account).quota
        exceeded = quota.take(now)
        headers = quota.headers(now)
        if exceeded is not None:
            window, seconds = exceeded
            detail = f"rate limit exceeded for the {window} window"
            return _problem(429, detail, {**headers, "Retry-After": str(seconds)})
        try:
            method = "GET" if request.method == "HEAD" else request.method
            answer = await answers[method](Asked(request, simulator, caller, only_pod, now))
        except Rejected as rejected:
            if rejected.status == 429:
                headers["Retry-After"] = str(THROTTLE_SECONDS)
            return _problem(rejected.status, rejected.detail, headers, rejected.errors)
        answer.headers.update(headers)
        return answer

    return door


def _known(simulator: "RunPodSimulator", request: Request) -> tuple[Caller, str | None]:
    key = bearer_of(request)
    if not key:
        raise Rejected(401, "missing bearer token")
    caller = Caller.of_key(key) if key.startswith("rpa_") else None
    if caller is None:
        pod = simulator.pod_of_key(key)
        if pod is None:
            raise Rejected(401, "invalid bearer token")
        return Caller(pod.account, None), pod.id
    if caller.scenario in REFUSED_KEYS:
        raise Rejected(*REFUSED_KEYS[caller.scenario])
    return caller, None


def _problem(status: int, detail: str, headers: Mapping[str, str], errors: list[str] | None = None) -> Response:
    content: dict[str, Any] = {"title": TITLES[status], "status": status, "detail": detail}
    if errors:
        content["errors"] = errors
    return JSONResponse(content, status, headers, media_type="application/problem+json")
