"""Who calls a plain HTTP door, and in which language they are answered."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from domain.errors import DomainError, NotSignedIn
from domain.viewer import Viewer
from graph.context import Context, Services
from graph.live.connections import CredentialRefused
from graph.operations import locale_of
from graph.routes.problems import problem_response
from graph.transport import client_address, locale_asked

Door = Callable[[Services, Request], Awaitable[Response]]


class CredentialNotAccepted(NotSignedIn):
    """A credential was shown, and nobody can come in with it."""

    code = "UNAUTHENTICATED"
    en = "{reason}"
    pt = "A credencial não é válida: {reason}"

    def __init__(self, reason: str) -> None:
        super().__init__(reason=reason)


async def context_of(services: Services, request: Request, *, token: str | None = None) -> Context:
    """The caller's context. `token` stands in for the header where a browser cannot send one.

    Raises `CredentialNotAccepted`."""
    shown = request.headers.get("authorization") or (f"Bearer {token}" if token else None)
    asked = locale_asked(request.headers.get("accept-language"))
    try:
        viewer: Viewer = await services.authentication.authenticate(shown)
    except CredentialRefused as refused:
        raise CredentialNotAccepted(refused.reason) from None
    viewer = replace(viewer, locale=locale_of(viewer, asked))
    return Context(
        services=services,
        viewer=viewer,
        request_id=str(request.scope.get("state", {}).get("request_id", "")),
        client_address=client_address(request.scope),
        user_agent=request.headers.get("user-agent", ""),
    )


def door(services: Services, answer: Door) -> Callable[[Request], Awaitable[Response]]:
    """A route's endpoint whose refusals become problems in the caller's language."""

    @wraps(answer)
    async def endpoint(request: Request) -> Response:
        try:
            return await answer(services, request)
        except DomainError as error:
            locale = locale_of(Viewer.nobody(), locale_asked(request.headers.get("accept-language")))
            return problem_response(error, locale)

    return endpoint
