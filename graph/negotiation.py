"""What a client sends, what it takes and where it comes from, by the headers of its request."""

from dataclasses import dataclass

from graph.transport import Headers, header, weighted

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"
_EVENT_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What an answer may be."""

    json: str | None
    """The media type for a single answer, or None if the client takes streams only."""
    json_weight: float
    stream_weight: float

    def prefers_stream(self, is_subscription: bool) -> bool:
        """Whether the operation is to be answered as server-sent events. A subscription is wherever it can be; other
        operations only where the client likes a stream better than a single answer."""
        if is_subscription:
            return self.stream_weight > 0
        return self.stream_weight > self.json_weight


def accepted_of(accept: str | None) -> Accepted | None:
    """What the client takes; None if it is nothing that we make.

    Of both kinds of JSON the newer wins at equal weight. Wildcards and a missing header stand for `application/json`,
    the kind that a client which does not know the newer one expects."""
    entries = dict(reversed(weighted(accept))) if accept and accept.strip() else {"*/*": 1.0}
    anything = entries.get("*/*", 0.0)
    any_application = entries.get("application/*", anything)
    legacy = entries.get(JSON, any_application)
    newer = entries.get(GRAPHQL_JSON, 0.0)
    stream = entries.get(_EVENT_STREAM, entries.get("text/*", 0.0))
    best = max(legacy, newer)
    if best <= 0 and stream <= 0:
        return None
    media_type = None if best <= 0 else (GRAPHQL_JSON if newer >= legacy else JSON)
    return Accepted(media_type, best, stream)


def check_body_headers(headers: Headers) -> str | None:
    """What is wrong with how the body is sent, if something is. Raises `BadRequest` for headers sent twice."""
    encoding = header(headers, b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in ("", "identity"):
        return "Send the body without Content-Encoding."
    essence, *parameters = (part.strip().lower() for part in (header(headers, b"content-type") or "").split(";"))
    if essence != JSON:
        return f"Send the body as {JSON}."
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in ("utf-8", "utf8"):
            return "Send the body in UTF-8."
    return None


def is_origin_allowed(headers: Headers, allowed: frozenset[str]) -> bool:
    """Whether a browser on this page may connect. Programs send no `Origin`, and are allowed.

    The own origin is that of the `Host` the client asked for. A browser cannot forge either header."""
    origins = [value.decode("latin-1").strip() for name, value in headers if name == b"origin"]
    if not origins:
        return True
    if len(origins) > 1:
        return False
    origin = origins[0].lower()
    if "*" in allowed or origin in {entry.lower().rstrip("/") for entry in allowed}:
        return True
    hosts = [value.decode("latin-1").strip().lower() for name, value in headers if name == b"host"]
    return len(hosts) == 1 and origin in (f"http://{hosts[0]}", f"https://{hosts[0]}")
