"""All routes of REST v2 that are simulated, and what is done to pods."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from jobs.simulators.kit import WireFault
from jobs.simulators.runpod.asking import Answer, Asked, door_of
from jobs.simulators.runpod.checking import Rejected, checked_action, checked_change, checked_creation
from jobs.simulators.runpod.log_stream import stream_logs
from jobs.simulators.runpod.pods import Pod
from jobs.simulators.runpod.showing import bill_pods, get_gpu, list_centers, list_gpus

if TYPE_CHECKING:
    from jobs.simulators.runpod.simulator import RunPodSimulator

NO_CAPACITY = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
NO_CAPACITY_500 = (
    "create pod: This machine does not have the resources to deploy your pod. Please try a different machine"
)
LATE_SECONDS = 3.0


def routes_of(simulator: "RunPodSimulator") -> list[Route]:
    """All of the API that is simulated."""

    def route(path: str, method: str, answer: Answer) -> tuple[str, str, Answer]:
        return path, method, answer

    table = [
        route("/v2/pods", "GET", list_pods),
        route("/v2/pods", "POST", create_pod),
        route("/v2/pods/{id}", "GET", get_pod),
        route("/v2/pods/{id}", "PATCH", change_pod),
        route("/v2/pods/{id}", "DELETE", delete_pod),
        route("/v2/pods/{id}/action", "POST", act_on_pod),
        route("/v2/pods/{id}/logs", "GET", stream_logs),
        route("/v2/catalog/gpus", "GET", list_gpus),
        route("/v2/catalog/gpus/{id:path}", "GET", get_gpu),
        route("/v2/catalog/datacenters", "GET", list_centers),
        route("/v2/billing/pods", "GET", bill_pods),
    ]
    paths: dict[str, dict[str, Answer]] = {}
    for path, method, answer in table:
        paths.setdefault(path, {})[method] = answer
    return [Route(path, door_of(simulator, answers), methods=[*answers]) for path, answers in paths.items()]


async def list_pods(asked: Asked) -> Response:
    if asked.only_pod is not None:
        raise Rejected(403, "access denied")
    if asked.request.query_params.get("includeClusterPods", "false") not in ("true", "false"):
        raise Rejected(422, "Request validation failed.", ["query.includeClusterPods: want boolean"])
    pods = asked.simulator.state(asked.caller.account).pods.values()
    return JSONResponse({"pods": [pod.json(asked.now) for pod in pods if pod.is_visible(asked.now)]})


async def create_pod(asked: Asked) -> Response:
    if asked.only_pod is not None:
        raise Rejected(403, "access denied")
    body = checked_creation(await asked.json())
    simulator = asked.simulator
    scenario = simulator.scenario_for(asked.caller, body)
    _refuse(scenario, body)
    if "gpu" in body and body["gpu"]["id"] in simulator.sold_out:
        raise Rejected(400, NO_CAPACITY)
    pod = simulator.create(asked.caller.account, body, scenario, asked.base_url)
    if scenario == "reply_lost":
        raise WireFault("The pod exists, and its creator does not hear of it.")
    if scenario == "reply_late":
        until = asked.now + timedelta(seconds=LATE_SECONDS)
        while simulator.clock.now() < until:  # noqa: ASYNC110  # the clock can be moved, and tells nobody
            await asyncio.sleep(0.02)
    return JSONResponse(pod.json(simulator.clock.now()), 201)


def _refuse(scenario: str, body: Mapping[str, Any]) -> None:
    match scenario:
        case "unauthorized":
            raise Rejected(401, "invalid bearer token")
        case "no_access":
            raise Rejected(403, "access denied")
        case "no_money":
            raise Rejected(402, "insufficient balance")
        case "no_capacity" | "no_capacity_once" | "no_capacity_twice":
            raise Rejected(400, NO_CAPACITY)
        case "no_capacity_500":
            raise Rejected(500, NO_CAPACITY_500)
        case "unprocessable":
            raise Rejected(422, "Request validation failed.", [f"$.image: image {body.get('image')!r} is not allowed"])
        case "throttled":
            raise Rejected(429, "rate limit exceeded for the minute window")
        case "unstable":
            raise Rejected(500, "internal server error")


async def get_pod(asked: Asked) -> Response:
    return JSONResponse(asked.pod().json(asked.now))


async def change_pod(asked: Asked) -> Response:
    pod = asked.pod()
    change = checked_change(await asked.json())
    pod.locked = change.pop("locked", pod.locked)
    pod.body.update(change)
    return JSONResponse(pod.json(asked.now))


async def delete_pod(asked: Asked) -> Response:
    _terminate(asked, asked.pod())
    return Response(status_code=204)


async def act_on_pod(asked: Asked) -> Response:
    pod = asked.pod()
    action = checked_action(await asked.json())
    status = pod.status(asked.now)
    shown = pod.json(asked.now)
    if pod.conflicts > 0:
        pod.conflicts -= 1
        raise Rejected(409, f"action {action} is not valid for a pod that is being changed")
    if action not in shown["actions"] or (pod.locked and action != "terminate"):
        raise Rejected(409, f"action {action} is not valid for status {status}")
    match action:
        case "terminate":
            _terminate(asked, pod)
            return Response(status_code=204)
        case "stop":
            pod.exited_at = asked.now
            asked.simulator.end_script(pod, softly=True)
        case "start":
            pod.start(asked.now, asked.simulator.starting_seconds)
            asked.simulator.boot(pod)
        case "restart":
            asked.simulator.end_script(pod)
            pod.boots += 1
            asked.simulator.boot(pod)
    return JSONResponse(pod.json(asked.now))


def _terminate(asked: Asked, pod: Pod) -> None:
    pod.terminate(asked.now, "script" if asked.only_pod is not None else "creator")
    if pod.status(asked.now) == "TERMINATED":
        asked.simulator.end_script(pod)
