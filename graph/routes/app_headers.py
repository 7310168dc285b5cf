"""Which headers pass between a caller and an app, and which never do.

An app is somebody's program. It must not learn its caller's credentials; and where it shares an origin with the API,
its answers must not touch what the origin keeps in a browser.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_plus, urlsplit

from domain.deployment.address import DEPLOYMENT_HEADER, RUN_HEADER

Headers = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"trailers",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)
"""Headers that speak of one connection only (RFC 9110, 7.6.1), beside those that `Connection` names."""
NEVER_TO_THE_APP: Final = frozenset(
    {
        b"authorization",
        b"cookie",
        b"x-api-key",
        DEPLOYMENT_HEADER.lower().encode(),
        b"referer",  # may hold an address with a token in it
        b"host",
        b"expect",  # answered here
        b"proxy",  # read as HTTP_PROXY by programs of the CGI kind
        b"forwarded",
        b"x-real-ip",
    }
)
NEVER_FROM_THE_APP: Final = frozenset(
    {
        b"set-cookie",
        b"set-cookie2",
        b"clear-site-data",
        b"service-worker-allowed",
        b"strict-transport-security",
        b"public-key-pins",
        b"expect-ct",
        b"alt-svc",
        b"nel",
        b"report-to",
        b"reporting-endpoints",
        b"origin-agent-cluster",
        b"www-authenticate",  # a browser would ask its user for a password in our name
        b"proxy-authenticate",
        b"x-frame-options",  # an app may stand in an iframe
        b"server",
        b"date",
        b"x-content-type-options",
        b"referrer-policy",
        b"x-request-id",
        RUN_HEADER.lower().encode(),
    }
)
TOKEN_PARAMETERS: Final = frozenset({"access_token"})
SANDBOX: Final = b"sandbox allow-scripts allow-forms"
"""Without `allow-same-origin`: the page is of no origin, so neither storage nor answers of the API are in its reach."""
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")


def headers_to_app(
    headers: Iterable[tuple[bytes, bytes]], *, client: str, public_url: str, prefix: str, target: str
) -> Headers:
    """What the app gets to see. `public_url` is the origin it is reached at, `prefix` its path there."""
    came = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP | NEVER_TO_THE_APP | _named_by_connection(came)
    if any(name == b"transfer-encoding" for name, _ in came):
        dropped |= {b"content-length"}  # a body in chunks has no length; both together is how requests are smuggled
    kept = [
        (name, value)
        for name, value in came
        if name not in dropped and not name.startswith((b"x-forwarded-", b"sec-websocket-"))
    ]
    parts = urlsplit(public_url)
    forwarded = {
        b"host": target,
        b"x-forwarded-for": client,
        b"x-forwarded-proto": parts.scheme,
        b"x-forwarded-host": parts.netloc,
        b"x-forwarded-prefix": prefix,
    }
    return [*kept, *((name, value.encode("latin-1", "replace")) for name, value in forwarded.items() if value)]


def headers_from_app(
    headers: Iterable[tuple[bytes, bytes]], *, prefix: str, target: str, is_shared_origin: bool, is_public: bool
) -> Headers:
    """What the caller gets to see of an app's answer."""
    came = [(name.lower(), value) for name, value in headers]
    dropped = HOP_BY_HOP | NEVER_FROM_THE_APP | _named_by_connection(came)
    if not is_public:
        dropped |= {b"cache-control"}
    kept = [
        (name, _within(value, prefix, target) if name in (b"location", b"content-location") else value)
        for name, value in came
        if name not in dropped and not name.startswith(b"access-control-") and _NAME.match(name)
    ]
    return [*kept, *own_headers(is_shared_origin=is_shared_origin, is_public=is_public)]


def own_headers(*, is_shared_origin: bool, is_public: bool) -> Headers:
    """What every answer under `/apps/` carries, whoever wrote it."""
    own = [(b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer")]
    if is_shared_origin:
        # Browsers enforce each policy that comes; the app's own can only forbid more.
        own.append((b"content-security-policy", SANDBOX))
    if is_public:
        own.append((b"access-control-allow-origin", b"*"))
        own.append((b"access-control-expose-headers", b"*"))
    else:
        own.append((b"cache-control", b"no-store"))
    return own


def query_to_app(query: bytes) -> bytes:
    """The query string without the caller's token, else byte for byte as it came."""
    return b"&".join(
        part
        for part in query.split(b"&")
        if unquote_plus(part.partition(b"=")[0].decode("latin-1")).strip().lower() not in TOKEN_PARAMETERS
    )


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    named = b",".join(value for name, value in headers if name == b"connection")
    return frozenset(part.strip().lower() for part in named.split(b",")) - {b"", b"content-length"}


def _within(location: bytes, prefix: str, target: str) -> bytes:
    """An address that the app gives, as the caller must ask for it: the app knows no prefix and names its own port."""
    for origin in (f"http://{target}", f"//{target}"):
        if location == origin.encode() or location.startswith(f"{origin}/".encode()):
            location = location[len(origin) :] or b"/"
            return prefix.encode() + b"/" + location.lstrip(b"/")
    if location.startswith(b"/") and not location.startswith((b"//", b"/\\")):
        return prefix.encode() + location
    return location
