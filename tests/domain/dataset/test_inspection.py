"""What an uploaded CSV or JSONL file is found to hold, and how broken ones are refused."""

import io
from typing import Any

import pytest

from domain.dataset import file_errors, inspection
from domain.dataset.file_errors import UnreadableFile
from domain.dataset.inspection import InspectionStopped, inspect
from domain.dataset.lines import ROW_LIMIT_BYTES
from domain.dataset.model import DatasetFormat

CSV, JSONL = DatasetFormat.CSV, DatasetFormat.JSONL


def read(content: bytes, format: DatasetFormat = CSV) -> inspection.Inspection:
    return inspect(io.BytesIO(content), format)


def kinds(content: bytes, format: DatasetFormat = CSV) -> dict[str, str]:
    return {column["name"]: column["kind"] for column in read(content, format).columns}


def test_a_table_is_reported_column_by_column() -> None:
    found = read(b"age,city,score\n31,Lisboa,0.5\n,Porto,\n47,Lisboa,2\n")
    assert found.row_count == 3
    number: dict[str, Any] = {"is_distinct_exact": True}
    assert found.columns == [
        {"name": "age", "kind": "INTEGER", "missing": 1, "distinct": 2, "minimum": 31.0, "maximum": 47.0,
         "mean": 39.0, "examples": ["31", "47"], **number},
        {"name": "city", "kind": "TEXT", "missing": 0, "distinct": 2, "minimum": None, "maximum": None,
         "mean": None, "examples": ["Lisboa", "Porto"], **number},
        {"name": "score", "kind": "NUMBER", "missing": 1, "distinct": 2, "minimum": 0.5, "maximum": 2.0,
         "mean": 1.25, "examples": ["0.5", "2"], **number},
    ]  # fmt: skip


def test_objects_are_reported_like_rows() -> None:
    content = b'{"text": "ol\\u00e1", "n": 1}\n\n{"n": 2.0, "text": null}\n{"n": 3, "more": [1, {"a": 2}]}\n'
    found = read(content, JSONL)
    assert found.row_count == 3
    assert [(c["name"], c["kind"], c["missing"], c["examples"]) for c in found.columns] == [
        ("text", "TEXT", 2, ["olá"]),
        ("n", "INTEGER", 0, ["1", "2", "3"]),
        ("more", "JSON", 2, ['[1, {"a": 2}]']),
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-2", "3.0"], "INTEGER"),
        (["1", "2.5", "1e3"], "NUMBER"),
        (["1", "inf", "2"], "INTEGER"),
        (["1", "NaN", "n/a", "?"], "INTEGER"),
        (["", "null", "None"], "EMPTY"),
        (["true", "False", "true"], "BOOLEAN"),
        (["yes", "no", ""], "BOOLEAN"),
        (["1", "true"], "TEXT"),
        (["cat", "dog", "cat", "dog"], "CATEGORY"),
        (["cat", "dog", "bird"], "TEXT"),
        (["12", "12a"], "TEXT"),
        (["1e308", "1e308"], "INTEGER"),
    ],
)
def test_a_columns_kind_follows_its_values(values: list[str], kind: str) -> None:
    assert kinds("\n".join(["x,y", *(f"{value},0" for value in values)]).encode())["x"] == kind


def test_a_column_that_turns_out_as_text_in_a_later_batch_is_text() -> None:
    rows = inspection.BATCH_ROWS * 2
    content = b"x\n" + b"1\n" * rows + b"one\n"
    assert kinds(content) == {"x": "CATEGORY"}
    assert read(content).row_count == rows + 1


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found(delimiter: str) -> None:
    content = f"a{delimiter}b\n1{delimiter}2\n"
    assert list(kinds(content.encode())) == ["a", "b"]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfa,b\n1,2\n",
        b"a,b\r\n1,2\r\n",
        b"a,b\n1,2",
        b"\na,b\n\n1,2\n\n",
        b' a , b \n"1","2"\n',
    ],
)
def test_usual_variants_are_read_alike(content: bytes) -> None:
    found = read(content)
    assert (found.row_count, [column["name"] for column in found.columns]) == (1, ["a", "b"])


def test_quoted_values_may_hold_line_ends_and_delimiters() -> None:
    found = read(b'text,label\n"one, two\nthree ""four""",x\n')
    assert found.columns[0]["examples"] == ['one, two\nthree "four"']


@pytest.mark.parametrize(
    ("format", "content", "code", "params"),
    [
        (CSV, b"", "EMPTY_FILE", {}),
        (CSV, b"\n\r\n\n", "EMPTY_FILE", {}),
        (CSV, b"\xef\xbb\xbf", "EMPTY_FILE", {}),
        (CSV, b"a,b\n", "NO_ROWS", {}),
        (CSV, b"a,b\n1,2\n3\n", "RAGGED_ROW", {"line": 3, "found": 1, "expected": 2}),
        (CSV, b'a,b\n"1\n1",2\n3,4,5\n', "RAGGED_ROW", {"line": 4, "found": 3, "expected": 2}),
        (CSV, b"a,b\n1,caf\xe9\n", "NOT_UTF8", {"offset": 9, "value": 0xE9}),
        (CSV, b"\xef\xbb\xbfa\n\xff\n", "NOT_UTF8", {"offset": 5, "value": 0xFF}),
        (CSV, "a,b\n1,2\n".encode("utf-16"), "NUL_BYTE", {"offset": 3, "line": 1}),
        (CSV, b"a,b\n1,\x002\n", "NUL_BYTE", {"offset": 6, "line": 2}),
        (CSV, b"a,,c\n1,2,3\n", "BAD_COLUMN_NAME", {"position": 2}),
        (CSV, b"a,b\x07\n1,2\n", "BAD_COLUMN_NAME", {"position": 2}),
        (CSV, b"a," + b"b" * 257 + b"\n1,2\n", "BAD_COLUMN_NAME", {"position": 2}),
        (CSV, b"a,b, a\n1,2,3\n", "DUPLICATE_COLUMN", {"name": "a"}),
        (CSV, b'a,b\n1,"2\n', "BROKEN_CSV", {"line": 2}),
        (CSV, b'a,b\n1,"2"3\n', "BROKEN_CSV", {"line": 2}),
        (CSV, b"a,b\r1,2\r3,4", "BROKEN_CSV", {"line": 1}),
        (CSV, b"a\n" + b"x" * (1024**2 + 1) + b"\n", "VALUE_TOO_LONG", {"line": 2}),
        (CSV, b"a\n" + b"x" * (ROW_LIMIT_BYTES + 1), "LINE_TOO_LONG", {"line": 2}),
        (CSV, ",".join(f"c{n}" for n in range(10_001)).encode() + b"\n", "TOO_MANY_COLUMNS", {"limit": 10_000}),
        (JSONL, b"", "EMPTY_FILE", {}),
        (JSONL, b"\n \n", "EMPTY_FILE", {}),
        (JSONL, b"{}\n{}\n", "EMPTY_FILE", {}),
        (JSONL, b'{"a": 1}\n[1]\n', "BROKEN_JSON_LINE", {"line": 2, "reason": "it is a list"}),
        (JSONL, b'{"a": 1}\n"x"\n', "BROKEN_JSON_LINE", {"line": 2, "reason": "it is a string"}),
        (JSONL, b"null\n", "BROKEN_JSON_LINE", {"line": 1, "reason": "it is null"}),
        (JSONL, b'{"a": 1\n', "BROKEN_JSON_LINE", {"line": 1}),
        (JSONL, b'{"a": NaN}\n', "BROKEN_JSON_LINE", {"line": 1}),
        (JSONL, b'{"a": ' + b"9" * 5000 + b"}\n", "BROKEN_JSON_LINE", {"line": 1}),
        (JSONL, b'{"a": ' + b"[" * 100_000 + b"\n", "BROKEN_JSON_LINE", {"line": 1, "reason": "nested too deeply"}),
        (JSONL, b'{"": 1}\n', "BAD_COLUMN_NAME", {"position": 1}),
        (JSONL, b'{"a": 1, "\\ud800": 2}\n', "BAD_COLUMN_NAME", {"position": 2}),
        (JSONL, b'{"a": "\xff"}\n', "NOT_UTF8", {"offset": 7, "value": 0xFF}),
        (JSONL, b'{"a": "' + b"x" * (1024**2 + 1) + b'"}\n', "VALUE_TOO_LONG", {"line": 1}),
    ],
)
def test_a_broken_file_is_refused_with_its_place(
    format: DatasetFormat, content: bytes, code: str, params: dict[str, object]
) -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(content, format)
    assert caught.value.code == code
    assert caught.value.params.items() >= params.items()
    assert caught.value.message("en") != caught.value.message("pt-BR")


def test_a_row_of_many_quoted_lines_cannot_fill_the_memory() -> None:
    """Each value ends and begins on one line, so that no line and no value is long, but the row never ends."""
    piece = b"x\n" * 500_000 + b'","'
    with pytest.raises(file_errors.LineTooLong):
        read(b'a,b\n"' + piece * 9)


def test_a_file_of_ever_new_keys_is_refused_before_it_fills_the_memory() -> None:
    content = b"".join(b'{"k%d": 1}\n' % number for number in range(10_001))
    with pytest.raises(file_errors.TooManyColumns):
        read(content, JSONL)


def test_distinct_values_are_counted_up_to_a_limit() -> None:
    found = read(b"x\n" + b"".join(b"t%d\n" % number for number in range(20_000)))
    [column] = found.columns
    assert not column["is_distinct_exact"]
    assert 10_000 < column["distinct"] <= 10_000 + inspection.BATCH_ROWS


def test_examples_are_cut_and_hold_nothing_that_postgres_refuses() -> None:
    content = b'{"a": "' + b"x" * 200 + b'"}\n{"a": "nul \\u0000 and \\ud800"}\n'
    [column] = read(content, JSONL).columns
    assert column["examples"] == ["x" * 79 + "…", "nul \ufffd and ?"]


def test_reading_stops_when_nobody_waits() -> None:
    with pytest.raises(InspectionStopped):
        inspect(io.BytesIO(b"a\n1\n"), CSV, is_stopped=lambda: True)
