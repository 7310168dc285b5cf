"""What can be known of the examples without a browser or a network: they ask for what there is."""

import re
import subprocess
from pathlib import Path

import pytest
from graphql import parse, validate

from graph.schema import schema
from graph.training.feed import FEED_TYPES

EXAMPLES = Path(__file__).parents[2] / "examples"
OPERATION = re.compile(r"(?:\"\"\"|`|')\s*((?:query|mutation|subscription)\b[^`'\"]*\{[^`'\"]*\})\s*(?:\"\"\"|`|')")
OPERATIONS = [
    (path.name, text)
    for path in sorted(EXAMPLES.iterdir())
    if path.is_file()
    for text in OPERATION.findall(path.read_text("utf-8"))
]


def test_every_example_but_the_data_holds_operations() -> None:
    assert [name for name, _ in OPERATIONS] == ["start.sh"] * 3 + ["watch.html", "watch.mjs", "watch.py"]


@pytest.mark.parametrize(("name", "text"), OPERATIONS, ids=[name for name, _ in OPERATIONS])
def test_an_operation_is_one_of_the_schema(name: str, text: str) -> None:
    assert [problem.message for problem in validate(schema._schema, parse(text))] == []


def test_the_page_listens_to_every_event_there_is() -> None:
    page = (EXAMPLES / "watch.html").read_text("utf-8")
    [listed] = re.findall(r"TYPES = \[(.*?)\]", page, re.DOTALL)

    assert set(re.findall(r"'([\w.]+)'", listed)) == {"snapshot", "gap", *FEED_TYPES}


def test_the_page_loads_nothing_from_elsewhere() -> None:
    page = (EXAMPLES / "watch.html").read_text("utf-8")

    assert re.findall(r"(?:src|href|from)\s*=", page) == []


def test_the_shell_example_is_shell() -> None:
    checked = subprocess.run(["bash", "-n", str(EXAMPLES / "start.sh")], capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")
