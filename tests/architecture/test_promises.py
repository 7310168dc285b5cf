"""Promises that no single room can keep: who commits, who answers a command, what every refusal says."""

import ast
import dataclasses
import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from string import Formatter
from typing import Any, TypeVar, get_type_hints
from uuid import UUID

import pytest

import domain
import domain.commands
from domain.commands import Command
from domain.error_codes import ErrorCode
from domain.errors import DomainError
from domain.training.status import EndReason, RunStage, RunStatus
from domain.training.texts import ENDS, STAGES, words_for
from domain.viewer import Locale
from graph.schema import schema
from jobs.worker import SWEEPS, doorbell_functions

ROOT = Path(__file__).parent.parent.parent
COMMITTERS = {"db/unit_of_work.py", "db/upgrade.py", "db/migrations/env.py"}
Kind = TypeVar("Kind")

for _module in pkgutil.walk_packages(domain.__path__, "domain."):
    importlib.import_module(_module.name)


def kinds_of(base: type[Kind]) -> Iterator[type[Kind]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds_of(kind)


REFUSALS = sorted(
    {kind for kind in kinds_of(DomainError) if kind.__module__.startswith("domain.")},
    key=lambda kind: kind.__qualname__,
)
COMMANDS = list({kind.__qualname__: kind for kind in kinds_of(Command)}.values())
"""One per name: a dataclass with slots leaves the class behind that it was made from."""


def sources(*packages: str) -> Iterator[tuple[str, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


class TestCommits:
    def test_only_the_unit_of_work_and_migrations_commit(self) -> None:
        found = {
            path
            for path, tree in sources("domain", "db", "jobs", "graph")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
        }
        assert found == COMMITTERS

    def test_the_domain_never_asks_for_the_time(self) -> None:
        found = [
            path
            for path, tree in sources("domain")
            for node in ast.walk(tree)
            if (isinstance(node, ast.Attribute) and node.attr in ("utcnow", "today"))
            or (isinstance(node, ast.Call) and ast.unparse(node.func) in ("datetime.now", "time.time"))
        ]
        assert found == ["domain/clock.py"]


class TestCommands:
    def test_each_has_a_function_of_the_worker(self) -> None:
        nothing: Any = None
        functions = doorbell_functions(nothing, _Bell())  # type: ignore[arg-type]  # none is called
        assert {function.name for function in functions} == {command.name for command in COMMANDS}

    def test_names_are_their_own(self) -> None:
        assert len({command.name for command in COMMANDS}) == len(COMMANDS)

    @pytest.mark.parametrize("command", COMMANDS)
    def test_each_holds_one_id_and_nothing_else(self, command: type[Command]) -> None:
        fields = {field.name: get_type_hints(command)[field.name] for field in dataclasses.fields(command)}
        assert list(fields.values()) == [UUID]

    def test_a_sweep_of_rows_stands_behind_each(self) -> None:
        """Whatever Redis loses is derived again; the runner sweeps for runs itself."""
        sweeps = {sweep.__name__ for _, sweep in SWEEPS}
        known = {"sweep_callbacks", "sweep_deployments", "end_resources", "expire_grants", "remove_orphans"}
        assert known <= sweeps


class TestEvents:
    """Whatever is written down is told to somebody: a type that nobody can tell ends the stream of who reads it."""

    @pytest.mark.parametrize("verb", ["append_run_event", "append_feed_event"])
    def test_each_that_is_written_has_a_type_in_the_schema(self, verb: str) -> None:
        written = {
            node.args[2].value
            for _, tree in sources("domain", "jobs")
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) == verb
            and len(node.args) > 2
            and isinstance(node.args[2], ast.Constant)
        }
        told = {re.sub(r"(?:^|[._])([a-z])", lambda found: found[1].upper(), str(type)) for type in written}
        assert written and told <= set(schema._schema.type_map)


class TestRefusals:
    def test_the_schema_knows_every_code(self) -> None:
        assert {code.value for code in ErrorCode} == {kind.code for kind in REFUSALS if hasattr(kind, "code")}

    def test_a_code_belongs_to_one_refusal(self) -> None:
        owners: dict[str, list[str]] = {}
        for kind in REFUSALS:
            if "code" in vars(kind):
                owners.setdefault(kind.code, []).append(kind.__name__)
        assert {code: names for code, names in owners.items() if len(names) > 1} == {}

    @pytest.mark.parametrize("kind", [kind for kind in REFUSALS if hasattr(kind, "code")])
    def test_each_says_the_same_in_both_languages(self, kind: type[DomainError]) -> None:
        assert kind.en.strip() and kind.pt.strip()
        assert facts_of(kind.en) == {name.removesuffix("_pt") for name in facts_of(kind.pt)}

    @pytest.mark.parametrize("kind", [kind for kind in REFUSALS if hasattr(kind, "code")])
    def test_each_is_translated(self, kind: type[DomainError]) -> None:
        if not set(kind.en) <= set("{}_abcdefghijklmnopqrstuvwxyz"):  # nothing but a fact
            assert kind.en != kind.pt

    def test_codes_are_words_in_capitals(self) -> None:
        assert [code for code in ErrorCode if not code.replace("_", "").isalnum() or code != code.upper()] == []


class TestTexts:
    @pytest.mark.parametrize(("told", "kinds"), [(STAGES, RunStage), (ENDS, EndReason)])
    def test_every_stage_and_end_has_words_in_both_languages(self, told: dict[Any, Any], kinds: Any) -> None:
        assert set(told) == set(kinds)
        for english, portuguese in told.values():
            assert english and portuguese and english != portuguese

    @pytest.mark.parametrize("locale", Locale)
    @pytest.mark.parametrize("status", RunStatus)
    def test_every_status_has_a_line_for_a_screen(self, status: RunStatus, locale: Locale) -> None:
        reason = EndReason.CODE_ERROR if status is RunStatus.FAILED else None
        stage = RunStage.DONE if status.is_final else RunStage.TRAINING
        assert words_for(status, stage, reason, locale)


class _Bell:
    async def ring(self, run_id: UUID) -> None: ...


def facts_of(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name}
