"""What a user's feed says beside the events of runs."""

from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry

from domain.ai_model.model import AIModelStatus
from domain.deployment.address import address_of
from domain.deployment.model import DeploymentStatus
from domain.events import Event
from domain.training.status import Provider
from graph.context import Info
from graph.ids import global_id
from graph.scalars import URL, BigInt, Cursor
from graph.training.loaders import ai_model_loader
from graph.training.messages import ActivityMessage, EventTypes
from graph.training.types import TrainingRun

if TYPE_CHECKING:
    from graph.ai_model.types import AIModel


@strawberry.type(description="How things stand at the beginning of a feed; everything before is in it.")
class ActivitySnapshot(ActivityMessage):
    active_runs: list[TrainingRun] = strawberry.field(
        description="Your runs that have not ended, newest first; at most 100."
    )


@strawberry.type(
    description="What you asked for is not kept any more, or the journal began anew: forget what you knew,"
    " and go on from this state."
)
class ActivityGap(ActivityMessage):
    from_: int = strawberry.field(name="from", description="The first number that cannot be told.")
    to: int = strawberry.field(description="The last number that cannot be told.")
    active_runs: list[TrainingRun] = strawberry.field(
        description="Your runs that have not ended, newest first; at most 100."
    )


@strawberry.interface(description="A fact of a feed that belongs to no run's stream.")
class FeedFact(ActivityMessage):
    data: strawberry.Private[dict[str, Any]]

    @classmethod
    def of(cls, event: Event, cursor: str) -> Self:
        return cls(data=event.data, seq=event.seq, first_seq=event.first_seq, cursor=Cursor(cursor), at=event.at)


@strawberry.type(description="A model moved on in its life.")
class ModelStatusChanged(FeedFact):
    @strawberry.field(description="The model.")
    def model_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("AIModel", UUID(self.data["modelId"])))

    @strawberry.field(description="The model as it is now.")
    async def model(self, info: Info) -> Annotated["AIModel", strawberry.lazy("graph.ai_model.types")] | None:
        row = await ai_model_loader(info).load(UUID(self.data["modelId"]))
        from graph.ai_model.types import AIModel

        return AIModel.of(row) if row is not None else None

    @strawberry.field(description="Where it stood right then.")
    def status(self) -> AIModelStatus:
        return AIModelStatus(self.data["status"])


@strawberry.type(description="What answers at an app's address changed.")
class DeploymentChanged(FeedFact):
    @strawberry.field(description="The deployment.")
    def deployment_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Deployment", UUID(self.data["deploymentId"])))

    @strawberry.field(description="How it stood right then.")
    def status(self) -> DeploymentStatus:
        return DeploymentStatus(self.data["status"])

    @strawberry.field(description="The app's stable address.")
    def deployment_url(self, info: Info) -> URL:
        return URL(address_of(info.context.settings, self.data["slug"]))


@strawberry.type(description="Something at a provider is gone for good, and costs nothing any more.")
class ResourceEnded(FeedFact):
    @strawberry.field(description="The resource.")
    def resource_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Resource", UUID(self.data["resourceId"])))

    @strawberry.field(description="Whose it was.")
    def provider(self) -> Provider:
        return Provider(self.data["provider"])

    @strawberry.field(description="What it cost in all, in millionths of a US dollar.")
    def cost_micros(self) -> BigInt:
        return BigInt(self.data["costMicros"])


@strawberry.type(description="What a training has cost is known for good, after its run had ended.")
class CostSettled(FeedFact):
    @strawberry.field(description="The run.")
    def run_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("TrainingRun", UUID(self.data["runId"])))

    @strawberry.field(description="What it was that cost it.")
    def resource_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("Resource", UUID(self.data["resourceId"])))

    @strawberry.field(description="What the run has cost in all, in millionths of a US dollar.")
    def cost_micros(self) -> BigInt:
        return BigInt(self.data["costMicros"])


FEED_TYPES: dict[str, Any] = {
    **EventTypes.by_name,
    "model.status_changed": ModelStatusChanged,
    "deployment.changed": DeploymentChanged,
    "resource.ended": ResourceEnded,
    "cost.settled": CostSettled,
}
