"""`python -m jobs.simulators`: the simulators as a process, which `runwire up` and `runwire simulate` start."""

import subprocess
import sys
import time
from collections.abc import Iterator

import httpx2
import pytest
from e2b import AsyncSandbox

from graph.cli.stack import free_port

pytestmark = pytest.mark.anyio

START_SECONDS = 30.0


@pytest.fixture
def url() -> Iterator[str]:
    port = free_port("127.0.0.1", 0)
    process = subprocess.Popen([sys.executable, "-m", "jobs.simulators", "--port", str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                httpx2.get(address, trust_env=False)
                break
            except httpx2.HTTPError:
                assert process.poll() is None and time.monotonic() < deadline, "The simulators do not answer."
                time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        assert process.wait(10) is not None


async def test_a_command_ends_though_what_it_began_goes_on(url: str) -> None:
    base = f"{url}/e2b"
    sandbox = await AsyncSandbox.create(api_url=base, sandbox_url=base, api_key="e2b_sim_ada", timeout=60)
    began = time.monotonic()
    await sandbox.commands.run("sleep 20 >/dev/null 2>&1 </dev/null & echo begun")
    assert time.monotonic() - began < 10
    await sandbox.kill()
