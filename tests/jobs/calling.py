"""Runs that their provider has, and calls about them as the doors keep them."""

from typing import Any
from uuid import UUID

from db.unit_of_work import Database
from domain.callback.model import Callback
from domain.training import queries
from domain.training.model import RunAttempt, TrainingRun
from domain.training.status import Provider, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from tests.domain.callback.support import keep
from tests.factories import make_run


async def started(
    database: Database, viewer: Viewer, provider: Provider = Provider.REPLICATE, **facts: Any
) -> TrainingRun:
    """A run that its provider has, under `ref-1`."""
    reference = facts.pop("reference", "ref-1")
    given: dict[str, Any] = {"status": RunStatus.TRAINING, "provider": provider, "deploy": False}
    run = await make_run(database, viewer, **given | facts)
    async with database.begin(viewer) as work:
        attempt = await queries.attempt_of(work.session, run.id, run.attempt)
        assert attempt is not None
        attempt.reference = reference
    return run


async def called(database: Database, run: TrainingRun, body: bytes = b"{}", number: int = 1, **facts: Any) -> UUID:
    """A call about an attempt of the run, as the door keeps it."""
    given: dict[str, Any] = {
        "tag": f"runwire-{run.id}-{number}",
        "event_id": body.decode(),
        "headers": {"webhook-id": "m"},
    }
    id = await keep(database, body, **given | facts)
    assert id is not None
    return id


async def row_of(worker: JobContext, id: UUID) -> Callback:
    async with worker.begin() as work:
        return await work.session.get_one(Callback, id)


async def run_of(worker: JobContext, run: TrainingRun) -> TrainingRun:
    async with worker.begin() as work:
        return await work.session.get_one(TrainingRun, run.id)


async def attempt_of(worker: JobContext, run: TrainingRun, number: int = 1) -> RunAttempt:
    async with worker.begin() as work:
        attempt = await queries.attempt_of(work.session, run.id, number)
    assert attempt is not None
    return attempt
