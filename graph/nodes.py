"""`node(id)`: any thing with an id, found again."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import strawberry
from sqlmodel import select

from domain.account.model import ApiKey as ApiKeyRow
from domain.account.model import UserSession as UserSessionRow
from domain.ai_model.model import AIModel as AIModelRow
from domain.dataset.model import Dataset as DatasetRow
from domain.deployment.model import App as AppRow
from domain.deployment.model import Deployment as DeploymentRow
from domain.deployment.model import Resource as ResourceRow
from domain.errors import NotFound
from domain.training.model import RunAttempt as RunAttemptRow
from domain.training.model import TrainingConfig as TrainingConfigRow
from domain.training.model import TrainingRun as TrainingRunRow
from domain.viewer import Scope, Viewer
from graph.account.types import ApiKey, UserSession
from graph.ai_model.types import AIModel
from graph.context import Info
from graph.dataset.types import Dataset
from graph.deployment.types import App, Deployment, Resource
from graph.ids import parts_of
from graph.node import Node
from graph.training.configs import TrainingConfig
from graph.training.types import RunAttempt, TrainingRun


@dataclass(frozen=True, slots=True)
class Kind:
    """Where nodes of a type are kept, what reading them takes, and how they are shown."""

    table: Any
    scope: Scope
    of: Callable[[Any, Viewer], Node]


def _session(row: Any, viewer: Viewer) -> Node:
    return UserSession.of(row, viewer.credential_id)


KINDS: dict[str, Kind] = {
    "TrainingRun": Kind(TrainingRunRow, Scope.RUNS_READ, lambda row, _: TrainingRun.of(row)),
    "RunAttempt": Kind(RunAttemptRow, Scope.RUNS_READ, lambda row, _: RunAttempt.of(row)),
    "TrainingConfig": Kind(TrainingConfigRow, Scope.RUNS_READ, lambda row, _: TrainingConfig.of(row)),
    "AIModel": Kind(AIModelRow, Scope.MODELS_READ, lambda row, _: AIModel.of(row)),
    "App": Kind(AppRow, Scope.MODELS_READ, lambda row, _: App.of(row)),
    "Deployment": Kind(DeploymentRow, Scope.MODELS_READ, lambda row, _: Deployment.of(row)),
    "Resource": Kind(ResourceRow, Scope.RUNS_READ, lambda row, _: Resource.of(row)),
    "Dataset": Kind(DatasetRow, Scope.DATASETS_READ, lambda row, _: Dataset.of(row)),
    "UserSession": Kind(UserSessionRow, Scope.ACCOUNT_READ, _session),
    "ApiKey": Kind(ApiKeyRow, Scope.ACCOUNT_READ, lambda row, _: ApiKey.of(row)),
}


@strawberry.type
class NodeQueries:
    @strawberry.field(description="Anything of yours with an id; null if there is no such thing.")
    async def node(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The thing.")]
    ) -> Node | None:
        viewer = info.context.viewer
        viewer.require()
        try:
            name, row_id = parts_of(id)
        except NotFound:
            return None
        kind = KINDS.get(name)
        if kind is None:
            return None
        user_id = viewer.require(kind.scope)
        if name in ("TrainingRun", "RunAttempt") and viewer.run_id is not None:
            return None
        statement = select(kind.table).where(kind.table.id == row_id, kind.table.user_id == user_id)
        async with info.context.begin() as work:
            row = (await work.session.exec(statement)).one_or_none()
        gone = row is None or getattr(row, "deleted_at", None) is not None
        return None if gone else kind.of(row, viewer)
