"""A model follows its runs: which of them leads, what is kept, and when it is told."""

from dataclasses import dataclass
from typing import Any

import pytest
from sqlmodel import select

from db.unit_of_work import Database
from domain.ai_model import queries, service
from domain.ai_model.model import AIModel, AIModelStatus
from domain.base import new_id
from domain.clock import FixedClock
from domain.journal.model import FeedEvent
from domain.training.model import Artifact, TrainingRun
from domain.training.status import EndReason, RunStatus
from tests.factories import make_model, make_run, make_user
from tests.fakes import Told

pytestmark = pytest.mark.anyio

TRAINED = {"status": AIModelStatus.READY, "progress": 100.0}


@dataclass(frozen=True)
class Case:
    """A run moves; the model, trained before or not, shall then be like this."""

    run: dict[str, Any]
    status: AIModelStatus
    progress: float
    trained_before: bool = False
    artifact: bool = False
    keeps_new_version: bool = False
    error: str | None = None


CASES = {
    "queued": Case({"status": RunStatus.QUEUED}, AIModelStatus.TRAINING, 0.0),
    "training": Case({"status": RunStatus.TRAINING, "progress": 36.35}, AIModelStatus.TRAINING, 36.35),
    "training again": Case(
        {"status": RunStatus.TRAINING, "progress": 50.0}, AIModelStatus.TRAINING, 50.0, trained_before=True
    ),
    "canceling": Case({"status": RunStatus.CANCELING, "progress": 20.0}, AIModelStatus.TRAINING, 20.0),
    "deploying": Case({"status": RunStatus.DEPLOYING, "progress": 95.0}, AIModelStatus.TRAINING, 95.0, artifact=True),
    "ready": Case({"status": RunStatus.READY}, AIModelStatus.READY, 100.0, artifact=True, keeps_new_version=True),
    "failed": Case(
        {"status": RunStatus.FAILED, "progress": 40.0, "error_message": "The column 'digit' is missing."},
        AIModelStatus.ERROR,
        40.0,
        error="The column 'digit' is missing.",
    ),
    "failed without words": Case(
        {"status": RunStatus.FAILED, "end_reason": EndReason.LOST}, AIModelStatus.ERROR, 0.0, error="LOST"
    ),
    "trained, not deployable": Case(
        {
            "status": RunStatus.FAILED,
            "progress": 95.0,
            "end_reason": EndReason.DEPLOYMENT_FAILED,
            "error_message": "The app said nothing.",
        },
        AIModelStatus.ERROR,
        95.0,
        artifact=True,
        keeps_new_version=True,
        error="The app said nothing.",
    ),
    "canceled": Case({"status": RunStatus.CANCELED, "progress": 30.0}, AIModelStatus.NEW, 0.0),
    "canceled, trained before": Case(
        {"status": RunStatus.CANCELED, "progress": 30.0}, AIModelStatus.READY, 100.0, trained_before=True
    ),
    "canceled after training": Case(
        {"status": RunStatus.CANCELED, "progress": 95.0},
        AIModelStatus.READY,
        100.0,
        artifact=True,
        keeps_new_version=True,
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_model_is_where_its_newest_run_is(
    name: str, database: Database, worker_database: Database, clock: FixedClock, told: Told
) -> None:
    case = CASES[name]
    viewer = await make_user(database)
    before: dict[str, Any] = {}
    if case.trained_before:
        before = {"trained_at": clock.now(), "trained_run_id": new_id(), **TRAINED}
    model = await make_model(database, viewer, **before)
    run = await make_run(database, viewer, model=model, **case.run)
    if case.artifact:
        await give_artifact(worker_database, run)

    after = await follow(worker_database, run)

    assert (after.status, after.progress, after.error_message) == (case.status, case.progress, case.error)
    assert after.current_run_id == run.id
    assert after.trained_run_id == (run.id if case.keeps_new_version else before.get("trained_run_id"))
    assert (after.trained_at is not None) == (case.keeps_new_version or case.trained_before)
    changed = case.status is not (AIModelStatus.READY if case.trained_before else AIModelStatus.NEW)
    assert told.types() == (["model.status_changed"] if changed else [])


async def test_event_tells_the_model_as_it_is(database: Database, worker_database: Database, told: Told) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer, name="Digits")
    run = await make_run(database, viewer, model=model, status=RunStatus.TRAINING, progress=22.75)

    await follow(worker_database, run)

    assert told.events[0].data == {
        "modelId": str(model.id),
        "name": "Digits",
        "from": "NEW",
        "status": "TRAINING",
        "progress": 22.75,
        "runId": str(run.id),
        "deployedSlug": None,
        "errorMessage": None,
        "trainedAt": None,
        "updatedAt": "2026-01-15T12:00:00.000000Z",
    }
    async with database.begin(viewer) as work:
        (row,) = (await work.session.exec(select(FeedEvent))).all()
    assert (row.seq, row.type, row.data) == (1, "model.status_changed", told.events[0].data)


async def test_progress_alone_is_no_event(database: Database, worker_database: Database, told: Told) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer, status=AIModelStatus.TRAINING)
    run = await make_run(database, viewer, model=model, status=RunStatus.TRAINING, progress=60.0)

    after = await follow(worker_database, run)

    assert after.progress == 60.0
    assert told.events == []


async def test_older_run_leaves_its_version_but_does_not_lead(database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    older = await make_run(database, viewer, model=model, status=RunStatus.READY)
    newer = await make_run(database, viewer, model=model, status=RunStatus.TRAINING, progress=12.0)

    after = await follow(worker_database, older)

    assert (after.status, after.progress, after.current_run_id) == (AIModelStatus.TRAINING, 12.0, newer.id)
    assert after.trained_run_id == older.id


async def test_older_version_does_not_replace_a_newer_one(database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    older = await make_run(database, viewer, model=model, status=RunStatus.READY)
    newer = await make_run(database, viewer, model=model, status=RunStatus.READY)
    await follow(worker_database, newer)

    after = await follow(worker_database, older)

    assert (after.status, after.trained_run_id, after.current_run_id) == (AIModelStatus.READY, newer.id, newer.id)


async def test_canceled_run_gives_the_lead_back_to_one_that_goes_on(
    database: Database, worker_database: Database
) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    older = await make_run(database, viewer, model=model, status=RunStatus.TRAINING, progress=70.0)
    newer = await make_run(database, viewer, model=model, status=RunStatus.CANCELED)

    after = await follow(worker_database, newer)

    assert (after.status, after.progress, after.current_run_id) == (AIModelStatus.TRAINING, 70.0, older.id)


async def follow(database: Database, run: TrainingRun) -> AIModel:
    """What the worker does after it changed the run."""
    async with database.begin() as work:
        await service.follow_run(work, await work.session.get_one(TrainingRun, run.id))
    async with database.begin() as work:
        model = await queries.locked_model(work.session, run.model_id)
    assert model is not None
    return model


async def give_artifact(database: Database, run: TrainingRun) -> None:
    async with database.begin() as work:
        work.session.add(
            Artifact(
                id=new_id(),
                created_at=work.now,
                user_id=run.user_id,
                run_id=run.id,
                attempt=run.attempt,
                name="model.joblib",
                location="/models/1",
                bytes=4,
                sha256="ab" * 32,
            )
        )
