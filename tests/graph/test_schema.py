"""The schema that callers read: printed as it is, described to its last argument, and as it was promised."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphql import (
    EnumTypeDefinitionNode,
    GraphQLArgument,
    GraphQLEnumType,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLUnionType,
    InputObjectTypeDefinitionNode,
    InputValueDefinitionNode,
    InterfaceTypeDefinitionNode,
    ObjectTypeDefinitionNode,
    OperationDefinitionNode,
    Undefined,
    UnionTypeDefinitionNode,
    ast_from_value,
    is_specified_scalar_type,
    parse,
    print_ast,
    validate,
)
from graphql.execution.values import VariableValues, get_variable_values

from graph.routes.playground import EXAMPLES
from graph.schema import schema
from tests.graph.contract import CONTRACT, FEED_EVENTS, RUN_EVENTS

CORE = schema._schema
PRINTED = Path(__file__).parent.parent.parent / "schema.graphql"
PROMISED: dict[str, Any] = {node.name.value: node for node in parse(CONTRACT).definitions}  # type: ignore[attr-defined]  # all of them have names
OURS = {
    name: kind
    for name, kind in CORE.type_map.items()
    if not name.startswith("__") and not is_specified_scalar_type(kind)
}
THINGS_THAT_EXPLAIN_THEMSELVES = {"BigInt", "Cursor"}
"""Scalars that no public page specifies: their descriptions do."""


def test_schema_graphql_is_what_is_served() -> None:
    """`make schema` writes it."""
    assert PRINTED.read_text() == schema.as_str().rstrip("\n") + "\n"


class TestDescriptions:
    @pytest.mark.parametrize("name", OURS)
    def test_each_type_field_argument_and_value_is_a_sentence(self, name: str) -> None:
        assert [place for place, text in descriptions_of(name, OURS[name]) if not is_sentence(text or "")] == []

    def test_scalars_are_specified(self) -> None:
        scalars = {name: kind for name, kind in OURS.items() if isinstance(kind, GraphQLScalarType)}
        unspecified = {name for name, kind in scalars.items() if kind.specified_by_url is None}
        assert unspecified == THINGS_THAT_EXPLAIN_THEMSELVES


class TestContract:
    @pytest.mark.parametrize("name", PROMISED)
    def test_what_was_promised_is_there(self, name: str) -> None:
        node, kind = PROMISED[name], OURS[name]
        match node:
            case EnumTypeDefinitionNode():
                assert isinstance(kind, GraphQLEnumType)
                assert list(kind.values) == [value.name.value for value in node.values or ()]
            case UnionTypeDefinitionNode():
                assert isinstance(kind, GraphQLUnionType)
                assert {member.name.value for member in node.types or ()} <= {member.name for member in kind.types}
            case ObjectTypeDefinitionNode() | InterfaceTypeDefinitionNode():
                assert isinstance(kind, GraphQLObjectType | GraphQLInterfaceType)
                assert {one.name.value for one in node.interfaces or ()} <= {one.name for one in kind.interfaces}
                wanted = {
                    field.name.value: (
                        print_ast(field.type),
                        {one.name.value: written(one) for one in field.arguments or ()},
                    )
                    for field in node.fields or ()
                }
                assert {field: signature_of(kind, field) for field in wanted} == wanted
            case InputObjectTypeDefinitionNode():
                assert isinstance(kind, GraphQLInputObjectType)
                wanted_inputs = {field.name.value: written(field) for field in node.fields or ()}
                assert {name: real(field) for name, field in kind.fields.items()} == wanted_inputs
            case _:
                raise AssertionError(f"The contract says something of {name} that is not compared.")

    @pytest.mark.parametrize("name", RUN_EVENTS)
    def test_every_event_of_a_run_has_its_type(self, name: str) -> None:
        assert interfaces_of(name) >= {"RunEvent", "TrainingRunMessage", "ActivityMessage"}

    @pytest.mark.parametrize("name", FEED_EVENTS)
    def test_every_fact_of_a_feed_has_its_type(self, name: str) -> None:
        assert interfaces_of(name) == {"FeedFact", "ActivityMessage"}

    def test_a_mutation_answers_with_one_thing_or_problems(self) -> None:
        for name, field in root("Mutation").fields.items():
            assert str(field.type) == f"{name[0].upper()}{name[1:]}Result!"
            union = OURS[str(field.type).rstrip("!")]
            assert isinstance(union, GraphQLUnionType)
            members = [kind.name for kind in union.types]
            assert len([member for member in members if "Problem" not in interfaces_of(member)]) == 1
            assert {"Forbidden", "Unavailable"} <= set(members)

    def test_a_list_of_the_root_is_a_connection_of_bounded_pages(self) -> None:
        lists = {name: str(field.type) for name, field in root("Query").fields.items() if "[" in str(field.type)}
        # A handful that ships with the product, and one of each provider.
        assert lists == {
            "recipes": "[Recipe!]!",
            "providerFigures": "[ProviderFigures!]!",
            "testScenarios": "[TestScenario!]!",
        }
        for name, field in root("Query").fields.items():
            if str(field.type).endswith("Connection!"):
                arguments = signature_of(root("Query"), name)[1]
                assert arguments.pop("filter", None) in (None, "TrainingRunFilter", "ResourceFilter")
                assert arguments.pop("statuses", None) in (None, "[CallbackStatus!]")
                assert arguments == {"first": "Int! = 20", "after": "String"}


class TestExamples:
    """What the playground offers to begin with."""

    @pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.graphql")), ids=lambda path: str(path.stem))
    def test_each_is_valid_with_its_variables(self, path: Path) -> None:
        document = parse(path.read_text())
        assert validate(CORE, document) == []
        (operation,) = (node for node in document.definitions if isinstance(node, OperationDefinitionNode))
        variables = json.loads(path.with_suffix(".variables.json").read_text())
        found = get_variable_values(CORE, operation.variable_definitions or (), variables)
        assert isinstance(found, VariableValues), found


def root(name: str) -> GraphQLObjectType:
    kind = OURS[name]
    assert isinstance(kind, GraphQLObjectType)
    return kind


def interfaces_of(name: str) -> set[str]:
    return {one.name for one in root(name).interfaces}


def descriptions_of(name: str, kind: GraphQLNamedType) -> Iterator[tuple[str, str | None]]:
    yield name, kind.description
    for field_name, field in getattr(kind, "fields", {}).items():
        yield f"{name}.{field_name}", field.description
        for argument_name, argument in getattr(field, "args", {}).items():
            yield f"{name}.{field_name}({argument_name})", argument.description
    if isinstance(kind, GraphQLEnumType):
        for value_name, value in kind.values.items():
            yield f"{name}.{value_name}", value.description


def is_sentence(text: str) -> bool:
    return text != "" and (text[0].isupper() or text[0].isdigit() or text[0] in "`'{") and text.rstrip()[-1] in ".!?"


def written(node: InputValueDefinitionNode) -> str:
    """An argument as the contract writes it."""
    return print_ast(node.type) + (f" = {print_ast(node.default_value)}" if node.default_value else "")


def real(argument: GraphQLArgument | GraphQLInputField) -> str:
    """An argument of the schema in the same words; null by default is no default."""
    if argument.default_value in (None, Undefined):
        return str(argument.type)
    default = ast_from_value(argument.default_value, argument.type)
    assert default is not None
    return f"{argument.type} = {print_ast(default)}"


def signature_of(kind: GraphQLObjectType | GraphQLInterfaceType, field: str) -> tuple[str, dict[str, str]]:
    """A field's type and arguments."""
    found = kind.fields[field]
    return str(found.type), {name: real(argument) for name, argument in found.args.items()}
