"""ZIPs: what is inside is read, and archives that were made to harm are refused unread."""

import io
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable

import pytest

from domain.dataset import archive, inspection
from domain.dataset.archive import count_pictures
from domain.dataset.file_errors import BrokenZip, UnreadableFile, UnsafeZip
from domain.dataset.inspection import Inspection, inspect
from domain.dataset.model import DatasetFormat

TABLE = b"a,b\n1,2\n3,4\n"


def packed(members: dict[str, bytes], *, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", compression) as made:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.compress_type = compression
            info.filename = name
            made.writestr(info, content)
    return file.getvalue()


def read(content: bytes) -> Inspection:
    return inspect(io.BytesIO(content), DatasetFormat.ZIP)


@pytest.mark.parametrize(
    "members",
    [
        {"data.csv": TABLE},
        {"folder/Data.CSV": TABLE},
        {"data.jsonl": b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n'},
        {"data.ndjson": b'{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n'},
        {"data.csv": TABLE, "README.txt": b"words", "__MACOSX/._data.csv": b"\0", ".data.csv": b"x"},
    ],
)
def test_the_one_data_file_is_read(members: dict[str, bytes]) -> None:
    found = read(packed(members))
    assert (found.row_count, [column["name"] for column in found.columns]) == (2, ["a", "b"])


def test_it_may_be_stored_and_stand_behind_other_bytes() -> None:
    assert read(b"#!/bin/sh\n" + packed({"data.csv": TABLE}, compression=zipfile.ZIP_STORED)).row_count == 2


def link() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        info = zipfile.ZipInfo("data.csv")
        info.create_system = 3
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        made.writestr(info, "/etc/passwd")
    return file.getvalue()


def encrypted() -> bytes:
    """Marked as encrypted where the directory says so."""
    content = bytearray(packed({"data.csv": TABLE}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


def bomb() -> bytes:
    return packed({"data.csv": b"a\n" + b"0\n" * (8 * 1024**2)})


def crowd() -> bytes:
    return packed({f"{number}.txt": b"" for number in range(1001)})


def fat_directory() -> bytes:
    return packed({"x" * 60_000 + str(number): b"" for number in range(20)})


def lying_directory() -> bytes:
    """A 64-bit record that announces a directory of 2^40 bytes."""
    content = bytearray(packed({"data.csv": TABLE}))
    end = content.index(b"PK\x05\x06")
    record = struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, 2**40, 0)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    return bytes(content[:end] + record + locator + content[end:])


@pytest.mark.parametrize(
    "make",
    [
        lambda: packed({"../data.csv": TABLE}),
        lambda: packed({"a/../../data.csv": TABLE}),
        lambda: packed({"/data.csv": TABLE}),
        lambda: packed({"..\\data.csv": TABLE}),
        lambda: packed({"C:data.csv": TABLE}),
        lambda: packed({"data\r\n.csv": TABLE}),
        lambda: packed({"data.csv": TABLE, "inner.zip": packed({"x.csv": TABLE})}),
        lambda: packed({"data.csv": TABLE, "more.tar.gz": b""}),
        lambda: packed({"data.csv": TABLE}, compression=zipfile.ZIP_BZIP2),
        link,
        encrypted,
        bomb,
        crowd,
        fat_directory,
        lying_directory,
    ],
    ids=lambda make: getattr(make, "__name__", None),
)
def test_a_harmful_archive_is_refused(make: Callable[[], bytes]) -> None:
    with pytest.raises(UnsafeZip) as caught:
        read(make())
    assert caught.value.message("en") != caught.value.message("pt-BR")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "BROKEN_ZIP"),
        (TABLE, "BROKEN_ZIP"),
        (packed({"data.csv": TABLE})[:-30], "BROKEN_ZIP"),
        (packed({}), "ZIP_NOT_ONE_FILE"),
        (packed({"words.txt": b"x"}), "ZIP_NOT_ONE_FILE"),
        (packed({"a.csv": TABLE, "b.csv": TABLE}), "ZIP_NOT_ONE_FILE"),
        (packed({"data.csv": b""}), "EMPTY_FILE"),
        (packed({"data.csv": b"a,b\n1\n"}), "RAGGED_ROW"),
        (packed({"data.csv": packed({"x.csv": TABLE})}), "NUL_BYTE"),
    ],
)
def test_a_broken_archive_is_refused(content: bytes, code: str) -> None:
    with pytest.raises(UnreadableFile) as caught:
        read(content)
    assert caught.value.code == code


def test_damage_inside_is_found() -> None:
    content = bytearray(packed({"data.csv": TABLE}, compression=zipfile.ZIP_STORED))
    content[content.index(b"3,4")] = ord("5")
    with pytest.raises(BrokenZip):
        read(bytes(content))


def test_what_unpacks_to_more_than_the_limit_is_refused_whatever_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "UNPACKED_LIMIT_BYTES", 8)  # the bytes that are read
    with pytest.raises(UnsafeZip):
        read(packed({"data.csv": TABLE}))
    monkeypatch.undo()
    monkeypatch.setattr(archive, "UNPACKED_LIMIT_BYTES", 8)  # the sizes that are announced
    with pytest.raises(UnsafeZip):
        read(packed({"data.csv": TABLE}))


def test_pictures_are_counted_where_there_is_no_table() -> None:
    pictures = {"one.PNG": b"x", "set/two.jpg": b"y", "three.webp": b"z"}
    ignored = {".hidden.png": b"x", "__MACOSX/one.png": b"x", "empty.png": b"", "words.txt": b"x"}
    assert count_pictures(io.BytesIO(packed(pictures | ignored))) == 3
    assert inspect(io.BytesIO(packed(pictures)), DatasetFormat.ZIP) == Inspection(3, [])


def test_a_table_among_pictures_is_what_counts() -> None:
    archive = packed({"one.png": b"x", "a.csv": TABLE})
    assert count_pictures(io.BytesIO(archive)) == 0
    assert inspect(io.BytesIO(archive), DatasetFormat.ZIP).columns != []


def test_an_unsafe_archive_of_pictures_is_refused() -> None:
    with pytest.raises(UnsafeZip):
        count_pictures(io.BytesIO(packed({"../one.png": b"x"})))
