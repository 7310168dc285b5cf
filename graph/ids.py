"""Ids as the outside sees them: opaque, and telling nothing but what they name (Relay's global object ids)."""

import base64
import binascii
from uuid import UUID

from domain.errors import NotFound


def global_id(kind: str, id: UUID) -> str:
    """The id of a node: base64 of `Type:uuid`."""
    return base64.b64encode(f"{kind}:{id}".encode()).decode()


def parts_of(id: str) -> tuple[str, UUID]:
    """The type and the row's id. Raises `NotFound`, since an id that we did not make names nothing."""
    try:
        kind, _, row = base64.b64decode(id, validate=True).decode().partition(":")
        return kind, UUID(row)
    except (binascii.Error, ValueError):
        raise NotFound("thing") from None


def uuid_of(id: str, kind: str) -> UUID:
    """The row's id of a node of this type. Raises `NotFound` for malformed ids and those of other types."""
    try:
        found, row = parts_of(id)
    except NotFound:
        raise NotFound(kind) from None
    if found != kind:
        raise NotFound(kind)
    return row


def uuid_of_either(id: str, kind: str) -> UUID:
    """As `uuid_of`, and takes the plain UUID too: for REST and the command line. Raises `NotFound`."""
    try:
        return UUID(id)
    except ValueError:
        return uuid_of(id, kind)
