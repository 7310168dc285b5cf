"""Stopping deployments and saying who may open an app."""

from typing import Annotated

import strawberry

from domain.deployment import service
from domain.deployment.model import AppAccess
from graph.context import Info
from graph.deployment.types import App, Deployment
from graph.errors import Forbidden, NotFound, Unavailable
from graph.ids import uuid_of

StopDeploymentResult = Annotated[
    Deployment | NotFound | Forbidden | Unavailable,
    strawberry.union("StopDeploymentResult", description="The deployment, stopped, or why it is not."),
]
SetAppAccessResult = Annotated[
    App | NotFound | Forbidden | Unavailable,
    strawberry.union("SetAppAccessResult", description="The app, or why it stays as it is."),
]


@strawberry.type
class DeploymentMutations:
    @strawberry.mutation(
        description="Stop serving. The address stays and says that it is stopped; `deployModel` serves there again."
    )
    async def stop_deployment(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The deployment.")]
    ) -> StopDeploymentResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            row = await service.stop_deployment(work, viewer, deployment_id=uuid_of(id, "Deployment"))
        return Deployment.of(row)

    @strawberry.mutation(description="Say who may open an app. It holds everywhere within a second.")
    async def set_app_access(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The app.")],
        access: Annotated[AppAccess, strawberry.argument(description="Who may open it from now on.")],
    ) -> SetAppAccessResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            row = await service.set_app_access(work, viewer, app_id=uuid_of(id, "App"), access=access)
        return App.of(row)
