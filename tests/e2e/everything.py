"""Asks the API for everything that it shows: each query with all fields that need no argument, some levels deep."""

from collections.abc import Iterator
from pathlib import Path

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLOutputType,
    GraphQLSchema,
    GraphQLUnionType,
    build_schema,
    get_named_type,
    is_required_argument,
)

SCHEMA = Path(__file__).parents[2] / "schema.graphql"
LEVELS = 6
"""Deep enough for the lines of a run's log: runs, edges, node, logs, edges, node."""
ELSEWHERE = frozenset({"retryOf", "currentRun", "trainedRun", "model", "dataset", "deployment", "edges"})
"""Fields that lead to what another query shows, or, as `edges`, to what `nodes` shows too."""


def queries() -> Iterator[tuple[str, str]]:
    """The name and the document of each query that needs no argument."""
    schema = build_schema(SCHEMA.read_text(encoding="utf-8"))
    assert schema.query_type is not None
    for name, field in schema.query_type.fields.items():
        if not _needs_arguments(field):
            yield name, f"query Everything_{name} {{ {name}{_page(field)}{_selection(schema, field.type, LEVELS)} }}"


def _selection(schema: GraphQLSchema, kind: GraphQLOutputType, levels: int) -> str:
    named = get_named_type(kind)
    if isinstance(named, GraphQLUnionType | GraphQLInterfaceType):
        parts = [f"... on {one.name} {_selection(schema, one, levels)}" for one in schema.get_possible_types(named)]
        return f" {{ __typename {' '.join(parts)} }}" if isinstance(named, GraphQLUnionType) else " { __typename }"
    if not isinstance(named, GraphQLObjectType):
        return ""
    fields = ["__typename"]
    for name, field in named.fields.items():
        is_object = isinstance(get_named_type(field.type), GraphQLObjectType | GraphQLUnionType | GraphQLInterfaceType)
        if _needs_arguments(field) or name in ELSEWHERE or (is_object and levels <= 1):
            continue
        fields.append(name + _page(field) + _selection(schema, field.type, levels - 1))
    return f" {{ {' '.join(fields)} }}"


def _page(field: GraphQLField) -> str:
    """As many as there may be."""
    return "(first: 100)" if "first" in field.args else ""


def _needs_arguments(field: GraphQLField) -> bool:
    return any(is_required_argument(argument) for argument in field.args.values())
