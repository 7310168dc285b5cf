"""What people see of a log, and our own structured lines."""

import json

import pytest

from domain.training.report import LogText, Outcome, Reading
from domain.training.status import EndReason, LogLevel, RunStage
from jobs.trainer_logs import LogReader, Said
from jobs.trainer_logs.pieces import CARRIED_BYTES
from jobs.trainer_logs.refreshes import MOST_LINES
from jobs.trainer_logs.state import weight
from jobs.trainer_logs.text import LINE_CHARACTERS
from tests.jobs.trainer_logs.golden import AT
from tests.jobs.trainer_logs.hearing import STATE_BYTES, hear

BAR = "train: {0:3d}%|█| {0}/100 [00:03<00:60, 3.1it/s, loss=0.1]"


def test_nothing_says_nothing() -> None:
    assert LogReader().feed("", AT) == Said()
    assert LogReader().finish(AT) == Said()


def test_lines_are_whole_and_the_rest_comes_with_the_end() -> None:
    reader = LogReader()
    assert reader.feed("one\ntw", AT).lines == (LogText("one", AT),)
    assert reader.feed("o\r\nthree", AT).lines == (LogText("two", AT),)
    assert reader.finish(AT).lines == (LogText("three", AT),)


def test_a_bar_becomes_a_few_lines() -> None:
    heard = hear(["".join("\r" + BAR.format(done) for _ in range(20) for done in range(101)) + "\n"])
    first = [text.split("%")[0].split(":")[1].strip() for text in heard.texts[:21]]
    assert first == [str(percent) for percent in range(0, 100, 5)] + ["100"]
    assert len(heard.texts) <= MOST_LINES


def test_a_bar_whose_returns_became_line_ends_is_the_same() -> None:
    text = "".join("\r" + BAR.format(done) for done in range(101)) + "\n"
    assert hear([text]).texts == hear([text[1:].replace("\r", "\n")]).texts


def test_thousands_of_refreshes_are_few_lines() -> None:
    words = ["".join(f"\r{word} {number % 977} of {number}" for number in range(10_000)) for word in ("file", "part")]
    assert hear(words).texts == ["file 229 of 9999", "part 229 of 9999"]
    mixed = "".join(f"\r{chr(97 + number % 26) * 3} {number}" for number in range(20_000))
    assert len(hear([mixed]).texts) <= MOST_LINES + 2


def test_the_newest_look_of_a_bar_counts_before_it_has_an_end() -> None:
    reader = LogReader()
    assert reader.feed(BAR.format(7), AT).percent == 7
    assert reader.feed("\r" + BAR.format(8)[:-9], AT).percent == 7
    assert reader.feed(BAR.format(8)[-9:], AT).percent == 8


def test_words_glued_to_a_bar_are_a_line_of_their_own() -> None:
    heard = hear(["\r" + BAR.format(50) + "INFO     saving checkpoint\n\r" + BAR.format(51) + "\n"])
    assert heard.texts == [BAR.format(50), "INFO     saving checkpoint"]
    assert heard.percent == 51


def test_a_refresh_in_words_is_shown_when_something_else_follows() -> None:
    heard = hear(["".join(f"Compiling {part}/9\r" for part in range(1, 10)) + "\n", "Linking 1\rready\n"])
    assert heard.texts == ["Compiling 9/9", "Linking 1", "ready"]


def test_colours_titles_and_backspaces_are_gone() -> None:
    heard = hear(["\x1b[1m\x1b[32mgreen\x1b[0m \x1b]0;a title\x07words\x1b[K\n", "wait |\b/\b-\b done\n"])
    assert heard.texts == ["green words", "wait |", "-", " done"]


def test_what_cannot_be_stored_is_replaced() -> None:
    assert hear(["a\0b\ud800c\n"]).texts == ["a\ufffdb\ufffdc"]


def test_tokens_are_masked_wherever_a_long_line_is_parted() -> None:
    token = "rwk_" + "k" * 43
    for before in range(2_450, 2_640, 3):
        for text in (f"{'x ' * (before // 2)}{token} end\n", f"{'x ' * (before // 2)}Bearer {'t' * 43} end\n"):
            told = "\n".join(hear([text]).texts)
            assert "kkkkkkkkkkkk" not in told
            assert "tttttttttttt" not in told


def test_a_long_line_comes_in_parts_and_an_endless_one_ends() -> None:
    words = hear(["word " * 1_500 + "\nnext\n"]).texts
    assert " ".join(words[:-1]).split() == ["word"] * 1_500
    assert words[-1] == "next"
    endless = hear(["word " * 100_000, "\nnext\n"]).texts
    assert sum(map(len, endless)) < LINE_CHARACTERS + 3_000
    assert endless[-1] == "next"
    one_word = hear(["x" * 100_000 + " tail\nnext\n"]).texts
    assert len(one_word) == 2
    assert one_word[0].endswith("x…")


def test_empty_lines_are_kept_one_at_a_time() -> None:
    assert hear(["a\n\n\n\nb\n\r\n"]).texts == ["a", "", "b", ""]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("ERROR no such file", LogLevel.ERROR),
        ("WARNING: slow", LogLevel.WARNING),
        ("2026-01-02 10:00:00 INFO     caching", LogLevel.INFO),
        ("2026-01-02 10:00:00,123 WARNING  slow", LogLevel.WARNING),
        ("[2026-01-02 10:00:00,000] [ERROR] [axolotl.train] [PID:1] failed", LogLevel.ERROR),
        ("[WARNING|trainer.py:12] 2026-01-02 >> deprecated", LogLevel.WARNING),
        ("2026-01-02 10:00:00.123 | DEBUG    | module:run:1 - details", LogLevel.DEBUG),
        ("CRITICAL:root:out of disk", LogLevel.ERROR),
        ("Traceback (most recent call last):", LogLevel.ERROR),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory.", LogLevel.ERROR),
        ("KeyboardInterrupt", LogLevel.ERROR),
        ("There was no ERROR", LogLevel.INFO),
        ("  ValueError: indented, as in a text", LogLevel.INFO),
        ("INFORMATION", LogLevel.INFO),
    ],
)
def test_a_line_is_as_loud_as_it_says(line: str, level: LogLevel) -> None:
    assert [found.level for found in hear([line + "\n"]).lines] == [level]


def test_the_last_error_line_is_the_exceptions() -> None:
    heard = hear(["Traceback (most recent call last):\n  File 'a.py'\nValueError: no data\n", "bye\n"])
    assert heard.last_error_line == "ValueError: no data"


def test_our_own_lines_are_facts_and_not_lines() -> None:
    reader = LogReader()
    said = reader.feed(
        '::runwire {"stage": "TRAINING", "percent": 100, "etaSeconds": 3}\n'
        '::runwire {"readings": [{"name": "loss", "step": 3, "value": 0.5}]}\n'
        '2026-01-02T10:00:00Z ::runwire {"end": {"reason": "DATA_ERROR", "message": "No column."}}\n',
        AT,
    )
    assert said == Said(
        percent=100.0,
        eta_seconds=3.0,
        readings=(Reading("loss", 3, 0.5, AT),),
        stage=RunStage.TRAINING,
        outcome=Outcome(EndReason.DATA_ERROR, "No column."),
    )


def test_our_own_percentage_silences_all_others() -> None:
    own = '::runwire {"percent": 20}\n'
    heard = hear([own, "epoch 12/40 loss: 0.21\n", BAR.format(90) + "\n", own])
    assert heard.percent == 20
    assert heard.readings == []


def test_our_own_percentage_never_falls_either() -> None:
    assert hear(['::runwire {"percent": 40}\n', '::runwire {"percent": 20}\n']).percent == 40


def test_nobody_else_can_end_a_training() -> None:
    assert hear(["Training completed!\n", "100%|█| 100/100 [00:03<00:00, 3.1it/s]\n"]).outcome is None


@pytest.mark.parametrize(
    "line",
    [
        "::runwire",
        "::runwire {",
        "::runwire []",
        "::runwire " + "[" * 2_000,
        '::runwire {"percent": "many", "stage": "NOWHERE", "readings": 3, "end": {"reason": "CANCELED_BY_USER"}}',
        '::runwire {"percent": NaN, "etaSeconds": Infinity, "end": {"reason": []}}',
        '::runwire {"percent": true, "readings": [{"name": "", "step": 1, "value": 1}, {"name": "a", "step": 1e9}]}',
        '::runwire {"readings": [{"name": "a\\u0000", "step": 1, "value": 1}]}',
        '::runwire {"readings": [{"name": "a", "step": true, "value": 1}]}',
        '::runwire {"readings": [{"name": "a", "step": 99999999999, "value": 1}]}',
        '::runwire {"readings": [{"name": "a", "step": 1, "value": 1e999}]}',
    ],
)
def test_malformed_own_lines_say_nothing(line: str) -> None:
    said = LogReader().feed(line + "\n", AT)
    assert (said.percent, said.eta_seconds, said.stage, said.outcome, said.readings) == (None, None, None, None, ())


def test_the_longest_last_word_of_a_program_is_heard_in_any_cut() -> None:
    message = "não é possível " * 133
    line = (
        f"::runwire {json.dumps({'end': {'reason': 'CODE_ERROR', 'message': message[:2_000]}}, ensure_ascii=False)}\n"
    )
    assert hear([line[:900], line[900:1_500], line[1_500:]]).outcome == Outcome(EndReason.CODE_ERROR, message[:2_000])


def test_hints_are_kept_in_the_state() -> None:
    reader = LogReader(steps=100, job="my lora", epochs=3)
    again = LogReader(json.loads(json.dumps(reader.state)))
    assert again.state == reader.state
    assert again.feed("  5%|▌ | 5/100 [00:03<00:60, 3.1it/s]\n", AT).percent == 5


def test_the_largest_state_is_small() -> None:
    reader = LogReader(steps=2**31, job="漢" * 500, epochs=2**31)
    for number in range(20):
        bar = f"{'漢' * 50}{number}: 100%|█| 999999999/999999999 [00:01<00:02, 1it/s, loss={number / 7}"
        reader.feed(bar + "".join(f", m{name}={name / 7}" for name in range(9)) + "]\r", AT)
    for sign in ("\x1b", "\U0001f600", "漢", '"', "x"):
        bytes_each = weight(sign) - 2
        reader.feed("\n" + "漢" * 132 + "\r" + sign * ((CARRIED_BYTES - 2) // bytes_each), AT)
        kept = len(json.dumps(reader.state, ensure_ascii=False).encode())
        assert 3_800 < kept < STATE_BYTES
