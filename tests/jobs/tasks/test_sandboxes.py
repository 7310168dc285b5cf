"""Sandboxes are deleted once nothing needs them, and never before."""

from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import httpx2
import pytest

from db.settings import Settings
from db.unit_of_work import Database
from domain.base import new_id
from domain.training.model import Artifact, RunAttempt, TrainingRun
from domain.training.status import RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.local.sandbox import Program, Sandbox
from jobs.tasks.upkeep import remove_old_sandboxes
from tests.factories import make_run, make_user

pytestmark = pytest.mark.anyio


@pytest.fixture
async def context(settings: Settings, worker_database: Database) -> JobContext:
    return JobContext(
        worker_id=new_id(),
        settings=settings,
        database=worker_database,
        clock=worker_database.clock,
        trainers={},
        app_hosts={},
        http=cast(httpx2.AsyncClient, None),  # nothing is asked over HTTP here
    )


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database)


async def left_behind(context: JobContext, run: TrainingRun) -> Path:
    """The folder of a sandbox of the run's first attempt, whose program has ended."""
    tag = f"run-{run.id.hex}-1"
    async with context.begin() as work:
        attempt = RunAttempt(
            created_at=work.now, user_id=run.user_id, run_id=run.id, number=1, provider=run.provider, tag=tag
        )
        work.session.add(attempt)
    sandbox = Sandbox(context.settings.data_dir, tag)
    program = Program(
        argv=("/bin/true",), environment={}, memory_limit_bytes=2**30, disk_limit_bytes=2**30, time_limit_seconds=30
    )
    await sandbox.create(program, lambda home: None)
    await sandbox.start()
    with anyio.fail_after(20):
        while await sandbox.exit_record() is None:
            await anyio.sleep(0.02)
    return sandbox.folder


async def run_in(database: Database, viewer: Viewer, status: RunStatus) -> TrainingRun:
    return await make_run(database, viewer, status=status, attempts=0)


async def test_a_failed_run_s_sandbox_goes_and_an_active_one_s_stays(
    context: JobContext, database: Database, ada: Viewer
) -> None:
    failed = await left_behind(context, await run_in(database, ada, RunStatus.FAILED))
    active = await left_behind(context, await run_in(database, ada, RunStatus.TRAINING))
    with anyio.fail_after(20):
        while failed.exists():  # the supervisor may still be letting go
            await remove_old_sandboxes(context)
    assert active.exists()


async def test_what_holds_a_model_stays(context: JobContext, database: Database, ada: Viewer) -> None:
    run = await run_in(database, ada, RunStatus.READY)
    folder = await left_behind(context, run)
    async with context.begin() as work:
        work.session.add(
            Artifact(
                created_at=work.now,
                user_id=run.user_id,
                run_id=run.id,
                attempt=1,
                name="model.joblib",
                location=str(folder / "home"),
                bytes=1,
                sha256="0" * 64,
            )
        )
    assert await remove_old_sandboxes(context) == []
    assert folder.exists()


async def test_another_data_dir_is_not_ours(context: JobContext, database: Database, ada: Viewer) -> None:
    folder = await left_behind(context, await run_in(database, ada, RunStatus.FAILED))
    elsewhere = replace(
        context, settings=context.settings.model_copy(update={"data_dir": context.settings.data_dir / "other"})
    )
    assert await remove_old_sandboxes(elsewhere) == []
    assert folder.exists()
