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
        ("Cannot query field 'found' on type 'Query'.", "Cannot query field 'found' on type 'Query'."),
    ],
)
def test_values_are_left_out(message: str, told: str) -> None:
    assert without_given(message) == told
