"""`/healthz`: the process lives. `/readyz`: it can do its work, or says what is missing."""

import anyio
from sqlmodel import col, func, select
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from db.upgrade import newest_revision
from domain.errors import Unavailable
from domain.sql import plain
from domain.training.model import WorkerProcess
from graph.context import Services
from graph.live.connections import Connections

ANSWER_SECONDS = 3
WORKER_SEEN_SECONDS = 30


def health_routes(services: Services, connections: Connections) -> list[BaseRoute]:
    newest = newest_revision()

    async def live(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        checks = await check(services, newest)
        checks["accepting"] = not connections.draining
        essential = all(checks[name] for name in ("postgres", "migrations", "accepting"))
        # Without Redis or a worker the API still answers truly, only slower; operators see it here.
        status = "ready" if all(checks.values()) else "degraded" if essential else "unavailable"
        headers = {"Cache-Control": "no-store"}
        return JSONResponse(
            {"status": status, "checks": checks}, status_code=200 if essential else 503, headers=headers
        )

    return [Route("/healthz", live, methods=["GET"]), Route("/readyz", ready, methods=["GET"])]


async def check(services: Services, newest: str) -> dict[str, bool]:
    """What the process needs, each asked within three seconds."""
    checks = {"postgres": False, "migrations": False, "worker": False, "redis": False}
    with anyio.move_on_after(ANSWER_SECONDS):
        try:
            async with services.database.begin() as work:
                revision = [
                    row.version_num for row in await plain(work.session, "SELECT version_num FROM alembic_version")
                ]
                age = func.max(col(WorkerProcess.seen_at))
                seen = (await work.session.exec(select(age))).one()
            checks["postgres"] = True
            checks["migrations"] = revision == [newest]
            checks["worker"] = seen is not None and (work.now - seen).total_seconds() < WORKER_SEEN_SECONDS
        except Unavailable:
            checks["postgres"] = False
    try:
        checks["redis"] = await services.bus.ping()
    except Exception:
        checks["redis"] = False
    return checks
