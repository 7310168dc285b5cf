"""Whatever is written, reading it takes time in proportion to it, and little memory: work is counted, not seconds.

Time in proportion follows from three counts: a piece that a format sees is never longer than what is carried, its
characters are no more than were fed, and the number of calls grows as the text does. What a regular expression does
inside such a piece is one C call; for those alone a generous limit of processor time is set.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

import pytest

from domain.secret import masked
from jobs.trainer_logs import LogReader
from jobs.trainer_logs.bars import segments
from jobs.trainer_logs.pieces import CARRIED_BYTES, Ending, Splitter
from jobs.trainer_logs.registry import sign_of
from jobs.trainer_logs.sign import Known
from jobs.trainer_logs.text import LINE_CHARACTERS, loudness, plain
from tests.jobs.trainer_logs.golden import AT

SIZE = 40_000

HOSTILE: dict[str, Callable[[int], str]] = {
    "one endless word": lambda size: "a" * size,
    "one endless line": lambda size: "ab " * (size // 3),
    "returns": lambda size: "\r" * size,
    "line ends": lambda size: "\n" * size,
    "backspaces": lambda size: "a\b" * (size // 2),
    "returns before line ends": lambda size: "\r\r\n" * (size // 3),
    "escapes": lambda size: "\x1b" * size,
    "open titles": lambda size: "\x1b]" * (size // 2),
    "bars glued together": lambda size: "1%|" * (size // 3),
    "whole bars glued together": lambda size: "1%|█|1/2 [0<1]" * (size // 14),
    "short lines": lambda size: "x\n" * (size // 2),
    "looks of a bar": lambda size: "".join(f"\r 5%|█| {number}/9 [00:01<00:02, 1it/s]" for number in range(size // 30)),
    "rows": lambda size: "{'loss': 1.5, 'epoch': 0.5}\n" * (size // 28),
    "words of many bytes": lambda size: "漢字 " * (size // 3),
}

PUZZLES = [
    "1" * CARRIED_BYTES,
    "1." * 1_200,
    "1%|" * 800,
    "1%|" + "a" * 299 + "| 1/2 [" + "1" * 500,
    "1%|█| " + "1" * 20 + "/" + "1" * 20 + " [" + "1:" * 240 + "<" + "]",
    "1%|█| 1/2 [" + " " * 490 + "]",
    "1%|█| 1/2 [0<1, 1it/s" + ", " * 240 + "]",
    "1%|█| 1/2 [0<1, 1it/s, " + "a" * 450 + "]",
    "{" + "'" * 2_400 + "}",
    "{" + "'a': " * 500 + "}",
    "{" + "'a" * 1_200 + "}",
    "{'epoch': 1, " + "'a': 1" * 400 + "}",
    "step 1: " + "a:" * 1_200,
    "step 1: " + "a" * 2_400,
    "step 1: " + "a_" * 1_200 + "=1",
    "step 1: " + "loss " * 480,
    "step" + " " * 2_400 + "1",
    "epoch 1/2 " + ", " * 1_200 + "1/2",
    "epoch" + " :" * 1_200,
    "1/2 " + "━" * 800 + " 0s",
    "1/2 [" + "=" * 2_400,
    "1/2 - " + "1s - " * 480,
    " " * 2_400 + "1/2",
    "a" * 120 + ": " * 1_000 + "5it [",
    ": | " * 600,
    "[" * 2_400 + "INFO",
    "A." * 1_200 + "Error",
    "A" * 2_400 + "Error:",
    "2026-01-02 10:00:00" + " " * 2_400,
    "Bearer " * 340,
    "eyJ" + "a.eyJ" * 480,
    "?token=" * 340,
    "eyJaaaaaaaa-" * 200,
    "Bearer" + " " * 2_400,
    "caching" * 340,
    "\x1b[" + "1;" * 1_200,
    "\x1b]" * 1_200,
]


def _calls(work: Callable[[], object]) -> int:
    """How many functions the work calls, Python's own ones included."""
    count = 0

    def counted(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def _read(text: str) -> int:
    reader = LogReader(steps=100)
    return len(reader.feed(text, AT).lines) + len(reader.finish(AT).lines)


@pytest.mark.parametrize("name", HOSTILE)
def test_twice_the_text_is_at_most_twice_the_work(name: str) -> None:
    small, large = HOSTILE[name](SIZE), HOSTILE[name](2 * SIZE)
    assert _calls(lambda: _read(large)) <= 2.1 * _calls(lambda: _read(small)) + 500


@pytest.mark.parametrize("name", HOSTILE)
def test_no_piece_is_longer_than_what_is_carried(name: str) -> None:
    text = HOSTILE[name](SIZE).replace("\b", "\r")
    splitter = Splitter()
    pieces = [*splitter.feed(text), *splitter.finish()]
    assert max((len(piece.text) for piece in pieces), default=0) <= CARRIED_BYTES + 1
    assert sum(len(piece.text) for piece in pieces) <= len(text) + 1
    line = 0
    for piece in pieces:
        line += len(piece.text)
        assert line <= LINE_CHARACTERS + CARRIED_BYTES
        if piece.ending is not Ending.PART:
            line = 0


@pytest.mark.parametrize("puzzle", PUZZLES, ids=[puzzle[:20].strip() for puzzle in PUZZLES])
def test_no_piece_is_a_puzzle(puzzle: str) -> None:
    known = Known(steps=100, epochs=4, job="job", epoch=1)
    assert len(puzzle) <= CARRIED_BYTES + 1
    begin = time.process_time()
    for _ in range(20):
        text = plain(puzzle)
        for segment in segments(text):
            sign_of(segment, known)
        loudness(masked(text))
    assert (time.process_time() - begin) / 20 < 0.05, "milliseconds are enough for so short a piece"


def test_64_megabytes_without_a_line_end_take_little_memory() -> None:
    reader = LogReader()
    text = "word " * (1024 * 1024 // 5)
    tracemalloc.start()
    try:
        said = [reader.feed(text, AT) for _ in range(64)]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(len(line.text) for one in said for line in one.lines) < LINE_CHARACTERS + CARRIED_BYTES
    assert peak < 4 * 1024 * 1024
    assert reader.feed("\nnext\n", AT).lines[-1].text == "next"


def test_a_million_returns_say_nothing() -> None:
    assert _read("\r" * 1_000_000) == 0


def test_single_characters_are_work_in_proportion() -> None:
    def work(size: int) -> Callable[[], object]:
        def read() -> None:
            reader = LogReader()
            for sign in _signs(size):
                reader.feed(sign, AT)

        return read

    assert _calls(work(8_000)) <= 2.1 * _calls(work(4_000))


def _signs(size: int) -> Iterator[str]:
    line = "train:  5%|█| 5/100 [00:01<00:02, 1it/s, loss=0.5]\r"
    for number in range(size):
        yield line[number % len(line)]
