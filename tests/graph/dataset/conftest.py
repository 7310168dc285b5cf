"""The dataset room's doors with real services behind them: its routes, its part of the schema, its store."""

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
import strawberry
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from starlette.applications import Starlette
from strawberry.schema.config import StrawberryConfig

from db.settings import Settings
from db.storage import DatasetStore
from db.unit_of_work import Database
from domain.dataset import service
from domain.dataset.model import Dataset, DatasetStatus, DownloadGrant, DownloadReceipt
from domain.training.model import TrainingRun
from domain.viewer import Viewer
from graph.app import body_limit_of
from graph.auth import Authentication
from graph.context import Context, Services
from graph.dataset.mutations import DatasetMutations
from graph.dataset.pace import Pace
from graph.dataset.queries import DatasetQueries
from graph.errors import EXCEPTION_HANDLERS, Problem
from graph.guards import Guards
from graph.routes.datasets import dataset_routes
from graph.scalars import SCALARS
from tests.factories import make_dataset

ADDRESS = "http://runwire.test"
CONTENT = b"pixel,digit\n" + b"".join(b"%d,%d\n" % (row % 17, row % 10) for row in range(100))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACE = Pace(check_seconds=0.0, block_bytes=100)
"""Small blocks, and a look at the grant after each."""


@dataclass
class Room:
    """Asks the room's doors as a viewer would, and looks at what is really stored."""

    app: Any
    services: Services
    store: DatasetStore
    worker: Database
    owner_engine: AsyncEngine
    schema: strawberry.Schema
    free_bytes: list[int] = field(default_factory=lambda: [2**50])

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app), base_url=ADDRESS)

    def bearer(self, viewer: Viewer) -> dict[str, str]:
        assert viewer.user_id is not None and viewer.credential_id is not None
        token, _ = self.services.authentication.access_token(viewer.user_id, viewer.credential_id)
        return {"Authorization": f"Bearer {token.reveal()}"}

    async def upload(self, viewer: Viewer, dataset: Dataset, content: Any = CONTENT, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client() as client:
            return await client.put(
                f"/datasets/{dataset.id}/content", content=content, headers={**self.bearer(viewer), **named}
            )

    async def stored_dataset(self, viewer: Viewer, content: bytes = CONTENT, **facts: Any) -> Dataset:
        """A READY dataset with its file, as if it had been uploaded."""
        sha256 = hashlib.sha256(content).hexdigest()
        dataset = await make_dataset(self.services.database, viewer, bytes=len(content), sha256=sha256, **facts)
        with self.store.receive(dataset.id) as incoming:
            incoming.write(content)
            incoming.keep()
        return dataset

    async def granted(self, run: TrainingRun, *, attempt: int = 1) -> str:
        async with self.worker.begin() as work:
            _, token = await service.grant_download(work, run=run, attempt=attempt)
        return token.reveal()

    async def run(self, document: str, viewer: Viewer, **variables: Any) -> Any:
        """The data of an operation. An entry in `errors` fails the test."""
        context = Context(services=self.services, viewer=viewer)
        result = await self.schema.execute(document, variable_values=variables, context_value=context)
        assert result.errors is None, result.errors
        return result.data

    async def row(self, dataset_id: UUID) -> Dataset:
        async with AsyncSession(self.owner_engine) as session:
            return (await session.exec(select(Dataset).where(Dataset.id == dataset_id))).one()

    async def grants(self) -> list[DownloadGrant]:
        async with AsyncSession(self.owner_engine) as session:
            return list((await session.exec(select(DownloadGrant).order_by(col(DownloadGrant.id)))).all())

    async def receipts(self) -> list[DownloadReceipt]:
        async with AsyncSession(self.owner_engine) as session:
            return list((await session.exec(select(DownloadReceipt).order_by(col(DownloadReceipt.id)))).all())

    def files(self) -> dict[str, bytes]:
        """Everything in the store, by name."""
        paths: Iterable[Path] = self.store.folder.rglob("*") if self.store.folder.exists() else ()
        return {str(path.relative_to(self.store.folder)): path.read_bytes() for path in paths if path.is_file()}

    async def assert_untouched(self, dataset: Dataset) -> None:
        """Nothing of a refused upload is left."""
        row = await self.row(dataset.id)
        assert (row.status, row.bytes, row.sha256, row.row_count, row.columns, row.uploaded_at) == (
            DatasetStatus.EMPTY,
            0,
            None,
            None,
            [],
            None,
        )
        assert self.files() == {}


@pytest.fixture(scope="session")
def dataset_schema() -> strawberry.Schema:
    return strawberry.Schema(
        query=DatasetQueries,
        mutation=DatasetMutations,
        types=[Problem],
        config=StrawberryConfig(scalar_map=SCALARS),
        exception_handlers=EXCEPTION_HANDLERS,
    )


@pytest.fixture
async def room(
    settings: Settings,
    database: Database,
    worker_database: Database,
    owner_engine: AsyncEngine,
    dataset_schema: strawberry.Schema,
) -> AsyncIterator[Room]:
    settings = settings.model_copy(update={"upload_limit_bytes": 4 * 1024**2})
    services = Services(
        settings=settings,
        database=database,
        bus=None,  # type: ignore[arg-type]  # nothing here listens
        hub=None,  # type: ignore[arg-type]  # nothing here is live
        authentication=Authentication(settings, database),
        attempts=None,  # type: ignore[arg-type]  # nobody signs in
    )
    free_bytes = [2**50]
    store = DatasetStore(settings.data_dir / "datasets", free=lambda _: free_bytes[0])
    app = app_of(services, store, PACE)
    yield Room(app, services, store, worker_database, owner_engine, dataset_schema, free_bytes)


def app_of(services: Services, store: DatasetStore, pace: Pace) -> Guards:
    """The room's routes behind the guards of the whole API."""
    return Guards(Starlette(routes=dataset_routes(services, store=store, pace=pace)), body_limit_of=body_limit_of)
