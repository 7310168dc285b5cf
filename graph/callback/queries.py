"""Reading what providers and scripts have called to say. For operators only."""

from typing import Annotated
from uuid import UUID

import strawberry

from domain.account.operators import CALLBACK_SCOPES, is_operator, require_operator
from domain.callback import queries
from domain.callback.model import CallbackStatus
from domain.errors import NotFound
from graph.callback.types import Callback
from graph.context import Info
from graph.paging import Connection


@strawberry.type
class CallbackQueries:
    @strawberry.field(description="The calls of providers and scripts, newest first. For operators only.")
    async def callbacks(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="Only those behind this cursor.")] = None,
        statuses: Annotated[
            list[CallbackStatus] | None, strawberry.argument(description="Only those that this became of; else all.")
        ] = None,
    ) -> Connection[Callback]:
        async with info.context.begin() as work:
            await require_operator(work.session, info.context.viewer, *CALLBACK_SCOPES)
            page = await queries.callbacks_page(work.session, statuses=statuses or (), first=first, after=after)
        return Connection.of(page, Callback.of, after=after)


async def callback_by_id(info: Info, id: UUID) -> Callback | None:
    """For `node`: any callback, for an operator; for everybody else there is none."""
    viewer = info.context.viewer
    viewer.require_unbound(*CALLBACK_SCOPES)
    async with info.context.begin() as work:
        if not await is_operator(work.session):
            return None
        try:
            return Callback.of(await queries.callback_of(work.session, id))
        except NotFound:
            return None
