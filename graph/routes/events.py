"""Plain event streams for EventSource, curl and a browser tab: `/events` and `/runs/{id}/events`.

The first event is `connected`; then come the contract's events, each with its type as name and its cursor as id, so
that an EventSource resumes by itself; a `heartbeat` that can be seen goes out every 20 seconds. After a run's final
status the stream says `complete`. A missing or wrong credential is told in words, with its status.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from db.settings import Settings
from domain.errors import DomainError, NotSignedIn, Unavailable
from domain.events import Stream, StreamKind, time_text
from domain.journal.cursor import StreamCursor
from domain.training import queries
from domain.viewer import Scope as Right
from domain.viewer import ViewerKind
from graph.context import Context, Services
from graph.ids import uuid_of_either
from graph.live.connections import CloseCode, CloseSocket, ConnectionKind, Connections
from graph.live.following import Snapshot, Told
from graph.live.outside import facts_outside, outside
from graph.live.sse import EventStream
from graph.operations import Answer, AnswerKind
from graph.routes.callers import context_of
from graph.routes.problems import BadCredential, locale_of_request, problem_response
from graph.training.streams import follow_feed, follow_run
from graph.transport import TransportSettings

logger = logging.getLogger("runwire.graph")

HEARTBEAT_SECONDS = 20
RETRY_SECONDS = 2


class PlainStream(EventStream):
    """The same body as GraphQL's streams, in events that need no GraphQL to be read."""

    heartbeat = b"event: heartbeat\ndata: {}\n\n"
    complete = b"event: complete\ndata: {}\n\n"

    def _event(self, payload: dict[str, Any]) -> bytes:
        id = payload.get("cursor")
        head = f"id: {id}\n" if id else ""
        return f"{head}event: {payload['type']}\ndata: ".encode() + orjson.dumps(payload) + b"\n\n"


class EventDoor:
    """An ASGI app for one of the two doors."""

    def __init__(
        self, services: Services, connections: Connections, settings: TransportSettings, *, heartbeat_seconds: float
    ) -> None:
        self.services = services
        self.connections = connections
        self.settings = replace(settings, heartbeat_seconds=heartbeat_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            context = await context_of(self.services, request, token=request.query_params.get("access_token"))
            if context.viewer.is_nobody:
                raise NotSignedIn
            if "authorization" not in request.headers and context.viewer.kind is not ViewerKind.STREAM:
                raise BadCredential(
                    "STREAM_TOKEN_NEEDED", "An address may hold a stream token only: createStreamToken."
                )
            messages = await self._messages(request, context)
            with self.connections.opened(ConnectionKind.STREAM, context.client_address, context.viewer) as connection:
                context.connection = connection
                stream = PlainStream(connection, receive, send, settings=self.settings, event_id_of=lambda _: None)
                await stream.run(messages, [(b"cache-control", b"no-store")])
        except DomainError as error:
            response: Response = problem_response(error, locale_of_request(request))
            await response(scope, receive, send)

    async def _messages(self, request: Request, context: Context) -> AsyncGenerator[Answer, None]:
        """Whatever can be refused is refused here, while there is a status to say so."""
        after = request.headers.get("last-event-id") or request.query_params.get("after")
        if "id" not in request.path_params:
            stream = Stream(StreamKind.USER, context.viewer.require_unbound(Right.RUNS_READ))
            source = follow_feed(context, after)
        else:
            run_id = uuid_of_either(request.path_params["id"], "TrainingRun")
            async with context.begin() as work:
                await queries.run_of(work.session, context.viewer, run_id)
            stream = Stream(StreamKind.RUN, run_id)
            source = follow_run(context, run_id, after)
        if after is not None:
            StreamCursor.parse(after, stream)
        return _told(stream, source, context)


async def _told(
    stream: Stream, source: AsyncGenerator[Snapshot | Told, None], context: Context
) -> AsyncGenerator[Answer, None]:
    now = context.services.database.clock.now()
    yield _next({"type": "connected", "stream": str(stream), "at": time_text(now)})
    try:
        async with aclosing(source) as messages:
            async for message in messages:
                if isinstance(message, Told):
                    yield _next({**outside(message.event.as_json(), context.settings), "cursor": message.cursor})
                else:
                    yield _next(_standing(message, stream, context.settings))
    except CloseSocket:
        raise
    except Unavailable as error:  # the reader comes back by itself, and goes on from the last id
        raise CloseSocket(CloseCode.BUSY, str(error.retry_after_seconds or RETRY_SECONDS)) from None
    except Exception:
        logger.exception("A plain event stream broke.", extra={"request_id": context.request_id})
        raise CloseSocket(CloseCode.INTERNAL, "Internal error") from None


def _standing(snapshot: Snapshot, stream: Stream, settings: Settings) -> dict[str, Any]:
    told: dict[str, Any] = {
        "v": 1,
        "type": "snapshot" if snapshot.missing is None else "gap",
        "stream": str(stream),
        "seq": snapshot.seq,
        "firstSeq": snapshot.seq if snapshot.missing is None else snapshot.missing[0],
        "cursor": str(StreamCursor(stream, snapshot.epoch, snapshot.seq)),
    }
    if snapshot.missing is not None:
        told["from"], told["to"] = snapshot.missing
    if stream.kind is StreamKind.RUN:
        return {**told, "run": facts_outside(snapshot.runs[0], settings)}
    return {**told, "runs": [facts_outside(run, settings) for run in snapshot.runs]}


def _next(payload: dict[str, Any]) -> Answer:
    return Answer(AnswerKind.EXECUTED, payload)


def event_routes(
    services: Services,
    connections: Connections,
    settings: TransportSettings,
    *,
    heartbeat_seconds: float = HEARTBEAT_SECONDS,
) -> list[BaseRoute]:
    endpoint = EventDoor(services, connections, settings, heartbeat_seconds=heartbeat_seconds)
    return [
        Route("/events", endpoint, methods=["GET"]),
        Route("/runs/{id}/events", endpoint, methods=["GET"]),
    ]
