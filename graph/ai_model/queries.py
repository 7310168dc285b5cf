"""Reading models."""

from typing import Annotated
from uuid import UUID

import strawberry

from domain.ai_model import queries
from domain.errors import NotFound
from domain.viewer import Scope
from graph.ai_model.types import AIModel
from graph.context import Info
from graph.ids import uuid_of
from graph.paging import Connection


@strawberry.type
class AIModelQueries:
    @strawberry.field(description="A model of yours; null if there is no such model.")
    async def ai_model(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The model.")]
    ) -> AIModel | None:
        info.context.viewer.require(Scope.MODELS_READ)
        try:
            return await ai_model_by_id(info, uuid_of(id, "AIModel"))
        except NotFound:
            return None

    @strawberry.field(description="Your models, newest first.")
    async def ai_models(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="Only those behind this cursor.")] = None,
    ) -> Connection[AIModel]:
        user_id = info.context.viewer.require(Scope.MODELS_READ)
        async with info.context.begin() as work:
            page = await queries.models_page(work.session, user_id, first=first, after=after)
        return Connection.of(page, AIModel.of, after=after)


async def ai_model_by_id(info: Info, id: UUID) -> AIModel | None:
    """For `node`: a model of the viewer."""
    try:
        async with info.context.begin() as work:
            return AIModel.of(await queries.model_of(work.session, info.context.viewer, id))
    except NotFound:
        return None
