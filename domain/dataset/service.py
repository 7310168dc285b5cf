"""The verbs of datasets: made, filled once, fetched by runs through grants, deleted."""

from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, select

from domain.account.model import User
from domain.commands import RemoveDatasetFile
from domain.dataset import queries
from domain.dataset.errors import DatasetAlreadyUploaded, DatasetInUse, DownloadNotFound, TooManyDatasets
from domain.dataset.inspection import Inspection
from domain.dataset.model import Dataset, DatasetFormat, DatasetStatus, DownloadGrant, DownloadReceipt
from domain.dataset.names import checked_name
from domain.journal.service import append_run_event
from domain.secret import Secret, digest_of, new_token
from domain.training.model import TrainingRun
from domain.training.status import FINAL
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

DATASETS_PER_USER = 1000
GRANT_SECONDS = 2 * 3600
GRANT_PREFIX = "rwg_"
RECEIPT_DAYS = 30
"""How long after its run's end a user can still see who fetched a dataset."""
RENEWAL_SECONDS = 24 * 3600
"""How long after its end a grant can still be renewed by the trainer it was given to."""


async def create_dataset(work: UnitOfWork, viewer: Viewer, *, name: str, format: DatasetFormat) -> Dataset:
    """An EMPTY dataset, whose content is uploaded afterwards. Raises `Invalid`, `LimitReached`."""
    user_id = viewer.require(Scope.DATASETS_WRITE)
    name = checked_name(name)
    # Two requests at once count one after the other.
    await work.session.exec(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    if await queries.count_datasets(work.session, user_id) >= DATASETS_PER_USER:
        raise TooManyDatasets(DATASETS_PER_USER)
    dataset = Dataset(user_id=user_id, created_at=work.now, name=name, format=format)
    work.session.add(dataset)
    await work.session.flush()
    return dataset


async def record_upload(
    work: UnitOfWork, viewer: Viewer, *, dataset_id: UUID, bytes: int, sha256: str, inspection: Inspection
) -> tuple[Dataset, bool]:
    """Make the dataset READY with these facts; its row stays locked until the transaction ends.

    False beside it where exactly these bytes were there already. Raises `NotFound`, `DatasetAlreadyUploaded`."""
    user_id = viewer.require(Scope.DATASETS_WRITE)
    dataset = await queries.dataset_to_change(work.session, user_id, dataset_id)
    if dataset.status is DatasetStatus.READY:
        if dataset.sha256 != sha256:
            raise DatasetAlreadyUploaded
        return dataset, False
    dataset.status = DatasetStatus.READY
    dataset.bytes = bytes
    dataset.sha256 = sha256
    dataset.row_count = inspection.row_count
    dataset.columns = inspection.columns
    dataset.uploaded_at = work.now
    await work.session.flush()
    return dataset, True


async def delete_dataset(work: UnitOfWork, viewer: Viewer, *, dataset_id: UUID) -> Dataset:
    """Delete a dataset that no active run uses. Its bytes go right after, its row stays for the runs that name it.

    Raises `NotFound`, `DatasetInUse`."""
    user_id = viewer.require(Scope.DATASETS_WRITE)
    dataset = await queries.dataset_to_change(work.session, user_id, dataset_id)
    if runs := await queries.count_active_runs(work.session, dataset_id):
        raise DatasetInUse(runs)
    dataset.deleted_at = work.now
    await _revoke(work, col(DownloadGrant.dataset_id) == dataset_id)
    work.enqueue(RemoveDatasetFile(dataset_id))
    await work.session.flush()
    return dataset


async def grant_download(
    work: UnitOfWork, *, run: TrainingRun, attempt: int, seconds: int = GRANT_SECONDS
) -> tuple[DownloadGrant, Secret]:
    """The right of one attempt of a run to fetch the run's dataset for a while, and the token that shows it.

    Grants of earlier attempts end. An earlier one of the same attempt stays: its training may have started before
    the worker that asked for it died."""
    if run.dataset_id is None:
        raise ValueError("A run without a dataset has nothing to fetch.")
    await _revoke(work, col(DownloadGrant.run_id) == run.id, col(DownloadGrant.attempt) < attempt)
    token = new_token(GRANT_PREFIX)
    grant = DownloadGrant(
        user_id=run.user_id,
        created_at=work.now,
        dataset_id=run.dataset_id,
        run_id=run.id,
        attempt=attempt,
        hash=digest_of(token.reveal()),
        expires_at=work.now + timedelta(seconds=seconds),
    )
    work.session.add(grant)
    await work.session.flush()
    return grant, token


async def revoke_grants(work: UnitOfWork, run_id: UUID) -> None:
    """End every grant of a run, in the transaction that ends or cancels it. Running downloads are cut soon after."""
    await _revoke(work, col(DownloadGrant.run_id) == run_id)


async def renew_grant(work: UnitOfWork, token: str, *, seconds: int = GRANT_SECONDS) -> DownloadGrant:
    """Let a grant live on while its run does, also if it expired less than a day ago.

    The work must be the grant owner's. Raises `DownloadNotFound`, whatever the reason."""
    found = await queries.find_grant(work.session, token)
    if found is None or not found.is_alive:
        raise DownloadNotFound
    statement = (
        sa.update(DownloadGrant)
        .where(
            col(DownloadGrant.id) == found.id,
            col(DownloadGrant.revoked_at).is_(None),
            col(DownloadGrant.expires_at) > work.now - timedelta(seconds=RENEWAL_SECONDS),
        )
        .values(expires_at=sa.func.greatest(DownloadGrant.expires_at, work.now + timedelta(seconds=seconds)))
        .returning(DownloadGrant)
        .execution_options(populate_existing=True)
    )
    grant: DownloadGrant | None = (await work.session.exec(statement)).scalar_one_or_none()
    if grant is None:
        raise DownloadNotFound
    return grant


async def dataset_to_download(work: UnitOfWork, token: str) -> Dataset:
    """The dataset that this token opens now. The work must be the grant owner's.

    Raises `DownloadNotFound`, whatever the reason."""
    found = await queries.find_grant(work.session, token)
    if found is None or not found.is_alive or found.expires_at <= work.now:
        raise DownloadNotFound
    dataset = (await queries.datasets_by_id(work.session, [found.dataset_id])).get(found.dataset_id)
    if dataset is None or dataset.deleted_at is not None or dataset.status is not DatasetStatus.READY:
        raise DownloadNotFound
    return dataset


async def start_download(work: UnitOfWork, token: str, *, range_start: int) -> DownloadReceipt:
    """Bytes are about to be sent: the grant counts the request, and a receipt begins. Raises `DownloadNotFound`."""
    dataset = await dataset_to_download(work, token)
    statement = (
        sa.update(DownloadGrant)
        .where(col(DownloadGrant.hash) == digest_of(token), col(DownloadGrant.revoked_at).is_(None))
        .values(
            used_at=sa.func.coalesce(DownloadGrant.used_at, work.now),
            download_count=DownloadGrant.download_count + 1,
        )
        .returning(col(DownloadGrant.id), col(DownloadGrant.run_id))
    )
    grant = (await work.session.exec(statement)).one_or_none()
    if grant is None:  # revoked since we looked
        raise DownloadNotFound
    receipt = DownloadReceipt(
        user_id=dataset.user_id,
        created_at=work.now,
        grant_id=grant.id,
        dataset_id=dataset.id,
        run_id=grant.run_id,
        range_start=range_start,
        sha256=dataset.sha256,
    )
    work.session.add(receipt)
    await work.session.flush()
    return receipt


async def continue_download(work: UnitOfWork, receipt_id: UUID, *, bytes_sent: int) -> bool:
    """Note how far a long download came; False once its grant was revoked, and it must stop."""
    await work.session.exec(
        sa.update(DownloadReceipt).where(col(DownloadReceipt.id) == receipt_id).values(bytes_sent=bytes_sent)
    )
    statement = (
        select(DownloadGrant.revoked_at)
        .join(DownloadReceipt, col(DownloadReceipt.grant_id) == col(DownloadGrant.id))
        .where(DownloadReceipt.id == receipt_id)
    )
    found = (await work.session.exec(statement)).all()
    return found == [None]


async def record_download(work: UnitOfWork, receipt_id: UUID, *, bytes_sent: int, is_complete: bool) -> None:
    """A download ended, whole or cut. Once an attempt was sent every byte, in however many pieces, its run says so."""
    receipt = await work.session.get(DownloadReceipt, receipt_id)
    if receipt is None:  # removed with its grant while it was under way
        return
    # The run first, as in every verb that changes its grants, so that nobody waits in a circle.
    locked = select(TrainingRun).where(TrainingRun.id == receipt.run_id).with_for_update(key_share=True)
    run = (await work.session.exec(locked.execution_options(populate_existing=True))).one()
    grant = (
        await work.session.exec(
            sa.update(DownloadGrant)
            .where(col(DownloadGrant.id) == receipt.grant_id)
            .values(bytes_sent=DownloadGrant.bytes_sent + bytes_sent)
            .returning(DownloadGrant)
            .execution_options(populate_existing=True)
        )
    ).scalar_one()
    dataset = (await queries.datasets_by_id(work.session, [receipt.dataset_id]))[receipt.dataset_id]
    sent = await queries.sent_of_run(work.session, run.id, grant.attempt)
    was_whole = _is_whole(dataset.bytes, [one for one in sent if one.ended_at is not None])
    receipt.bytes_sent = bytes_sent
    receipt.is_complete = is_complete
    receipt.ended_at = work.now
    await work.session.flush()
    if was_whole or run.status.is_final or run.attempt != grant.attempt:
        return
    if _is_whole(dataset.bytes, [one for one in sent if one.ended_at is not None]):
        await append_run_event(
            work,
            run,
            "run.dataset_downloaded",
            {
                "datasetId": str(dataset.id),
                "grantId": str(grant.id),
                "bytes": dataset.bytes,
                "sha256": dataset.sha256,
            },
        )


async def expire_grants(work: UnitOfWork) -> None:
    """End what can no longer be used, and remove what nobody will ask about: in the worker's role, for all users.

    A grant that was never used goes a day after it expired. One that was used stays, with its receipts, until its
    run has been over for 30 days."""
    ended = select(TrainingRun.id).where(col(TrainingRun.status).in_(sorted(FINAL)))
    long_ago = ended.where(col(TrainingRun.ended_at) < work.now - timedelta(days=RECEIPT_DAYS))
    too_late = col(DownloadGrant.expires_at) <= work.now - timedelta(seconds=RENEWAL_SECONDS)
    await _revoke(work, sa.or_(too_late, col(DownloadGrant.run_id).in_(ended)))
    never_used = sa.and_(too_late, col(DownloadGrant.used_at).is_(None))
    await work.session.exec(
        sa.delete(DownloadGrant)
        .where(sa.or_(never_used, col(DownloadGrant.run_id).in_(long_ago)))
        .execution_options(synchronize_session=False)
    )


async def _revoke(work: UnitOfWork, *conditions: sa.ColumnElement[bool]) -> None:
    await work.session.exec(
        sa.update(DownloadGrant).where(col(DownloadGrant.revoked_at).is_(None), *conditions).values(revoked_at=work.now)
    )


def _is_whole(size: int, receipts: list[DownloadReceipt]) -> bool:
    """Whether these pieces cover every byte."""
    reached = 0
    for receipt in sorted(receipts, key=lambda one: one.range_start):
        if receipt.range_start > reached:
            return False
        reached = max(reached, receipt.range_start + receipt.bytes_sent)
    return reached >= size
