"""What is asked about datasets, and about the right to fetch them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from domain.dataset.errors import DatasetNotReady
from domain.dataset.model import Dataset, DatasetStatus, DownloadGrant, DownloadReceipt
from domain.errors import NotFound
from domain.paging import PageOf, page_of
from domain.secret import digest_of
from domain.training.model import TrainingRun
from domain.training.status import ACTIVE, RunStatus
from domain.viewer import Scope, Viewer

GRANTS_SHOWN = 100
RECEIPTS_SHOWN = 100


async def dataset_of(session: AsyncSession, viewer: Viewer, dataset_id: UUID) -> Dataset:
    """The viewer's dataset. Raises `NotFound`, for foreign and deleted ones too."""
    return await _dataset(session, viewer.require(Scope.DATASETS_READ), dataset_id)


async def dataset_to_fill(session: AsyncSession, user_id: UUID, dataset_id: UUID) -> Dataset:
    """The user's dataset as it is before an upload. Raises `NotFound`."""
    return await _dataset(session, user_id, dataset_id)


async def dataset_to_change(session: AsyncSession, user_id: UUID, dataset_id: UUID) -> Dataset:
    """The user's dataset, locked until the transaction ends. Raises `NotFound`."""
    return await _dataset(session, user_id, dataset_id, lock=True)


async def ready_dataset_of(
    session: AsyncSession, user_id: UUID, dataset_id: UUID, *, lock_share: bool = True
) -> Dataset:
    """A dataset that a run may use. With `lock_share` it cannot be deleted until the transaction ends.

    Raises `NotFound` and `DatasetNotReady`."""
    dataset = await _dataset(session, user_id, dataset_id, share=lock_share)
    if dataset.status is not DatasetStatus.READY:
        raise DatasetNotReady
    return dataset


async def _dataset(
    session: AsyncSession, user_id: UUID, dataset_id: UUID, *, lock: bool = False, share: bool = False
) -> Dataset:
    statement = select(Dataset).where(
        Dataset.id == dataset_id, Dataset.user_id == user_id, col(Dataset.deleted_at).is_(None)
    )
    if lock or share:
        statement = statement.with_for_update(read=share).execution_options(populate_existing=True)
    dataset = (await session.exec(statement)).one_or_none()
    if dataset is None:
        raise NotFound("Dataset")
    return dataset


async def datasets_page(session: AsyncSession, viewer: Viewer, *, first: int, after: str | None) -> PageOf[Dataset]:
    """A page of the viewer's datasets, newest first."""
    user_id = viewer.require(Scope.DATASETS_READ)
    return await page_of(
        session,
        Dataset,
        lambda all: all.where(Dataset.user_id == user_id, col(Dataset.deleted_at).is_(None)),
        first=first,
        after=after,
    )


async def datasets_by_id(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, Dataset]:
    """These datasets, deleted ones too: runs tell of them."""
    rows = await session.exec(select(Dataset).where(col(Dataset.id).in_(ids)))
    return {row.id: row for row in rows.all()}


async def count_datasets(session: AsyncSession, user_id: UUID) -> int:
    """How many datasets the user has."""
    statement = select(func.count()).where(Dataset.user_id == user_id, col(Dataset.deleted_at).is_(None))
    return (await session.exec(statement)).one()


async def count_active_runs(session: AsyncSession, dataset_id: UUID) -> int:
    """How many runs use the dataset and have not ended."""
    statement = select(func.count()).where(
        TrainingRun.dataset_id == dataset_id, col(TrainingRun.status).in_(sorted(ACTIVE))
    )
    return (await session.exec(statement)).one()


async def grants_of(session: AsyncSession, dataset_ids: Sequence[UUID]) -> dict[UUID, list[DownloadGrant]]:
    """The newest grants of each of these datasets, newest first; at most `GRANTS_SHOWN` of each."""
    number = func.row_number().over(partition_by=col(DownloadGrant.dataset_id), order_by=col(DownloadGrant.id).desc())
    ranked = select(col(DownloadGrant.id), number.label("number")).where(col(DownloadGrant.dataset_id).in_(dataset_ids))
    newest = ranked.subquery()
    statement = (
        select(DownloadGrant)
        .join(newest, newest.c.id == col(DownloadGrant.id))
        .where(newest.c.number <= GRANTS_SHOWN)
        .order_by(col(DownloadGrant.id).desc())
    )
    found: dict[UUID, list[DownloadGrant]] = {id: [] for id in dataset_ids}
    for grant in (await session.exec(statement)).all():
        found[grant.dataset_id].append(grant)
    return found


async def receipts_of(session: AsyncSession, grant_ids: Sequence[UUID]) -> dict[UUID, list[DownloadReceipt]]:
    """The newest receipts of each of these grants, newest first; at most `RECEIPTS_SHOWN` of each."""
    number = func.row_number().over(partition_by=col(DownloadReceipt.grant_id), order_by=col(DownloadReceipt.id).desc())
    ranked = select(col(DownloadReceipt.id), number.label("number")).where(col(DownloadReceipt.grant_id).in_(grant_ids))
    newest = ranked.subquery()
    statement = (
        select(DownloadReceipt)
        .join(newest, newest.c.id == col(DownloadReceipt.id))
        .where(newest.c.number <= RECEIPTS_SHOWN)
        .order_by(col(DownloadReceipt.id).desc())
    )
    found: dict[UUID, list[DownloadReceipt]] = {id: [] for id in grant_ids}
    for receipt in (await session.exec(statement)).all():
        found[receipt.grant_id].append(receipt)
    return found


async def sent_of_run(session: AsyncSession, run_id: UUID, attempt: int) -> list[DownloadReceipt]:
    """Every receipt of one attempt of a run, with what it has sent."""
    statement = (
        select(DownloadReceipt)
        .join(DownloadGrant, col(DownloadGrant.id) == col(DownloadReceipt.grant_id))
        .where(DownloadGrant.run_id == run_id, DownloadGrant.attempt == attempt)
        .execution_options(populate_existing=True)
    )
    return list((await session.exec(statement)).all())


@dataclass(frozen=True, slots=True)
class FoundGrant:
    """What a shown token stands for, before anybody knows who asks."""

    id: UUID
    user_id: UUID
    dataset_id: UUID
    run_id: UUID
    attempt: int
    expires_at: datetime
    revoked_at: datetime | None
    run_status: RunStatus
    run_attempt: int

    @property
    def is_alive(self) -> bool:
        """Whether its run may still fetch, or renew; says nothing of the hour."""
        return (
            self.revoked_at is None
            and self.run_status in ACTIVE
            and self.run_status is not RunStatus.CANCELING
            and self.run_attempt <= self.attempt
        )


async def find_grant(session: AsyncSession, token: str) -> FoundGrant | None:
    """The grant of a token, whoever asks: the token is the right."""
    ask: Any = sa.text("SELECT * FROM find_grant(:hash)")  # `exec` takes it, and types only what select() makes
    row = (await session.exec(ask, params={"hash": digest_of(token)})).one_or_none()
    return FoundGrant(**{**row._mapping, "run_status": RunStatus(row.run_status)}) if row is not None else None
