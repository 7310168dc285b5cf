"""Replicate's refusals: `application/problem+json` with some of `title`, `detail`, `status`, and what stands beside."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse, Response


class Refusal(Exception):
    """Raised by a route instead of an answer."""

    def __init__(
        self, status: int, detail: str, title: str | None = None, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.content = {**({"title": title} if title else {}), "detail": detail, "status": status, **more}
        self.headers = dict(headers or {})

    @property
    def response(self) -> Response:
        return JSONResponse(
            self.content, status_code=self.status, headers=self.headers, media_type="application/problem+json"
        )


def unauthenticated() -> Refusal:
    return Refusal(401, "You did not pass a valid authentication token", "Unauthenticated")


def billing_required() -> Refusal:
    words = "You need to set up billing to run this model. Go to https://replicate.com/account/billing to set it up."
    return Refusal(402, words, "Billing required")


def not_found() -> Refusal:
    return Refusal(404, "The requested resource could not be found.")


def no_destination() -> Refusal:
    return Refusal(404, "The specified training destination does not exist")


def invalid_version() -> Refusal:
    words = "The specified version does not exist (or perhaps you don't have permission to use it?)"
    return Refusal(422, words, "Invalid version or not permitted")


def throttled(seconds: int) -> Refusal:
    """Seen beside the detail in public logs: `retry_after`."""
    words = f"Request was throttled. Your rate limit resets in ~{seconds}s."
    headers = {"ratelimit-remaining": "0", "ratelimit-reset": str(seconds)}
    return Refusal(429, words, "Request was throttled", headers, retry_after=seconds)


def invalid(wrong: Sequence[Mapping[str, str]]) -> Refusal:
    """`wrong`: `type`, `field` and `description` of each."""
    lines = "".join(f"- {one['field']}: {one['description']}\n" for one in wrong)
    return Refusal(422, lines, "Input validation failed", invalid_fields=[dict(one) for one in wrong])


def server_error(status: int) -> Refusal:
    words = {500: "Internal server error", 502: "Bad gateway", 503: "Service unavailable", 504: "Gateway timeout"}
    return Refusal(status, words[status])
