"""Deploying a model, and reading its provider again."""

from typing import Annotated

import strawberry

from domain.deployment import service as deployment
from graph.ai_model.syncing import synced_model
from graph.ai_model.types import AIModel
from graph.context import Info
from graph.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import uuid_of

DeployModelResult = Annotated[
    AIModel | NotFound | Conflict | Forbidden | Unavailable,
    strawberry.union("DeployModelResult", description="The model, whose deployment has begun, or why it has not."),
]
SyncModelResult = Annotated[
    AIModel | NotFound | Invalid | Forbidden | LimitReached | Unavailable,
    strawberry.union("SyncModelResult", description="The model, whose provider is read again now, or why it is not."),
]


@strawberry.type
class AIModelMutations:
    @strawberry.mutation(
        description="Serve what the model's last successful training left, at its stable address. It goes on in the"
        " background: follow `app.deployment`, or `activity`. A model that is served already stays as it is."
    )
    async def deploy_model(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The model.")]
    ) -> DeployModelResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            model = await deployment.deploy_model(work, viewer, model_id=uuid_of(id, "AIModel"))
        return AIModel.of(model)

    @strawberry.mutation(
        description="Have the provider of the model read again now. A run that goes on is looked at at once; a model"
        " that finished at the provider without being recorded here is attached, as the provider has it."
    )
    async def sync_model(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The model.")],
        provider_version: Annotated[
            str | None,
            strawberry.argument(
                description="What the provider calls the finished model or its training; without it: the model's last"
                " training there."
            ),
        ] = None,
    ) -> SyncModelResult:
        viewer = info.context.viewer
        viewer.require()
        return AIModel.of(await synced_model(info.context, uuid_of(id, "AIModel"), provider_version))
