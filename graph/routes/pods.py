"""Where the scripts of trainings elsewhere speak to us: `POST /runs/{id}/reports` and `GET /runs/{id}/program`."""

from typing import Any

import anyio.to_thread
import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from domain.callback import service
from domain.callback.errors import BadCallback
from domain.callback.model import CallbackSource
from domain.callback.service import Call
from graph.callback.callers import pod_of, token_of
from graph.callback.program import archive_of, order_of
from graph.context import Services
from graph.limiter import REPORT_UNIT_BYTES, CallKind, CallLimiter
from graph.routes.callbacks import answered

MOST_REPORTS = 2**31 - 1
"""The highest number that a report may have; it is a step of the metrics of the machine, too."""


def pod_routes(services: Services, calls: CallLimiter) -> list[BaseRoute]:
    doors = PodDoors(services, calls)
    return [
        Route("/runs/{id}/reports", answered(doors.report), methods=["POST"]),
        Route("/runs/{id}/program", answered(doors.program), methods=["GET"]),
    ]


class PodDoors:
    """The doors of one process."""

    def __init__(self, services: Services, calls: CallLimiter) -> None:
        self.services = services
        self.calls = calls

    async def report(self, request: Request) -> Response:
        """One batch of what a script has to say. It is kept under its number and applied by a worker, in order; the
        answer says whether the script is to end."""
        await self.calls.check(CallKind.REPORT, token_of(request))
        pod = await pod_of(self.services, request)
        body = await request.body()
        found = pod.found
        if units := len(body) // REPORT_UNIT_BYTES:
            await self.calls.check(CallKind.REPORT_BYTES, f"{found.run_id}:{found.attempt}", cost=units)
        sequence = sequence_of(body)
        call = Call(
            CallbackSource.POD,
            body,
            event_id=f"{found.run_id}:{found.attempt}:{sequence}",
            token=pod.token,
            sequence=sequence,
        )
        async with self.services.database.begin() as work:
            await service.store_callback(work, call)
        return JSONResponse({"accepted": sequence, "stop": found.shall_stop}, headers={"Cache-Control": "no-store"})

    async def program(self, request: Request) -> Response:
        """The training as files to unpack, with `prepare.sh` and `command.sh` to run in that order."""
        await self.calls.check(CallKind.PROGRAM, token_of(request))
        pod = await pod_of(self.services, request)
        async with self.services.database.begin(pod.viewer) as work:
            order = await order_of(work.session, pod.found)
        content = await anyio.to_thread.run_sync(archive_of, order)
        headers = {"Content-Disposition": 'attachment; filename="program.tar.gz"', "Cache-Control": "no-store"}
        return Response(content, media_type="application/gzip", headers=headers)


def sequence_of(body: bytes) -> int:
    """The number of a report; nothing else of it is looked at here. Raises `BadCallback`."""
    try:
        report: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadCallback("its body is no JSON", "seu corpo não é JSON") from None
    if not isinstance(report, dict):
        raise BadCallback("its body is no JSON object", "seu corpo não é um objeto JSON")
    sequence = report.get("sequence")
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 1 <= sequence <= MOST_REPORTS:
        raise BadCallback(
            f"its 'sequence' is no whole number from 1 to {MOST_REPORTS}",
            f"seu 'sequence' não é um inteiro de 1 a {MOST_REPORTS}",
        )
    return sequence
