"""Plain HTTP doors: their caller's context, and refusals in the caller's language."""

from collections.abc import Awaitable, Callable
from functools import wraps

from starlette.requests import Request
from starlette.responses import Response

from domain.errors import DomainError
from graph.context import Context, Services
from graph.routes.problems import locale_of_request, problem_response, viewer_of
from graph.transport import client_address

Door = Callable[[Services, Request], Awaitable[Response]]


async def context_of(services: Services, request: Request, *, token: str | None = None) -> Context:
    """The caller's context. Raises `BadCredential`, `Unavailable`."""
    return Context(
        services=services,
        viewer=await viewer_of(services, request, token=token),
        request_id=str(request.scope.get("state", {}).get("request_id", "")),
        client_address=client_address(request.scope),
        user_agent=request.headers.get("user-agent", ""),
    )


def door(services: Services, answer: Door) -> Callable[[Request], Awaitable[Response]]:
    """A route's endpoint whose refusals become problems."""

    @wraps(answer)
    async def endpoint(request: Request) -> Response:
        try:
            return await answer(services, request)
        except DomainError as error:
            return problem_response(error, locale_of_request(request))

    return endpoint
