"""However a log's text is cut, and in how many processes it is read, it says the same."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.trainer_logs import LogReader
from tests.jobs.trainer_logs.golden import AT, goldens, pieces_of
from tests.jobs.trainer_logs.hearing import STATE_BYTES, hear

FRAGMENTS = [
    *sorted({piece for golden in goldens() for piece in pieces_of(golden.text)[:40]}),
    '::runwire {"stage": "TRAINING", "percent": 30.5, "readings": [{"name": "loss", "step": 3, "value": 0.5}]}\n',
    '::runwire {"end": {"reason": "CODE_ERROR", "message": "It ended."}}\n',
    "Traceback (most recent call last):\n",
    "RuntimeError: CUDA out of memory\n",
    "\r",
    "\n",
    "\r\n",
    "\b\b\b",
    "\x1b[1m",
    "\x1b",
    "\0",
    "\ud800",
    "]",
    "x" * 700 + " ",
    "word " * 900,
    "漢字 " * 300,
    "Bearer rwk_" + "k" * 43,
    " rwk_" + "k" * 43 + " ",
    "Downloading 5%\r",
    "spin |\b/\b-",
]


@st.composite
def logs(draw: st.DrawFn) -> str:
    """Real pieces in any order, some cut short, between noise."""
    pieces = draw(st.lists(st.sampled_from(FRAGMENTS) | st.text(max_size=20), max_size=40))
    return "".join(piece[: draw(st.integers(0, len(piece)))] if draw(st.booleans()) else piece for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(logs(), st.data(), st.sampled_from([None, 96, 1000]))
def test_any_cut_says_the_same(text: str, data: st.DataObject, steps: int | None) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert hear(chunks, steps=steps) == hear([text], steps=steps)


def test_every_golden_log_says_the_same_one_character_at_a_time() -> None:
    for golden in goldens():
        text = golden.text[:3_000]
        assert hear(list(text)) == hear([text]), golden.name


NAMES = ["pieces", "follow", "measuring", "refreshes", "carry", "given", "held", "shown", "seen", "percent", "claim"]
NAMES += ["epoch", "job", "row", "lines", "overall", "holder"]
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5000)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), VALUES | st.dictionaries(st.sampled_from(NAMES), VALUES)), logs())
def test_a_state_that_somebody_else_wrote_breaks_nothing(state: dict[str, object], text: str) -> None:
    reader = LogReader(state)
    assert len(json.dumps(reader.state, ensure_ascii=False).encode()) < STATE_BYTES
    reader.feed(text, AT)
    said = reader.finish(AT)
    assert said.percent is None or 0 <= said.percent <= 100
    assert len(json.dumps(reader.state, ensure_ascii=False).encode()) < STATE_BYTES
