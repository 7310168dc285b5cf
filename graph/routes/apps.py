"""The door to served models: a streaming reverse proxy at `/apps/{slug}/…`.

The slug finds the app and its current deployment, whoever asks. Where a request goes comes from our own rows and from
nothing that the request says. An app whose process has gone is woken by the request that finds out.
"""

import logging
import re
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from uuid import UUID

import anyio
import httpx2
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from domain.deployment import queries, service
from domain.deployment.address import DEPLOYMENT_HEADER, RUN_HEADER, proof_subject
from domain.deployment.errors import (
    AppBusy,
    AppFailed,
    AppRequestTooLarge,
    AppRequestTooSlow,
    AppSilent,
    AppStopped,
    AppWaking,
    SocketsNotServed,
)
from domain.deployment.model import AppAccess, Deployment, DeploymentStatus
from domain.deployment.queries import FoundApp
from domain.errors import DomainError, NotFound, Unavailable
from domain.viewer import Scope as Right
from domain.viewer import Viewer, ViewerKind
from graph.context import Services
from graph.live.connections import CredentialRefused
from graph.routes.app_headers import headers_from_app, headers_to_app, own_headers, query_to_app
from graph.routes.app_pages import refusal_at_app

logger = logging.getLogger("runwire.graph")

CONNECT_SECONDS: Final = 2.0
SILENCE_SECONDS: Final = 60.0
"""How long an app may say nothing, before its answer or within it; and its caller may take nothing of it."""
BODY_SECONDS: Final = 60.0
"""How long a caller's body may take, all of it: one byte now and then is no progress, and keeps others out."""
DYING_SECONDS: Final = 0.1
"""A killed process resets its connections a moment before it stops to listen."""
REMEMBERED_SECONDS: Final = 1.0
MOST_REMEMBERED: Final = 10_000
CONNECTIONS: Final = 500
CONNECTIONS_PER_APP: Final = 64
"""Requests that one app is given at once, so that a slow one leaves room for the others."""
GONE: Final = 410
GATEWAY_TIMEOUT: Final = 504
BAD_GATEWAY: Final = 502
TOO_LARGE: Final = 413
TOO_SLOW: Final = 408
_PATH: Final = re.compile(rb"/apps/([a-z2-7]{16})(/.*)?\Z", re.DOTALL)
_BEARER: Final = re.compile(r"bearer +(\S+) *\Z", re.IGNORECASE)


def app_routes(services: Services, proxy: "AppProxy | None" = None) -> list[BaseRoute]:
    """`/apps/{slug}/…` for every method, for those who do not use `with_apps`. Who gives the proxy closes it."""
    proxy = proxy or AppProxy(services)
    return [WebSocketRoute("/apps/{path:path}", proxy), Route("/apps/{path:path}", proxy)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes."""

    host: str
    port: int
    deployment_id: UUID
    run_id: UUID

    @property
    def authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Refused(Exception):
    """A request that is not passed on."""

    def __init__(self, error: DomainError, status: int | None = None) -> None:
        super().__init__(error.code)
        self.error = error
        self.status = status


class AppProxy:
    """One per process. `close()` ends its connections to apps."""

    def __init__(
        self,
        services: Services,
        *,
        remembered_seconds: float = REMEMBERED_SECONDS,
        body_seconds: float = BODY_SECONDS,
    ) -> None:
        self.services = services
        self.settings = services.settings
        self.is_shared_origin = not services.settings.has_own_apps_origin
        # The bare transport: no redirects, no cookies, no proxies or credentials from the environment.
        self.transport = httpx2.AsyncHTTPTransport(
            trust_env=False,
            limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=100, keepalive_expiry=15),
        )
        self.busy: Counter[UUID] = Counter()
        self.body_seconds = body_seconds
        self._remembered_seconds = remembered_seconds
        self._remembered: OrderedDict[str, tuple[float, FoundApp | None]] = OrderedDict()

    async def close(self) -> None:
        await self.transport.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI app, for HTTP and for sockets."""
        if scope["type"] == "websocket":
            return await self._refuse_socket(scope, send)
        request = Request(scope, receive)
        is_public = False
        try:
            slug, path = _parts_of(scope)
            app = await self._find(slug)
            is_proof = app is not None and self._is_proof(request, slug)
            if app is None or not (is_proof or await self._may_open(request, slug, app)):
                raise Refused(NotFound("App"))
            is_public = app.access is AppAccess.LINK
            if path is None:
                answer: Response = RedirectResponse(_with_query(f"/apps/{slug}/", scope["query_string"]), 308)
            elif is_public and _is_preflight(request):
                answer = _preflight()
            else:
                return await self._pass_on(request, send, slug, path, app, is_proof=is_proof)
        except Refused as refused:
            answer = refusal_at_app(refused.error, request.headers, status=refused.status)
        except Unavailable as error:
            answer = refusal_at_app(error, request.headers)
        for name, value in own_headers(is_shared_origin=self.is_shared_origin, is_public=is_public):
            answer.headers[name.decode()] = value.decode()
        await answer(scope, receive, send)

    async def _refuse_socket(self, scope: Scope, send: Send) -> None:
        """Say so in words where the server can, else close."""
        if "websocket.http.response" not in scope.get("extensions", {}):
            return await send({"type": "websocket.close", "code": 1008})
        answer = refusal_at_app(SocketsNotServed(), Headers(scope=scope), status=400)
        await send(
            {"type": "websocket.http.response.start", "status": answer.status_code, "headers": answer.raw_headers}
        )
        await send({"type": "websocket.http.response.body", "body": answer.body})

    async def _find(self, slug: str) -> FoundApp | None:
        kept = self._remembered.get(slug)
        now = time.monotonic()
        if kept is not None and now < kept[0]:
            return kept[1]
        async with self.services.database.begin() as work:
            app = await queries.find_app(work.session, slug)
        if app is None or app.status is not DeploymentStatus.LIVE:
            # What is about to answer must be found at once: somebody was just told that it does.
            self._remembered.pop(slug, None)
            return app
        self._remembered[slug] = (now + self._remembered_seconds, app)
        self._remembered.move_to_end(slug)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return app

    async def _may_open(self, request: Request, slug: str, app: FoundApp) -> bool:
        """Whether this caller may know of the app at all."""
        if app.access is AppAccess.LINK:
            return True
        token = _token_of(request)
        shown = token or request.query_params.get("access_token")
        if shown is not None and self.services.authentication.tokens.verify_app_token(shown, slug):
            return True
        # A page reads its own address: a credential that opens more than this app must not stand there.
        if token is None:
            return False
        try:
            viewer = await self.services.authentication.authenticate(f"Bearer {token}")
        except CredentialRefused:
            return False
        return viewer.user_id == app.user_id and Right.MODELS_READ in viewer.scopes

    def _is_proof(self, request: Request, slug: str) -> bool:
        """Whether one of our workers asks for a deployment that is not live yet."""
        token, deployment_id = _token_of(request), _deployment_named(request)
        if token is None or deployment_id is None:
            return False
        return self.services.authentication.tokens.verify_app_token(token, proof_subject(slug, deployment_id))

    async def _target(self, request: Request, app: FoundApp, *, is_proof: bool) -> Target:
        """Where the request goes. Raises `Refused` where nothing answers."""
        if is_proof:
            return await self._proved_target(app, _deployment_named(request))
        match app.status:
            case DeploymentStatus.LIVE if app.deployment_id and app.run_id and app.host and app.port:
                return _checked(Target(app.host, app.port, app.deployment_id, app.run_id))
            case DeploymentStatus.STOPPED:
                raise Refused(AppStopped(), GONE)
            case DeploymentStatus.FAILED:
                raise Refused(AppFailed())
            case _:
                raise Refused(AppWaking())

    async def _proved_target(self, app: FoundApp, deployment_id: UUID | None) -> Target:
        async with self.services.database.begin(_owner_of(app)) as work:
            row = await work.session.get(Deployment, deployment_id)
        if row is None or row.app_id != app.id or row.host is None or row.port is None or row.status in service.ENDED:
            raise Refused(NotFound("App"))
        return _checked(Target(row.host, row.port, row.id, row.run_id))

    async def _pass_on(
        self, request: Request, send: Send, slug: str, path: bytes, app: FoundApp, *, is_proof: bool
    ) -> None:
        target = await self._target(request, app, is_proof=is_proof)
        if self.busy[app.id] >= CONNECTIONS_PER_APP:
            raise Refused(AppBusy())
        body = _Body(request, self.settings.app_body_limit_bytes, self.body_seconds)
        self.busy[app.id] += 1
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(body.watch, group.cancel_scope)
                problem = await self._exchange(request, send, slug, path, app, target, body)
                group.cancel_scope.cancel()
        finally:
            self.busy[app.id] -= 1
            if not self.busy[app.id]:
                del self.busy[app.id]
        if problem is None:
            return
        if isinstance(problem.error, AppWaking) and not is_proof:
            await self._wake(slug, app, target)
        raise problem

    async def _exchange(
        self, request: Request, send: Send, slug: str, path: bytes, app: FoundApp, target: Target, body: "_Body"
    ) -> Refused | None:
        """Ask the app and stream its answer; gives what kept the answer from beginning."""
        prefix = f"/apps/{slug}"
        query = query_to_app(request.scope["query_string"])
        asked = httpx2.Request(
            request.method,
            httpx2.URL(
                scheme="http", host=target.host, port=target.port, raw_path=path + (b"?" + query if query else b"")
            ),
            headers=headers_to_app(
                request.headers.raw,
                client=request.client.host if request.client else "",
                public_url=self.settings.own_apps_url,
                prefix=prefix,
                target=target.authority,
            ),
            content=body.chunks() if body.is_there else None,
            extensions={
                "timeout": {
                    "connect": CONNECT_SECONDS,
                    "pool": CONNECT_SECONDS,
                    "read": SILENCE_SECONDS,
                    "write": SILENCE_SECONDS,
                }
            },
        )
        try:
            body.check_length()
            response = await self.transport.handle_async_request(asked)
        except _CutOff:
            return None
        except _TooLarge:
            return Refused(AppRequestTooLarge(self.settings.app_body_limit_bytes), TOO_LARGE)
        except _TooSlow:
            return Refused(AppRequestTooSlow(self.body_seconds), TOO_SLOW)
        except httpx2.ConnectError:
            return Refused(AppWaking())
        except (httpx2.ConnectTimeout, httpx2.PoolTimeout):
            return Refused(AppBusy())
        except httpx2.TimeoutException:
            return Refused(AppSilent(), GATEWAY_TIMEOUT)
        except httpx2.TransportError:
            # It may have died with our connection in its hands; then nobody listens any more.
            return Refused(AppSilent(), BAD_GATEWAY) if await _listens(target) else Refused(AppWaking())
        try:
            if response.status_code < 200:  # a change of protocol that nobody asked for
                return Refused(AppSilent(), BAD_GATEWAY)
            if response.headers.get(RUN_HEADER, str(target.run_id)) != str(target.run_id):
                return Refused(AppWaking())  # ours has gone, and its port went to another app
            headers = headers_from_app(
                response.headers.raw,
                prefix=prefix,
                target=target.authority,
                is_shared_origin=self.is_shared_origin,
                is_public=app.access is AppAccess.LINK,
            )
            await _stream(send, request, response, headers)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(CONNECT_SECONDS):
                await response.aclose()
        return None

    async def _wake(self, slug: str, app: FoundApp, target: Target) -> None:
        """The process has gone: have it started again. Postgres decides whether it was live at all."""
        self._remembered.pop(slug, None)
        async with self.services.database.begin(_owner_of(app)) as work:
            await service.mark_waking(work, target.deployment_id)


class _TooLarge(Exception):
    """The body has more bytes than an app is given."""


class _TooSlow(Exception):
    """The body did not arrive in time."""


class _CutOff(Exception):
    """The caller left in the middle of its body."""


class _Body:
    """A caller's body on its way to the app, counted; and the watch for the caller's leaving."""

    def __init__(self, request: Request, limit_bytes: int, seconds: float) -> None:
        self.receive = request.receive
        self.limit_bytes = limit_bytes
        self.until = anyio.current_time() + seconds
        self.length = request.headers.get("content-length")
        self.is_there = "transfer-encoding" in request.headers or self.length not in (None, "0")
        self.is_read = anyio.Event()
        if not self.is_there:
            self.is_read.set()

    def check_length(self) -> None:
        """Refuse by the announced length, before anything is asked of the app."""
        if self.length is not None and (len(self.length) > 18 or int(self.length) > self.limit_bytes):
            raise _TooLarge

    async def chunks(self) -> AsyncIterator[bytes]:
        read = 0
        while True:
            try:
                with anyio.fail_after(self.until - anyio.current_time()):
                    message: Message = await self.receive()
            except TimeoutError:
                raise _TooSlow from None
            if message["type"] == "http.disconnect":
                raise _CutOff
            chunk = message.get("body", b"")
            read += len(chunk)
            if read > self.limit_bytes:
                raise _TooLarge
            if chunk:
                yield chunk
            if not message.get("more_body", False):
                self.is_read.set()
                return

    async def watch(self, scope: anyio.CancelScope) -> None:
        """Stop everything once the caller has gone, so that an app does not talk to nobody."""
        await self.is_read.wait()
        while (await self.receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


async def _stream(send: Send, request: Request, response: httpx2.Response, headers: list[tuple[bytes, bytes]]) -> None:
    """The app's bytes as they come. One that breaks off in the middle breaks off for the caller too."""
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    if request.method != "HEAD":
        try:
            async for chunk in response.aiter_raw():
                with anyio.fail_after(SILENCE_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except TimeoutError:
            return  # nobody takes it; what is left is not sent
        except httpx2.TransportError as error:
            # The server closes a connection whose answer was not ended, which is how HTTP says that it is not whole.
            logger.info("An app broke off in the middle of an answer.", extra={"error": type(error).__name__})
            return
    await send({"type": "http.response.body", "body": b""})


def _parts_of(scope: Scope) -> tuple[str, bytes | None]:
    """Slug and path as they came, undecoded; the path is None where the slash after the slug is missing."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    found = _PATH.match(raw.partition(b"?")[0])
    if found is None:
        raise Refused(NotFound("App"))
    return found[1].decode(), found[2]


def _checked(target: Target) -> Target:
    """Apps of the provider `local` listen on this machine's loopback, and a row that says otherwise is not followed."""
    if not _is_loopback(target.host):
        logger.error("A deployment's address is not of this machine.", extra={"deployment": str(target.deployment_id)})
        raise Refused(AppFailed())
    return target


async def _listens(target: Target) -> bool:
    """Whether anybody takes connections there, once a process that may be dying is dead; in doubt somebody does."""
    await anyio.sleep(DYING_SECONDS)
    with anyio.move_on_after(CONNECT_SECONDS):
        try:
            async with await anyio.connect_tcp(target.host, target.port):
                return True
        except OSError:
            return False
    return True


def _is_loopback(host: str) -> bool:
    """Addresses only: a name could be made to lead anywhere."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _owner_of(app: FoundApp) -> Viewer:
    """The app's owner, for row level security only: it may do nothing."""
    return Viewer(kind=ViewerKind.USER, user_id=app.user_id)


def _token_of(request: Request) -> str | None:
    found = _BEARER.match(request.headers.get("authorization", ""))
    return found[1] if found else None


def _deployment_named(request: Request) -> UUID | None:
    try:
        return UUID(request.headers.get(DEPLOYMENT_HEADER, ""))
    except ValueError:
        return None


def _is_preflight(request: Request) -> bool:
    return request.method == "OPTIONS" and "access-control-request-method" in request.headers


def _preflight() -> Response:
    """Everybody may ask everything of a public app; without credentials, so nothing of the asker's goes along."""
    headers = {
        "Access-Control-Allow-Methods": "*",
        "Access-Control-Allow-Headers": "*",
        "Access-Control-Max-Age": "600",
    }
    return Response(status_code=204, headers=headers)


def _with_query(path: str, query: bytes) -> str:
    return f"{path}?{query.decode('latin-1')}" if query else path
