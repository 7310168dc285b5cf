"""Status doors for those who poll: small answers that say how long to wait, and when to stop."""

import hashlib
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domain.ai_model import queries as models
from domain.ai_model.model import AIModelStatus
from domain.deployment import queries as deployments
from domain.deployment.address import address_of
from domain.events import time_text
from domain.training import queries
from domain.training.status import RunStatus
from domain.training.texts import words_for
from graph.context import Services
from graph.ids import global_id, uuid_of_either
from graph.routes.callers import context_of, door

POLL_SECONDS = 2
"""How long a poller is told to wait while something goes on."""
QUEUED_POLL_SECONDS = 5


def status_routes(services: Services) -> list[BaseRoute]:
    return [
        Route("/runs/{id}/status", door(services, run_status), methods=["GET"]),
        Route("/models/{id}/status", door(services, model_status), methods=["GET"]),
    ]


async def run_status(services: Services, request: Request) -> Response:
    """A run's status, progress and address; `done` says that it never changes again."""
    context = await context_of(services, request)
    context.viewer.require()
    run_id = uuid_of_either(request.path_params["id"], "TrainingRun")
    async with context.begin() as work:
        run = await queries.run_of(work.session, context.viewer, run_id)
    wait = None if run.status.is_final else QUEUED_POLL_SECONDS if run.status is RunStatus.QUEUED else POLL_SECONDS
    url = address_of(services.settings, run.app_slug) if run.app_slug else None
    return _answer(
        request,
        {
            "id": global_id("TrainingRun", run.id),
            "status": run.status.value,
            "stage": run.stage.value,
            "progress": round(run.progress, 2),
            "progressEstimated": run.progress_estimated,
            "etaSeconds": run.eta_seconds,
            "message": words_for(run.status, run.stage, run.end_reason, context.viewer.locale),
            "endReason": run.end_reason.value if run.end_reason else None,
            "errorMessage": run.error_message,
            "deploymentUrl": url,
            "seq": run.seq,
            "endedAt": time_text(run.ended_at) if run.ended_at else None,
            "done": run.status.is_final,
            "pollAfterSeconds": wait,
        },
        wait,
    )


async def model_status(services: Services, request: Request) -> Response:
    """A model's status, progress and address; `done` says that nothing is being trained right now."""
    context = await context_of(services, request)
    context.viewer.require()
    model_id = uuid_of_either(request.path_params["id"], "AIModel")
    async with context.begin() as work:
        model = await models.model_of(work.session, context.viewer, model_id)
        slug = await deployments.slug_of_model(work.session, model.id)
    wait = POLL_SECONDS if model.status is AIModelStatus.TRAINING else None
    return _answer(
        request,
        {
            "id": global_id("AIModel", model.id),
            "name": model.name,
            "status": model.status.value,
            "progress": round(model.progress, 2),
            "currentRunId": global_id("TrainingRun", model.current_run_id) if model.current_run_id else None,
            "deploymentUrl": address_of(services.settings, slug) if slug else None,
            "errorMessage": model.error_message,
            "trainedAt": time_text(model.trained_at) if model.trained_at else None,
            "done": wait is None,
            "pollAfterSeconds": wait,
        },
        wait,
    )


def _answer(request: Request, payload: dict[str, Any], wait: int | None) -> Response:
    body = orjson.dumps(payload)
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache", "Vary": "Authorization, Accept-Language"}
    if wait is not None:
        headers["Retry-After"] = str(wait)
    known = [part.strip().removeprefix("W/") for part in request.headers.get("if-none-match", "").split(",")]
    if tag in known:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
