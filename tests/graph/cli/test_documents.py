"""The command line asks only for what the schema has."""

import pytest
from graphql import parse, validate

from graph.cli import documents
from graph.schema import schema

DOCUMENTS = {name: text for name, text in vars(documents).items() if name.isupper() and not name.startswith("_")}


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_an_operation_is_valid(name: str) -> None:
    problems = validate(schema._schema, parse(DOCUMENTS[name]))
    assert [problem.message for problem in problems] == []
