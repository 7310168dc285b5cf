"""Datasets as bytes: `PUT /datasets/{id}/content`, `GET /datasets/download`, `POST /datasets/download/renewal`."""

from collections.abc import Awaitable, Callable
from typing import Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from db.storage import DatasetStore
from domain.dataset import errors
from domain.dataset.model import Dataset
from domain.errors import DomainError
from domain.events import time_text
from graph.context import Services
from graph.dataset.body import Body, ClientLeft, EarlyAnswer, Reader
from graph.dataset.download import SAFE_HEADERS, Downloads, token_of
from graph.dataset.pace import Pace
from graph.dataset.upload import Uploads
from graph.ids import global_id, uuid_of_either
from graph.routes.problems import locale_of_request, problem_response, status_of, viewer_of

STATUS: Final[dict[type[DomainError], int]] = {
    errors.UploadTooLarge: 413,
    errors.UploadStalled: 408,
    errors.EncodedUpload: 415,
    errors.BadContentDigest: 400,
    errors.DiskFull: 507,
}


def dataset_routes(
    services: Services, *, store: DatasetStore | None = None, pace: Pace | None = None
) -> list[BaseRoute]:
    """The routes of one process. Bodies are limited here, by `upload_limit_bytes`."""
    store = store or DatasetStore.of(services.settings)
    pace = pace or Pace()
    uploads = Uploads.of(services.database, store)
    downloads = Downloads(services.database, store, services.settings.grant_seconds, pace)

    async def put_content(request: Request) -> ASGIApp:
        locale = locale_of_request(request)
        reader = Reader(request.receive)
        try:
            viewer = await viewer_of(services, request)
            locale = viewer.locale
            dataset = await uploads.wanted(viewer, uuid_of_either(request.path_params["id"], "Dataset"))
            limit_bytes = services.settings.upload_limit_bytes
            body = Body(request.headers, reader, limit_bytes=limit_bytes, idle_seconds=pace.idle_seconds)
            return _json(_shown(await uploads.take(viewer, dataset, body)))
        except ClientLeft:
            return Response(status_code=400)
        except DomainError as refusal:
            status = STATUS.get(type(refusal), status_of(refusal))
            return EarlyAnswer(problem_response(refusal, locale, status=status), reader)

    async def send_content(request: Request) -> ASGIApp:
        try:
            return await downloads.answer(request)
        except DomainError as refusal:
            return _refused(request, refusal)

    async def renew(request: Request) -> ASGIApp:
        try:
            grant = await downloads.renew(token_of(request, in_address=False))
        except DomainError as refusal:
            return _refused(request, refusal)
        return _json({"expiresAt": time_text(grant.expires_at)})

    return [
        Route("/datasets/download", _Endpoint(send_content), methods=["GET", "HEAD"]),
        Route("/datasets/download/renewal", _Endpoint(renew), methods=["POST"]),
        Route("/datasets/{id}/content", _Endpoint(put_content), methods=["PUT"]),
    ]


class _Endpoint:
    """A route whose answer writes itself, after the handler is done."""

    def __init__(self, handle: Callable[[Request], Awaitable[ASGIApp]]) -> None:
        self.handle = handle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self.handle(Request(scope, receive, send))
        await answer(scope, receive, send)


def _refused(request: Request, refusal: DomainError) -> Response:
    response = problem_response(refusal, locale_of_request(request))
    response.headers.update(SAFE_HEADERS)
    return response


def _json(value: object) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers=SAFE_HEADERS)


def _shown(dataset: Dataset) -> dict[str, object]:
    """The dataset as GraphQL shows it."""
    return {
        "id": global_id("Dataset", dataset.id),
        "name": dataset.name,
        "format": dataset.format.value,
        "status": dataset.status.value,
        "bytes": dataset.bytes,
        "sha256": dataset.sha256,
        "rowCount": dataset.row_count,
        "columns": [
            {("isDistinctExact" if key == "is_distinct_exact" else key): value for key, value in column.items()}
            for column in dataset.columns
        ],
        "createdAt": time_text(dataset.created_at),
        "uploadedAt": time_text(dataset.uploaded_at) if dataset.uploaded_at else None,
    }
