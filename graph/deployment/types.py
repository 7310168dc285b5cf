"""Apps, what answers at them, and what exists at providers."""

from datetime import datetime
from typing import Annotated, Self
from uuid import UUID

import strawberry

import graph.deployment.enums
import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.deployment import queries
from domain.deployment.model import App as AppRow
from domain.deployment.model import AppAccess, DeploymentStatus, ResourceKind, ResourceStatus
from domain.deployment.model import Deployment as DeploymentRow
from domain.deployment.model import Resource as ResourceRow
from domain.paging import checked_first
from domain.training.budget import spent_by_now
from domain.training.status import Provider
from graph.ai_model.types import AIModel
from graph.context import Info
from graph.deployment.address import url_of
from graph.deployment.loaders import app_loader, deployment_loader
from graph.ids import global_id
from graph.node import Node
from graph.scalars import URL, BigInt
from graph.training.loaders import ai_model_loader


@strawberry.type(description="One try to have a run's result answer at an app's address.")
class Deployment(Node):
    row: strawberry.Private[DeploymentRow]
    status: DeploymentStatus = strawberry.field(description="How it stands.")
    provider: Provider = strawberry.field(description="Who serves it.")
    error_message: str | None = strawberry.field(description="Why it failed.")
    created_at: datetime = strawberry.field(description="When it was begun.")
    live_at: datetime | None = strawberry.field(description="When it first answered as it should.")
    stopped_at: datetime | None = strawberry.field(description="When it was stopped or given up.")

    @classmethod
    def of(cls, row: DeploymentRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("Deployment", row.id)),
            row=row,
            status=row.status,
            provider=row.provider,
            error_message=row.error_message,
            created_at=row.created_at,
            live_at=row.live_at,
            stopped_at=row.stopped_at,
        )

    @strawberry.field(description="The run whose result it serves.")
    def run_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("TrainingRun", self.row.run_id))

    @strawberry.field(description="The app whose address it answers at.")
    async def app(self, info: Info) -> "App":
        row = await app_loader(info).load(self.row.app_id)
        if row is None:
            raise LookupError("A deployment has no app.")
        return App.of(row)


@strawberry.type(description="A stable address at which a model answers.")
class App(Node):
    row: strawberry.Private[AppRow]
    slug: str = strawberry.field(description="Its unguessable part of the address.")
    access: AppAccess = strawberry.field(description="Who may open it.")
    created_at: datetime = strawberry.field(description="When it was made.")

    @classmethod
    def of(cls, row: AppRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("App", row.id)),
            row=row,
            slug=row.slug,
            access=row.access,
            created_at=row.created_at,
        )

    @strawberry.field(description="Its address; it stays the same whatever is deployed there.")
    def url(self, info: Info) -> URL:
        return url_of(info, self.slug)

    @strawberry.field(description="The model that answers there.")
    async def model(self, info: Info) -> AIModel:
        return AIModel.of(await ai_model_loader(info).load(self.row.model_id))

    @strawberry.field(description="The deployment that everybody is sent to; null where there was none yet.")
    async def deployment(self, info: Info) -> Deployment | None:
        if self.row.current_deployment_id is None:
            return None
        row = await deployment_loader(info).load(self.row.current_deployment_id)
        return Deployment.of(row) if row is not None else None

    @strawberry.field(description="Its newest deployments, newest first.")
    async def deployments(
        self, info: Info, first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20
    ) -> list[Deployment]:
        count = checked_first(first)
        async with info.context.begin() as work:
            rows = await queries.newest_deployments(work.session, self.row.id, count=count)
        return [Deployment.of(row) for row in rows]


@strawberry.type(description="Something at a provider that may cost money; written down before it is created.")
class Resource(Node):
    row: strawberry.Private[ResourceRow]
    provider: Provider = strawberry.field(description="Whose it is.")
    kind: ResourceKind = strawberry.field(description="What it is for.")
    status: ResourceStatus = strawberry.field(description="Whether it is there.")
    tag: str = strawberry.field(description="Its unique name at the provider.")
    reference: str | None = strawberry.field(description="The provider's own id of it.")
    last_error: str | None = strawberry.field(description="Why its end could not be confirmed yet.")
    attempt: int | None = strawberry.field(description="The attempt of the run that it is for.")
    gpu_type: str | None = strawberry.field(description="The GPU type that it was asked for with.")
    is_test: bool = strawberry.field(description="Whether a simulator has it, so that nobody pays for it.")
    created_at: datetime = strawberry.field(description="When it was written down.")
    began_at: datetime | None = strawberry.field(description="When the provider made it, as far as we know.")
    ended_at: datetime | None = strawberry.field(description="When the provider confirmed its end.")

    @classmethod
    def of(cls, row: ResourceRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("Resource", row.id)),
            row=row,
            provider=row.provider,
            kind=row.kind,
            status=row.status,
            tag=row.tag,
            reference=row.reference,
            last_error=row.last_error,
            attempt=row.attempt,
            gpu_type=row.gpu_type,
            is_test=row.is_test,
            created_at=row.created_at,
            began_at=row.began_at,
            ended_at=row.ended_at,
        )

    @strawberry.field(description="The run that it is for.")
    def run_id(self) -> strawberry.ID | None:
        return _id_of("TrainingRun", self.row.run_id)

    @strawberry.field(description="The deployment that it is for.")
    def deployment_id(self) -> strawberry.ID | None:
        return _id_of("Deployment", self.row.deployment_id)

    @strawberry.field(description="What an hour of it costs, in millionths of a US dollar.")
    def price_micros_per_hour(self) -> BigInt:
        return BigInt(self.row.price_micros_per_hour)

    @strawberry.field(description="What it cost so far, in millionths of a US dollar; while it is there, up to now.")
    def cost_micros(self, info: Info) -> BigInt:
        row = self.row
        if row.status is ResourceStatus.ENDED or row.cost_at is None:
            return BigInt(row.cost_micros)
        since = (info.context.now - row.cost_at).total_seconds()
        return BigInt(spent_by_now(row.cost_micros, row.price_micros_per_hour, since))

    @strawberry.field(description="How long it has been there, or was there until it ended.")
    def age_seconds(self, info: Info) -> float:
        row = self.row
        if row.age_seconds is not None and row.status is ResourceStatus.ENDED:
            return row.age_seconds
        return max(0.0, ((row.ended_at or info.context.now) - row.created_at).total_seconds())


def _id_of(kind: str, id: UUID | None) -> strawberry.ID | None:
    return strawberry.ID(global_id(kind, id)) if id is not None else None
