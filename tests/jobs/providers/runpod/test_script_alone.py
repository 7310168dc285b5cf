"""The start script where the simulator does not take it: a container that begins again, an image without Python."""

import ast
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from anyio import to_thread

from jobs.programs import Program
from jobs.providers.runpod import creation
from jobs.simulators.kit import serving
from tests.jobs.providers.runpod.conftest import RUN, TOKEN, order_of
from tests.jobs.providers.runpod.home import Home
from tests.jobs.providers.runpod.playing import WEB_TOOLS, machine_with

pytestmark = pytest.mark.anyio


@pytest.fixture
def home() -> Home:
    return Home(str(RUN), TOKEN, Program({}, "", "echo trained"))


@pytest.fixture
async def url(home: Home) -> AsyncIterator[str]:
    async with serving(home.app) as url:
        yield url


async def run_script(url: str, folder: Path, path: str) -> str:
    """The start command as RunPod runs it; what it said."""
    body = creation.creation_of(order_of(url), image="any", patience_seconds=5)
    environment = {**body["env"], "RUNWIRE_HOME": str(folder / "home"), "PATH": path}

    def run() -> str:
        command = ["bash", "-c", creation.START]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60, check=False)
        return (done.stdout + done.stderr).decode()

    return await to_thread.run_sync(run)


async def test_a_container_that_begins_again_does_not_train_twice(home: Home, url: str, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "begun").touch()
    said = await run_script(url, tmp_path, "/usr/local/bin:/usr/bin:/bin")
    assert home.end is not None, said
    assert home.end["reason"] == "PROVIDER_ERROR"
    assert home.end["message"] == "The pod's container was started again in the middle of the training."
    assert "trained" not in said


@pytest.mark.parametrize("program", ["reporter.py", "carrier.py"])
def test_the_helpers_can_be_read_by_old_pythons(program: str) -> None:
    """The default image has Python 3.10, others have older ones."""
    ast.parse(Path(creation.__file__).with_name(program).read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("tools", ["wget", "curl"])
async def test_an_image_without_python_says_so(home: Home, url: str, tmp_path: Path, tools: str) -> None:
    said = await run_script(url, tmp_path, machine_with(tmp_path / "tools", WEB_TOOLS[tools]))
    assert home.end is not None, said
    assert home.end["reason"] == "CODE_ERROR"
    assert home.end["message"] == "The image has no python3, which the start script needs."
