"""A sandbox's life: started once, outlives who started it, ends whole, leaves nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from jobs.providers.local import folders
from jobs.providers.local.sandbox import ExitRecord, Sandbox, SandboxState, tags_of
from jobs.providers.local.upkeep import remove_old, stop_everything
from tests.jobs.providers.local.support import (
    GIB,
    MIB,
    ended,
    file_of,
    nobody_in,
    program_of,
    started,
    supervisor_of,
    texts_of,
)

pytestmark = pytest.mark.anyio

COUNTS_ITS_STARTS = "open('starts', 'a').write('once\\n')"
SLEEPS = "import time; print('here', flush=True); open('ready', 'w').write('yes\\n'); time.sleep(60)"
LEAVES_A_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open('ready', 'w').write(f'{os.getpid()}\\n')
        os.chdir('/')
        os.execve('/bin/sleep', ['sleep', '60'], {})
    os._exit(0)
os.wait()
while not os.path.exists('ready'): time.sleep(0.01)
"""


def worker(data_dir: Path, tag: str, code: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tests.jobs.providers.local.starter", str(data_dir), tag, code]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def kill(process: "subprocess.Popen[str]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_two_tasks_at_once_start_one_program(tmp_path: Path) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(4):
            group.start_soon(started, tmp_path, "one", program_of(COUNTS_ITS_STARTS))
    sandbox = await started(tmp_path, "one", program_of(COUNTS_ITS_STARTS))

    assert await ended(sandbox) is SandboxState.EXITED
    assert (sandbox.home / "starts").read_text() == "once\n"
    assert tags_of(tmp_path) == ["one"]


async def test_several_workers_at_once_start_one_program(tmp_path: Path) -> None:
    workers = [worker(tmp_path, "one", COUNTS_ITS_STARTS) for _ in range(3)]
    try:
        for process in workers:
            assert process.stdout is not None
            assert await anyio.to_thread.run_sync(process.stdout.readline) == "started\n"
    finally:
        for process in workers:
            kill(process)

    sandbox = Sandbox(tmp_path, "one")
    assert await ended(sandbox) is SandboxState.EXITED
    assert (sandbox.home / "starts").read_text() == "once\n"


async def test_it_outlives_the_worker_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, time\nprint('before', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('after')"
    )
    process = worker(tmp_path, "one", code)
    assert process.stdout is not None
    assert await anyio.to_thread.run_sync(process.stdout.readline) == "started\n"
    kill(process)
    sandbox = Sandbox(tmp_path, "one")
    assert await sandbox.state() is SandboxState.RUNNING
    (sandbox.home / "go").touch()

    assert await ended(sandbox) is SandboxState.EXITED
    assert await texts_of(sandbox) == ["O before", "O after"]
    record = await sandbox.exit_record()
    assert record == ExitRecord(0, None, None, None, record.ended_at if record else 0)


async def test_one_whose_maker_died_before_the_start_is_started_later(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, "one")
    await sandbox.create(program_of(COUNTS_ITS_STARTS), lambda home: None)
    assert await sandbox.state() is SandboxState.NEW

    await started(tmp_path, "one", program_of("raise SystemExit('the first program stays')"))

    assert await ended(sandbox) is SandboxState.EXITED
    assert (sandbox.home / "starts").read_text() == "once\n"


async def test_one_that_was_stopped_before_its_start_never_starts(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path, "one")
    await sandbox.create(program_of(COUNTS_ITS_STARTS), lambda home: None)

    assert await sandbox.stop()
    await sandbox.start()

    record = await sandbox.exit_record()
    assert record is not None
    assert record.end_reason == "CANCELED_BY_USER"
    assert not (sandbox.home / "starts").exists()


async def test_stop_ends_children_that_left_the_session(tmp_path: Path) -> None:
    code = LEAVES_A_DAEMON + "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)"
    sandbox = await started(tmp_path, "one", program_of(code))
    sleeper = int(await file_of(sandbox.home / "ready"))
    # Once it is /bin/sleep, it has no marker, no working directory in the folder, and is in another session.
    with anyio.fail_after(5):
        while True:
            seen = await anyio.to_thread.run_sync(folders.inhabitants, sandbox.folder)
            if sleeper not in seen:
                break
            await anyio.sleep(0.01)
    (program,) = seen
    assert is_alive(sleeper)
    assert is_alive(program)

    assert await sandbox.stop()

    assert not is_alive(sleeper)
    assert not is_alive(program)
    assert await nobody_in(sandbox)
    record = await sandbox.exit_record()
    assert record is not None
    assert (record.end_reason, record.signal) == ("CANCELED_BY_USER", signal.SIGKILL)


async def test_its_end_is_told_when_nothing_it_started_is_left(tmp_path: Path) -> None:
    sandbox = await started(tmp_path, "one", program_of(LEAVES_A_DAEMON + "raise SystemExit(7)"))
    sleeper = int(await file_of(sandbox.home / "ready"))

    assert await ended(sandbox) is SandboxState.EXITED

    assert not is_alive(sleeper)
    record = await sandbox.exit_record()
    assert record is not None
    assert (record.exit_code, record.end_reason) == (7, None)


@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("import time; time.sleep(60)", {"time_limit_seconds": 0.5}, "TIMED_OUT"),
        ("x = b'1' * (200 << 20); import time; time.sleep(60)", {"memory_limit_bytes": 100 * MIB}, "MEMORY_LIMIT"),
        (
            "import os, time\nfor _ in range(3):\n if os.fork() == 0: break\nx = b'1' * (60 << 20); time.sleep(60)",
            {"memory_limit_bytes": 200 * MIB},
            "MEMORY_LIMIT",
        ),
        (
            "import time\nfor n in range(4): open(f'{n}', 'wb').write(bytes(6 << 20))\ntime.sleep(60)",
            {"disk_limit_bytes": 20 * MIB},
            "DISK_LIMIT",
        ),
        ("open('big', 'wb').write(bytes(30 << 20))", {"disk_limit_bytes": 20 * MIB}, "DISK_LIMIT"),
        (
            "import subprocess, time\nfor _ in range(12): subprocess.Popen(['sleep', '60'])\ntime.sleep(60)",
            {"process_limit": 8},
            "CODE_ERROR",
        ),
    ],
)
async def test_a_limit_ends_it_with_its_reason(tmp_path: Path, code: str, limits: dict[str, int], reason: str) -> None:
    sandbox = await started(tmp_path, "one", program_of(code, **limits))  # type: ignore[arg-type]  # names of limits

    assert await ended(sandbox) is SandboxState.EXITED
    record = await sandbox.exit_record()
    assert record is not None
    assert record.end_reason == reason
    assert record.message
    assert (await texts_of(sandbox))[-1] == f"S WARNING {record.message}"
    assert await nobody_in(sandbox)


async def test_when_its_supervisor_is_killed_it_vanishes_and_can_still_be_ended(tmp_path: Path) -> None:
    code = (
        "import subprocess, time\nsleeper = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print('said', flush=True)\nopen('ready', 'w').write(f'{sleeper.pid}\\n')\ntime.sleep(60)"
    )
    sandbox = await started(tmp_path, "one", program_of(code))
    sleeper = int(await file_of(sandbox.home / "ready"))
    supervisor = supervisor_of(sandbox)

    os.kill(supervisor, signal.SIGKILL)

    assert await ended(sandbox) is SandboxState.VANISHED
    assert is_alive(sleeper)
    await sandbox.start()  # never a second time
    assert await sandbox.state() is SandboxState.VANISHED
    assert await sandbox.stop()
    assert not is_alive(sleeper)
    assert await nobody_in(sandbox)


async def test_the_program_sees_nothing_of_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEYS", "not for sandboxes")
    code = (
        "import os, sys\nprint(sorted(os.environ))\nprint(os.environ['HOME'] == os.getcwd())\n"
        "print([fd for fd in range(64) if os.path.exists(f'/proc/self/fd/{fd}')])\nprint(os.getsid(0) == os.getpid())"
    )
    sandbox = await started(tmp_path, "one", program_of(code))

    await ended(sandbox)
    names = ["HOME", "LANG", "LC_CTYPE", "PATH", "PYTHONUNBUFFERED", "RUNWIRE_SANDBOX", "TMPDIR"]
    environment, *others = await texts_of(sandbox)
    assert set(names) - {"LC_CTYPE"} <= set(eval(environment.removeprefix("O "))) <= set(names)
    assert others == ["O True", "O [0, 1, 2]", "O True"]
    assert (sandbox.folder.stat().st_mode & 0o777, (sandbox.folder / "log").stat().st_mode & 0o777) == (0o700, 0o600)


async def test_remove_ends_it_first_and_forgets_it(tmp_path: Path) -> None:
    sandbox = await started(tmp_path, "one", program_of(SLEEPS))
    await file_of(sandbox.home / "ready")

    assert await sandbox.remove()

    assert await Sandbox.find(tmp_path, "one") is None
    assert list((tmp_path / "sandboxes").iterdir()) == []
    assert await nobody_in(sandbox)


async def test_upkeep_ends_everything_and_keeps_what_it_is_told(tmp_path: Path) -> None:
    running = [await started(tmp_path, f"run-{number}", program_of(SLEEPS)) for number in range(3)]
    assert await remove_old(tmp_path, set()) == []

    assert await stop_everything(tmp_path)

    assert [await sandbox.state() for sandbox in running] == [SandboxState.EXITED] * 3
    abandoned = tmp_path / "sandboxes" / ".new-abandoned"
    abandoned.mkdir()
    os.utime(abandoned, (0, 0))
    assert await remove_old(tmp_path, {"run-1"}) == ["run-0", "run-2"]
    assert tags_of(tmp_path) == ["run-1"]
    assert not abandoned.exists()


@pytest.mark.parametrize("tag", ["", "../up", "a/b", ".hidden", "x" * 101])
async def test_tags_are_never_paths(tmp_path: Path, tag: str) -> None:
    with pytest.raises(ValueError, match="tag"):
        Sandbox(tmp_path, tag)
    assert await Sandbox.find(tmp_path, tag) is None


async def test_a_program_that_cannot_start_is_told(tmp_path: Path) -> None:
    program = program_of("")
    sandbox = await started(
        tmp_path,
        "one",
        type(program)(["/nowhere/python"], {}, GIB, GIB, 10),
    )

    await ended(sandbox)
    record = await sandbox.exit_record()
    assert record is not None
    assert record.end_reason == "PROVIDER_ERROR"
