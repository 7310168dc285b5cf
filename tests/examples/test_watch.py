"""`examples/watch.py` is run as it stands, against a server that cuts it off."""

import os
import sys
from pathlib import Path

import anyio
import pytest

from tests.graph.cli.scripted import ScriptedApi, Visit, message

pytestmark = pytest.mark.anyio

WATCH = Path(__file__).parents[2] / "examples" / "watch.py"
LINES = [{"line": 1, "text": "epoch 1/2"}, {"line": 2, "text": "epoch 2/2"}]
END = {"endReason": "SUCCEEDED", "errorMessage": None, "deploymentUrl": "http://apps.test/apps/abc/"}


async def test_a_cut_is_resumed_from_the_cursor_and_nothing_is_told_twice() -> None:
    async def script(visit: Visit) -> None:
        if visit.after is None:
            await visit.tell(message(3, kind="Snapshot", progress=10.0))
            await visit.tell(message(4, kind="RunLogged", progress=20.0, lines=LINES))
            await visit.cut()
        else:
            await visit.tell(message(5, progress=60.0))
            await visit.tell(message(6, kind="RunStatusChanged", status="READY", progress=100.0, run=END))
            await visit.complete()

    async with ScriptedApi.play(script) as api:
        code, told, _ = await watch(api.url)

    assert code == 0
    assert told.splitlines() == [
        "   3   10.0 %  TRAINING   Snapshot",
        "   4   20.0 %  TRAINING   RunLogged",
        "      | epoch 1/2",
        "      | epoch 2/2",
        "   5   60.0 %  TRAINING   RunProgressed",
        "   6  100.0 %  READY      RunStatusChanged",
        "http://apps.test/apps/abc/",
    ]
    assert [visit.after for visit in api.visits] == [None, "c4"]
    assert [visit.authorization for visit in api.visits] == ["Bearer secret"] * 2


@pytest.mark.parametrize(("code", "reason"), [(1012, "Service restart"), (4510, "Too slow: resume from your cursor.")])
async def test_codes_that_mean_come_back_are_obeyed(code: int, reason: str) -> None:
    async def script(visit: Visit) -> None:
        if visit.after is None:
            await visit.tell(message(1, kind="Snapshot"))
            await visit.socket.close(code, reason)
        else:
            await visit.tell(message(2, kind="RunStatusChanged", status="CANCELED"))
            await visit.complete()

    async with ScriptedApi.play(script) as api:
        exit_code, _, _ = await watch(api.url)

    assert exit_code == 3
    assert [visit.after for visit in api.visits] == [None, "c1"]


async def test_a_missing_number_is_fetched_by_resuming() -> None:
    async def script(visit: Visit) -> None:
        if visit.after is None:
            await visit.tell(message(1, kind="Snapshot"))
            await visit.tell(message(3))
            await visit.socket.wait_closed()
        else:
            await visit.tell(message(2))
            await visit.tell(message(4, first=3, kind="RunStatusChanged", status="FAILED"))
            await visit.complete()

    async with ScriptedApi.play(script) as api:
        code, told, _ = await watch(api.url)

    assert code == 1
    assert [int(line.split()[0]) for line in told.splitlines()[:-1]] == [1, 2, 4]
    assert [visit.after for visit in api.visits] == [None, "c1"]


async def test_a_refused_credential_is_told_and_not_tried_again() -> None:
    async def script(visit: Visit) -> None:
        raise AssertionError("nobody comes in")

    async with ScriptedApi.play(script) as api:
        api.refuse_init = lambda authorization: (4403, "This API key was revoked.")
        code, told, complaint = await watch(api.url)

    assert (code, told, complaint) == (1, "", "This API key was revoked.\n")
    assert len(api.visits) == 1


async def test_a_run_that_is_not_there_is_told_in_the_servers_words() -> None:
    async def script(visit: Visit) -> None:
        await visit.send("error", [{"message": "There is no such run.", "extensions": {"code": "NOT_FOUND"}}])
        await visit.socket.wait_closed()

    async with ScriptedApi.play(script) as api:
        code, told, complaint = await watch(api.url)

    assert (code, told, complaint) == (1, "", "There is no such run.\n")


async def watch(url: str) -> tuple[int, str, str]:
    """The exit code of the example, and what it said and complained."""
    environment = {**os.environ, "RUNWIRE_URL": url, "RUNWIRE_TOKEN": "secret"}
    with anyio.fail_after(30):
        done = await anyio.run_process([sys.executable, str(WATCH), "run"], env=environment, check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()
