"""What requests say, and how far they are in order."""

import base64
import ipaddress
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request

from jobs.simulators.replicate import problems
from jobs.simulators.replicate.problems import Refusal

EVENTS = ("start", "output", "logs", "completed")
_BODY_FIELDS = frozenset({"destination", "input", "webhook", "webhook_completed", "webhook_events_filter"})


def key_of(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def base_of(request: Request) -> str:
    """By the request's own address, and with the prefix that the app is mounted under: `base_url` leaves that out."""
    url = request.url
    return f"{url.scheme}://{url.netloc}{request.scope.get('root_path', '')}".rstrip("/")


async def json_of(request: Request) -> Mapping[str, Any]:
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, f'Unsupported media type "{kind}" in request.')
    try:
        given = json.loads(await request.body())
    except ValueError as error:
        raise Refusal(400, "JSON parse error - the body is no JSON") from error
    if not isinstance(given, dict):
        raise Refusal(400, "JSON parse error - an object is needed")
    return given


def check_creation(given: Mapping[str, Any]) -> None:
    """The form of a creation's body."""
    wrong = [
        {"type": "additional_property_not_allowed", "field": name, "description": f"{name} is not allowed"}
        for name in given
        if name not in _BODY_FIELDS
    ]
    if not isinstance(given.get("destination"), str):
        wrong.append({"type": "required", "field": "destination", "description": "destination is required"})
    if not isinstance(given.get("input"), dict):
        wrong.append({"type": "required", "field": "input", "description": "input is required"})
    for name in ("webhook", "webhook_completed"):
        if given.get(name) is not None and not _may_be_called(given[name]):
            wrong.append({"type": "pattern", "field": name, "description": "must be an HTTPS URL"})
    events = given.get("webhook_events_filter")
    if events is not None and not (isinstance(events, list) and all(event in EVENTS for event in events)):
        words = "must be of start, output, logs, completed"
        wrong.append({"type": "enum", "field": "webhook_events_filter", "description": words})
    if wrong:
        raise problems.invalid(wrong)


def _may_be_called(url: object) -> bool:
    """HTTPS, as at Replicate; plain HTTP only on this machine, which Replicate could not reach at all."""
    return isinstance(url, str) and (url.startswith("https://") or _is_loopback(url))


def _is_loopback(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https"):
            return False
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def loopback_input(given: Mapping[str, Any]) -> tuple[str, str] | None:
    """The input that names an address on this machine: that one is really fetched."""
    for name, value in given.items():
        if isinstance(value, str) and _is_loopback(value):
            return name, value
    return None


def last_of_page(cursor: str | None) -> str | None:
    """The last training of the page before."""
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except ValueError as error:
        raise Refusal(400, "Invalid cursor") from error
    return text.removeprefix("p=")
