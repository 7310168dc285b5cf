"""Messages of the `graphql-transport-ws` protocol: reading what clients send, strictly, and writing what they get.

https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

from graph.transport import BadRequest, GraphQLRequest, decode_json, request_of

SUBPROTOCOL = "graphql-transport-ws"
LONGEST_ID = 255
"""Characters of an operation's id. Clients use UUIDs or counters."""


@dataclass(frozen=True, slots=True)
class ConnectionInit:
    """The first message; its payload may hold the credential."""

    payload: dict[str, Any]

    @property
    def authorization(self) -> str | None:
        """What stands under `authorization`, in the spelling of headers or of JavaScript. Raises `BadRequest`."""
        for name in ("authorization", "Authorization"):
            value = self.payload.get(name)
            if value is not None and not isinstance(value, str):
                raise BadRequest("'authorization' must be a string.")
            if value:
                return value
        return None


@dataclass(frozen=True, slots=True)
class Ping:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Pong:
    pass


@dataclass(frozen=True, slots=True)
class Subscribe:
    id: str
    request: GraphQLRequest


@dataclass(frozen=True, slots=True)
class Complete:
    id: str


ClientMessage: TypeAlias = ConnectionInit | Ping | Pong | Subscribe | Complete


def read(text: str | None, *, most_bytes: int) -> ClientMessage:
    """One message of a client; `text` is None for a binary frame. Raises `BadRequest`."""
    if text is None:
        raise BadRequest("Messages must be text.")
    if len(text) > most_bytes or len(text.encode("utf-8", "surrogatepass")) > most_bytes:
        raise BadRequest(f"Messages may have at most {most_bytes} bytes.")
    message = decode_json(text)
    if not isinstance(message, dict):
        raise BadRequest("Messages must be JSON objects.")
    match message.get("type"):
        case "connection_init":
            return ConnectionInit(_payload(message) or {})
        case "ping":
            return Ping(_payload(message))
        case "pong":
            _payload(message)
            return Pong()
        case "subscribe":
            return Subscribe(_id(message), request_of(message.get("payload"), where="The payload of 'subscribe'"))
        case "complete":
            return Complete(_id(message))
        case str():
            raise BadRequest("Unknown message 'type'.")
        case _:
            raise BadRequest("'type' must be a string.")


def connection_ack(payload: dict[str, Any]) -> str:
    return _text({"type": "connection_ack", "payload": payload})


def ping(payload: dict[str, Any]) -> str:
    return _text({"type": "ping", "payload": payload})


def pong(payload: dict[str, Any] | None) -> str:
    return _text({"type": "pong"} if payload is None else {"type": "pong", "payload": payload})


def next_(id: str, payload: dict[str, Any]) -> str:
    return _text({"id": id, "type": "next", "payload": payload})


def error(id: str, errors: list[dict[str, Any]]) -> str:
    return _text({"id": id, "type": "error", "payload": errors})


def complete(id: str) -> str:
    return _text({"id": id, "type": "complete"})


def _payload(message: dict[str, Any]) -> dict[str, Any] | None:
    payload = message.get("payload")
    if payload is not None and not isinstance(payload, dict):
        raise BadRequest(f"The payload of '{message['type']}' must be an object, null or absent.")
    return payload


def _id(message: dict[str, Any]) -> str:
    id = message.get("id")
    if not isinstance(id, str) or not id:
        raise BadRequest("'id' must be a string that is not empty.")
    if len(id) > LONGEST_ID:
        raise BadRequest(f"'id' may have at most {LONGEST_ID} characters.")
    return id


def _text(message: dict[str, Any]) -> str:
    return orjson.dumps(message).decode()
