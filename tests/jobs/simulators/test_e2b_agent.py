"""The agent in a simulated E2B sandbox through the unmodified SDK: files, commands, streams, and apps behind ports."""

import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from e2b import AsyncSandbox
from e2b.exceptions import (
    AuthenticationException,
    FileNotFoundException,
    InvalidArgumentException,
    NotEnoughSpaceException,
    NotFoundException,
    TimeoutException,
)
from e2b.sandbox.commands.command_handle import CommandExitException

from jobs.simulators.e2b import E2BSimulator
from jobs.simulators.kit import serving
from tests.jobs.simulators.test_e2b import Served

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[tuple[E2BSimulator, str]]:
    """One for all tests of a module: each has its own account."""
    simulator = E2BSimulator()
    async with serving(simulator.app) as base:
        yield simulator, base


@pytest.fixture
def served(server: tuple[E2BSimulator, str]) -> Served:
    return Served(*server)


@pytest.fixture
async def sandbox(served: Served) -> AsyncSandbox:
    return await served.create(metadata={"tag": "run-1"})


class Raw:
    """Requests as they go over the wire."""

    def __init__(self, served: Served, sandbox: AsyncSandbox) -> None:
        token = served.record(sandbox).token
        headers = {"e2b-sandbox-id": sandbox.sandbox_id, "e2b-sandbox-port": "49983", "x-access-token": token}
        self.http = httpx2.AsyncClient(base_url=served.base, headers=headers, trust_env=False)

    async def stream(self, method: str, message: dict[str, Any], **headers: str) -> list[tuple[int, dict[str, Any]]]:
        """Every frame of a server stream: its flag and its message."""
        body = json.dumps(message).encode()
        answer = await self.http.post(
            f"/process.Process/{method}",
            content=struct.pack(">BI", 0, len(body)) + body,
            headers={"content-type": "application/connect+json", "connect-protocol-version": "1", **headers},
        )
        assert answer.headers["content-type"] == "application/connect+json"
        found, content = [], answer.content
        while content:
            flags, length = struct.unpack(">BI", content[:5])
            found.append((flags, json.loads(content[5 : 5 + length])))
            content = content[5 + length :]
        return found


@pytest.fixture
async def raw(served: Served, sandbox: AsyncSandbox) -> AsyncIterator[Raw]:
    raw = Raw(served, sandbox)
    yield raw
    await raw.http.aclose()


def start_of(command: str) -> dict[str, Any]:
    """The body that the fact page shows."""
    process = {"cmd": "/bin/bash", "args": ["-l", "-c", command], "envs": {}, "cwd": "/home/user"}
    return {"process": process, "stdin": False}


class TestWire:
    async def test_a_stream_is_as_the_fact_page_shows_it(self, raw: Raw) -> None:
        frames = await raw.stream("Start", start_of("echo hi; echo oops >&2; exit 3"))
        pid = frames[0][1]["event"]["start"]["pid"]
        assert isinstance(pid, int)
        data = [one["event"]["data"] for _, one in frames if "data" in one.get("event", {})]
        assert sorted(data, key=str) == [{"stderr": "b29wcwo="}, {"stdout": "aGkK"}]
        end = {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"}
        assert frames[-2:] == [(0, {"event": {"end": end}}), (2, {})]

    async def test_a_killed_process_says_so(self, raw: Raw) -> None:
        frames = await raw.stream("Start", start_of("kill -9 $$"))
        end = frames[-2][1]["event"]["end"]
        assert (end["exitCode"], end["exited"], end["status"]) == (-1, False, "signal: killed")

    async def test_a_quiet_stream_is_kept_alive(self, raw: Raw) -> None:
        frames = await raw.stream("Start", start_of("sleep 1.3"), **{"keepalive-ping-interval": "1"})
        assert [one["event"] for _, one in frames[1:-2]] == [{"keepalive": {}}]

    async def test_a_start_that_fails_ends_its_stream_with_the_error(self, raw: Raw) -> None:
        message = start_of("true")
        message["process"]["cwd"] = "/nowhere"
        assert await raw.stream("Start", message) == [
            (2, {"error": {"code": "invalid_argument", "message": "cwd '/nowhere' does not exist"}})
        ]

    async def test_errors_of_single_calls_have_their_status(self, raw: Raw) -> None:
        signal = {"process": {"pid": 572}, "signal": "SIGNAL_SIGKILL"}
        gone = await raw.http.post("/process.Process/SendSignal", json=signal)
        text = await raw.http.post("/process.Process/List", content=b"{}", headers={"content-type": "text/plain"})
        unknown = await raw.http.post("/process.Process/Dance", json={})
        assert [(one.status_code, one.json()["code"]) for one in (gone, text, unknown)] == [
            (404, "not_found"),
            (400, "invalid_argument"),
            (501, "unimplemented"),
        ]

    async def test_without_the_token_or_the_sandbox(self, raw: Raw) -> None:
        headers = {"x-access-token": "another"}
        assert (await raw.http.post("/process.Process/List", json={}, headers=headers)).status_code == 401
        assert (await raw.http.get("/files", params={"path": ".profile"}, headers=headers)).status_code == 401
        gone = await raw.http.get("/health", headers={"e2b-sandbox-id": "i0000000000000000000"})
        body = {"sandboxId": "i0000000000000000000", "message": "The sandbox was not found", "code": 502}
        assert (gone.status_code, gone.json()) == (502, body)
        assert (await raw.http.get("/health")).status_code == 204


class TestCommands:
    async def test_output_comes_while_it_is_written(self, sandbox: AsyncSandbox) -> None:
        heard: list[str] = []
        handle = await sandbox.commands.run(
            "echo one; while [ ! -e go ]; do sleep 0.02; done; printf 'two\\r'",
            background=True,
            timeout=0,
            on_stdout=heard.append,
        )
        with anyio.fail_after(5):
            while heard != ["one\n"]:
                await anyio.sleep(0.01)
        await sandbox.files.write("go", "")
        result = await handle.wait()
        assert (result.stdout, result.exit_code) == ("one\ntwo\r", 0)

    async def test_what_is_written_while_nobody_listens_is_lost(self, sandbox: AsyncSandbox) -> None:
        command = "echo early; while [ ! -e first ]; do sleep 0.02; done; echo lost; touch written;"
        command += "while [ ! -e second ]; do sleep 0.02; done; echo late; exit 4"
        handle = await sandbox.commands.run(command, background=True, timeout=0)
        await handle.disconnect()
        await sandbox.files.write("first", "")
        with anyio.fail_after(5):
            while not await sandbox.files.exists("written"):
                await anyio.sleep(0.02)
        again = await sandbox.commands.connect(handle.pid, timeout=0)
        await sandbox.files.write("second", "")
        with pytest.raises(CommandExitException) as caught:
            await again.wait()
        assert (caught.value.stdout, caught.value.exit_code) == ("late\n", 4)

    async def test_an_end_can_be_asked_for_a_while(self, served: Served, sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("true", background=True, timeout=0)
        await handle.wait()
        again = await sandbox.commands.connect(handle.pid, timeout=0)
        assert (await again.wait()).exit_code == 0
        await anyio.sleep(0.15)
        served.simulator.clock.advance(31)
        await anyio.sleep(0.15)
        with pytest.raises(NotFoundException):
            await sandbox.commands.connect(handle.pid, timeout=0)

    async def test_the_client_s_deadline_kills_the_process(self, served: Served, sandbox: AsyncSandbox) -> None:
        with pytest.raises(TimeoutException):
            await sandbox.commands.run("sleep 1000", timeout=0.3)
        with anyio.fail_after(5):
            while served.record(sandbox).machine.inhabitants():
                await anyio.sleep(0.02)

    async def test_kill_list_and_stdin(self, sandbox: AsyncSandbox) -> None:
        handle = await sandbox.commands.run("cat", background=True, stdin=True, timeout=0)
        await handle.send_stdin("spoken")
        assert [one.pid for one in await sandbox.commands.list()] == [handle.pid]
        await handle.close_stdin()
        assert (await handle.wait()).stdout == "spoken"
        other = await sandbox.commands.run("sleep 1000", background=True, timeout=0)
        assert await other.kill() is True
        with pytest.raises(CommandExitException) as caught:
            await other.wait()
        assert (caught.value.exit_code, caught.value.error) == (-1, "signal: killed")
        assert await sandbox.commands.kill(other.pid) is False

    async def test_the_environment_is_its_own(self, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("OPERATORS_SECRET", "open sesame")
        sandbox = await served.create(envs={"COLOR": "blue"}, metadata={"tag": "run-2"})
        told = (await sandbox.commands.run("env; pwd", envs={"SIZE": "large"}, timeout=0)).stdout
        assert "COLOR=blue" in told and "SIZE=large" in told and "USER=user" in told
        assert "OPERATORS_SECRET" not in told
        home = str(served.record(sandbox).machine.home)
        assert told.splitlines()[-1] == home
        assert (await sandbox.commands.run("cd /home/user && pwd", timeout=0)).stdout.strip() == home

    async def test_python_is_this_one_and_pip_stays_off_the_network(self, sandbox: AsyncSandbox) -> None:
        code = "import httpx2, sys; print(sys.version_info[:2])"
        told = await sandbox.commands.run(f"python3 -c '{code}'; python -c '{code}'", timeout=0)
        assert len(set(told.stdout.splitlines())) == 1
        with pytest.raises(CommandExitException, match=r"No matching distribution|Could not find a version"):
            await sandbox.commands.run("pip install --quiet surely-not-installed-here >&2", timeout=0)

    async def test_large_output_and_many_at_once(self, sandbox: AsyncSandbox) -> None:
        large = await sandbox.commands.run("head -c 3000000 /dev/zero | tr '\\0' x", timeout=0)
        assert len(large.stdout) == 3_000_000
        found: list[str] = []

        async def run(number: int) -> None:
            found.append((await sandbox.commands.run(f"echo {number}", timeout=0)).stdout.strip())

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(run, number)
        assert sorted(found, key=int) == [str(number) for number in range(12)]


class TestFiles:
    async def test_write_read_list_move_remove(self, sandbox: AsyncSandbox) -> None:
        written = await sandbox.files.write_files(
            [{"path": "deep/ä file.txt", "data": "grüße"}, {"path": "/home/user/plain", "data": b"\0\xff"}]
        )
        assert [one.path for one in written] == ["/home/user/deep/ä file.txt", "/home/user/plain"]
        assert await sandbox.files.read("deep/ä file.txt") == "grüße"
        assert await sandbox.files.read("plain", format="bytes") == b"\0\xff"
        stream = await sandbox.files.read("plain", format="stream")
        assert b"".join([chunk async for chunk in stream]) == b"\0\xff"
        listed = await sandbox.files.list("/home/user", depth=2)
        assert {one.path for one in listed} >= {"/home/user/deep", "/home/user/deep/ä file.txt"}
        assert (await sandbox.files.get_info("plain")).size == 2
        await sandbox.files.rename("plain", "elsewhere/plain")
        assert await sandbox.files.exists("elsewhere/plain") and not await sandbox.files.exists("plain")
        assert await sandbox.files.make_dir("new") is True and await sandbox.files.make_dir("new") is False
        await sandbox.files.remove("elsewhere")
        with pytest.raises(FileNotFoundException):
            await sandbox.files.read("elsewhere/plain")

    async def test_octet_streams(self, sandbox: AsyncSandbox) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a" * 100_000
            yield b"b"

        await sandbox.files.write("streamed", chunks())
        assert (await sandbox.commands.run("wc -c < streamed", timeout=0)).stdout.strip() == "100001"

    async def test_never_outside_of_its_folder(self, served: Served, sandbox: AsyncSandbox, tmp_path: Path) -> None:
        (tmp_path / "theirs").write_text("theirs")
        await sandbox.commands.run(f"ln -s {tmp_path} link", timeout=0)
        for path in ("link/theirs", "/home/user/link/theirs"):
            with pytest.raises(InvalidArgumentException):
                await sandbox.files.read(path)
            with pytest.raises(InvalidArgumentException):
                await sandbox.files.write(path, "mine")
        # Dots lead to the sandbox's own root, where another absolute path is a file of its own too.
        await sandbox.files.write("../../../../../etc/passwd", "mine")
        machine = served.record(sandbox).machine
        assert (machine.root / "etc/passwd").read_text() == "mine"
        assert (tmp_path / "theirs").read_text() == "theirs"

    async def test_a_full_disk(self, served: Served) -> None:
        served.script("disk_full")
        sandbox = await served.create(metadata={"tag": "run-2"})
        with pytest.raises(NotEnoughSpaceException):
            await sandbox.files.write("a", "b")

    async def test_a_wrong_token(self, served: Served, sandbox: AsyncSandbox) -> None:
        served.record(sandbox).token = "another"
        with pytest.raises(AuthenticationException):
            await sandbox.files.read(".profile")


class TestScenarios:
    async def test_a_stream_that_stops_without_its_end(self, served: Served) -> None:
        served.script("stream_cut")
        sandbox = await served.create(metadata={"tag": "run-2"})
        for _ in range(2):
            with pytest.raises(Exception, match=r"ended without an end event|EndStream|incomplete"):
                await sandbox.commands.run("echo hi", timeout=0)
        assert (await sandbox.commands.run("echo hi", timeout=0)).stdout == "hi\n"

    @pytest.mark.parametrize(("scenario", "code"), [("fails_while_training", 137), ("stuck", None)])
    async def test_accidents_of_programs(self, served: Served, scenario: str, code: int | None) -> None:
        served.script(scenario)
        sandbox = await served.create(metadata={"tag": "run-2"})
        await sandbox.commands.run("(python3 -c 'import time; time.sleep(1000)'; echo $? > code) >&- 2>&- &", timeout=0)
        record = served.record(sandbox)
        await anyio.sleep(0.5)
        served.simulator.clock.advance(2)
        with anyio.fail_after(10):
            while record.accident_at is None:
                await anyio.sleep(0.02)
        if code is not None:
            with anyio.fail_after(5):
                while not await sandbox.files.exists("code"):
                    await anyio.sleep(0.02)
            assert await sandbox.files.read("code") == f"{code}\n"
        else:
            assert [one.status() for one in record.machine.workers(0)] == ["stopped"]
        assert await sandbox.kill()

    async def test_an_agent_that_answers_nothing(self, served: Served) -> None:
        served.script("hangs")
        sandbox = await served.create(metadata={"tag": "run-2"})
        with pytest.raises(TimeoutException):
            await sandbox.commands.run("true", timeout=0, request_timeout=0.2)
        assert await sandbox.is_running()


class TestPorts:
    async def test_an_app_is_reached_once_its_port_is_open(self, served: Served, sandbox: AsyncSandbox) -> None:
        home = f"{served.base}/_port/{sandbox.sandbox_id}/18734"
        async with httpx2.AsyncClient(trust_env=False) as client:
            before = await client.get(f"{home}/")
            assert (before.status_code, before.json()) == (
                502,
                {
                    "sandboxId": sandbox.sandbox_id,
                    "message": "The sandbox is running but port is not open",
                    "port": 18734,
                    "code": 502,
                },
            )
            await sandbox.files.write("page.txt", "my app")
            command = "setsid nohup python3 -m http.server 18734 --bind 127.0.0.1 >/dev/null 2>&1 &"
            await sandbox.commands.run(command, timeout=0)
            with anyio.fail_after(10):
                while (answer := await client.get(f"{home}/page.txt")).status_code == 502:
                    await anyio.sleep(0.05)
            assert (answer.status_code, answer.text) == (200, "my app")
            named = await client.get(f"{served.base}/page.txt", headers={"host": f"18734-{sandbox.sandbox_id}.e2b.app"})
            assert named.text == "my app"
            other = await served.create(metadata={"tag": "run-2"})
            foreign = await client.get(f"{served.base}/_port/{other.sandbox_id}/18734/page.txt")
            assert foreign.status_code == 502
            await sandbox.kill()
            assert (await client.get(f"{home}/page.txt")).json()["message"] == "The sandbox was not found"


def test_base64_is_checked() -> None:
    from jobs.simulators.e2b.agent import _from_base64
    from jobs.simulators.e2b.wire import ConnectFault

    assert _from_base64(base64.b64encode(b"a").decode()) == b"a"
    with pytest.raises(ConnectFault):
        _from_base64("not base64!")
