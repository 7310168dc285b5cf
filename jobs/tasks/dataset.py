"""What becomes of files and grants that nobody needs any more."""

import logging
from datetime import timedelta
from uuid import UUID

import anyio.to_thread

from db.storage import DatasetStore
from domain.dataset import queries, service
from domain.dataset.model import DatasetStatus
from jobs.context import JobContext

logger = logging.getLogger("runwire.jobs.dataset")

ORPHAN_AGE = timedelta(days=1)
"""How long an unfinished upload, or a file whose row never came, may lie there: longer than any upload takes."""
BATCH = 500


async def expire_grants(context: JobContext) -> None:
    """End the grants of ended runs, and remove those that nobody will ask about any more."""
    async with context.begin() as work:
        await service.expire_grants(work)


async def remove_file(context: JobContext, dataset_id: UUID) -> None:
    """Remove the bytes of a deleted dataset."""
    async with context.begin() as work:
        dataset = (await queries.datasets_by_id(work.session, [dataset_id])).get(dataset_id)
    if dataset is not None and dataset.deleted_at is None:
        return  # a command from somewhere else; only a deleted dataset may lose its bytes
    await anyio.to_thread.run_sync(DatasetStore.of(context.settings).remove, dataset_id)


async def remove_orphans(context: JobContext) -> None:
    """Remove what deletions, killed uploads and failed commits left behind in the store."""
    store = DatasetStore.of(context.settings)
    before = context.clock.now() - ORPHAN_AGE
    parts = await anyio.to_thread.run_sync(store.remove_parts, before)
    files = await anyio.to_thread.run_sync(lambda: list(store.files()))
    removed = 0
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        async with context.begin() as work:
            rows = await queries.datasets_by_id(work.session, [file.dataset_id for file in batch])
        for file in batch:
            row = rows.get(file.dataset_id)
            is_deleted = row is not None and row.deleted_at is not None
            is_ready = row is not None and row.status is DatasetStatus.READY
            # A file takes its place just before its row says READY, so a young one without that is no orphan yet.
            if is_deleted or (not is_ready and file.changed_at < before):
                await anyio.to_thread.run_sync(store.remove, file.dataset_id)
                removed += 1
    if parts or removed:
        logger.info("Removed files that belong to no dataset", extra={"files": removed, "parts": parts})
