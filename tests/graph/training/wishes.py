"""What the tests of this room ask for, and how."""

from typing import Any

import sqlalchemy as sa
from sqlmodel import col, func, select

from domain.dataset.model import Dataset
from domain.training.model import TrainingRun
from domain.viewer import Viewer
from graph.ids import global_id
from tests.factories import make_dataset
from tests.graph.served import Served

PROBLEM = "... on Problem { __typename code message field retryAfterSeconds params }"
RUN = "... on TrainingRun { __typename id status stage attempt recipe hyperparameters tags metadata retryOf { id } }"
ANSWER = f"{{ {RUN} {PROBLEM} }}"
START = f"mutation ($input: StartTrainingRunInput!) {{ answer: startTrainingRun(input: $input) {ANSWER} }}"
CANCEL = f"mutation ($id: ID!) {{ answer: cancelTrainingRun(id: $id) {ANSWER} }}"
SYNC = f"mutation ($id: ID!) {{ answer: syncTrainingRun(id: $id) {ANSWER} }}"
RETRY = f"""mutation ($id: ID!, $key: String) {{
  answer: retryTrainingRun(id: $id, idempotencyKey: $key) {ANSWER}
}}"""
COLUMNS: list[dict[str, Any]] = [
    {"name": "width", "kind": "NUMBER", "missing": 0, "distinct": 90, "examples": ["1"]},
    {"name": "target", "kind": "CATEGORY", "missing": 0, "distinct": 3, "examples": ["x"]},
]


async def make_data(served: Served, viewer: Viewer, **facts: Any) -> Dataset:
    """A dataset that the recipe of `wish_of` can learn from."""
    given: dict[str, Any] = {"columns": COLUMNS, "row_count": 100}
    return await make_dataset(served.database, viewer, **given | facts)


def wish_of(data: Dataset, **changes: Any) -> dict[str, Any]:
    return {
        "modelName": "Iris",
        "provider": "LOCAL",
        "recipe": "tabular-classification",
        "datasetId": global_id("Dataset", data.id),
        **changes,
    }


def id_of(run: TrainingRun) -> str:
    return global_id("TrainingRun", run.id)


async def count_runs(served: Served, viewer: Viewer) -> int:
    async with served.worker.begin() as work:
        statement = select(func.count(col(TrainingRun.id))).where(TrainingRun.user_id == viewer.user_id)
        return (await work.session.exec(statement)).one()


async def row_of(served: Served, run: TrainingRun) -> TrainingRun:
    async with served.worker.begin() as work:
        return await work.session.get_one(TrainingRun, run.id)


async def count_rows(served: Served, table: str, viewer: Viewer) -> int:
    async with served.worker.begin() as work:
        statement = sa.text(f"SELECT count(*) FROM {table} WHERE user_id = :user_id")
        found = await (await work.session.connection()).execute(statement, {"user_id": viewer.user_id})
        number: int = found.scalar_one()
    return number
