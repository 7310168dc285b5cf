"""Reading datasets."""

from typing import Annotated

import strawberry

from domain.dataset import queries
from domain.errors import NotFound
from domain.viewer import Scope
from graph.context import Info
from graph.dataset.types import Dataset
from graph.ids import uuid_of
from graph.paging import Connection


@strawberry.type
class DatasetQueries:
    @strawberry.field(description="One of your datasets; null if there is none of this id.")
    async def dataset(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The dataset's id.")]
    ) -> Dataset | None:
        info.context.viewer.require(Scope.DATASETS_READ)
        try:
            async with info.context.begin() as work:
                return Dataset.of(await queries.dataset_of(work.session, info.context.viewer, uuid_of(id, "Dataset")))
        except NotFound:
            return None

    @strawberry.field(description="Your datasets, newest first.")
    async def datasets(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, from 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="Go on after this cursor.")] = None,
    ) -> Connection[Dataset]:
        info.context.viewer.require(Scope.DATASETS_READ)
        async with info.context.begin() as work:
            page = await queries.datasets_page(work.session, info.context.viewer, first=first, after=after)
        return Connection[Dataset].of(page, Dataset.of, after=after)
