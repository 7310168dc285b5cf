"""`node(id)`: any thing with an id, found again by its room."""

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

import strawberry

from domain.dataset import queries as datasets
from domain.errors import NotFound
from domain.training import queries as training
from graph.account.queries import api_key_by_id, user_session_by_id, viewer_by_id
from graph.ai_model.queries import ai_model_by_id
from graph.callback.queries import callback_by_id
from graph.context import Info
from graph.dataset.types import Dataset
from graph.deployment.queries import app_by_id, deployment_by_id, resource_by_id
from graph.ids import parts_of
from graph.integration.queries import integration_by_id
from graph.node import Node
from graph.training.configs import training_config_by_id
from graph.training.types import RunAttempt, TrainingRun


async def _training_run(info: Info, id: UUID) -> TrainingRun:
    async with info.context.begin() as work:
        return TrainingRun.of(await training.run_of(work.session, info.context.viewer, id))


async def _run_attempt(info: Info, id: UUID) -> RunAttempt:
    async with info.context.begin() as work:
        return RunAttempt.of(await training.attempt_by_id(work.session, info.context.viewer, id))


async def _dataset(info: Info, id: UUID) -> Dataset:
    async with info.context.begin() as work:
        return Dataset.of(await datasets.dataset_of(work.session, info.context.viewer, id))


FINDERS: dict[str, Callable[[Info, UUID], Awaitable[Node | None]]] = {
    "AIModel": ai_model_by_id,
    "ApiKey": api_key_by_id,
    "App": app_by_id,
    "Callback": callback_by_id,
    "Dataset": _dataset,
    "Deployment": deployment_by_id,
    "Integration": integration_by_id,
    "Resource": resource_by_id,
    "RunAttempt": _run_attempt,
    "TrainingConfig": training_config_by_id,
    "TrainingRun": _training_run,
    "UserSession": user_session_by_id,
    "Viewer": viewer_by_id,
}
"""By the type that an id names: how its room finds it for the viewer, whose scopes it checks."""


@strawberry.type
class NodeQueries:
    @strawberry.field(description="Anything of yours with an id; null if there is no such thing.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The thing.")]
    ) -> Node | None:
        info.context.viewer.require()
        try:
            name, row_id = parts_of(id)
            finder = FINDERS.get(name)
            return await finder(info, row_id) if finder is not None else None
        except NotFound:
            return None
