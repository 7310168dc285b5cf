"""Keeping served models and the API apart: by host where they have two, and before all that only the API needs."""

import re
from typing import Final
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from db.settings import Settings, is_loopback
from domain.deployment.errors import WrongOrigin
from graph.routes.problems import problem_response

APPS: Final = "/apps/"
PLAYGROUND: Final = "/playground"
MISDIRECTED: Final = 421
_APP: Final = re.compile(r"/apps/[a-z2-7]{16}(?:/|\Z)")


def with_apps(api: ASGIApp, apps: ASGIApp, settings: Settings) -> ASGIApp:
    """`apps` (an `AppProxy`) answers below `/apps/`, `api` everything else; each on its own host where they have two.

    The proxy stands beside the API's middleware and not behind it: apps have rules of their own for other origins.
    Who opens a page at the wrong one of the two is sent to the right one. On one machine, where people type one name
    or the other, the API answers at both; only its pages do not, since a page may keep a token for its origin."""
    apps_host, api_host = _host_of(settings.own_apps_url), _host_of(settings.own_url)
    on_one_machine = is_loopback(apps_host[0]) and is_loopback(api_host[0])
    error = WrongOrigin(apps_url=settings.own_apps_url, api_url=settings.own_url)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await api(scope, receive, send)
        is_app = scope["path"].startswith(APPS)
        if apps_host == api_host or is_app is _is_apps_host(scope):
            return await (apps if is_app else api)(scope, receive, send)
        is_page = is_app or scope["path"] == "/" or scope["path"].startswith(PLAYGROUND)
        if on_one_machine and not is_page:
            return await api(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        if is_app and _APP.match(scope["path"]) is None:
            return await apps(scope, receive, send)  # there is no such app anywhere: the address is not repeated
        if is_page and scope["method"] in ("GET", "HEAD"):
            right = settings.own_apps_url if is_app else settings.own_url
            return await RedirectResponse(right + quote(scope["path"]))(scope, receive, send)
        await problem_response(error, status=MISDIRECTED)(scope, receive, send)

    def _is_apps_host(scope: Scope) -> bool:
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        asked = _host_of(f"{scheme}://{Headers(scope=scope).get('host', '')}")
        # Behind a proxy that speaks plain HTTP to us the port says nothing, while the name does.
        return asked == apps_host or asked[0] == apps_host[0] != api_host[0]

    return app


def _host_of(url: str) -> tuple[str, int]:
    """Name and port of an address; an unreadable one has neither."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", 0
