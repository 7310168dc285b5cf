"""Where providers call: `POST /webhooks/replicate`, `/webhooks/astria/{token}`, `/webhooks/e2b`.

A call is kept as it came and a worker is rung; nothing of it is read or believed here. So it is answered in
milliseconds, a repeated one is answered like the first, and what these doors let in can do no more than fill a row.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from functools import wraps
from typing import Final

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from domain.callback import queries, service
from domain.callback.errors import BadCallback
from domain.callback.model import CallbackSource
from domain.callback.service import Call
from domain.errors import DomainError
from domain.secret import masked
from domain.training.model import PodTokenKind
from graph.callback.callers import check_plain, is_token, refused
from graph.context import Services
from graph.limiter import MIB, CallKind, CallLimiter
from graph.transport import client_address

LONGEST_HEADER: Final = 1000
SMALL_BYTES: Final = 256 * 1024
LARGE_AT_ONCE: Final = 16
_TAG = re.compile(r"[A-Za-z0-9-]{1,100}", re.ASCII)
"""What the tag of an attempt can be; what is none names nothing that we know."""
KEPT: Final[Mapping[CallbackSource, tuple[str, ...]]] = {
    CallbackSource.REPLICATE: ("webhook-id", "webhook-timestamp", "webhook-signature"),
    CallbackSource.ASTRIA: (),
    CallbackSource.E2B: ("e2b-webhook-id", "e2b-delivery-id", "e2b-signature-version", "e2b-signature"),
}
"""Headers that say something about a call, beside those that describe its body."""

Handler = Callable[[Request], Awaitable[Response]]


def callback_routes(services: Services, calls: CallLimiter) -> list[BaseRoute]:
    doors = CallbackDoors(services, calls)
    return [
        Route("/webhooks/replicate", answered(doors.replicate), methods=["POST"]),
        Route("/webhooks/astria/{token}", answered(doors.astria), methods=["POST"]),
        Route("/webhooks/e2b", answered(doors.e2b), methods=["POST"]),
    ]


def answered(handle: Handler) -> Handler:
    """A route's endpoint whose refusals become problems."""

    @wraps(handle)
    async def endpoint(request: Request) -> Response:
        try:
            check_plain(request)
            return await handle(request)
        except DomainError as error:
            return refused(error, request)

    return endpoint


class CallbackDoors:
    """The doors of one process."""

    def __init__(self, services: Services, calls: CallLimiter) -> None:
        self.services = services
        self.calls = calls
        self.large = anyio.CapacityLimiter(LARGE_AT_ONCE)
        """Bodies that may be large take turns: nobody has shown anything yet, and memory is everybody's."""

    async def replicate(self, request: Request) -> Response:
        """Signed by Replicate, which a worker checks: the secret belongs to the account that trains."""
        ids = request.headers.getlist("webhook-id")
        if len(ids) != 1 or not ids[0] or len(ids[0]) > LONGEST_HEADER:
            raise BadCallback("it has no header webhook-id", "falta o cabeçalho webhook-id")
        tag = request.query_params.get("run", "")
        body = await self._body(request, tag)
        # Over the body too: a forged copy that has the true one's id does not stand in its way.
        event_id = hashlib.sha256(f"{ids[0]}.".encode() + body).hexdigest()
        known = tag if _TAG.fullmatch(tag) else None
        call = Call(CallbackSource.REPLICATE, body, _kept(request, CallbackSource.REPLICATE), event_id, tag=known)
        async with self.services.database.begin() as work:
            await service.store_callback(work, call)
        return _thanks()

    async def astria(self, request: Request) -> Response:
        """Not signed, so its address is the secret, and the tune is read again. Nobody is told which addresses are
        known."""
        token = request.path_params["token"]
        await self.calls.check(CallKind.WEBHOOK_ADDRESS, client_address(request.scope))
        body = await self._body(request, token)
        if not is_token(token):
            return _thanks()
        call = Call(CallbackSource.ASTRIA, body, _kept(request, CallbackSource.ASTRIA), token=token)
        async with self.services.database.begin() as work:
            found = await queries.find_pod_token(work.session, token)
            if found is not None and found.kind is PodTokenKind.CALLBACK and found.is_alive(work.now):
                await service.store_callback(work, call)
        return _thanks()

    async def e2b(self, request: Request) -> Response:
        """About the life of a sandbox; a hint to look, whoever sent it."""
        address = client_address(request.scope)
        await self.calls.check(CallKind.WEBHOOK_ADDRESS, address)
        body = await self._body(request, address, counted=False)
        delivery = request.headers.get("e2b-delivery-id", "")
        event_id = hashlib.sha256(f"{delivery}.".encode() + body).hexdigest()
        call = Call(CallbackSource.E2B, body, _kept(request, CallbackSource.E2B), event_id)
        async with self.services.database.begin() as work:
            await service.store_callback(work, call)
        return _thanks()

    async def _body(self, request: Request, subject: str, *, counted: bool = True) -> bytes:
        """The body, if so much may come from this subject. What is too large or too slow is refused before us."""
        if counted:
            await self.calls.check(CallKind.WEBHOOK, subject)
        async with self.large if _may_be_large(request) else nullcontext():
            body = await request.body()
        await self.calls.check(CallKind.WEBHOOK_BYTES, subject, cost=1 + len(body) // MIB)
        return body


def _may_be_large(request: Request) -> bool:
    length = request.headers.get("content-length", "")
    return not (length.isascii() and length.isdigit() and int(length) <= SMALL_BYTES)


def _kept(request: Request, source: CallbackSource) -> dict[str, str]:
    names = (*KEPT[source], "content-type", "user-agent")
    return {name: _plain(request.headers[name]) for name in names if name in request.headers}


def _plain(value: str) -> str:
    """As it is kept, and shown to operators. No signature looks like a token of ours or a provider's key."""
    return masked("".join(character if character.isprintable() else "?" for character in value[:LONGEST_HEADER]))


def _thanks() -> Response:
    return JSONResponse({"received": True})
