"""Reading who you are, where you are signed in, and which keys you have."""

from typing import Annotated
from uuid import UUID

import strawberry

from domain.account import queries
from domain.errors import NotFound
from domain.viewer import Scope
from graph.account.types import ApiKey, UserSession, Viewer
from graph.context import Info
from graph.paging import Connection

First = Annotated[int, strawberry.argument(description="How many at most; 1 to 100.")]
After = Annotated[str | None, strawberry.argument(description="The cursor that the page begins after.")]


@strawberry.type
class AccountQueries:
    @strawberry.field(description="You, as far as your credential shows; null if you showed none.")
    async def viewer(self, info: Info) -> Viewer | None:
        viewer = info.context.viewer
        if viewer.is_nobody:
            return None
        return await viewer_by_id(info, viewer.require())

    @strawberry.field(description="The devices that you are signed in on, newest first.")
    async def sessions(self, info: Info, first: First = 20, after: After = None) -> Connection[UserSession]:
        viewer = info.context.viewer
        user_id = viewer.require(Scope.ACCOUNT_READ)
        async with info.context.begin() as work:
            page = await queries.sessions_page(work.session, user_id, work.now, first=first, after=after)
        return Connection[UserSession].of(page, lambda row: UserSession.of(row, viewer.credential_id), after=after)

    @strawberry.field(description="Your API keys, newest first, also those that have ended.")
    async def api_keys(self, info: Info, first: First = 20, after: After = None) -> Connection[ApiKey]:
        user_id = info.context.viewer.require(Scope.ACCOUNT_READ)
        async with info.context.begin() as work:
            page = await queries.api_keys_page(work.session, user_id, first=first, after=after)
        return Connection[ApiKey].of(page, ApiKey.of, after=after)


async def viewer_by_id(info: Info, id: UUID) -> Viewer | None:
    """For `node`: the viewer, if it is they."""
    viewer = info.context.viewer
    if viewer.require() != id:
        return None
    async with info.context.begin() as work:
        return Viewer.of(await queries.user_of(work.session, id), viewer)


async def user_session_by_id(info: Info, id: UUID) -> UserSession | None:
    """For `node`: one of the viewer's sessions, ended ones too."""
    viewer = info.context.viewer
    user_id = viewer.require(Scope.ACCOUNT_READ)
    async with info.context.begin() as work:
        try:
            return UserSession.of(await queries.session_of(work.session, user_id, id), viewer.credential_id)
        except NotFound:
            return None


async def api_key_by_id(info: Info, id: UUID) -> ApiKey | None:
    """For `node`: one of the viewer's keys, ended ones too."""
    user_id = info.context.viewer.require(Scope.ACCOUNT_READ)
    async with info.context.begin() as work:
        try:
            return ApiKey.of(await queries.api_key_of(work.session, user_id, id))
        except NotFound:
            return None
