"""What concerns all sandboxes of a data dir at once."""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from jobs.providers.local.sandbox import Sandbox, SandboxState, sandboxes_of, tags_of

STOPS_AT_ONCE = 8
DRAFT_AGE_SECONDS = 3_600.0


async def stop_everything(data_dir: Path) -> bool:
    """End all sandboxes of a data dir, trainings and apps; True once nothing of them is left."""
    results: list[bool] = []
    places = anyio.CapacityLimiter(STOPS_AT_ONCE)

    async def stop_one(tag: str) -> None:
        async with places:
            results.append(await Sandbox(data_dir, tag).stop())

    async with anyio.create_task_group() as group:
        for tag in await to_thread.run_sync(tags_of, data_dir):
            group.start_soon(stop_one, tag)
    return all(results)


async def remove_old(data_dir: Path, keep: set[str], *, among: Sequence[str] | None = None) -> list[str]:
    """Delete the folders of ended sandboxes, and what a killed worker left half made; gives the deleted tags.

    `keep` holds references of trainings and apps. Running sandboxes, and those not started yet, are never touched.
    `among` are the tags to look at, listed before `keep` was: a sandbox that is made in between is in neither.
    """
    removed = []
    for tag in among if among is not None else await to_thread.run_sync(tags_of, data_dir):
        if tag in keep:
            continue
        sandbox = Sandbox(data_dir, tag)
        ended = await sandbox.state() in (SandboxState.EXITED, SandboxState.VANISHED)
        if ended and await sandbox.remove():
            removed.append(tag)
    await to_thread.run_sync(_remove_drafts, data_dir)
    return removed


def _remove_drafts(data_dir: Path) -> None:
    """Folders that never got their name, or have lost it."""
    parent = sandboxes_of(data_dir)
    if not parent.is_dir():
        return
    oldest = time.time() - DRAFT_AGE_SECONDS
    for entry in os.scandir(parent):
        if entry.name.startswith((".new-", ".gone-")) and entry.stat(follow_symlinks=False).st_mtime < oldest:
            shutil.rmtree(entry.path, ignore_errors=True)
