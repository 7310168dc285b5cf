"""Following runs and feeds, live and resumable."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import strawberry

from domain.events import Stream, StreamKind
from domain.journal.cursor import StreamCursor
from graph.context import Info
from graph.ids import uuid_of
from graph.live.following import Snapshot as Standing
from graph.scalars import Cursor
from graph.training.feed import FEED_TYPES, ActivityGap, ActivitySnapshot
from graph.training.messages import ActivityMessage, EventTypes, Gap, Snapshot, TrainingRunMessage
from graph.training.streams import follow_feed, follow_run
from graph.training.types import TrainingRun


@strawberry.type
class TrainingSubscriptions:
    @strawberry.subscription(
        description="Follow a run: first how it stands (or, with `after`, what you missed), then each change as it"
        " happens, numbered without holes. Completes after the final status. Keep the last `cursor` and give it back"
        " as `after` when the connection broke."
    )
    async def training_run(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The run.")],
        after: Annotated[
            Cursor | None, strawberry.argument(description="The cursor of the last message that you saw.")
        ] = None,
    ) -> AsyncGenerator[TrainingRunMessage, None]:
        run_id = uuid_of(id, "TrainingRun")
        stream = Stream(StreamKind.RUN, run_id)
        async with aclosing(follow_run(info.context, run_id, after)) as messages:
            async for message in messages:
                if isinstance(message, Standing):
                    yield _run_standing(message, stream, info)
                else:
                    yield EventTypes.by_name[message.event.type].of(message.event, message.cursor)

    @strawberry.subscription(
        description="Follow everything you own: runs, models, deployments, resources. First a snapshot (or, with"
        " `after`, what you missed), then each change as it happens, numbered without holes. Never completes by itself."
    )
    async def activity(
        self,
        info: Info,
        after: Annotated[
            Cursor | None, strawberry.argument(description="The cursor of the last message that you saw.")
        ] = None,
    ) -> AsyncGenerator[ActivityMessage, None]:
        async with aclosing(follow_feed(info.context, after)) as messages:
            async for message in messages:
                if isinstance(message, Standing):
                    user_id = info.context.viewer.require()
                    yield _feed_standing(message, Stream(StreamKind.USER, user_id), info)
                else:
                    yield FEED_TYPES[message.event.type].of(message.event, message.cursor)


def _run_standing(standing: Standing, stream: Stream, info: Info) -> TrainingRunMessage:
    cursor = Cursor(str(StreamCursor(stream, standing.epoch, standing.seq)))
    at = info.context.services.database.clock.now()
    core, seq = standing.runs[0], standing.seq
    if standing.missing is None:
        return Snapshot(core=core, seq=seq, first_seq=seq, cursor=cursor, at=at)
    first, last = standing.missing
    return Gap(core=core, seq=seq, first_seq=first, cursor=cursor, at=at, from_=first, to=last)


def _feed_standing(standing: Standing, stream: Stream, info: Info) -> ActivityMessage:
    cursor = Cursor(str(StreamCursor(stream, standing.epoch, standing.seq)))
    at = info.context.services.database.clock.now()
    runs, seq = [TrainingRun.of_core(core) for core in standing.runs], standing.seq
    if standing.missing is None:
        return ActivitySnapshot(seq=seq, first_seq=seq, cursor=cursor, at=at, active_runs=runs)
    first, last = standing.missing
    return ActivityGap(seq=seq, first_seq=first, cursor=cursor, at=at, from_=first, to=last, active_runs=runs)
