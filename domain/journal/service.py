"""Writing down what happened. The caller holds the lock of the row that counts, so commit order is number order."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from domain.account.model import User
from domain.events import Event, Stream, StreamKind
from domain.journal.model import FeedEvent, RunEvent
from domain.training.model import TrainingRun
from domain.training.view import core_of
from domain.work import UnitOfWork

IN_FEED = frozenset(
    {
        "run.status_changed",
        "run.stage_changed",
        "run.attempt_started",
        "run.progressed",
        "run.cost_changed",
        "run.warned",
        "run.suspected",
        "run.dataset_downloaded",
        "run.artifact_stored",
        "run.deployment_ready",
    }
)
"""What of a run its owner's feed shows too: all but its log and its metrics."""


async def append_run_event(work: UnitOfWork, run: TrainingRun, type: str, data: dict[str, Any]) -> Event:
    """The run's next event. The run's row must be locked, and hold already what the event tells."""
    run.seq += 1
    core = core_of(run)
    row = RunEvent(
        run_id=run.id,
        user_id=run.user_id,
        seq=run.seq,
        type=type,
        at=work.now,
        attempt=run.attempt,
        run=core,
        data=data,
    )
    work.session.add(row)
    event = row.as_event()
    work.publish(event)
    if type in IN_FEED:
        await append_feed_event(work, run.user_id, type, {**data, "runSeq": run.seq}, run=core, attempt=run.attempt)
    return event


async def append_feed_event(
    work: UnitOfWork,
    user_id: UUID,
    type: str,
    data: dict[str, Any],
    *,
    run: dict[str, Any] | None = None,
    attempt: int = 0,
) -> Event:
    """The next event of a user's feed. Takes the user's number last of all locks, so that nobody waits in a circle."""
    statement = (
        sa.update(User).where(col(User.id) == user_id).values(feed_seq=User.feed_seq + 1).returning(col(User.feed_seq))
    )
    seq: int = (await work.session.exec(statement)).scalar_one()
    row = FeedEvent(user_id=user_id, seq=seq, type=type, at=work.now, attempt=attempt, run=run, data=data)
    work.session.add(row)
    event = Event(
        type=type,
        stream=Stream(StreamKind.USER, user_id),
        seq=seq,
        at=work.now,
        attempt=attempt,
        run=run,
        data=data,
    )
    work.publish(event)
    return event
