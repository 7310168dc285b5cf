"""The scalars that GraphQL lacks, each with the rule that it follows."""

from datetime import UTC, datetime
from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

from domain.events import time_of, time_text

LARGEST_SAFE = 2**53 - 1
DEEPEST_JSON = 20

BigInt = NewType("BigInt", int)
Cursor = NewType("Cursor", str)
URL = NewType("URL", str)


def _big_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > LARGEST_SAFE:
        raise GraphQLError("BigInt must be a whole number between -(2^53-1) and 2^53-1.")
    return value


def _moment(value: Any) -> datetime:
    try:
        moment = time_of(value)
        if moment.tzinfo is None:
            raise GraphQLError("DateTime needs a zone: end it with Z or an offset.")
        return moment.astimezone(UTC)  # its offset may lead out of the years that there are
    except (TypeError, ValueError, OverflowError):
        raise GraphQLError("DateTime must be RFC 3339, such as 2026-01-31T12:00:00Z.") from None


def _json(value: Any, depth: int = 0) -> Any:
    if depth > DEEPEST_JSON:
        raise GraphQLError("JSON is nested too deeply.")
    if isinstance(value, dict):
        return {_json(key, depth): _json(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item, depth + 1) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > LARGEST_SAFE:
        raise GraphQLError("JSON may not hold whole numbers beyond 2^53-1: send them as strings.")
    if isinstance(value, str) and "\x00" in value:
        raise GraphQLError("JSON may not hold NUL characters.")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 4096:
        raise GraphQLError("This must be a string of at most 4096 characters.")
    return value


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: strawberry.scalar(
        name="BigInt",
        description="A whole number between -(2^53-1) and 2^53-1, as a JSON number: bytes, tokens, amounts in micros.",
        serialize=_big_int,
        parse_value=_big_int,
    ),
    Cursor: strawberry.scalar(
        name="Cursor",
        description="A place in a stream of events. Opaque: keep the last one you saw, and give it back to resume.",
        serialize=str,
        parse_value=_text,
    ),
    URL: strawberry.scalar(
        name="URL",
        description="An absolute address as defined by RFC 3986.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3986",
        serialize=str,
        parse_value=_text,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description="A moment in UTC as defined by RFC 3339, such as 2026-01-31T12:00:00.000000Z.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc3339",
        serialize=time_text,
        parse_value=_moment,
    ),
    strawberry.scalars.JSON: strawberry.scalar(
        name="JSON",
        description="Any JSON value as defined by RFC 8259, nested at most 20 deep.",
        specified_by_url="https://www.rfc-editor.org/rfc/rfc8259",
        serialize=lambda value: value,
        parse_value=_json,
    ),
}
