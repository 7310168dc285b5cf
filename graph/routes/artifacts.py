"""What trainings elsewhere leave behind: `PUT /runs/{id}/artifacts/{name}`, streamed to the disk and checked."""

import anyio.to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from db.artifacts import ArtifactDamaged, ArtifactStore, ArtifactTooLarge, KeptArtifact
from db.artifacts import BadArtifactName as UnsafeName
from domain.callback.errors import ArtifactsTooLarge, BadArtifactName, PodTokenRefused, TooManyCalls
from domain.dataset.errors import ChecksumMismatch, UploadTooLarge
from domain.errors import DomainError
from domain.training import queries
from graph.callback.callers import PodCaller, pod_of, refused, token_of
from graph.context import Services
from graph.dataset.body import Body, ClientLeft, EarlyAnswer, Reader
from graph.dataset.pace import Pace
from graph.limiter import CallKind, CallLimiter

MOST_FILES = 100
LONGEST_NAME = 150
SLOWEST_BYTES_PER_SECOND = 16 * 1024
TURN_SECONDS = 5
"""When to come again while another file of the same attempt is on its way."""


def artifact_routes(
    services: Services, calls: CallLimiter, *, store: ArtifactStore | None = None, pace: Pace | None = None
) -> list[BaseRoute]:
    door = ArtifactDoor(services, calls, store or ArtifactStore.of(services.settings), pace or Pace())
    return [Route("/runs/{id}/artifacts/{name}", door, methods=["PUT"])]


class ArtifactDoor:
    """An ASGI app. Bodies are limited here, by `artifact_limit_bytes`."""

    def __init__(self, services: Services, calls: CallLimiter, store: ArtifactStore, pace: Pace) -> None:
        self.services = services
        self.calls = calls
        self.store = store
        self.pace = pace
        self.under_way: set[str] = set()
        """Tags of the attempts that send a file just now: one at a time, so that their sum is known."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        answer = await self.put(request)
        await answer(scope, receive, send)

    async def put(self, request: Request) -> ASGIApp:
        """Keep a file of the attempt whose token is shown; the same name again takes its place."""
        reader = Reader(request.receive)
        try:
            await self.calls.check(CallKind.ARTIFACT, token_of(request))
            pod = await pod_of(self.services, request)
            kept = await self._keep(request, reader, pod, await self._tag_of(pod))
        except ClientLeft:
            return Response(status_code=400)
        except DomainError as error:
            return EarlyAnswer(refused(error, request), reader)
        content = {"name": kept.path.name, "bytes": kept.bytes, "sha256": kept.sha256}
        return JSONResponse(content, status_code=201, headers={"Cache-Control": "no-store"})

    async def _tag_of(self, pod: PodCaller) -> str:
        async with self.services.database.begin(pod.viewer) as work:
            attempt = await queries.attempt_of(work.session, pod.found.run_id, pod.found.attempt)
        if attempt is None:
            raise PodTokenRefused
        return attempt.tag

    async def _keep(self, request: Request, reader: Reader, pod: PodCaller, tag: str) -> KeptArtifact:
        name = request.path_params["name"]
        if tag in self.under_way:
            raise TooManyCalls(TURN_SECONDS)
        self.under_way.add(tag)
        most = self.services.settings.artifact_limit_bytes
        try:
            limit = await self._room(tag, name, most)
            body = Body(
                request.headers,
                reader,
                limit_bytes=limit,
                idle_seconds=self.pace.idle_seconds,
                slowest=SLOWEST_BYTES_PER_SECOND,
            )
            return await self.store.keep(tag, name, body.blocks(), limit_bytes=limit, sha256=body.sha256)
        except UnsafeName:
            raise BadArtifactName(LONGEST_NAME) from None
        except (UploadTooLarge, ArtifactTooLarge):
            raise ArtifactsTooLarge(MOST_FILES, most) from None
        except ArtifactDamaged as error:
            raise ChecksumMismatch(error.found) from None
        finally:
            self.under_way.discard(tag)

    async def _room(self, tag: str, name: str, most: int) -> int:
        """How many bytes this file may have: what the attempt's others leave. Raises `ArtifactsTooLarge`."""
        self.store.path_of(tag, name)
        sizes = await anyio.to_thread.run_sync(self.store.sizes, tag)
        sizes.pop(name, None)
        if len(sizes) >= MOST_FILES:
            raise ArtifactsTooLarge(MOST_FILES, most)
        return max(0, most - sum(sizes.values()))
