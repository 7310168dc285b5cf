"""How large a document may be, what it costs to find out, and what is remembered of it."""

import pytest
from graphql import GraphQLError, get_introspection_query, parse

from graph.documents import Documents, RequestErrors
from graph.limits import DocumentLimits, DocumentTooLarge, Measure
from tests.graph.transport.toy import toy_schema

SCHEMA = toy_schema()


def documents(limits: DocumentLimits | None = None, *, introspection: bool = True, entries: int = 500) -> Documents:
    return Documents(SCHEMA, limits or DocumentLimits(), introspection=introspection, most_entries=entries)


def nested(depth: int) -> str:
    return "{ nest " * (depth - 1) + "{ name " + "}" * depth


def doubling(fragments: int, leaf: str = "name") -> str:
    """Each fragment spreads the next one twice: 2 ** fragments leaves."""
    text = "{ nest { ...F0 } }"
    for number in range(fragments):
        text += f" fragment F{number} on Nest {{ ...F{number + 1} a{number}: nest {{ ...F{number + 1} }} }}"
    return text + f" fragment F{fragments} on Nest {{ {leaf} }}"


def refusal(text: str, **options: int) -> dict[str, object]:
    with pytest.raises(RequestErrors) as refused:
        documents(DocumentLimits(**options)).prepare(text)
    extensions: dict[str, object] = refused.value.errors[0]["extensions"]
    return extensions


@pytest.mark.parametrize(
    ("limit", "most", "fits", "too_large"),
    [
        ("depth", 12, nested(12), nested(13)),
        (
            "depth",
            12,
            "{ ...F } fragment F on Query " + nested(12),
            "{ nest { ...F } } fragment F on Nest " + nested(12),
        ),
        (
            "aliases",
            30,
            "{ nest {" + "".join(f" a{n}: name" for n in range(30)) + "} }",
            "{ nest {" + "".join(f" a{n}: name" for n in range(31)) + "} }",
        ),
        ("fields", 500, "{ nest {" + " name" * 499 + "} }", "{ nest {" + " name" * 500 + "} }"),
        ("root_fields", 20, "{" + " hello" * 20 + "}", "{" + " hello" * 21 + "}"),
        (
            "root_fields",
            20,
            "{ ...F ...F } fragment F on Query {" + " hello" * 10 + "}",
            "{ ...F ...F ...F } fragment F on Query {" + " hello" * 7 + "}",
        ),
        (
            "directives",
            50,
            "{ nest {" + " name @include(if: true)" * 50 + "} }",
            "{ nest {" + " name @include(if: true)" * 51 + "} }",
        ),
        ("operations", 20, None, "".join(f" query Q{n} {{ hello }}" for n in range(21))),
    ],
)
def test_each_limit_lets_pass_what_it_names_and_no_more(
    limit: str, most: int, fits: str | None, too_large: str
) -> None:
    if fits is not None:
        documents().prepare(fits)
    assert refusal(too_large) == {"code": "DOCUMENT_TOO_LARGE", "params": {"limit": limit, "most": most}}


def test_ten_directives_on_one_field_are_too_many() -> None:
    assert refusal("{ hello" + " @skip(if: true)" * 10 + " }")["params"] == {"limit": "directives_per_field", "most": 9}


def test_the_first_operations_are_no_excuse_for_the_last() -> None:
    assert refusal("query A { hello } query B " + nested(13))["params"] == {"limit": "depth", "most": 12}


@pytest.mark.parametrize("leaf", ["name", "nest { name }", "__typename"])
def test_thirty_doublings_are_refused_after_one_look_at_each_fragment(leaf: str) -> None:
    measure = Measure(DocumentLimits())
    with pytest.raises(DocumentTooLarge):
        measure.check(parse(doubling(30, leaf)))
    assert measure.visited <= 30 * 4 + 4


@pytest.mark.parametrize(
    "text",
    [
        "{ hello } " + doubling(30).removeprefix("{ nest { ...F0 } }"),
        "{ nest { ...F0 } } "
        + "".join(f"fragment F{n} on Nest {{ ...F{n + 1} ...F{n + 1} }} " for n in range(30))
        + "fragment F30 on Nest { name }",
        "{ __schema { ...F0 } } "
        + "".join(f"fragment F{n} on __Schema {{ ...F{n + 1} ...F{n + 1} }} " for n in range(30))
        + "fragment F30 on __Schema { description }",
        "{ nest {" + " ... { name" * 250 + " }" * 252,
    ],
    ids=["unused", "spreads only", "introspection", "inline fragments"],
)
def test_other_shapes_of_the_same_attack_are_refused(text: str) -> None:
    with pytest.raises(RequestErrors):
        documents().prepare(text)


@pytest.mark.parametrize(
    "text",
    [
        "{ ...A } fragment A on Query { ...A }",
        "{ ...A } fragment A on Query { ...B } fragment B on Query { ...C } fragment C on Query { hello ...A }",
        "{ hello } fragment A on Query { nest { ...B } } fragment B on Nest { nest { ...B } }",
    ],
)
def test_fragments_in_a_circle_are_refused(text: str) -> None:
    with pytest.raises(GraphQLError, match="within itself"):
        Measure(DocumentLimits()).check(parse(text))
    assert refusal(text)["code"] == "GRAPHQL_VALIDATION_FAILED"


def test_a_long_chain_of_fragments_ends_before_the_stack_does() -> None:
    chain = "".join(f" fragment F{n} on Query {{ ...F{n + 1} }}" for n in range(290))
    assert refusal("{ ...F0 }" + chain + " fragment F290 on Query { hello }")["code"] == "DOCUMENT_TOO_LARGE"


def test_two_thousand_fields_end_at_the_token_limit() -> None:
    text = "{" + " runs{id}" * 2000 + "}"
    found = documents()
    with pytest.raises(RequestErrors) as refused:
        found.prepare(text)
    assert refused.value.errors[0]["extensions"] == {"code": "DOCUMENT_TOO_LARGE"}
    assert "2000 tokens" in refused.value.errors[0]["message"]


@pytest.mark.parametrize("full", [True, False])
def test_the_introspection_of_tools_passes(full: bool) -> None:
    query = get_introspection_query(
        specified_by_url=full, directive_is_repeatable=full, schema_description=full, input_value_deprecation=full
    )
    documents().prepare(query)
    with pytest.raises(RequestErrors):
        documents(introspection=False).prepare(query)


@pytest.mark.parametrize(
    "text",
    [
        "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }",
        '{ __type(name: "Nest") ' + "{ ofType " * 25 + "{ name }" + "}" * 25 + " }",
    ],
)
def test_introspection_has_a_depth_of_its_own(text: str) -> None:
    with pytest.raises(RequestErrors):
        documents().prepare(text)


def test_valid_and_invalid_documents_are_read_once() -> None:
    found = documents()
    first = found.prepare("{ hello }")
    for text in ("{ nothing }", "{ hello"):
        for _ in range(3):
            with pytest.raises(RequestErrors):
                found.prepare(text)
    assert found.prepare("{ hello }").text.document is first.text.document
    assert found.misses == 3


def test_what_is_remembered_is_bounded() -> None:
    found = documents(entries=3)
    for number in range(10):
        found.prepare(f"{{ a{number}: hello }}")
    assert len(found) == 3
    assert found.bytes == 3 * len("{ a9: hello }")
    found.most_bytes = 20
    found.prepare("{ b: hello }")
    assert found.bytes <= 20
    found.prepare('{ hello(name: "' + "x" * 70_000 + '") }')
    assert found.bytes <= 20


def test_one_of_several_operations_must_be_named() -> None:
    found = documents()
    text = "query A { hello } mutation B { touch }"
    assert found.prepare(text, "B").kind.value == "mutation"
    for name in (None, "C"):
        with pytest.raises(RequestErrors) as refused:
            found.prepare(text, name)
        assert refused.value.errors[0]["extensions"]["code"] == "OPERATION_RESOLUTION_FAILURE"
