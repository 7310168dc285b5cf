"""Reads a dataset (CSV, JSONL, or a ZIP with one of these) into columns, in two passes: a number takes 8 bytes."""

import csv
import json
import math
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .words import BadData

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "?"})
COLUMN_LIMIT = 10_000
FIELD_LIMIT_BYTES = 16 * 1024 * 1024
UNPACKED_LIMIT_BYTES = 4 * 1024 * 1024 * 1024
_DELIMITERS = ",;\t|"
_UNTELLABLE = re.compile("[\0\ud800-\udfff]")
Numbers = npt.NDArray[np.float64]
Texts = npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True)
class Column:
    """One named column: `number` (NaN where nothing was), `text` or `json` ("" where nothing was)."""

    name: str
    kind: str
    values: Numbers | Texts

    @property
    def missing(self) -> int:
        """How many rows say nothing here."""
        if self.kind == "number":
            return int(np.isnan(self.values.astype(np.float64)).sum())
        return int((self.values == "").sum())


@dataclass(frozen=True, slots=True)
class Table:
    """All columns, in the file's order."""

    columns: tuple[Column, ...]
    rows: int

    def column(self, name: str) -> Column:
        """The column of that name; a BadData tells which there are."""
        for column in self.columns:
            if column.name == name:
                return column
        names = ", ".join(repr(column.name) for column in self.columns[:20])
        raise BadData(f"The dataset has no column {name!r}. It has: {names}.")


class _Structured(str):
    """A list or an object, as JSON."""


def read_table(path: Path, kind: str) -> Table:
    """The whole dataset; raises BadData with the line where it is broken."""
    if kind == "ZIP":
        path, kind = unpack(path)
    names = _csv_names(path) if kind == "CSV" else _jsonl_names(path)
    if len(names) > COLUMN_LIMIT:
        raise BadData(f"The dataset has {len(names):,} columns; at most {COLUMN_LIMIT:,} are possible.")
    kinds, rows = _look(path, kind, names)
    numeric = [each == "number" for each in kinds]
    if rows == 0:
        raise BadData("The dataset holds no rows.")
    columns: list[Any] = [np.empty(rows, np.float64 if number else np.object_) for number in numeric]
    for row, (_, values) in enumerate(_records(path, kind, names)):
        for index, value in enumerate(values):
            if numeric[index]:
                columns[index][row] = number_of(value)
            else:
                text = value.strip()
                columns[index][row] = "" if text.lower() in MISSING else sys.intern(text) if len(text) < 64 else text
    made = (Column(name, column_kind, values) for name, column_kind, values in zip(names, kinds, columns, strict=True))
    return Table(tuple(made), rows)


def number_of(text: str) -> float:
    """The number a cell holds; NaN where it holds none. Raises ValueError for other text."""
    text = text.strip()
    if text.lower() in MISSING:
        return math.nan
    value = float(text)
    return value if math.isfinite(value) else math.nan


def unpack(path: Path) -> tuple[Path, str]:
    """The one CSV or JSONL file of an archive, written beside it; names inside are never used as paths."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if _is_data(member.filename)]
            if len(members) != 1:
                raise BadData(f"The ZIP must hold exactly one CSV or JSONL file; it holds {len(members)}.")
            member = members[0]
            kind = "CSV" if member.filename.lower().endswith(".csv") else "JSONL"
            target = path.with_name(f"unpacked.{kind.lower()}")
            with archive.open(member) as source, open(target, "wb") as file:
                # What the archive says of its size may be a lie, so the bytes are counted.
                while block := source.read(1 << 20):
                    if file.tell() + len(block) > UNPACKED_LIMIT_BYTES:
                        raise BadData(f"The file in the ZIP is larger than {UNPACKED_LIMIT_BYTES >> 30} GiB.")
                    file.write(block)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, shutil.Error) as error:
        raise BadData(f"The ZIP cannot be read: {error}.") from error
    return target, kind


def _is_data(name: str) -> bool:
    base = os.path.basename(name)
    return base.lower().endswith((".csv", ".jsonl", ".ndjson")) and not base.startswith(".") and "__MACOSX" not in name


def _look(path: Path, kind: str, names: list[str]) -> tuple[list[str], int]:
    """Each column's kind, and how many rows there are."""
    numeric = [True] * len(names)
    structured = [False] * len(names)
    filled = [False] * len(names)
    rows = 0
    for _, values in _records(path, kind, names):
        rows += 1
        for index, value in enumerate(values):
            if type(value) is _Structured:
                structured[index], numeric[index] = True, False
            elif numeric[index]:
                try:
                    filled[index] = not math.isnan(number_of(value)) or filled[index]
                except ValueError:
                    numeric[index] = False
    kinds = [
        "json" if nested else "number" if number and some else "text"
        for nested, number, some in zip(structured, numeric, filled, strict=True)
    ]
    return kinds, rows


def _records(path: Path, kind: str, names: list[str]) -> Iterator[tuple[int, list[str]]]:
    return _csv_records(path, names) if kind == "CSV" else _jsonl_records(path, names)


def _csv_reader(path: Path) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(FIELD_LIMIT_BYTES)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline(FIELD_LIMIT_BYTES)
            delimiter = max(_DELIMITERS, key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            for values in reader:
                if values:
                    yield reader.line_num, values
    except UnicodeDecodeError as error:
        raise BadData(f"The CSV is not UTF-8 text (byte {error.start:,}).") from error
    except csv.Error as error:
        raise BadData(f"The CSV cannot be read: {error}.") from error


def _csv_names(path: Path) -> list[str]:
    _, header = next(_csv_reader(path), (0, []))
    names = [name.strip() for name in header]
    if not names:
        raise BadData("The dataset is empty.")
    seen: set[str] = set()
    for name in names:
        if not name:
            raise BadData("The CSV's first line must name every column; one name is empty.")
        if name in seen:
            raise BadData(f"The CSV names the column {name!r} twice.")
        seen.add(name)
    return names


def _csv_records(path: Path, names: list[str]) -> Iterator[tuple[int, list[str]]]:
    reader = _csv_reader(path)
    next(reader, None)
    for line, values in reader:
        if len(values) != len(names):
            raise BadData(f"Line {line:,} of the CSV has {len(values)} values; its first line names {len(names)}.")
        yield line, values


def _jsonl_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line, text in enumerate(file, start=1):
                if not text.strip():
                    continue
                try:
                    value = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise BadData(f"Line {line:,} is no JSON.") from error
                if not isinstance(value, dict):
                    raise BadData(f"Line {line:,} is no JSON object.")
                yield line, value
    except UnicodeDecodeError as error:
        raise BadData(f"The file is not UTF-8 text (byte {error.start:,}).") from error


def _jsonl_names(path: Path) -> list[str]:
    names: dict[str, None] = {}
    for _, value in _jsonl_objects(path):
        names.update(dict.fromkeys(value))
        if len(names) > COLUMN_LIMIT:
            break
    if not names:
        raise BadData("The dataset is empty.")
    return list(names)


def _jsonl_records(path: Path, names: list[str]) -> Iterator[tuple[int, list[str]]]:
    for line, value in _jsonl_objects(path):
        yield line, [_cell_of(value.get(name)) for name in names]


def _cell_of(value: object) -> str:
    if isinstance(value, list | dict):
        return _Structured(json.dumps(value))
    return text_of(value)


def text_of(value: object) -> str:
    """A JSON value as a CSV would write it. Raises TypeError for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str):
        # JSON can escape half of a character ("\ud800"), which no file can hold, and NUL, which no PostgreSQL can.
        return _UNTELLABLE.sub("\ufffd", value)
    if isinstance(value, (int, float)):
        return str(value)
    raise TypeError("not one value")
