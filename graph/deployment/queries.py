"""Reading apps and resources."""

from typing import Annotated
from uuid import UUID

import strawberry
from sqlmodel import select

from domain.account.operators import require_operator
from domain.deployment import queries
from domain.deployment.model import Resource as ResourceRow
from domain.errors import NotFound
from domain.viewer import Scope
from graph.context import Info
from graph.deployment.inputs import ResourceFilter
from graph.deployment.types import App, Deployment, Resource
from graph.paging import Connection

First = Annotated[int, strawberry.argument(description="How many, 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="Only those behind this cursor.")]
RESOURCE_SCOPES = (Scope.RUNS_READ, Scope.MODELS_READ)


@strawberry.type
class DeploymentQueries:
    @strawberry.field(description="An app of yours, by its slug; null if you have none of that slug.")
    async def app(
        self, info: Info, slug: Annotated[str, strawberry.argument(description="The last part of its address.")]
    ) -> App | None:
        user_id = info.context.viewer.require(Scope.MODELS_READ)
        async with info.context.begin() as work:
            row = await queries.app_by_slug(work.session, user_id, slug)
        return App.of(row) if row is not None else None

    @strawberry.field(description="Your apps, newest first.")
    async def apps(self, info: Info, first: First = 20, after: After = None) -> Connection[App]:
        user_id = info.context.viewer.require(Scope.MODELS_READ)
        async with info.context.begin() as work:
            page = await queries.apps_page(work.session, user_id, first=first, after=after)
        return Connection.of(page, App.of, after=after)

    @strawberry.field(description="What you have, or had, at providers, newest first; for operators everybody's too.")
    async def resources(
        self,
        info: Info,
        first: First = 20,
        after: After = None,
        filter: Annotated[
            ResourceFilter | None, strawberry.argument(description="Which of them; all of yours without one.")
        ] = None,
    ) -> Connection[Resource]:
        viewer = info.context.viewer
        user_id = viewer.require(*RESOURCE_SCOPES)
        wanted = filter.conditions() if filter is not None else queries.ResourceFilter()
        async with info.context.begin() as work:
            if filter is not None and filter.all:
                await require_operator(work.session, viewer, *RESOURCE_SCOPES)
                page = await queries.operated_resources_page(work.session, wanted, first=first, after=after)
            else:
                page = await queries.resources_page(work.session, user_id, wanted, first=first, after=after)
        return Connection.of(page, Resource.of, after=after)


async def app_by_id(info: Info, id: UUID) -> App | None:
    """For `node`: an app of the viewer."""
    try:
        async with info.context.begin() as work:
            return App.of(await queries.app_of(work.session, info.context.viewer, id))
    except NotFound:
        return None


async def deployment_by_id(info: Info, id: UUID) -> Deployment | None:
    """For `node`: a deployment of the viewer."""
    try:
        async with info.context.begin() as work:
            return Deployment.of(await queries.deployment_of(work.session, info.context.viewer, id))
    except NotFound:
        return None


async def resource_by_id(info: Info, id: UUID) -> Resource | None:
    """For `node`: a resource of the viewer; for an operator anybody's."""
    viewer = info.context.viewer
    user_id = viewer.require(*RESOURCE_SCOPES)
    async with info.context.begin() as work:
        statement = select(ResourceRow).where(ResourceRow.id == id, ResourceRow.user_id == user_id)
        row = (await work.session.exec(statement)).one_or_none()
        if row is None and Scope.ACCOUNT_READ in viewer.scopes:
            row = await queries.operated_resource(work.session, id)
    return Resource.of(row) if row is not None else None
