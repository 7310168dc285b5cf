"""Saved training configs as the outside sees them."""

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

import strawberry

import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.errors import NotFound as NotFoundError
from domain.training import configs, queries
from domain.training.configs import ConfigWish
from domain.training.errors import BadRunInput
from domain.training.model import TrainingConfig as TrainingConfigRow
from domain.training.status import Provider
from domain.viewer import Scope
from graph.context import Info
from graph.errors import Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import global_id, uuid_of
from graph.node import Node
from graph.paging import Connection


@strawberry.type(description="A saved set of settings to start runs from. What a run's own input says goes before it.")
class TrainingConfig(Node):
    name: str = strawberry.field(description="Its name, unique among yours.")
    provider: Provider | None = strawberry.field(description="The provider that it is meant for.")
    recipe: str | None = strawberry.field(description="What is trained how.")
    hyperparameters: strawberry.scalars.JSON = strawberry.field(
        description="The recipe's settings, as far as it says any."
    )
    gpu_types: list[str] = strawberry.field(description="GPU types, the best first.")
    image: str | None = strawberry.field(description="The machine image to run in.")
    time_limit_seconds: int | None = strawberry.field(description="Seconds after which the training is stopped.")
    created_at: datetime = strawberry.field(description="When it was first saved.")
    updated_at: datetime = strawberry.field(description="When it was last saved.")

    @classmethod
    def of(cls, row: TrainingConfigRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("TrainingConfig", row.id)),
            name=row.name,
            provider=row.provider,
            recipe=row.recipe,
            hyperparameters=strawberry.scalars.JSON(row.hyperparameters),
            gpu_types=list(row.gpu_types),
            image=row.image,
            time_limit_seconds=row.time_limit_seconds,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )


@strawberry.input(description="What a config is to hold; what is left out is left to the run.")
class SaveTrainingConfigInput:
    name: str = strawberry.field(description="Its name; a config of yours that has it already is replaced.")
    provider: Provider | None = strawberry.field(default=None, description="The provider that it is meant for.")
    recipe: str | None = strawberry.field(default=None, description="One of `recipes`.")
    hyperparameters: strawberry.scalars.JSON | None = strawberry.field(
        default=None, description="An object with settings of the recipe."
    )
    gpu_types: list[str] | None = strawberry.field(default=None, description="GPU types, the best first; RUNPOD only.")
    image: str | None = strawberry.field(default=None, description="The machine image to run in; RUNPOD only.")
    time_limit_seconds: int | None = strawberry.field(
        default=None, description="Seconds after which the training is stopped."
    )

    def wish(self) -> ConfigWish:
        """Raises `BadRunInput` for hyperparameters that are no object."""
        return ConfigWish(
            name=self.name,
            provider=self.provider,
            recipe=self.recipe,
            hyperparameters=_object(self.hyperparameters),
            gpu_types=tuple(self.gpu_types or ()),
            image=self.image,
            time_limit_seconds=self.time_limit_seconds,
        )


SaveTrainingConfigResult = Annotated[
    TrainingConfig | Invalid | Forbidden | LimitReached | Unavailable,
    strawberry.union("SaveTrainingConfigResult", description="The config as it is now, or why it was not saved."),
]
DeleteTrainingConfigResult = Annotated[
    TrainingConfig | NotFound | Forbidden | Unavailable,
    strawberry.union("DeleteTrainingConfigResult", description="The config as it was, or why it is still there."),
]


@strawberry.type
class TrainingConfigQueries:
    @strawberry.field(description="A saved config of yours; null if there is no such config.")
    async def training_config(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The config.")]
    ) -> TrainingConfig | None:
        info.context.viewer.require_unbound(Scope.RUNS_READ)
        try:
            return await training_config_by_id(info, uuid_of(id, "TrainingConfig"))
        except NotFoundError:
            return None

    @strawberry.field(description="Your saved configs, newest first.")
    async def training_configs(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="Only those behind this cursor.")] = None,
    ) -> Connection[TrainingConfig]:
        user_id = info.context.viewer.require_unbound(Scope.RUNS_READ)
        async with info.context.begin() as work:
            page = await configs.configs_page(work.session, user_id, first=first, after=after)
        return Connection.of(page, TrainingConfig.of, after=after)


@strawberry.type
class TrainingConfigMutations:
    @strawberry.mutation(
        description="Save settings under a name: a new config, or in place of what the config of that name held."
    )
    async def save_training_config(
        self, info: Info, input: Annotated[SaveTrainingConfigInput, strawberry.argument(description="The settings.")]
    ) -> SaveTrainingConfigResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            limit = info.context.settings.longest_time_limit_seconds
            config = await configs.save_config(work, viewer, input.wish(), longest_time_limit_seconds=limit)
        return TrainingConfig.of(config)

    @strawberry.mutation(description="Delete a saved config. Runs that were started from it stay as they are.")
    async def delete_training_config(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The config.")]
    ) -> DeleteTrainingConfigResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            config = await configs.delete_config(work, viewer, config_id=uuid_of(id, "TrainingConfig"))
        return TrainingConfig.of(config)


async def training_config_by_id(info: Info, id: UUID) -> TrainingConfig | None:
    """For `node`: a config of the viewer."""
    user_id = info.context.viewer.require_unbound(Scope.RUNS_READ)
    try:
        async with info.context.begin() as work:
            return TrainingConfig.of(await queries.config_of(work.session, user_id, id))
    except NotFoundError:
        return None


def _object(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadRunInput("hyperparameters", "a JSON object", "um objeto JSON")
    return given
