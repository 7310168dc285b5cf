"""A pod's log as server-sent events, with a cursor to resume at."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from starlette.responses import Response, StreamingResponse

from jobs.simulators.runpod.asking import Asked
from jobs.simulators.runpod.checking import Rejected
from jobs.simulators.runpod.pods import Pod, stamp

if TYPE_CHECKING:
    from jobs.simulators.runpod.simulator import RunPodSimulator

STREAM_LOOK_SECONDS = 0.1


async def stream_logs(asked: Asked) -> Response:
    pod = asked.pod()
    query = asked.request.query_params
    source = query.get("source")
    if source not in (None, "container", "system"):
        raise Rejected(422, "Request validation failed.", ["query.source: want container or system"])
    tail = query.get("tail", "100")
    if not tail.isdigit() or int(tail) > 5_000:
        raise Rejected(422, "Request validation failed.", ["query.tail: want an integer from 0 to 5000"])
    after = asked.request.headers.get("last-event-id")
    events = _log_events(asked, pod, source, int(tail), query.get("since"), after)
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=headers)


async def _log_events(
    asked: Asked, pod: Pod, source: str | None, tail: int, since: str | None, after: str | None
) -> AsyncIterator[str]:
    simulator = asked.simulator
    known = _log_of(simulator, pod, source)
    if after is not None:
        sent = sum(1 for number, at, _, _ in known if f"{stamp(at)}/{number:012d}" <= after)
    elif since is not None:
        sent = sum(1 for _, at, _, _ in known if stamp(at) < since)
    else:
        sent = max(0, len(known) - tail)
    while True:
        known = _log_of(simulator, pod, source)
        for number, at, origin, line in known[sent:]:
            data = json.dumps({"ts": stamp(at), "source": origin, "line": line})
            yield f"id: {stamp(at)}/{number:012d}\ndata: {data}\n\n"
        sent = len(known)
        if pod.status(simulator.clock.now()) == "TERMINATED":
            return
        await asyncio.sleep(STREAM_LOOK_SECONDS)


def _log_of(simulator: "RunPodSimulator", pod: Pod, source: str | None) -> list[tuple[int, datetime, str, str]]:
    """Number, time, source and text of each line; the system's lines come first, as the image does."""
    lines: list[tuple[datetime, str, str]] = []
    now = simulator.clock.now()
    if source != "container":
        told = [(pod.provisioned_at, f"pulling image {pod.body.get('image')}"), (pod.running_at, "start container")]
        lines += [(at, "system", text) for at, text in told if at <= now]
    if source != "system":
        lines += [(at, "container", text) for _, at, text in simulator.lines(pod.id)]
    return [(number, *line) for number, line in enumerate(lines, start=1)]
