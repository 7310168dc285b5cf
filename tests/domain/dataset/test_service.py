"""Datasets are made, filled once and deleted; grants open them to one attempt of one run for a while."""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import anyio
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select
from sqlmodel.ext.asyncio.session import AsyncSession

from db.unit_of_work import Database
from domain.base import new_id
from domain.clock import FixedClock
from domain.commands import RemoveDatasetFile
from domain.dataset import queries, service
from domain.dataset.errors import (
    DatasetAlreadyUploaded,
    DatasetInUse,
    DatasetNotReady,
    DownloadNotFound,
    TooManyDatasets,
)
from domain.dataset.inspection import Inspection
from domain.dataset.model import Dataset, DatasetFormat, DatasetStatus, DownloadGrant, DownloadReceipt
from domain.errors import Forbidden, NotFound, NotSignedIn
from domain.secret import digest_of
from domain.training.model import TrainingRun
from domain.training.status import RunStatus
from domain.viewer import Scope, Viewer
from tests.factories import make_dataset, make_run, make_user
from tests.fakes import Told

pytestmark = pytest.mark.anyio

FOUND = Inspection(3, [{"name": "a", "kind": "INTEGER", "missing": 0, "distinct": 3, "examples": ["1"]}])


async def stored(engine: AsyncEngine, dataset_id: UUID) -> Dataset:
    async with AsyncSession(engine) as session:
        return (await session.exec(select(Dataset).where(Dataset.id == dataset_id))).one()


async def grants(engine: AsyncEngine) -> list[DownloadGrant]:
    async with AsyncSession(engine) as session:
        return list((await session.exec(select(DownloadGrant).order_by(DownloadGrant.attempt))).all())  # type: ignore[arg-type]  # a column, once the class is a table


async def receipts(engine: AsyncEngine) -> list[DownloadReceipt]:
    async with AsyncSession(engine) as session:
        return list((await session.exec(select(DownloadReceipt).order_by(DownloadReceipt.id))).all())  # type: ignore[arg-type]  # as above


async def granted(worker: Database, run: TrainingRun, *, attempt: int = 1) -> str:
    async with worker.begin() as work:
        _, token = await service.grant_download(work, run=run, attempt=attempt)
    return token.reveal()


async def download(
    database: Database, viewer: Viewer, token: str, *, start: int, sent: int, is_complete: bool = True
) -> None:
    async with database.begin(viewer) as work:
        receipt = await service.start_download(work, token, range_start=start)
    async with database.begin(viewer) as work:
        await service.record_download(work, receipt.id, bytes_sent=sent, is_complete=is_complete)


async def test_a_dataset_begins_empty(database: Database, owner_engine: AsyncEngine) -> None:
    viewer = await make_user(database)
    async with database.begin(viewer) as work:
        made = await service.create_dataset(work, viewer, name=" digits ", format=DatasetFormat.CSV)
    row = await stored(owner_engine, made.id)
    assert (row.user_id, row.name, row.status, row.bytes) == (viewer.user_id, "digits", DatasetStatus.EMPTY, 0)


@pytest.mark.parametrize(
    ("scopes", "refusal"),
    [(frozenset({Scope.DATASETS_READ, Scope.RUNS_WRITE}), Forbidden), (None, NotSignedIn)],
)
async def test_making_one_needs_the_scope(
    database: Database, scopes: frozenset[Scope] | None, refusal: type[Exception]
) -> None:
    viewer = await make_user(database, scopes=scopes) if scopes is not None else Viewer.nobody()
    async with database.begin(viewer) as work:
        with pytest.raises(refusal):
            await service.create_dataset(work, viewer, name="digits", format=DatasetFormat.CSV)


async def test_there_are_only_so_many(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DATASETS_PER_USER", 2)
    viewer = await make_user(database)
    await make_dataset(database, viewer)
    refused: list[TooManyDatasets] = []

    async def create() -> None:
        try:
            async with database.begin(viewer) as work:
                await service.create_dataset(work, viewer, name="more", format=DatasetFormat.CSV)
        except TooManyDatasets as error:
            refused.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(create)
    assert len(refused) == 2
    async with database.begin(viewer) as work:
        assert await queries.count_datasets(work.session, work_user(viewer)) == 2


async def test_an_upload_makes_it_ready_for_good(database: Database, owner_engine: AsyncEngine) -> None:
    viewer = await make_user(database)
    empty = await make_dataset(database, viewer, status=DatasetStatus.EMPTY)
    async with database.begin(viewer) as work:
        _, is_new = await service.record_upload(
            work, viewer, dataset_id=empty.id, bytes=9, sha256="aa", inspection=FOUND
        )
    assert is_new
    row = await stored(owner_engine, empty.id)
    assert (row.status, row.bytes, row.sha256, row.row_count) == (DatasetStatus.READY, 9, "aa", 3)
    assert row.columns == FOUND.columns
    async with database.begin(viewer) as work:
        _, is_new = await service.record_upload(
            work, viewer, dataset_id=empty.id, bytes=9, sha256="aa", inspection=FOUND
        )
        assert not is_new
        with pytest.raises(DatasetAlreadyUploaded):
            await service.record_upload(work, viewer, dataset_id=empty.id, bytes=9, sha256="bb", inspection=FOUND)
    assert (await stored(owner_engine, empty.id)).sha256 == "aa"


async def test_of_another_user_is_not_found(database: Database, owner_engine: AsyncEngine) -> None:
    owner, other = await make_user(database), await make_user(database)
    dataset = await make_dataset(database, owner)
    for dataset_id in (dataset.id, new_id()):
        async with database.begin(other) as work:
            with pytest.raises(NotFound) as caught:
                await queries.dataset_of(work.session, other, dataset_id)
            assert caught.value.message() == "There is no such Dataset, or it is not yours."
            with pytest.raises(NotFound):
                await queries.ready_dataset_of(work.session, work_user(other), dataset_id)
            with pytest.raises(NotFound):
                await service.delete_dataset(work, other, dataset_id=dataset_id)
    assert (await stored(owner_engine, dataset.id)).deleted_at is None


async def test_a_run_needs_content(database: Database) -> None:
    viewer = await make_user(database)
    ready = await make_dataset(database, viewer)
    empty = await make_dataset(database, viewer, status=DatasetStatus.EMPTY)
    async with database.begin(viewer) as work:
        assert (await queries.ready_dataset_of(work.session, work_user(viewer), ready.id)).id == ready.id
        with pytest.raises(DatasetNotReady):
            await queries.ready_dataset_of(work.session, work_user(viewer), empty.id)


@pytest.mark.parametrize("status", [RunStatus.QUEUED, RunStatus.TRAINING, RunStatus.CANCELING])
async def test_one_in_use_stays(database: Database, owner_engine: AsyncEngine, told: Told, status: RunStatus) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer)
    await make_run(database, viewer, dataset=dataset, status=status)
    await make_run(database, viewer, dataset=dataset, status=RunStatus.READY)
    told.forget()
    with pytest.raises(DatasetInUse) as caught:
        async with database.begin(viewer) as work:
            await service.delete_dataset(work, viewer, dataset_id=dataset.id)
    assert caught.value.params == {"runs": 1}
    assert (await stored(owner_engine, dataset.id)).deleted_at is None
    assert (told.events, told.commands) == ([], [])


async def test_deleting_hides_it_and_has_its_file_removed(
    database: Database, worker_database: Database, owner_engine: AsyncEngine, told: Told, clock: FixedClock
) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.READY)
    await granted(worker_database, run)
    async with database.begin(viewer) as work:
        await service.delete_dataset(work, viewer, dataset_id=dataset.id)
    assert told.commands == [RemoveDatasetFile(dataset.id)]
    assert (await stored(owner_engine, dataset.id)).deleted_at == clock.now()
    assert [grant.revoked_at for grant in await grants(owner_engine)] == [clock.now()]
    async with database.begin(viewer) as work:
        page = await queries.datasets_page(work.session, viewer, first=20, after=None)
        assert page.rows == []
        with pytest.raises(NotFound):
            await queries.dataset_of(work.session, viewer, dataset.id)
        with pytest.raises(NotFound):
            await service.delete_dataset(work, viewer, dataset_id=dataset.id)


async def test_delete_and_start_cannot_cross(database: Database) -> None:
    """Who starts a run holds the dataset until the run is there to be counted."""
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer)
    outcome: list[str] = []

    async def delete() -> None:
        try:
            async with database.begin(viewer) as work:
                await service.delete_dataset(work, viewer, dataset_id=dataset.id)
        except DatasetInUse:
            outcome.append("in use")

    async with anyio.create_task_group() as group, database.begin(viewer) as work:
        await queries.ready_dataset_of(work.session, work_user(viewer), dataset.id)
        group.start_soon(delete)
        run = await make_run(database, viewer, dataset=dataset)
        outcome.append("started")
    assert outcome == ["started", "in use"]
    assert run.dataset_id == dataset.id


async def test_only_the_hash_of_a_grant_is_stored(
    database: Database, worker_database: Database, owner_engine: AsyncEngine, clock: FixedClock
) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, dataset=await make_dataset(database, viewer), attempts=1)
    token = await granted(worker_database, run)
    assert token.startswith("rwg_")
    assert len(token) == 4 + 43
    [grant] = await grants(owner_engine)
    assert (grant.hash, grant.user_id, grant.attempt) == (digest_of(token), viewer.user_id, 1)
    assert grant.expires_at == clock.now() + timedelta(hours=2)


async def test_a_new_attempt_ends_the_grants_of_earlier_ones(
    database: Database, worker_database: Database, owner_engine: AsyncEngine
) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, dataset=await make_dataset(database, viewer), attempts=2)
    await granted(worker_database, run, attempt=1)
    await granted(worker_database, run, attempt=2)
    await granted(worker_database, run, attempt=2)
    assert [(grant.attempt, grant.revoked_at is None) for grant in await grants(owner_engine)] == [
        (1, False),
        (2, True),
        (2, True),
    ]


async def test_a_download_in_pieces_is_told_once_it_is_whole(
    database: Database, worker_database: Database, owner_engine: AsyncEngine, told: Told
) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer, bytes=100)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await granted(worker_database, run)
    told.forget()
    await download(database, viewer, token, start=0, sent=40, is_complete=False)
    await download(database, viewer, token, start=60, sent=40)
    assert told.events == []
    await download(database, viewer, token, start=30, sent=30)
    assert told.types() == ["run.dataset_downloaded", "run.dataset_downloaded"]  # the run's and the feed's
    await download(database, viewer, token, start=0, sent=100)
    assert len(told.events) == 2
    assert told.events[0].data["bytes"] == 100
    assert told.events[0].data["sha256"] == dataset.sha256
    assert [(r.range_start, r.bytes_sent, r.is_complete) for r in await receipts(owner_engine)] == [
        (0, 40, False),
        (60, 40, True),
        (30, 30, True),
        (0, 100, True),
    ]
    [grant] = await grants(owner_engine)
    assert (grant.download_count, grant.bytes_sent) == (4, 210)


async def test_downloads_at_once_are_counted_right_and_told_once(
    database: Database, worker_database: Database, owner_engine: AsyncEngine, told: Told
) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer, bytes=100)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await granted(worker_database, run)
    told.forget()

    async def fetch() -> None:
        await download(database, viewer, token, start=0, sent=100)

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(fetch)
    [grant] = await grants(owner_engine)
    assert (grant.download_count, grant.bytes_sent) == (10, 1000)
    assert told.types() == ["run.dataset_downloaded"] * 2


async def test_a_receipt_of_an_ended_run_is_completed_without_an_event(
    database: Database, worker_database: Database, owner_engine: AsyncEngine, told: Told
) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer, bytes=100)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.TRAINING)
    token = await granted(worker_database, run)
    async with database.begin(viewer) as work:
        receipt = await service.start_download(work, token, range_start=0)
    async with worker_database.begin() as work:
        row = (await work.session.exec(select(TrainingRun))).one()
        row.status, row.ended_at = RunStatus.CANCELED, work.now
        await service.revoke_grants(work, run.id)
    told.forget()
    async with database.begin(viewer) as work:
        assert not await service.continue_download(work, receipt.id, bytes_sent=50)
    async with database.begin(viewer) as work:
        await service.record_download(work, receipt.id, bytes_sent=100, is_complete=True)
    [row_after] = await receipts(owner_engine)
    assert (row_after.bytes_sent, row_after.is_complete) == (100, True)
    assert told.events == []


@pytest.mark.parametrize("why", ["expired", "revoked", "canceling", "ended", "old attempt", "deleted", "unknown"])
async def test_whatever_the_reason_the_refusal_is_the_same(
    database: Database, worker_database: Database, owner_engine: AsyncEngine, clock: FixedClock, why: str
) -> None:
    viewer = await make_user(database)
    dataset = await make_dataset(database, viewer)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await granted(worker_database, run)
    async with worker_database.begin() as work:
        row = (await work.session.exec(select(TrainingRun))).one()
        data = (await work.session.exec(select(Dataset))).one()
        match why:
            case "expired":
                clock.at += timedelta(hours=2)
            case "revoked":
                await service.revoke_grants(work, run.id)
            case "canceling":
                row.status = RunStatus.CANCELING
            case "ended":
                row.status = RunStatus.FAILED
            case "old attempt":
                row.attempt = 2
            case "deleted":
                data.deleted_at = work.now
            case "unknown":
                token = "rwg_" + "x" * 43
    for verb in (service.dataset_to_download, lambda work, token: service.start_download(work, token, range_start=0)):
        async with database.begin(viewer) as work:
            with pytest.raises(DownloadNotFound) as caught:
                await verb(work, token)
            assert str(caught.value) == DownloadNotFound.en
    assert await receipts(owner_engine) == []
    assert [(grant.used_at, grant.download_count) for grant in await grants(owner_engine)] == [(None, 0)]


@pytest.mark.parametrize(
    ("hours", "is_renewed"), [(0, True), (1, True), (25, True), (26, False)], ids=["fresh", "used", "late", "too late"]
)
async def test_a_grant_is_renewed_while_its_run_lives(
    database: Database,
    worker_database: Database,
    owner_engine: AsyncEngine,
    clock: FixedClock,
    hours: int,
    is_renewed: bool,
) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, dataset=await make_dataset(database, viewer), status=RunStatus.PREPARING)
    token = await granted(worker_database, run)
    before = clock.now() + timedelta(hours=2)
    clock.at += timedelta(hours=hours)
    if is_renewed:
        async with database.begin(viewer) as work:
            await service.renew_grant(work, token)
    else:
        with pytest.raises(DownloadNotFound):
            async with database.begin(viewer) as work:
                await service.renew_grant(work, token)
    expected = clock.now() + timedelta(hours=2) if is_renewed else before
    assert [grant.expires_at for grant in await grants(owner_engine)] == [expected]


@pytest.mark.parametrize("status", [RunStatus.CANCELING, RunStatus.FAILED, RunStatus.READY])
async def test_the_grant_of_a_run_that_is_over_is_not_renewed(
    database: Database, worker_database: Database, status: RunStatus
) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, dataset=await make_dataset(database, viewer), status=status)
    token = await granted(worker_database, run)
    async with database.begin(viewer) as work:
        with pytest.raises(DownloadNotFound):
            await service.renew_grant(work, token)


async def test_another_user_sees_no_grant(database: Database, worker_database: Database) -> None:
    owner, other = await make_user(database), await make_user(database)
    dataset = await make_dataset(database, owner)
    run = await make_run(database, owner, dataset=dataset)
    await granted(worker_database, run)
    async with database.begin(other) as work:
        assert await queries.grants_of(work.session, [dataset.id]) == {dataset.id: []}
    async with database.begin(replace(owner)) as work:
        assert len((await queries.grants_of(work.session, [dataset.id]))[dataset.id]) == 1


def work_user(viewer: Viewer) -> UUID:
    assert viewer.user_id is not None
    return viewer.user_id
