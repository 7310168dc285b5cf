"""E2BSandboxes: files, commands, programs, ports and lives, for trainings and for any other program."""

import asyncio

import anyio
import httpx2
import pytest

from domain.secret import Secret
from domain.training.status import Provider
from jobs.providers.base import Account, ProviderBusy, ProviderLost, ProviderRefused
from jobs.providers.e2b.errors import FileMissing, SandboxGone
from jobs.providers.e2b.glimpse import Glimpse, ProgramEnd, ProgramState
from jobs.providers.e2b.sandboxes import E2BSandboxes
from jobs.simulators.e2b.wire import ConnectFault
from tests.jobs.providers.e2b.support import Bench

pytestmark = pytest.mark.anyio


@pytest.fixture
def boxes(bench: Bench) -> E2BSandboxes:
    return bench.sandboxes()


@pytest.fixture
async def box(boxes: E2BSandboxes) -> str:
    return (await boxes.create("chat-1", {"run": "r1"})).id


class TestLife:
    async def test_made_once_and_found_by_its_tag(self, bench: Bench, boxes: E2BSandboxes) -> None:
        made = await boxes.create("Chat_1", {"run": "r1"}, life_seconds=900, envs={"COLOR": "blue"})
        assert made.metadata == {"run": "r1", "tag": "Chat_1"}
        assert (made.cpu_count, made.memory_mb, made.price_micros_per_hour) == (2, 512, 108_900)
        assert round((made.end_at - made.started_at).total_seconds()) == 900
        again = await bench.sandboxes().create("Chat_1", {"run": "r1"})
        assert again.id == made.id
        assert (await boxes.find("Chat_1")) == made
        assert await boxes.find("chat_1") is None
        assert await boxes.alive() == {made.id: "Chat_1"}
        assert (await boxes.run(made.id, "echo $COLOR")).stdout == "blue\n"
        assert [one.headers["idempotency-key"] for one in bench.heard("POST", "/v2/sandboxes")] == ["chat-1"]

    async def test_extended_paused_resumed_killed(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        await boxes.extend(box, 5000)
        bench.simulator.clock.advance(4000)
        assert await boxes.is_alive(box)
        await boxes.pause(box)
        await boxes.pause(box)
        paused = await boxes.control.info(box)
        assert paused.is_paused and await boxes.is_alive(box)
        bench.simulator.clock.advance(10_000)
        assert paused.cost_micros(bench.now) == pytest.approx(4000 * 30.25, rel=0.01)
        await boxes.resume(box)
        assert (await boxes.run(box, "echo awake")).stdout == "awake\n"
        assert await boxes.kill(box) is True
        assert await boxes.kill(box) is True
        assert not await boxes.is_alive(box)

    async def test_whatever_is_asked_of_a_gone_one(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        await bench.sandboxes().kill(box)
        for deed in (
            lambda: boxes.run(box, "true"),
            lambda: boxes.write(box, {"a": b""}),
            lambda: boxes.read(box, "a", 10),
            lambda: boxes.extend(box, 100),
            lambda: boxes.pause(box),
            lambda: boxes.resume(box),
            lambda: boxes.look(box, "program", 0, limit_bytes=1),
            lambda: boxes.is_open(box, 8000),
        ):
            with pytest.raises(SandboxGone):
                await deed()

    async def test_one_that_expires_is_gone(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        bench.simulator.clock.advance(1801)
        with pytest.raises(SandboxGone):
            await boxes.run(box, "true")


class TestFiles:
    async def test_written_and_their_hashes_read_back(self, boxes: E2BSandboxes, box: str) -> None:
        files = {
            "plain.txt": "grüße\n".encode(),
            "deep/er/empty": b"",
            "a 'quoted' $name": b"\0\xff" * 1000,
            "back\\slash": b"x",
            "large": bytes(range(256)) * 20_000,
        }
        await boxes.write(box, files, "app")
        for name, content in files.items():
            assert await boxes.read(box, f"app/{name}", 10**7) == content
        await boxes.write(box, {"plain.txt": b"new"}, "app")
        assert await boxes.read(box, "app/plain.txt", 3) == b"new"

    async def test_damage_is_noticed(self, boxes: E2BSandboxes, box: str) -> None:
        liar = b"#!/bin/sh\nfor name; do [ $name = -- ] || echo " + b"0" * 64 + b' "$name"; done\n'
        await boxes.write(box, {"bin/sha256sum": liar})
        await boxes.run(box, "chmod +x bin/sha256sum; echo 'PATH=$HOME/bin:$PATH' >> .profile")
        with pytest.raises(ProviderBusy, match="damaged"):
            await boxes.write(box, {"a": b"b"})

    @pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../up", "", "nul\0"])
    async def test_never_outside_of_the_folder(self, boxes: E2BSandboxes, box: str, name: str) -> None:
        with pytest.raises(ProviderRefused):
            await boxes.write(box, {name: b"x"}, "app")

    async def test_reading_is_bounded(self, boxes: E2BSandboxes, box: str) -> None:
        await boxes.run(box, "head -c 5000000 /dev/zero > large")
        with pytest.raises(ProviderRefused, match="larger than 1000"):
            await boxes.read(box, "large", 1000)
        with pytest.raises(FileMissing):
            await boxes.read(box, "missing", 1000)
        assert len(b"".join([chunk async for chunk in boxes.stream(box, "large")])) == 5_000_000

    async def test_a_full_disk(self, bench: Bench) -> None:
        bench.script("disk_full")
        boxes = bench.sandboxes()
        made = await boxes.create("chat-2", {})
        with pytest.raises(ProviderRefused, match="full"):
            await boxes.write(made.id, {"a": b"b"})


class TestCommands:
    async def test_output_comes_as_it_is_written(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        heard: list[str] = []
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                end = await boxes.run(
                    box,
                    "echo one; while [ ! -e go ]; do sleep 0.02; done; echo two >&2; exit 5",
                    on_stdout=heard.append,
                    on_stderr=lambda text: heard.append(f"! {text}"),
                )
                assert (end.exit_code, end.stdout, end.stderr) == (5, "one\n", "two\n")

            tasks.start_soon(run)
            with anyio.fail_after(10):
                while heard != ["one\n"]:
                    await anyio.sleep(0.01)
            (bench.record(box).machine.home / "go").touch()
        assert heard == ["one\n", "! two\n"]

    async def test_the_limit_kills_it(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        end = await boxes.run(box, "echo begun; exec sleep 100", limit_seconds=0.5)
        assert end.was_over_time and (end.exit_code, end.stdout) == (-1, "begun\n")
        with anyio.fail_after(5):
            while bench.record(box).machine.inhabitants():
                await anyio.sleep(0.02)

    async def test_long_commands_have_no_limit_but_ours(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        """E2B's package would end them after a minute."""
        async with anyio.create_task_group() as tasks:

            async def run() -> None:
                end = await boxes.run(box, "while [ ! -e go ]; do sleep 0.02; done; echo done", limit_seconds=100)
                assert end.stdout == "done\n"

            tasks.start_soon(run)
            await anyio.sleep(0.3)
            bench.simulator.clock.advance(600)
            await anyio.sleep(0.2)
            (bench.record(box).machine.home / "go").touch()

    async def test_a_listener_that_stumbles_ends_nothing(self, boxes: E2BSandboxes, box: str) -> None:
        def stumble(text: str) -> None:
            raise ValueError(text)

        assert (await boxes.run(box, "echo a; echo b", on_stdout=stumble)).stdout == "a\nb\n"

    @pytest.mark.parametrize("seconds", [0.0, 0.01, 0.3])
    async def test_a_caller_that_is_cancelled_leaves_nothing_open(
        self, bench: Bench, boxes: E2BSandboxes, box: str, seconds: float
    ) -> None:
        task = asyncio.ensure_future(boxes.run(box, "sleep 0.5; touch over"))
        await anyio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await boxes.close()
        if seconds == 0.3:  # the command itself is not concerned
            with anyio.fail_after(5):
                while not (bench.record(box).machine.home / "over").exists():
                    await anyio.sleep(0.02)
        assert (await boxes.run(box, "echo fine")).stdout == "fine\n"

    async def test_a_stream_without_its_end_is_busy(self, bench: Bench) -> None:
        bench.script("stream_cut")
        boxes = bench.sandboxes()
        made = await boxes.create("chat-2", {})
        with pytest.raises(ProviderBusy, match="lost"):
            await boxes.run(made.id, "echo hi")

    async def test_a_bad_folder_is_refused(self, boxes: E2BSandboxes, box: str) -> None:
        with pytest.raises(ProviderRefused, match="does not exist"):
            await boxes.run(box, "true", cwd="nowhere")


async def all_of(boxes: E2BSandboxes, box: str, name: str, offset: int = 0) -> tuple[bytes, Glimpse]:
    """What a program's log says after the offset, followed to its end, and the last look at it."""
    found, last = b"", None
    with anyio.fail_after(30):
        async for glimpse in boxes.follow(box, name, offset, limit_bytes=1000, wait_seconds=1.0):
            assert glimpse.offset == offset + len(found)
            found, last = found + glimpse.data, glimpse
    assert last is not None
    return found, last


class TestPrograms:
    async def test_begun_once_with_its_files_log_and_end(self, boxes: E2BSandboxes, box: str) -> None:
        command = "cat input; echo oops >&2; pwd | grep -o '[^/]*$'; exit 4"
        for _ in range(2):
            await boxes.begin(box, "program", command, {"input": b"given\n"}, limit_seconds=60)
        log, last = await all_of(boxes, box, "program")
        assert log == b'given\noops\nprogram\n::runwire {"exit": 4}\n'
        assert last.end == ProgramEnd(code=4, seconds=0, was_over_time=False, was_out_of_memory=False)
        assert (await boxes.run(box, "ls")).stdout == "program\n"
        with pytest.raises(ProviderLost):
            await all_of(boxes, box, "another")

    async def test_followed_through_lost_connections(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        await boxes.begin(
            box, "program", "for i in $(seq 1 40); do echo line $i; sleep 0.03; done", {}, limit_seconds=60
        )
        found: list[bytes] = []

        async def follow() -> None:
            found.append((await all_of(boxes, box, "program"))[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for _ in range(3):
                await anyio.sleep(0.25)
                record = bench.record(box)
                record.processes.cut_streams(ConnectFault("unavailable", "the connection to sandbox ended"))
                record.processes.mend_streams()
        lines = found[0].decode().splitlines()
        assert lines[:-1] == [f"line {number}" for number in range(1, 41)]
        # Another worker, from the middle on.
        rest, _ = await all_of(bench.sandboxes(), box, "program", len(b"line 1\nline 2\n"))
        assert rest.decode().splitlines() == lines[2:]

    async def test_its_files_may_not_be_ours(self, boxes: E2BSandboxes, box: str) -> None:
        with pytest.raises(ProviderRefused):
            await boxes.begin(box, "program", "true", {".runwire/run.sh": b"evil"}, limit_seconds=60)

    async def test_a_look_waits_for_something_new_and_no_longer(self, boxes: E2BSandboxes, box: str) -> None:
        await boxes.begin(box, "program", "echo begun; sleep 100", {}, limit_seconds=60)
        with anyio.fail_after(5):
            while not (first := await boxes.look(box, "program", 0, limit_bytes=100, wait_seconds=0.2)).data:
                pass
        assert (first.state, first.data, first.size, first.is_whole) == (ProgramState.RUNNING, b"begun\n", 6, False)
        began = asyncio.get_running_loop().time()
        quiet = await boxes.look(box, "program", 6, limit_bytes=100, wait_seconds=0.6)
        assert quiet.data == b"" and asyncio.get_running_loop().time() - began >= 0.6

    @pytest.mark.parametrize("printed", ["", "running", "running 1 x\n", "ended 1 1\n", "running 1 1\nnot base64!"])
    def test_what_is_no_look(self, printed: str) -> None:
        with pytest.raises(ProviderBusy):
            Glimpse.of(printed, 0)


class TestPorts:
    async def test_an_app_is_reached_once_its_port_is_open(self, bench: Bench, boxes: E2BSandboxes, box: str) -> None:
        assert not await boxes.is_open(box, 18_735)
        await boxes.begin(
            box, "app", "python3 -m http.server 18735 --bind 127.0.0.1", {"page": b"my app"}, limit_seconds=60
        )
        with anyio.fail_after(15):
            while not await boxes.is_open(box, 18_735):
                await anyio.sleep(0.05)
        page = await bench.http.get(boxes.address(box, 18_735) + "/page")
        assert page.text == "my app"
        await boxes.kill(box)
        with pytest.raises(SandboxGone):
            await boxes.is_open(box, 18_735)

    async def test_a_port_that_never_opens(self, bench: Bench) -> None:
        bench.script("port_not_open")
        boxes = bench.sandboxes()
        made = await boxes.create("chat-2", {})
        await boxes.begin(made.id, "app", "python3 -m http.server 18736 --bind 127.0.0.1", {}, limit_seconds=60)
        await anyio.sleep(0.5)
        assert not await boxes.is_open(made.id, 18_736)

    @pytest.mark.parametrize(
        ("base_url", "pattern", "address"),
        [
            ("https://api.e2b.app", None, "https://8000-i1.e2b.app"),
            ("https://api.sandboxes.example", None, "https://8000-i1.sandboxes.example"),
            ("http://127.0.0.1:9", None, "http://127.0.0.1:9/_port/i1/8000"),
            ("https://api.e2b.app", "https://{id}--{port}.apps.example/", "https://i1--8000.apps.example"),
        ],
    )
    def test_addresses(self, base_url: str, pattern: str | None, address: str) -> None:
        account = Account(Provider.E2B, Secret("e2b_none"), base_url)
        boxes = E2BSandboxes(account, httpx2.AsyncClient(trust_env=False), app_url_pattern=pattern)
        assert boxes.address("i1", 8000) == address
