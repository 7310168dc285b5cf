"""Making and deleting datasets. Their content is a request of its own: `PUT` to `uploadUrl`."""

from typing import Annotated

import strawberry

from domain.dataset import service
from domain.dataset.model import DatasetFormat
from domain.viewer import Scope
from graph.context import Info
from graph.dataset.types import Dataset
from graph.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import uuid_of

CreateDatasetResult = Annotated[
    Dataset | Invalid | Forbidden | LimitReached | Unavailable,
    strawberry.union("CreateDatasetResult", description="The new dataset, EMPTY, or why there is none."),
]
DeleteDatasetResult = Annotated[
    Dataset | NotFound | Conflict | Forbidden | Unavailable,
    strawberry.union("DeleteDatasetResult", description="The dataset as it was, or why it stays."),
]


@strawberry.input(description="What a new dataset is called, and how its file is written.")
class CreateDatasetInput:
    name: str = strawberry.field(
        description="At most 200 letters, digits, blanks and signs; data, never a path, so without slashes."
    )
    format: DatasetFormat = strawberry.field(description="How the file that you will upload is written.")


@strawberry.type
class DatasetMutations:
    @strawberry.mutation(description="Make an EMPTY dataset; then PUT its content to its `uploadUrl`.")
    async def create_dataset(
        self, info: Info, input: Annotated[CreateDatasetInput, strawberry.argument(description="The dataset.")]
    ) -> CreateDatasetResult:
        async with info.context.begin() as work:
            row = await service.create_dataset(work, info.context.viewer, name=input.name, format=input.format)
        return Dataset.of(row)

    @strawberry.mutation(description="Delete a dataset and its content for good; refused while runs use it.")
    async def delete_dataset(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The dataset's id.")]
    ) -> DeleteDatasetResult:
        viewer = info.context.viewer
        viewer.require(Scope.DATASETS_WRITE)
        async with info.context.begin() as work:
            row = await service.delete_dataset(work, viewer, dataset_id=uuid_of(id, "Dataset"))
        return Dataset.of(row)
