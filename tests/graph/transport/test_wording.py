"""What GraphQL says of a wrong input: what was expected, and nothing of what came."""

import pytest

from graph.wording import without_given


@pytest.mark.parametrize(
    ("message", "told"),
    [
        (
            "Variable '$i' has invalid value: Expected value of type 'I' to be an object, found: 'found: secret'.",
            "Variable '$i' has invalid value: Expected value of type 'I' to be an object.",
        ),
        (
            "Expected value of type 'I' not to include unknown field 'b'. Did you mean 'a'? Found: {'b': 'se\ncret'}.",
            "Expected value of type 'I' not to include unknown field 'b'. Did you mean 'a'?",
        ),
        (
            "Variable '$i' has invalid value at .key: String cannot represent a non string value: ['secret: it']",
            "Variable '$i' has invalid value at .key: String cannot represent a non string value.",
        ),
        ("ID cannot represent value: {'a': 'secret'}", "ID cannot represent value."),
        ("Enum 'P' cannot represent non-enum value: \"secret\".", "Enum 'P' cannot represent non-enum value."),
        ("Int cannot represent non-integer value: 1.5", "Int cannot represent non-integer value: 1.5"),
        (
            'Int cannot represent non-integer value: "rwk_0123456789"',
            'Int cannot represent non-integer value: "rwk_•••"',
        ),
        ("Value 'r8_sim_ada' does not exist in 'Scope' enum.", "Value 'r8_•••' does not exist in 'Scope' enum."),
        (f"Not to include unknown field '{'0123abcd' * 5}'.", "Not to include unknown field '…'."),
        (f"Cannot query field 'r8_{'a1B2' * 9}' on type 'Query'.", "Cannot query field 'r8_•••' on type 'Query'."),
        (f"Value '{'0123abcd' * 5}' does not exist in 'P' enum.", "Value '…' does not exist in 'P' enum."),
        ("Cannot query field 'found' on type 'Query'.", "Cannot query field 'found' on type 'Query'."),
    ],
)
def test_values_are_left_out(message: str, told: str) -> None:
    assert without_given(message) == told
