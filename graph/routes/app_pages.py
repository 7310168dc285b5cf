"""What stands at an app's address while the app does not: words, and for people a small page that tries again."""

import html
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response

from domain.errors import DomainError
from domain.viewer import Locale
from graph.routes.problems import problem_response, status_of
from graph.transport import locale_asked, weighted

_PAGE: Final = """<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{refresh}<title>{message}</title>
<style>
body {{ font: 1rem/1.5 system-ui, sans-serif; display: grid; place-items: center; min-height: 90vh; margin: 1rem;
  color: #1f2937; background: #fff; }}
@media (prefers-color-scheme: dark) {{ body {{ color: #e5e7eb; background: #111827; }} }}
</style>
</head>
<body><p>{message}</p></body>
</html>
"""


def refusal_at_app(error: DomainError, headers: Headers, *, status: int | None = None) -> Response:
    """The refusal as a page where HTML is preferred, else as JSON; in the language that the request asks for."""
    locale = locale_asked(headers.get("accept-language")) or Locale.EN
    if not _prefers_page(headers.get("accept")):
        return problem_response(error, locale, status=status)
    seconds = error.retry_after_seconds
    refresh = f'<meta http-equiv="refresh" content="{seconds}">\n' if seconds is not None else ""
    page = _PAGE.format(language=locale.value, refresh=refresh, message=html.escape(error.message(locale)))
    kept = {"Cache-Control": "no-store"} | ({"Retry-After": str(seconds)} if seconds is not None else {})
    return HTMLResponse(page, status_code=status or status_of(error), headers=kept)


def _prefers_page(accept: str | None) -> bool:
    """Whether HTML is named at all, and weighs no less than JSON; `*/*` is a program."""
    weights = dict(reversed(weighted(accept or "")))
    return weights.get("text/html", 0.0) > 0 and weights["text/html"] >= weights.get("application/json", 0.0)
