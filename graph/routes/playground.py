"""The playground: GraphiQL at `/playground`, from files that were built once and ship with the package.

The page talks to `/graphql` of its own origin and loads nothing from anywhere else. It handles tokens, so its headers
forbid every script and every connection but its own, and no page can put it into a frame.
"""

import json
import re
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER: Final = Path(__file__).resolve().parent.parent / "playground"
STATIC: Final = FOLDER / "static"
EXAMPLES: Final = FOLDER / "examples"

COMMON_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_HOST: Final = re.compile(r"[A-Za-z0-9.:\[\]-]{1,255}")


def playground_routes() -> list[BaseRoute]:
    """`/playground` (the page), `/playground/examples.json` (its tabs) and `/playground/assets/…` (its parts)."""
    page = (STATIC / "index.html").read_bytes()
    examples = read_examples()

    async def show_page(request: Request) -> Response:
        headers = {**COMMON_HEADERS, "Cache-Control": "no-store", "Content-Security-Policy": _page_policy(request)}
        return Response(page, media_type="text/html", headers=headers)

    async def send_examples(request: Request) -> Response:
        return JSONResponse(examples, headers={**COMMON_HEADERS, "Cache-Control": "no-store"})

    return [
        Route("/playground", show_page, methods=["GET"]),
        Route("/playground/examples.json", send_examples, methods=["GET"]),
        Mount("/playground/assets", _Assets(directory=STATIC / "assets")),
    ]


def read_examples() -> list[dict[str, str]]:
    """The example operations in the order of their file names, each as `{"query": …, "variables": …}`, texts both."""
    return [
        {"query": path.read_text(encoding="utf-8"), "variables": _variables_of(path)}
        for path in sorted(EXAMPLES.glob("*.graphql"))
    ]


class _Assets(StaticFiles):
    """Files whose names hold a digest of their content, so that a browser need never ask for one again."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(COMMON_HEADERS)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        # A worker lives under the policy of its own file, not of the page that starts it.
        response.headers["Content-Security-Policy"] = "default-src 'none'; script-src 'self'; connect-src 'self'"
        return response


def _variables_of(example: Path) -> str:
    text = example.with_suffix(".variables.json").read_text(encoding="utf-8")
    json.loads(text)  # a broken file is found when the process starts, not in somebody's browser
    return text


def _page_policy(request: Request) -> str:
    """Only this origin. Its sockets are named as well, since not every browser counts them as `'self'`."""
    host = request.headers.get("host", "")
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) else ""
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",  # the editor writes style elements as it lays out its lines
            "font-src 'self' data:",
            "img-src 'self' data:",
            f"connect-src 'self'{sockets}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
