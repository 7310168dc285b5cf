"""The route `/graphql`: GraphQL over HTTP, and the doors to SSE and WebSocket.

Statuses follow the GraphQL-over-HTTP draft that clients speak today (July 2025). A request error, which is one in the
document, the choice of operation or the variables, is 400 where the client accepts `application/graphql-response+json`
and 200 where it takes only `application/json`, whose readers must not trust a status; an executed operation is 200,
also with errors. A later draft moves validation errors to 422 and partial results to 294: no client we know of
tells these apart yet, while proxies and monitors do treat 294 as unknown, so we stay with the pair that all know.
A request error has no `data`. Requests that are not well-formed HTTP are 4xx whatever is accepted.

Only POST with a JSON body is a request: no GET, no forms, no batches. A browser cannot send such a request to another
origin without asking first, which is the protection against cross-site requests; credentials are Bearer only.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Generic, TypeVar

import orjson
import strawberry
from graphql import OperationType

from domain.errors import DomainError, LimitReached, Unavailable
from domain.viewer import Locale, Viewer
from graph.documents import Prepared, RequestErrors
from graph.faults import is_unavailable_entry
from graph.limits import DocumentLimits
from graph.live.connections import ConnectionKind, Connections, CredentialRefused
from graph.live.socket import Authenticate, Receive, Send, Socket
from graph.live.sse import MEDIA_TYPE as EVENT_STREAM
from graph.live.sse import EventIdOf, EventStream, find_cursor
from graph.negotiation import GRAPHQL_JSON, JSON, accepted_of, check_body_headers
from graph.operations import Answer, AnswerKind, Operations, as_graphql_error, locale_of
from graph.transport import (
    BadRequest,
    GraphQLRequest,
    RequestFacts,
    TransportSettings,
    UnavailableCheck,
    client_address,
    decode_json,
    header,
    locale_asked,
    request_of,
)

logger = logging.getLogger("runwire.graph")

ContextT = TypeVar("ContextT")


class HttpRefusal(Exception):
    """An HTTP request that is answered with an error of its own status."""

    def __init__(self, status: int, code: str, message: str, *headers: tuple[bytes, bytes]) -> None:
        self.status = status
        self.payload = as_graphql_error(message, code)
        self.headers = list(headers)
        super().__init__(f"{status} {code}")


class GraphQLEndpoint(Generic[ContextT]):
    """An ASGI app for one route.

    `authenticate` gets the raw `Authorization` value or None, and raises `CredentialRefused` for a credential that
    nobody can come in with. `context_of` makes the context of one operation. `is_unavailable` tells the failures of
    dependencies (a lost database connection) from our own faults; they become UNAVAILABLE, and HTTP 503 when no data
    could be produced. `event_id_of` finds the id of an SSE event in its payload."""

    def __init__(
        self,
        schema: strawberry.Schema,
        *,
        authenticate: Authenticate,
        context_of: Callable[[Viewer, RequestFacts], ContextT],
        connections: Connections,
        limits: DocumentLimits | None = None,
        settings: TransportSettings | None = None,
        is_unavailable: UnavailableCheck = lambda error: isinstance(error, ConnectionError),
        event_id_of: EventIdOf = find_cursor,
    ) -> None:
        self.authenticate = authenticate
        self.connections = connections
        self.settings = settings or TransportSettings()
        self.event_id_of = event_id_of
        self.operations: Operations[ContextT] = Operations(
            schema,
            context_of=context_of,
            limits=limits or DocumentLimits(),
            settings=self.settings,
            is_unavailable=is_unavailable,
        )

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        request_id = str(scope.get("state", {}).get("request_id") or secrets.token_hex(16))
        if scope["type"] == "websocket":
            await Socket(
                scope,
                receive,
                send,
                operations=self.operations,
                authenticate=self.authenticate,
                connections=self.connections,
                settings=self.settings,
                request_id=request_id,
            ).run()
        else:
            await self._http(scope, receive, send, request_id)

    async def _http(self, scope: Any, receive: Receive, send: Send, request_id: str) -> None:
        try:
            await self._answer(scope, receive, send, request_id)
        except HttpRefusal as refusal:
            await respond(send, refusal.status, refusal.payload, JSON, refusal.headers)
        except BadRequest as error:
            await respond(send, 400, as_graphql_error(str(error), "BAD_REQUEST"), JSON)
        except CredentialRefused as refused:
            challenge = [(b"www-authenticate", b'Bearer error="invalid_token"')]
            await respond(send, 401, as_graphql_error(refused.reason, "UNAUTHENTICATED"), JSON, challenge)
        except Exception as error:  # before an operation ran: the credential could not be looked up, or we have a fault
            await self._refuse(send, error, request_id, scope["headers"])

    async def _answer(self, scope: Any, receive: Receive, send: Send, request_id: str) -> None:
        headers = scope["headers"]
        if scope["method"] != "POST":
            raise HttpRefusal(405, "METHOD_NOT_ALLOWED", "Send the operation by POST.", (b"allow", b"POST"))
        accepted = accepted_of(header(headers, b"accept"))
        if accepted is None:
            offered = f"{GRAPHQL_JSON}, {JSON} or {EVENT_STREAM}"
            raise HttpRefusal(406, "NOT_ACCEPTABLE", f"Answers come as {offered}.")
        problem = check_body_headers(headers)
        if problem is not None:
            raise HttpRefusal(415, "UNSUPPORTED_MEDIA_TYPE", problem, (b"accept-post", JSON.encode()))
        viewer = await self._who(header(headers, b"authorization"))
        locale = locale_of(viewer, locale_asked(header(headers, b"accept-language")))
        viewer = replace(viewer, locale=locale)
        facts = RequestFacts(request_id, locale, client_address(scope), header(headers, b"user-agent") or "")
        request = request_of(decode_json(await self._body(headers, receive)))
        try:
            prepared: Prepared | None = self.operations.prepare(request)
        except RequestErrors as refused:
            if accepted.json is not None:
                answer = Answer(AnswerKind.REQUEST_ERROR, {"errors": refused.errors})
                return await self._send_answer(send, answer, accepted.json)
            prepared = None  # who accepts nothing but a stream gets the errors as one
        if prepared is None or accepted.prefers_stream(prepared.kind is OperationType.SUBSCRIPTION):
            return await self._stream(request, viewer, facts, receive, send)
        if accepted.json is None or prepared.kind is OperationType.SUBSCRIPTION:
            wanted = f"Subscriptions need 'Accept: {EVENT_STREAM}', or a WebSocket with graphql-transport-ws."
            raise HttpRefusal(406, "NOT_ACCEPTABLE", wanted)
        answer = await self.operations.run(prepared, request, viewer, facts)
        await self._send_answer(send, answer, accepted.json)

    async def _who(self, authorization: str | None) -> Viewer:
        try:
            async with asyncio.timeout(self.settings.execution_seconds):
                return await self.authenticate(authorization)
        except TimeoutError:
            raise Unavailable from None

    async def _body(self, headers: Any, receive: Receive) -> bytes:
        most = self.settings.body_bytes
        too_large = HttpRefusal(
            413, "BODY_TOO_LARGE", f"A request may have at most {most} bytes.", (b"connection", b"close")
        )
        length = header(headers, b"content-length")
        if length is not None and length.isdecimal() and int(length[:20]) > most:
            raise too_large
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadRequest("The body ended early.")
            body += message.get("body", b"")
            if len(body) > most:
                raise too_large
            if not message.get("more_body", False):
                return bytes(body)

    async def _stream(
        self, request: GraphQLRequest, viewer: Viewer, facts: RequestFacts, receive: Receive, send: Send
    ) -> None:
        if self.connections.draining:
            raise HttpRefusal(503, Unavailable.code, Unavailable.en, self._retry_after())
        with self.connections.opened(ConnectionKind.STREAM, facts.client_address, viewer) as connection:
            stream = EventStream(connection, receive, send, settings=self.settings, event_id_of=self.event_id_of)
            answers = self.operations.stream(request, viewer, replace(facts, connection=connection))
            await stream.run(answers, [(b"cache-control", b"no-store, no-transform")])

    async def _send_answer(self, send: Send, answer: Answer, media_type: str) -> None:
        headers: list[tuple[bytes, bytes]] = []
        match answer.kind:
            case AnswerKind.UNAVAILABLE:
                status, headers = 503, [self._retry_after()]
            case AnswerKind.CRASHED:
                status = 500
            case AnswerKind.REQUEST_ERROR if media_type == GRAPHQL_JSON:
                status = 400
            case _:
                status = 200
        await respond(send, status, answer.payload, media_type, headers)

    async def _refuse(self, send: Send, error: Exception, request_id: str, headers: Any) -> None:
        locale = locale_asked(header(headers, b"accept-language")) or Locale.EN
        entry = self.operations.faults.of_exception(error, locale, request_id)
        told: list[tuple[bytes, bytes]] = []
        if is_unavailable_entry(entry):
            status, told = 503, [self._retry_after()]
        elif isinstance(error, LimitReached):
            status, told = 429, [_retry_after(error.retry_after_seconds or self.settings.retry_after_seconds)]
        else:
            status = 403 if isinstance(error, DomainError) else 500
        await respond(send, status, {"errors": [entry]}, JSON, told)

    def _retry_after(self) -> tuple[bytes, bytes]:
        return _retry_after(self.settings.retry_after_seconds)


async def respond(
    send: Callable[[Any], Awaitable[None]],
    status: int,
    payload: dict[str, Any],
    media_type: str,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """Answer with JSON."""
    body = orjson.dumps(payload)
    own = [
        (b"content-type", f"{media_type}; charset=utf-8".encode()),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})


def _retry_after(seconds: int) -> tuple[bytes, bytes]:
    return (b"retry-after", str(seconds).encode())
