"""Golden logs: what tools really print, beside what it means, line by line."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.trainer_logs import LogReader, Said
from jobs.trainer_logs.text import plain

FOLDER = Path(__file__).parent / "golden"
AT = datetime(2026, 1, 15, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Golden:
    """A log as it was written, and what the order would have told about it."""

    name: str
    hints: dict[str, Any]
    """`steps`, `job`, `epochs`, as of the first line of the table."""
    table: list[str]

    @property
    def text(self) -> str:
        return (FOLDER / f"{self.name}.log").read_bytes().decode()

    def reader(self) -> LogReader:
        return LogReader(**self.hints)


def goldens() -> list[Golden]:
    """All of them, by name."""
    found = []
    for path in sorted(FOLDER.glob("*.table")):
        first, *table = path.read_text(encoding="utf-8").splitlines()
        found.append(Golden(path.stem, json.loads(first), table))
    return found


def pieces_of(text: str) -> list[str]:
    """The text cut behind each line end and each return, as it grows while somebody watches."""
    return text.replace("\r", "\r\0").replace("\n", "\n\0").replace("\r\0\n", "\r\n").split("\0")


def table_of(golden: Golden) -> list[str]:
    """What the reader makes of it: one row for each piece that says something, then the lines for people."""
    reader = golden.reader()
    heard = [(piece, reader.feed(piece, AT)) for piece in pieces_of(golden.text)]
    heard.append(("", reader.finish(AT)))
    rows: list[str] = []
    for piece, said in heard:
        words = _words(said)
        if words and not (rows and rows[-1].startswith(f"{words}  ⟵")):
            looked = plain(piece.rstrip("\r\n")).strip()[:100]
            rows.append(f"{words}  ⟵ {looked}")
    return [*rows, "lines:", *(f"{line.level[0]} {line.text}" for _, said in heard for line in said.lines)]


def _words(said: Said) -> str:
    words = []
    if said.percent is not None:
        words.append(f"{said.percent:g} %")
    if said.eta_seconds is not None:
        words.append(f"{said.eta_seconds:g} s left")
    words += [f"{reading.name}@{reading.step}={reading.value:g}" for reading in said.readings]
    words += [f"{warning.code}: {warning.message}" for warning in said.warnings]
    return " ".join(words)
