"""Reading your accounts at providers."""

from typing import Annotated
from uuid import UUID

import strawberry

from domain.errors import NotFound
from domain.integration import queries
from domain.viewer import Scope
from graph.context import Info
from graph.integration.types import Integration
from graph.paging import Connection


@strawberry.type
class IntegrationQueries:
    @strawberry.field(description="Your own accounts at providers, newest first, also disconnected ones.")
    async def integrations(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many at most; 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="The cursor that the page begins after.")] = None,
    ) -> Connection[Integration]:
        user_id = info.context.viewer.require(Scope.ACCOUNT_READ)
        async with info.context.begin() as work:
            page = await queries.integrations_page(work.session, user_id, first=first, after=after)
        return Connection[Integration].of(page, Integration.of, after=after)


async def integration_by_id(info: Info, id: UUID) -> Integration | None:
    """For `node`: one of the viewer's accounts, disconnected ones too."""
    user_id = info.context.viewer.require(Scope.ACCOUNT_READ)
    async with info.context.begin() as work:
        try:
            return Integration.of(await queries.integration_of(work.session, user_id, id))
        except NotFound:
            return None
