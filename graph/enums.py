"""Enums of the domain in the schema, each value with a sentence."""

from collections.abc import Mapping
from enum import StrEnum

import strawberry
from strawberry.types.enum import StrawberryEnumDefinition


def expose(kind: type[StrEnum], description: str, values: Mapping[str, str]) -> None:
    """Give the enum its place in the schema, under its own name. Raises `KeyError` for a value without words."""
    strawberry.enum(kind, name=kind.__name__, description=description)
    definition: StrawberryEnumDefinition = kind.__strawberry_definition__  # type: ignore[attr-defined]  # put there just now
    for value in definition.values:
        value.description = values[value.name]
