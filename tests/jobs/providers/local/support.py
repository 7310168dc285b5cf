"""Small programs for sandboxes, and ways to wait for what they do."""

import json
import sys
from pathlib import Path

import anyio

from jobs.providers.local.folders import inhabitants
from jobs.providers.local.sandbox import Program, Sandbox, SandboxState

WAIT_LIMIT_SECONDS = 20.0
GIB = 1024**3
MIB = 1024**2


def program_of(
    code: str,
    *,
    memory_limit_bytes: int = GIB,
    disk_limit_bytes: int = GIB,
    time_limit_seconds: float | None = 30,
    process_limit: int = 256,
    mask: tuple[str, ...] = (),
) -> Program:
    """A Python program for a sandbox, with small limits."""
    return Program(
        argv=[sys.executable, "-c", code],
        environment={"PATH": "/usr/bin:/bin"},
        memory_limit_bytes=memory_limit_bytes,
        disk_limit_bytes=disk_limit_bytes,
        time_limit_seconds=time_limit_seconds,
        process_limit=process_limit,
        mask=mask,
        stop_grace_seconds=0.3,
    )


async def started(data_dir: Path, tag: str, program: Program) -> Sandbox:
    """A sandbox that was created and started."""
    sandbox = Sandbox(data_dir, tag)
    await sandbox.create(program, lambda home: None)
    await sandbox.start()
    return sandbox


async def ended(sandbox: Sandbox) -> SandboxState:
    """The state in which it stays, once it is there."""
    with anyio.fail_after(WAIT_LIMIT_SECONDS):
        while True:
            state = await sandbox.state()
            if state in (SandboxState.EXITED, SandboxState.VANISHED):
                return state
            await anyio.sleep(0.02)


async def file_of(path: Path) -> str:
    """The text of a file that a program is about to write whole."""
    with anyio.fail_after(WAIT_LIMIT_SECONDS):
        while True:
            if await anyio.Path(path).exists() and (text := await anyio.Path(path).read_text()).endswith("\n"):
                return text
            await anyio.sleep(0.02)


def supervisor_of(sandbox: Sandbox) -> int:
    """The process id of its supervisor."""
    return int(json.loads((sandbox.folder / "started.json").read_text(encoding="utf-8"))["pid"])


async def nobody_in(sandbox: Sandbox) -> bool:
    """Whether /proc knows no process of the sandbox."""
    return not await anyio.to_thread.run_sync(inhabitants, sandbox.folder)


async def texts_of(sandbox: Sandbox) -> list[str]:
    """The log's lines without their time, each `<stream> <text>`."""
    log = await sandbox.read_log(0, 64 * MIB, 1_000_000)
    return [line.decode().partition(" ")[2] for line in log.lines]
