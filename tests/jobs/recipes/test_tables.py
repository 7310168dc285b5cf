"""Datasets are read into columns; what is broken is told with its line."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from jobs.recipes.tables import read_table
from jobs.recipes.words import BadData


def written(folder: Path, content: bytes) -> Path:
    path = folder / "content"
    path.write_bytes(content)
    return path


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("CSV", b"size,name,note\n1,a,\n2.5,\xc3\xa9,x\nNA,b,\n"),
        ("CSV", b"\xef\xbb\xbfsize;name;note\r\n1;a;\r\n2.5;\xc3\xa9;x\r\n\r\n;b;\r\n"),
        ("JSONL", b'{"size": 1, "name": "a"}\n{"name": "\\u00e9", "size": 2.5, "note": "x"}\n\n{"name": "b"}\n'),
        ("ZIP", zipped(folder__data_csv=b"size\tname\tnote\n1\ta\t\n2.5\t\xc3\xa9\tx\n\tb\t\n", readme_txt=b"hello")),
        (
            "ZIP",
            zipped(
                data_jsonl=b'{"size": 1, "name": "a"}\n{"size": 2.5, "name": "\xc3\xa9", "note": "x"}\n{"name": "b"}'
            ),
        ),
    ],
)
def test_numbers_and_texts(tmp_path: Path, kind: str, content: bytes) -> None:
    table = read_table(written(tmp_path, content), kind)

    assert table.rows == 3
    size, name, note = (table.column(each) for each in ("size", "name", "note"))
    assert (size.kind, name.kind, note.kind) == ("number", "text", "text")
    np.testing.assert_array_equal(size.values.astype(float), [1, 2.5, np.nan])
    assert list(name.values) == ["a", "é", "b"]
    assert list(note.values) == ["", "x", ""]
    assert (size.missing, note.missing) == (1, 2)


@pytest.mark.parametrize(
    ("kind", "content", "words"),
    [
        ("CSV", b"", "empty"),
        ("CSV", b"a,b\n", "no rows"),
        ("CSV", b"a,a\n1,2\n", "'a' twice"),
        ("CSV", b"a,\n1,2\n", "one name is empty"),
        ("CSV", b"a,b\n1,2\n3\n", "Line 3 of the CSV has 1 values; its first line names 2"),
        ("CSV", b"a,b\n1,\xff\n", "not UTF-8"),
        ("CSV", b'a,b\n"1,2\n', "cannot be read"),
        ("JSONL", b"", "empty"),
        ("JSONL", b"{}\n", "empty"),
        ("JSONL", b'{"a": 1}\n[1]\n', "Line 2 is no JSON object"),
        ("JSONL", b'{"a": 1}\n{"a"\n', "Line 2 is no JSON"),
        ("JSONL", b"[" * 100_000 + b"\n", "Line 1 is no JSON"),
        ("ZIP", b"PK not really", "The ZIP cannot be read"),
        ("ZIP", zipped(readme_txt=b"hello"), "it holds 0"),
        ("ZIP", zipped(a_csv=b"a\n1\n", b_csv=b"a\n1\n"), "it holds 2"),
    ],
)
def test_broken_data_is_told(tmp_path: Path, kind: str, content: bytes, words: str) -> None:
    with pytest.raises(BadData) as caught:
        read_table(written(tmp_path, content), kind)

    assert words in caught.value.message


def test_an_archive_cannot_write_elsewhere_or_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escaped.csv", b"a\n" + b"1\n" * 100_000)
    path = written(folder, buffer.getvalue())

    assert read_table(path, "ZIP").rows == 100_000
    assert [each.name for each in tmp_path.rglob("*.csv")] == ["unpacked.csv"]
    monkeypatch.setattr("jobs.recipes.tables.UNPACKED_LIMIT_BYTES", 1_000)
    with pytest.raises(BadData, match="larger than"):
        read_table(path, "ZIP")


def test_an_unknown_column_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"no column 'c'\. It has: 'a', 'b'"):
        read_table(written(tmp_path, b"a,b\n1,2\n"), "CSV").column("c")


def test_lists_and_objects_are_a_kind_of_their_own(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, b'{"a": 1, "b": 1}\n{"a": [1], "b": 2}\n{"b": null}\n'), "JSONL")

    assert [(column.name, column.kind) for column in table.columns] == [("a", "json"), ("b", "number")]
    assert list(table.column("a").values) == ["1", "[1]", ""]


def test_halves_of_characters_and_nul_become_one_that_can_be_kept(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, b'{"a": "x\\ud800"}\n{"a": "\\u00e9\\u0000"}\n'), "JSONL")

    assert list(table.column("a").values) == ["x\ufffd", "é\ufffd"]
