"""Takes in a dataset's content: written as it comes, then read and judged, then kept, or gone without a trace."""

import hashlib
import threading
from dataclasses import dataclass
from uuid import UUID

import anyio
import anyio.to_thread

from db.storage import DatasetStore, Incoming
from db.unit_of_work import Database
from domain.dataset import queries, service
from domain.dataset.errors import ChecksumMismatch, DatasetAlreadyUploaded
from domain.dataset.file_errors import EmptyFile
from domain.dataset.inspection import Inspection, inspect
from domain.dataset.model import Dataset, DatasetFormat, DatasetStatus
from domain.viewer import Scope, Viewer
from graph.dataset.body import Body

INSPECTIONS_AT_ONCE = 2
"""Reading a file takes a processor for as long as it lasts; sockets need some of it too."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """Takes in uploads for one process."""

    database: Database
    store: DatasetStore
    inspections: anyio.CapacityLimiter

    @classmethod
    def of(cls, database: Database, store: DatasetStore) -> "Uploads":
        return cls(database, store, anyio.CapacityLimiter(INSPECTIONS_AT_ONCE))

    async def wanted(self, viewer: Viewer, dataset_id: UUID) -> Dataset:
        """The dataset, if the viewer may fill it. Raises `Forbidden`, `NotFound`."""
        user_id = viewer.require(Scope.DATASETS_WRITE)
        async with self.database.begin(viewer) as work:
            return await queries.dataset_to_fill(work.session, user_id, dataset_id)

    async def take(self, viewer: Viewer, dataset: Dataset, body: Body) -> Dataset:
        """The dataset, READY with the body's bytes. No transaction is open while they flow.

        Raises a `DomainError` or `ClientLeft`, and then nothing of the body is left and no row has changed."""
        if dataset.status is DatasetStatus.READY:
            await _compare(dataset, body)
            return dataset
        incoming = await anyio.to_thread.run_sync(lambda: self.store.receive(dataset.id, announced_bytes=body.length))
        try:
            return await self._fill(viewer, dataset, body, incoming)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(incoming.close)

    async def _fill(self, viewer: Viewer, dataset: Dataset, body: Body, incoming: Incoming) -> Dataset:
        async for block in body.blocks():
            await anyio.to_thread.run_sync(incoming.write, block)
        if incoming.bytes == 0:
            raise EmptyFile
        _check(body, incoming.sha256)
        inspection = await self._inspect(incoming, dataset.format)
        async with self.database.begin(viewer) as work:
            filled, is_new = await service.record_upload(
                work,
                viewer,
                dataset_id=dataset.id,
                bytes=incoming.bytes,
                sha256=incoming.sha256,
                inspection=inspection,
            )
            if is_new:
                await anyio.to_thread.run_sync(incoming.keep)
        return filled

    async def _inspect(self, incoming: Incoming, format: DatasetFormat) -> Inspection:
        stopped = threading.Event()

        def read() -> Inspection:
            # Opened and closed by the thread itself: it may outlive the request by a moment.
            with incoming.finish() as file:
                return inspect(file, format, is_stopped=stopped.is_set)

        try:
            return await anyio.to_thread.run_sync(read, abandon_on_cancel=True, limiter=self.inspections)
        finally:
            stopped.set()


async def _compare(dataset: Dataset, body: Body) -> None:
    """Sending the same content again is fine; anything else is not, which is said as soon as it shows."""
    if body.sha256 not in (None, dataset.sha256) or body.length not in (0, dataset.bytes):
        raise DatasetAlreadyUploaded
    digest = hashlib.sha256()
    count = 0
    async for block in body.blocks():
        count += len(block)
        if count > dataset.bytes:
            raise DatasetAlreadyUploaded
        await anyio.to_thread.run_sync(digest.update, block)
    if digest.hexdigest() != dataset.sha256:
        raise DatasetAlreadyUploaded


def _check(body: Body, found: str) -> None:
    if body.sha256 not in (None, found):
        raise ChecksumMismatch(found)
