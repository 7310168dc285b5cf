"""The README says what is so: its tables, addresses, commands and operations are held against the code."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from graphql import parse, validate

from db import settings as settings_module
from db.settings import Settings
from graph.app import Api
from graph.cli.main import application
from graph.schema import schema

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
CODE = re.compile(r"`([^`]*)`")


def test_configuration_table_has_every_setting_in_order_with_its_default() -> None:
    told = [(CODE.findall(name)[0], default) for name, default, _ in table("Variable")]

    assert told == [(name.upper(), shown(field.default)) for name, field in Settings.model_fields.items()]


def test_configuration_table_says_what_the_settings_say() -> None:
    told = {CODE.findall(name)[0].lower(): words for name, _, words in table("Variable")}

    missing = {name: words for name, words in docstrings().items() if not told[name].startswith(words)}
    assert missing == {}
    assert [name for name, words in told.items() if not words] == []


def test_environment_example_names_settings_only() -> None:
    example = (ROOT / "deploy" / "runwire.env.example").read_text("utf-8")

    named = {line.partition("=")[0].lower() for line in example.splitlines() if line and not line.startswith("#")}
    assert named <= set(Settings.model_fields)


def test_command_table_has_every_command() -> None:
    told = [CODE.findall(name)[0].split()[1] for name, _ in table("Command")]

    assert sorted(told) == sorted(typer.main.get_group(application()).commands)


def test_door_table_has_every_door(tmp_path: Path) -> None:
    api = Api(Settings(database_url="postgresql://nobody@127.0.0.1/none", redis_url="redis://", data_dir=tmp_path))
    routes = {path for route in api._routes() if (path := str(getattr(route, "path", ""))) != "/"}

    told = {door.split()[-1] for doors, _ in table("Door") for door in CODE.findall(doors)}
    assert {path for path in routes if not path.startswith("/playground/")} | {"/apps/{slug}/…"} == told


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bmake ([a-z]+)`", README))))
def test_make_has_what_is_named(name: str) -> None:
    assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


def test_graphql_is_of_the_schema() -> None:
    documents = re.findall(r"```graphql\n(.*?)```", README, re.DOTALL)

    assert documents
    assert [problem.message for text in documents for problem in validate(schema._schema, parse(text))] == []


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README + CHANGELOG))))
def test_a_link_leads_to_a_file(link: str) -> None:
    assert (ROOT / link).exists()


def table(heading: str) -> list[tuple[str, ...]]:
    """The rows of the table whose first column has this heading, without it."""
    lines = README.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return rows


def shown(default: Any) -> str:
    """A default as the table writes it: as it would stand in the environment; a dash for an empty one."""
    if default in ((), None) or not str(default):  # the text of an empty secret is empty too
        return "–"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def docstrings() -> dict[str, str]:
    """What stands below each field of `Settings`, on one line."""
    source = Path(settings_module.__file__).read_text("utf-8")
    [holder] = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == "Settings"]
    found = {}
    for field, below in zip(holder.body, holder.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(below.value.value).split())
    return found
