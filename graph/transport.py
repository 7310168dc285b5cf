"""What every door of the GraphQL API shares: its settings, the facts of a request, and strict reading of JSON."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from domain.viewer import Locale

if TYPE_CHECKING:
    from graph.live.connections import Connection

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]

JSON_LEVELS = 64
"""How deep arrays and objects may nest in what a client sends."""
LARGEST_INTEGER = 2**64
"""Above it a JSON integer is refused: readers of JSON round such numbers silently."""
_LONG_NUMBER = re.compile(rb"\d{20}")


@dataclass(frozen=True, slots=True)
class TransportSettings:
    """Limits and switches of HTTP, SSE and WebSocket. Times are in seconds, sizes in bytes."""

    allowed_origins: frozenset[str] = frozenset()
    """Browser origins that may open a socket, beside the API's own (`https://app.example.com`)."""
    introspection: bool = True
    suggestions: bool = True
    """Whether errors may say "Did you mean …"; off where introspection is off, or names can be guessed."""
    masking: bool = True
    """Whether the text of unexpected exceptions is kept from clients. Off only while developing."""
    execution_seconds: float = 10
    body_bytes: int = 1024 * 1024
    message_bytes: int = 256 * 1024
    init_seconds: float = 10
    """How long a fresh socket may wait before its `connection_init` is answered."""
    ping_seconds: float = 20
    """Interval of the server's pings; a socket that is silent for two of them is closed."""
    operations_per_socket: int = 50
    connections_per_principal: int = 100
    unauthenticated_per_address: int = 20
    heartbeat_seconds: float = 15
    """Interval of SSE comments, so that proxies and readers know the stream lives."""
    send_seconds: float = 60
    """A connection whose reader takes nothing for so long is dropped."""
    close_seconds: float = 5
    """How long a close frame may take to get out."""
    retry_after_seconds: int = 5
    """What is told to those who come while we cannot answer."""


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What came with a request, beside its credential and its document."""

    request_id: str
    locale: Locale
    """The language that errors are told in: of `Accept-Language` if it names one of ours, else the viewer's own."""
    client_address: str
    user_agent: str
    connection: "Connection | None" = None
    """The open socket or stream that the operation came by; None for a plain POST."""


@dataclass(frozen=True, slots=True)
class GraphQLRequest:
    """A well-formed request, not yet parsed as GraphQL."""

    query: str
    operation_name: str | None = None
    variables: dict[str, Any] | None = None
    extensions: dict[str, Any] | None = None


class BadRequest(Exception):
    """A request or message that is not of the protocol. Its text says what was expected."""


def request_of(payload: object, *, where: str = "The body") -> GraphQLRequest:
    """A request from decoded JSON. Raises `BadRequest`."""
    if not isinstance(payload, dict):
        raise BadRequest(f"{where} must be a JSON object with a 'query'.")
    query = payload.get("query")
    if not isinstance(query, str):
        raise BadRequest("'query' must be a string.")
    name = payload.get("operationName")
    if name is not None and not isinstance(name, str):
        raise BadRequest("'operationName' must be a string or null.")
    for member in ("variables", "extensions"):
        if payload.get(member) is not None and not isinstance(payload[member], dict):
            raise BadRequest(f"'{member}' must be an object or null.")
    # Clients that have no name to give send "", which the reference implementations take for none.
    return GraphQLRequest(query, name or None, payload.get("variables"), payload.get("extensions"))


def decode_json(raw: bytes | str) -> Any:
    """JSON as RFC 8259 has it: UTF-8 only, no NaN, no lone surrogates, no integer of over 64 bits, bounded nesting.

    Raises `BadRequest`."""
    data = raw if isinstance(raw, bytes) else _utf8(raw)
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"Not valid JSON: {error}.") from None
    _refuse_deep(value)
    if _LONG_NUMBER.search(data):  # orjson turns a huge integer into a float; the slower reader shows it as it is
        try:
            json.loads(data, parse_int=_bounded)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"Not valid JSON: {error}.") from None
    return value


def header(headers: Headers, name: bytes) -> str | None:
    """The only value of a header, or None. Raises `BadRequest` when there are several."""
    found = [value for key, value in headers if key == name]
    if len(found) > 1:
        raise BadRequest(f"The header {name.decode()} must be sent once.")
    return found[0].decode("latin-1") if found else None


def weighted(value: str) -> list[tuple[str, float]]:
    """The entries of `Accept` or `Accept-Language` in lower case with their weights, the heaviest first.

    Parameters other than `q` are dropped; an unreadable weight counts as 0."""
    entries: list[tuple[str, float]] = []
    for part in value.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights = [parameter[2:].strip() for parameter in parameters if parameter.startswith("q=")]
        if name:
            entries.append((name, _weight(weights[0]) if weights else 1.0))
    return sorted(entries, key=lambda entry: -entry[1])


def locale_asked(accept_language: str | None) -> Locale | None:
    """Which of our languages the header prefers, if it names one."""
    for tag, weight in weighted(accept_language or ""):
        if weight <= 0:
            continue
        if tag == "pt" or tag.startswith("pt-"):
            return Locale.PT_BR
        if tag == "en" or tag.startswith("en-"):
            return Locale.EN
    return None


def client_address(scope: Any) -> str:
    """The peer's address; empty on a Unix socket."""
    client = scope.get("client")
    return str(client[0]) if client else ""


UnavailableCheck: TypeAlias = Callable[[BaseException], bool]


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest("Not valid JSON: lone surrogate.") from None


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0


def _bounded(digits: str) -> int:
    if len(digits) > 20 or not -LARGEST_INTEGER < int(digits) < LARGEST_INTEGER:
        raise ValueError("an integer is larger than 64 bits")
    return int(digits)


def _refuse_deep(value: Any) -> None:
    level: list[Any] = [value]
    for _ in range(JSON_LEVELS):
        level = [child for holder in level for child in _children(holder) if isinstance(child, dict | list)]
        if not level:
            return
    raise BadRequest(f"Not valid JSON: nested deeper than {JSON_LEVELS} levels.")


def _children(holder: Any) -> Iterable[Any]:
    if isinstance(holder, dict):
        return holder.values()
    return holder if isinstance(holder, list) else ()
