"""Keeping served models and the API on their own origins, where they have two."""

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from db.settings import Settings
from domain.deployment.errors import WrongOrigin
from graph.routes.problems import problem_response

APPS: Final = "/apps/"
MISDIRECTED: Final = 421


def kept_apart(app: ASGIApp, settings: Settings) -> ASGIApp:
    """The app, with `/apps/` on the host of APPS_URL only and nothing else there.

    Where both have one host, the app as it is: pages are then kept apart by `CSP: sandbox`."""
    apps_host, api_host = host_of(settings.own_apps_url), host_of(settings.own_url)
    if apps_host == api_host:
        return app

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            return await app(scope, receive, send)
        is_app = scope["path"].startswith(APPS)
        scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
        asked = host_of(f"{scheme}://{Headers(scope=scope).get('host', '')}")
        # Behind a proxy that speaks plain HTTP to us, the port of the address says nothing; its name does.
        is_apps_host = asked == apps_host or asked[0] == apps_host[0] != api_host[0]
        if is_app is is_apps_host:
            return await app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        error = WrongOrigin(apps_url=settings.own_apps_url, api_url=settings.own_url)
        await problem_response(error, status=MISDIRECTED)(scope, receive, send)

    return guarded


def host_of(url: str) -> tuple[str, int]:
    """Name and port of an address; an unreadable one has neither."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return "", 0
