"""What a process writes into its log: sentences with facts, and no token, wherever in them one lies."""

import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from db.logs import configure_logging
from db.settings import Settings

TOKEN = "rwk_" + "a1B2" * 10
logger = logging.getLogger("runwire.test")


class Words:
    """Something with a text of its own."""

    def __str__(self) -> str:
        return f"asked with {TOKEN}"

    __repr__ = __str__


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """The root logger is the whole process's."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    "facts",
    [
        {"text": f"Bearer {TOKEN}"},
        {"deep": {"one": [{"two": (TOKEN, 1)}]}},
        {"names": {TOKEN: 1}},
        {"some": {TOKEN}},
        {"object": Words()},
        {"error": ValueError(TOKEN)},
        {"bytes": TOKEN.encode()},
    ],
)
@pytest.mark.parametrize("format", ["text", "json"])
def test_no_fact_shows_a_token(
    format: Literal["text", "json"], facts: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logging(Settings(log_format=format))
    logger.info("Something happened.", extra=facts)
    told = capsys.readouterr().err
    assert "Something happened." in told and "•••" in told.replace(r"\u2022", "•")
    assert TOKEN not in told


@pytest.mark.parametrize("format", ["text", "json"])
def test_nor_does_a_traceback(format: Literal["text", "json"], capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format=format))
    try:
        try:
            raise ValueError(f"the first with {TOKEN}")
        except ValueError as error:
            raise RuntimeError(f"the second with {TOKEN}") from error
    except RuntimeError:
        logger.exception("It failed with %s.", TOKEN)
    told = capsys.readouterr().err
    assert "the first with" in told and "the second with" in told
    assert TOKEN not in told


def test_plain_facts_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(Settings(log_format="json"))
    logger.info("Counted.", extra={"count": 3, "share": 0.5, "is_so": True, "nothing": None, "list": [1, "two"]})
    told = json.loads(capsys.readouterr().err)
    assert {name: told[name] for name in ("count", "share", "is_so", "nothing", "list")} == {
        "count": 3,
        "share": 0.5,
        "is_so": True,
        "nothing": None,
        "list": [1, "two"],
    }
