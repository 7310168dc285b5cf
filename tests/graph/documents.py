"""A document for every operation of a schema, that asks for all there is to a certain depth.

Written from the schema itself, so that a new field is asked for without anybody remembering to.
"""

from collections.abc import Collection

from graphql import (
    GraphQLField,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLUnionType,
    get_named_type,
    is_leaf_type,
    is_required_argument,
)

PROBLEM = "... on Problem { __typename code message field retryAfterSeconds params }"
DEPTH = 2
"""How far objects are followed, connections and results not counted: a run, its model, the model's app. Nothing is
followed back to a type that stands above it already."""


def document_of(schema: GraphQLSchema, operation: str, given: Collection[str], depth: int = DEPTH) -> str:
    """The document of an operation such as `Query.dataset`, whose answer stands under the field's name.

    `given` names the arguments that there are variables for."""
    root, name = operation.split(".")
    parent = schema.type_map[root]
    assert isinstance(parent, GraphQLObjectType)
    field = parent.fields[name]
    declared = ", ".join(f"${argument}: {field.args[argument].type}" for argument in given)
    passed = ", ".join(f"{argument}: ${argument}" for argument in given)
    head = f"{root.lower()} ({declared})" if given else root.lower()
    call = f"{name}({passed})" if given else name
    return f"{head} {{ {call} {_selection(schema, field, depth, ())} }}"


def _selection(schema: GraphQLSchema, field: GraphQLField, depth: int, above: tuple[str, ...]) -> str:
    """All fields of the field's type that need no argument, with theirs; nothing for leaves."""
    kind = get_named_type(field.type)
    if is_leaf_type(kind):
        return ""
    if isinstance(kind, GraphQLUnionType):
        things = [member for member in kind.types if schema.type_map["Problem"] not in member.interfaces]
        fragments = [f"... on {thing.name} {{ {_fields(schema, thing, depth, above)} }}" for thing in things]
        return f"{{ __typename {PROBLEM} {' '.join(fragments)} }}"
    assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
    return f"{{ __typename {_fields(schema, kind, depth, above)} }}"


def _fields(
    schema: GraphQLSchema, kind: GraphQLObjectType | GraphQLInterfaceType, depth: int, above: tuple[str, ...]
) -> str:
    parts = []
    here = (*above, kind.name)
    for name, field in kind.fields.items():
        named = get_named_type(field.type)
        if any(is_required_argument(argument) for argument in field.args.values()):
            raise ValueError(f"{kind.name}.{name} needs an argument: nobody can ask for it without knowing one.")
        if is_leaf_type(named):
            parts.append(name)
        elif name == "nodes" and kind.name.endswith("Connection"):
            continue  # the same as its edges
        elif _is_transparent(named.name):
            parts.append(f"{name} {_selection(schema, field, depth, here)}")
        elif depth > 0 and named.name not in here:
            parts.append(f"{name} {_selection(schema, field, depth - 1, here)}")
    return " ".join(parts) or "__typename"


def _is_transparent(name: str) -> bool:
    return name.endswith(("Connection", "Edge", "PageInfo"))
