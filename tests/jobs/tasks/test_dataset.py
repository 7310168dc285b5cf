"""What workers clear away, and what they leave alone."""

import os
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import httpx2
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from db.settings import Settings
from db.storage import DatasetStore
from db.unit_of_work import Database
from domain.base import new_id
from domain.clock import FixedClock
from domain.dataset import service
from domain.dataset.model import Dataset, DatasetStatus, DownloadGrant, DownloadReceipt
from domain.training.model import TrainingRun
from domain.training.status import RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.tasks.dataset import expire_grants, remove_file, remove_orphans
from tests.factories import make_dataset, make_run, make_user

pytestmark = pytest.mark.anyio


@pytest.fixture
def context(settings: Settings, worker_database: Database, clock: FixedClock) -> JobContext:
    return JobContext(
        worker_id=new_id(),
        settings=settings,
        database=worker_database,
        clock=clock,
        trainers=MappingProxyType({}),
        app_hosts=MappingProxyType({}),
        http=httpx2.AsyncClient(),
    )


@pytest.fixture
def store(settings: Settings) -> DatasetStore:
    return DatasetStore.of(settings)


def keep(store: DatasetStore, dataset_id: UUID, changed_at: datetime | None = None) -> None:
    with store.receive(dataset_id) as incoming:
        incoming.write(b"a\n1\n")
        incoming.keep()
    if changed_at is not None:
        os.utime(store.folder / str(dataset_id), (changed_at.timestamp(),) * 2)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


async def deleted(database: Database, viewer: Viewer) -> Dataset:
    dataset = await make_dataset(database, viewer)
    async with database.begin(viewer) as work:
        return await service.delete_dataset(work, viewer, dataset_id=dataset.id)


async def test_the_file_of_a_deleted_dataset_goes(context: JobContext, store: DatasetStore, database: Database) -> None:
    viewer = await make_user(database)
    gone, kept = await deleted(database, viewer), await make_dataset(database, viewer)
    for dataset in (gone, kept):
        keep(store, dataset.id)
        await remove_file(context, dataset.id)
        await remove_file(context, dataset.id)
    assert names(store.folder) == {str(kept.id)}


async def test_orphans_go_when_they_are_old_enough(
    context: JobContext, store: DatasetStore, database: Database, clock: FixedClock
) -> None:
    viewer = await make_user(database)
    young, old = clock.now() - timedelta(hours=23), clock.now() - timedelta(hours=25)
    ready, empty = (
        await make_dataset(database, viewer),
        await make_dataset(database, viewer, status=DatasetStatus.EMPTY),
    )
    late = await make_dataset(database, viewer, status=DatasetStatus.EMPTY)
    gone, unknown = await deleted(database, viewer), new_id()
    keep(store, ready.id, old)
    keep(store, empty.id, old)
    keep(store, late.id, young)
    keep(store, gone.id, young)
    keep(store, unknown, old)
    for at in (young, old):
        part = store.folder / "incoming" / f"{new_id()}.part"
        part.write_bytes(b"x")
        os.utime(part, (at.timestamp(),) * 2)
    await remove_orphans(context)
    left = names(store.folder)
    assert left - {str(ready.id), str(late.id)} == {name for name in left if name.endswith(".part")}
    assert len(left) == 3


async def test_an_empty_store_has_no_orphans(context: JobContext, store: DatasetStore) -> None:
    await remove_orphans(context)
    assert not store.folder.exists()


async def granted(database: Database, run: TrainingRun, owner: Viewer | None = None) -> UUID:
    """A grant of the run; one that was used, if its owner is given."""
    async with database.begin() as work:
        grant, _ = await service.grant_download(work, run=run, attempt=1)
    if owner is not None:
        async with database.begin(owner) as work:
            row = await work.session.get(DownloadGrant, grant.id)
            assert row is not None
            row.used_at, row.download_count = work.now, 1
    return grant.id


async def test_grants_end_with_their_run_and_their_time(
    context: JobContext,
    database: Database,
    worker_database: Database,
    owner_engine: AsyncEngine,
    clock: FixedClock,
) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer)
    begun = clock.now()
    going = await make_run(database, viewer, dataset=dataset, status=RunStatus.TRAINING)
    over = await make_run(database, viewer, dataset=dataset, status=RunStatus.READY)
    long_over = await make_run(
        database, viewer, dataset=dataset, status=RunStatus.READY, ended_at=begun - timedelta(days=31)
    )
    used_of_over = await granted(worker_database, over, viewer)
    await granted(worker_database, long_over, viewer)
    expired_used = await granted(worker_database, going, viewer)
    await granted(worker_database, going)
    clock.at += timedelta(hours=25)
    expired_lately = await granted(worker_database, going)
    clock.at += timedelta(hours=2)
    fresh = await granted(worker_database, going)
    await expire_grants(replace(context, clock=clock))
    async with AsyncSession(owner_engine) as session:
        rows = (await session.exec(select(DownloadGrant).order_by(col(DownloadGrant.id)))).all()
        assert {row.id: row.revoked_at is None for row in rows} == {
            used_of_over: False,
            expired_used: False,
            expired_lately: True,
            fresh: True,
        }
        assert (await session.exec(select(DownloadReceipt))).all() == []
