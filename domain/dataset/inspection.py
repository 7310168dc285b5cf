"""Reads an uploaded file once, from beginning to end: is it what it says, how many rows, and what do columns hold?

The recipes read the same files by the same rules (`jobs/recipes/tables.py`): what passes here can be trained on there.
"""

import csv
import json
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, NoReturn

from domain.dataset.archive import UNPACKED_LIMIT_BYTES, count_pictures, only_member
from domain.dataset.columns import DISTINCT_LIMIT, DISTINCT_TOTAL, MOST_CATEGORIES, ColumnTally
from domain.dataset.file_errors import (
    BadColumnName,
    BrokenCsv,
    BrokenJsonLine,
    DuplicateColumn,
    EmptyFile,
    NoRows,
    RaggedRow,
    TooManyColumns,
    ValueTooLong,
)
from domain.dataset.lines import Lines
from domain.dataset.model import DatasetFormat

DELIMITERS = ",;\t|"
COLUMN_LIMIT = 10_000
COLUMN_NAME_CHARACTERS = 256
VALUE_CHARACTERS = 1024**2
BATCH_ROWS = 1024
BATCH_BYTES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a file was found to hold."""

    row_count: int
    """Rows of a table, or pictures of an archive of pictures, which has no columns."""
    columns: list[dict[str, Any]]


class InspectionStopped(Exception):
    """Nobody waits for the result any more."""


def inspect(file: BinaryIO, format: DatasetFormat, *, is_stopped: Callable[[], bool] = lambda: False) -> Inspection:
    """Read the whole file, which must be seekable. Memory is bounded whatever it holds; time is linear in its size.

    Raises an `UnreadableFile` that says what is wrong and where, and `InspectionStopped` soon after `is_stopped`."""
    if format is not DatasetFormat.ZIP:
        return _inspect_lines(Lines(file), format, is_stopped)
    if pictures := count_pictures(file):
        return Inspection(pictures, [])
    with only_member(file) as (member, kind):
        return _inspect_lines(Lines(member, limit_bytes=UNPACKED_LIMIT_BYTES), kind, is_stopped)


def _inspect_lines(lines: Lines, format: DatasetFormat, is_stopped: Callable[[], bool]) -> Inspection:
    table = _Table(is_stopped)
    if format is DatasetFormat.CSV:
        _read_csv(lines, table)
    else:
        _read_jsonl(lines, table)
    if not table.tallies and not table.rows:
        raise EmptyFile
    if not table.rows:
        raise NoRows
    return Inspection(table.rows, [tally.report(table.rows) for tally in table.tallies.values()])


class _Table:
    """The tallies of all columns, filled through batches: counting a thousand values at once is many times faster."""

    def __init__(self, is_stopped: Callable[[], bool]) -> None:
        self.tallies: dict[str, ColumnTally] = {}
        self.rows = 0
        self._is_stopped = is_stopped

    def name(self, name: str) -> None:
        """Add a column."""
        position = len(self.tallies) + 1
        if not name or len(name) > COLUMN_NAME_CHARACTERS or any(unicodedata.category(c) in _CONTROLS for c in name):
            raise BadColumnName(position, COLUMN_NAME_CHARACTERS)
        if position > COLUMN_LIMIT:
            raise TooManyColumns(COLUMN_LIMIT)
        self.tallies[name] = ColumnTally(name)

    def add(self, name: str, values: list[str] | tuple[str, ...]) -> None:
        limit = max(MOST_CATEGORIES + 1, min(DISTINCT_LIMIT, DISTINCT_TOTAL // len(self.tallies)))
        self.tallies[name].add(values, distinct_limit=limit)

    def batch_ended(self, rows: int) -> None:
        self.rows += rows
        if self._is_stopped():
            raise InspectionStopped


_CONTROLS = frozenset({"Cc", "Cs"})


def _read_csv(lines: Lines, table: _Table) -> None:
    csv.field_size_limit(VALUE_CHARACTERS)
    texts = iter(lines)
    first = next(texts, "")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(chain([first], texts), delimiter=delimiter, strict=True)
    try:
        names = _name_columns(next((row for row in reader if row), []), table)
        width = len(names)
        batch: list[list[str]] = []
        batch_end = lines.offset + BATCH_BYTES
        for row in reader:
            lines.unfinished_bytes = 0
            if len(row) != width:
                if not row:
                    continue
                raise RaggedRow(reader.line_num, len(row), width)
            batch.append(row)
            if len(batch) == BATCH_ROWS or lines.offset > batch_end:
                _count_csv(table, names, batch)
                batch, batch_end = [], lines.offset + BATCH_BYTES
    except csv.Error as error:
        if "field larger than field limit" in str(error):
            raise ValueTooLong(reader.line_num, VALUE_CHARACTERS) from None
        raise BrokenCsv(max(reader.line_num, 1), _reason_of(error)) from None
    _count_csv(table, names, batch)


def _name_columns(header: list[str], table: _Table) -> list[str]:
    names = [name.strip() for name in header]
    if len(names) > COLUMN_LIMIT:
        raise TooManyColumns(COLUMN_LIMIT)
    for name in names:
        if name in table.tallies:
            raise DuplicateColumn(name)
        table.name(name)
    return names


def _reason_of(error: csv.Error) -> str:
    """The reader's words, without advice to programmers."""
    return str(error).split(" - ")[0]


def _count_csv(table: _Table, names: list[str], batch: list[list[str]]) -> None:
    for name, values in zip(names, zip(*batch, strict=True), strict=False):  # an empty batch has no columns
        table.add(name, values)
    table.batch_ended(len(batch))


def _read_jsonl(lines: Lines, table: _Table) -> None:
    batch: dict[str, list[str]] = {}
    rows = 0
    batch_end = BATCH_BYTES
    for number, line in enumerate(lines, start=1):
        lines.unfinished_bytes = 0
        if not line.strip():
            continue
        for name, value in _object_of(line, number).items():
            if name not in table.tallies:
                table.name(name)
            text = _text_of(value)
            if text is None:
                table.tallies[name].is_structured = True
                text = json.dumps(value, ensure_ascii=False)
            if len(text) > VALUE_CHARACTERS:
                raise ValueTooLong(number, VALUE_CHARACTERS)
            batch.setdefault(name, []).append(text)
        rows += 1
        if rows == BATCH_ROWS or lines.offset > batch_end:
            _count_jsonl(table, batch, rows)
            batch, rows, batch_end = {}, 0, lines.offset + BATCH_BYTES
    _count_jsonl(table, batch, rows)
    if table.rows and not table.tallies:
        raise EmptyFile


def _object_of(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line, parse_constant=_refuse_constant)
    except RecursionError:
        raise BrokenJsonLine(number, "nested too deeply") from None
    except ValueError as error:
        raise BrokenJsonLine(number, getattr(error, "msg", None) or "a number that JSON does not have") from None
    if not isinstance(value, dict):
        raise BrokenJsonLine(number, f"it is {_kind_of(value)}")
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _kind_of(value: Any) -> str:
    kinds: list[tuple[type, str]] = [(list, "a list"), (str, "a string"), (bool, "true or false"), (int, "a number")]
    return next((name for kind, name in kinds if isinstance(value, kind)), "a number" if value is not None else "null")


def _text_of(value: Any) -> str | None:
    """A JSON value as a CSV would write it; None for lists and objects."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else None


def _count_jsonl(table: _Table, batch: dict[str, list[str]], rows: int) -> None:
    for name, values in batch.items():
        table.add(name, values)
    table.batch_ended(rows)
