"""Names are data, never paths or headers."""

import pytest

from domain.dataset.errors import BadDatasetName
from domain.dataset.names import LONGEST_NAME, checked_name


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("digits.csv", "digits.csv"),
        ("  Vendas de março (50 % off) \n", "Vendas de março (50 % off)"),
        ("caf\u0065\u0301", "caf\u00e9"),
        ("数字", "数字"),
        ("v1..v2", "v1..v2"),
        ("'; DROP TABLE datasets; --", "'; DROP TABLE datasets; --"),
        ("x" * LONGEST_NAME, "x" * LONGEST_NAME),
    ],
)
def test_ordinary_names_are_kept(name: str, kept: str) -> None:
    assert checked_name(name) == kept


@pytest.mark.parametrize(
    "name",
    [
        "",
        "   ",
        "x" * (LONGEST_NAME + 1),
        ".",
        "..",
        ". .",
        "../../etc/passwd",
        "..\\..\\windows",
        "/etc/passwd",
        "a/b",
        "%2e%2e%2fetc%2fpasswd",
        "%252e%252e%252fpasswd",
        "..%c0%af..%2f",
        "a%5cb",
        "a%00.csv",
        "a\x00.csv",
        "a\r\nSet-Cookie: x=1",
        "a%0d%0aSet-Cookie: x",
        "a\x1b[31m",
        "a\u2028b",
        "a\ud800",
        "abc\u202evsc.exe",
        "a\uff0fb",
        "a\u2215b\uff3cc",
    ],
)
def test_paths_headers_and_hidden_signs_are_refused(name: str) -> None:
    with pytest.raises(BadDatasetName):
        checked_name(name)
