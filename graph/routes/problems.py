"""What the plain HTTP doors share: who asks, and refusals as the `Problem` that GraphQL answers with, in JSON."""

from dataclasses import replace
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse

from domain import errors
from domain.viewer import Locale, Viewer
from graph.context import Services
from graph.live.connections import CredentialRefused
from graph.transport import locale_asked

STATUS: Final[dict[type[errors.DomainError], int]] = {
    errors.NotFound: 404,
    errors.Invalid: 422,
    errors.Conflict: 409,
    errors.NotSignedIn: 401,
    errors.Forbidden: 403,
    errors.LimitReached: 429,
    errors.Unavailable: 503,
}


class BadCredential(errors.NotSignedIn):
    """A credential was shown that nobody can come in with; `code` is its own."""

    en = "{reason}"
    pt = "{reason}"

    def __init__(self, code: str, reason: str) -> None:
        self.code = code  # type: ignore[misc]  # one class for all ways in which a credential can be refused
        super().__init__(reason=reason)


async def viewer_of(services: Services, request: Request, *, token: str | None = None) -> Viewer:
    """Who asks, reading the language that the request prefers; `token` stands in where a browser sends no header.

    Raises `BadCredential`, `Unavailable`."""
    asked = locale_of_request(request)
    shown = request.headers.getlist("authorization") or ([f"Bearer {token}"] if token else [])
    if len(shown) > 1:
        raise BadCredential("CREDENTIAL_MALFORMED", "The header Authorization must be sent once.")
    try:
        viewer = await services.authentication.authenticate(shown[0] if shown else None, locale=asked)
    except CredentialRefused as refused:
        raise BadCredential(getattr(refused, "code", "UNAUTHENTICATED"), refused.reason) from None
    return replace(viewer, locale=asked) if locale_asked(request.headers.get("accept-language")) else viewer


def locale_of_request(request: Request) -> Locale:
    """The language that `Accept-Language` prefers, else English."""
    return locale_asked(request.headers.get("accept-language")) or Locale.EN


def problem_response(
    error: errors.DomainError, locale: Locale = Locale.EN, *, status: int | None = None
) -> JSONResponse:
    """The refusal as `{"code", "message", "field", "retryAfterSeconds", "params"}`, never kept by a cache.

    `status` goes before the one that its kind of refusal has."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.NotSignedIn):
        failed = ', error="invalid_token"' if isinstance(error, BadCredential) else ""
        headers["WWW-Authenticate"] = f'Bearer realm="runwire"{failed}'
    return JSONResponse(problem_of(error, locale), status_code=status or status_of(error), headers=headers)


def problem_of(error: errors.DomainError, locale: Locale) -> dict[str, Any]:
    """The members of a `Problem`, as JSON."""
    return {
        "code": error.code,
        "message": error.message(locale),
        "field": list(error.field) if error.field else None,
        "retryAfterSeconds": error.retry_after_seconds,
        "params": error.params or None,
    }


def status_of(error: errors.DomainError) -> int:
    """The HTTP status of a refusal: that of the nearest kind in the tree; 400 for what has none."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 400)
