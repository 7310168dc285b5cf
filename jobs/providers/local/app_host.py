"""Serves trained models on this machine: each app is a sandbox of its own with a copy of the model in it."""

import json
import os
import shutil
import time
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from anyio import to_thread

from jobs.providers.base import AppOrder, ProviderBusy, ProviderRefused, RunningApp
from jobs.providers.local import folders
from jobs.providers.local.environments import environment
from jobs.providers.local.programs import program, put_order, put_recipes
from jobs.providers.local.sandbox import Sandbox, SandboxState
from jobs.providers.local.transcript import transcript_of

START_LIMIT_SECONDS = 60.0
ASK_LIMIT_SECONDS = 5.0
LOCKS = 16
DISK_ROOM_BYTES = 1024 * 1024 * 1024
"""What an app may write beside its model."""
_PREFIX = "app-"
"""Keeps the names of apps and trainings apart."""


class LocalAppHost:
    """Apps of the provider `local`. The reference of an app is its sandbox's tag."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    async def start(self, order: AppOrder) -> RunningApp:
        """Start the app once and wait until it answers; an app that died is made anew under the same tag."""
        try:
            sandbox = Sandbox(self.data_dir, _PREFIX + order.tag)
        except ValueError as error:
            raise ProviderRefused(str(error)) from error
        python = await environment(self.data_dir)
        async with self._alone_with(sandbox):
            exists = await Sandbox.find(self.data_dir, sandbox.tag) is not None
            if exists and await sandbox.state() in (SandboxState.EXITED, SandboxState.VANISHED):
                if not await sandbox.remove():
                    raise ProviderBusy("The app's former processes are still ending.", 5.0)
                exists = False
            if not exists:
                await self._create(sandbox, order, python)
            await sandbox.start()
        return await self._answering(sandbox)

    async def is_alive(self, reference: str) -> bool:
        """Whether the app's sandbox runs."""
        sandbox = await Sandbox.find(self.data_dir, reference)
        return sandbox is not None and await sandbox.state() is SandboxState.RUNNING

    async def stop(self, reference: str) -> bool:
        """End the app and delete its folder; True once nothing of it is left."""
        try:
            sandbox = Sandbox(self.data_dir, reference)
        except ValueError:
            return True  # no app ever had this name
        return await sandbox.remove()

    @asynccontextmanager
    async def _alone_with(self, sandbox: Sandbox) -> AsyncIterator[None]:
        """Nobody else makes or replaces this app meanwhile."""
        # A few locks for all apps: a lock file of its own could never be deleted safely.
        path = sandbox.folder.with_name(f".apps-{zlib.crc32(sandbox.tag.encode()) % LOCKS}.lock")
        await to_thread.run_sync(lambda: path.parent.mkdir(parents=True, exist_ok=True, mode=0o700))
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while (lock := await to_thread.run_sync(folders.try_lock, path)) is None:
            if time.monotonic() > deadline:
                raise ProviderBusy("The app is being started by another worker.", 5.0)
            await anyio.sleep(0.05)
        try:
            yield
        finally:
            os.close(lock)

    async def _create(self, sandbox: Sandbox, order: AppOrder, python: Path) -> None:
        model = Path(order.artifact_location)
        content = {
            "runId": str(order.run_id),
            "artifactName": model.name,
            "artifactSha256": order.artifact_sha256,
        }

        def fill(home: Path) -> None:
            put_recipes(home)
            put_order(home, content)
            (home / "artifact").mkdir(mode=0o700)
            # A copy and not a link: no program of the training's folder can then change what is served.
            shutil.copyfile(model, home / "artifact" / model.name)

        if not await to_thread.run_sync(model.is_file):
            raise ProviderRefused("The trained model's file is not there any more; train it again.")
        await sandbox.create(
            program(
                "serve",
                python,
                memory_limit_bytes=order.memory_limit_bytes,
                disk_limit_bytes=DISK_ROOM_BYTES + await to_thread.run_sync(lambda: model.stat().st_size),
                time_limit_seconds=None,
                nice=0,
            ),
            fill,
        )

    async def _answering(self, sandbox: Sandbox) -> RunningApp:
        """Wait for the app's own word that it listens, and ask it."""
        deadline = time.monotonic() + START_LIMIT_SECONDS
        while time.monotonic() < deadline:
            state = await sandbox.state()
            if state in (SandboxState.EXITED, SandboxState.VANISHED):
                raise ProviderRefused(f"The app ended before it answered: {await _last_words(sandbox)}")
            address = await to_thread.run_sync(_address, sandbox.home / "address.json")
            if address is not None and await _answers(*address):
                return RunningApp(sandbox.tag, *address)
            await anyio.sleep(0.05)
        raise ProviderBusy("The app does not answer yet.", 5.0)


def _address(path: Path) -> tuple[str, int] | None:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        return str(content["host"]), int(content["port"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


async def _answers(host: str, port: int) -> bool:
    with anyio.move_on_after(ASK_LIMIT_SECONDS):
        try:
            async with await anyio.connect_tcp(host, port) as stream:
                await stream.send(b"GET /health HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
                return b" 200 " in (await stream.receive()).partition(b"\r\n")[0]
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError):
            return False
    return False


async def _last_words(sandbox: Sandbox) -> str:
    log = await sandbox.read_log(0, 256 * 1024, 1_000)
    said = transcript_of(log.lines)
    record = await sandbox.exit_record()
    if record is not None and record.message is not None:
        return record.message
    return said.last_error_line or (said.lines[-1].text if said.lines else "it said nothing.")
