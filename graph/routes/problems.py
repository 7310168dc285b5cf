"""Refusals of the plain HTTP doors: the same `Problem` that GraphQL answers with, as JSON, under the right status."""

from typing import Final

from starlette.responses import JSONResponse

from domain import errors
from domain.viewer import Locale

STATUS: Final[dict[type[errors.DomainError], int]] = {
    errors.NotFound: 404,
    errors.Invalid: 422,
    errors.Conflict: 409,
    errors.NotSignedIn: 401,
    errors.Forbidden: 403,
    errors.LimitReached: 429,
    errors.Unavailable: 503,
}


def problem_response(
    error: errors.DomainError, locale: Locale = Locale.EN, *, status: int | None = None
) -> JSONResponse:
    """The refusal as `{"code", "message", "field", "retryAfterSeconds", "params"}`, never kept by a cache.

    `status` goes before the one that its kind of refusal has."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, errors.NotSignedIn):
        headers["WWW-Authenticate"] = 'Bearer realm="runwire"'
    return JSONResponse(
        {
            "code": error.code,
            "message": error.message(locale),
            "field": list(error.field) if error.field else None,
            "retryAfterSeconds": error.retry_after_seconds,
            "params": error.params or None,
        },
        status_code=status or status_of(error),
        headers=headers,
    )


def status_of(error: errors.DomainError) -> int:
    """The HTTP status of a refusal: that of the nearest kind in the tree; 400 for what has none."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 400)
