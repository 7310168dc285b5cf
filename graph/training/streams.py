"""Who may follow what, and from where: shared by subscriptions and the plain event streams."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from domain.events import Stream, StreamKind
from domain.journal.cursor import StreamCursor
from domain.training import queries
from domain.viewer import Scope
from graph.context import Context
from graph.live.following import Snapshot, Told, follow


async def follow_run(context: Context, run_id: UUID, after: str | None) -> AsyncGenerator[Snapshot | Told, None]:
    """The run's stream, for those who may see the run. Raises `NotFound`, `BadCursor`, `Forbidden`."""
    async with context.begin() as work:
        run = await queries.run_of(work.session, context.viewer, run_id)
    stream = Stream(StreamKind.RUN, run.id)
    cursor = StreamCursor.parse(after, stream) if after is not None else None
    async with aclosing(follow(context.services.hub, stream, run.user_id, cursor)) as messages:
        async for message in messages:
            yield message


async def follow_feed(context: Context, after: str | None) -> AsyncGenerator[Snapshot | Told, None]:
    """The viewer's own feed. Raises `BadCursor`, `Forbidden`."""
    user_id = context.viewer.require_unbound(Scope.RUNS_READ)
    stream = Stream(StreamKind.USER, user_id)
    cursor = StreamCursor.parse(after, stream) if after is not None else None
    async with aclosing(follow(context.services.hub, stream, user_id, cursor)) as messages:
        async for message in messages:
            yield message
