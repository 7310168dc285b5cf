"""Sandboxes' environments: whole or not there, built once, and without the product."""

import subprocess
from pathlib import Path

import anyio
import pytest

from jobs.providers.base import ProviderBusy, ProviderRefused
from jobs.providers.local.environments import REQUIREMENTS, Pin, environment, pins, python_of

pytestmark = pytest.mark.anyio


def said_by(folder: Path, code: str) -> str:
    command = [str(python_of(folder)), "-I", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


async def test_it_is_built_once_and_holds_exactly_what_is_pinned(tmp_path: Path) -> None:
    found: list[Path] = []

    async def build() -> None:
        found.append(await environment(tmp_path))

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(build)

    folder = found[0]
    assert found == [folder] * 3
    assert [each.name for each in (tmp_path / "environments").iterdir() if each.is_dir()] == [folder.name]
    held = said_by(
        folder, "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()))"
    )
    wanted = pins(REQUIREMENTS.read_text(encoding="utf-8"))
    assert held.lower().split() == sorted(f"{pin.name}=={pin.version}" for pin in wanted)
    assert said_by(folder, "import importlib.util as u; print(u.find_spec('sqlmodel'), u.find_spec('domain'))") == (
        "None None"
    )
    assert said_by(folder, "import sklearn, numpy, scipy, joblib; print('all')") == "all"


async def test_what_a_killed_builder_left_is_no_environment(tmp_path: Path) -> None:
    folder = await environment(tmp_path)
    folder.rename(folder.with_name(f".new-{folder.name}-half"))

    assert await environment(tmp_path) == folder
    assert sorted(each.name for each in (tmp_path / "environments").iterdir()) == [folder.name, f"{folder.name}.lock"]


async def test_one_without_its_interpreter_is_built_again(tmp_path: Path) -> None:
    folder = await environment(tmp_path)
    python_of(folder).unlink()

    assert await environment(tmp_path) == folder
    assert said_by(folder, "import numpy; print('again')") == "again"


async def test_without_network_and_files_the_refusal_is_plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = tmp_path / "requirements.lock"
    requirements.write_text("no-such-thing==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("UV_OFFLINE", "1")

    with pytest.raises((ProviderBusy, ProviderRefused), match="could not be installed"):
        await environment(tmp_path, requirements)

    assert [each for each in (tmp_path / "environments").iterdir() if each.is_dir()] == []


def test_a_file_without_exact_versions_is_refused() -> None:
    with pytest.raises(ProviderRefused, match="pins nothing"):
        pins("numpy>=2\n")


def test_pins_are_chosen_by_the_python_that_asks() -> None:
    text = "a==1 ; python_full_version < '3.12' \\\n    --hash=x\na==2 ; python_full_version >= '3.12' \\\nb==3 \\\n"

    assert pins(text, (3, 11, 7)) == [Pin("a", "1"), Pin("b", "3")]
    assert pins(text, (3, 12, 0)) == [Pin("a", "2"), Pin("b", "3")]
