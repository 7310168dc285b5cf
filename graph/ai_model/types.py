"""A model and what belongs to it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Self

import strawberry

import graph.ai_model.enums
import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.ai_model.model import AIModel as AIModelRow
from domain.ai_model.model import AIModelStatus
from domain.deployment.queries import REACHABLE
from domain.training import queries as training
from domain.training.queries import RunFilter
from domain.training.status import Provider
from domain.viewer import Scope
from graph.context import Info
from graph.deployment.address import url_of
from graph.deployment.loaders import app_of_model_loader, deployment_loader
from graph.ids import global_id
from graph.node import Node
from graph.paging import Connection
from graph.scalars import URL
from graph.training.loaders import run_loader
from graph.training.types import TrainingRun

if TYPE_CHECKING:
    from graph.deployment.types import App


@strawberry.type(name="AIModel", description="A named thing that runs train, with its own life.")
class AIModel(Node):
    row: strawberry.Private[AIModelRow]
    name: str = strawberry.field(description="Its name, unique among yours.")
    status: AIModelStatus = strawberry.field(description="Where it stands.")
    model_url: str | None = strawberry.field(
        description="Where its weights are, as far as the provider has an address for them."
    )
    provider: Provider | None = strawberry.field(description="The provider where it stays; null where we have it.")
    provider_version: str | None = strawberry.field(description="What names it there.")
    error_message: str | None = strawberry.field(description="What went wrong with the newest run, while it is ERROR.")
    trained_at: datetime | None = strawberry.field(description="When its present version was trained.")
    created_at: datetime = strawberry.field(description="When it was first named.")
    updated_at: datetime = strawberry.field(description="When it last changed.")

    @classmethod
    def of(cls, row: AIModelRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("AIModel", row.id)),
            row=row,
            name=row.name,
            status=row.status,
            model_url=row.model_url,
            provider=row.provider,
            provider_version=row.provider_version,
            error_message=row.error_message,
            trained_at=row.trained_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )

    @strawberry.field(description="How far the current run is, 0 to 100, with two decimals; 100 when READY.")
    def progress(self) -> float:
        return round(self.row.progress, 2)

    @strawberry.field(description="The run that it follows: the newest one.")
    async def current_run(self, info: Info) -> TrainingRun | None:
        viewer = info.context.viewer
        run_id = self.row.current_run_id
        if run_id is None or Scope.RUNS_READ not in viewer.scopes or not viewer.may_watch(run_id):
            return None
        row = await run_loader(info).load(run_id)
        return TrainingRun.of(row) if row is not None else None

    @strawberry.field(description="The run whose result it is at present; null until one succeeded.")
    async def trained_run(self, info: Info) -> TrainingRun | None:
        viewer = info.context.viewer
        run_id = self.row.trained_run_id
        if run_id is None or Scope.RUNS_READ not in viewer.scopes or not viewer.may_watch(run_id):
            return None
        row = await run_loader(info).load(run_id)
        return TrainingRun.of(row) if row is not None else None

    @strawberry.field(description="Where it answers; null while nothing is served there.")
    async def deployed_url(self, info: Info) -> URL | None:
        app = await app_of_model_loader(info).load(self.row.id)
        if app is None or app.current_deployment_id is None:
            return None
        deployment = await deployment_loader(info).load(app.current_deployment_id)
        if deployment is None or deployment.status not in REACHABLE:
            return None
        return url_of(info, app.slug)

    @strawberry.field(description="Its stable address and what answers there; null until it was first deployed.")
    async def app(self, info: Info) -> Annotated["App", strawberry.lazy("graph.deployment.types")] | None:
        from graph.deployment.types import App

        if Scope.MODELS_READ not in info.context.viewer.scopes:
            return None
        row = await app_of_model_loader(info).load(self.row.id)
        return App.of(row) if row is not None else None

    @strawberry.field(description="The runs that train it, newest first.")
    async def runs(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="Only those behind this cursor.")] = None,
    ) -> Connection[TrainingRun]:
        user_id = info.context.viewer.require(Scope.RUNS_READ, Scope.MODELS_READ)
        async with info.context.begin() as work:
            wanted = RunFilter(model_id=self.row.id)
            page = await training.runs_page(work.session, user_id, wanted, first=first, after=after)
        return Connection.of(page, TrainingRun.of, after=after)
