"""The verbs of runs against the real database: rows, numbers, events, refusals."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col, select

from db.unit_of_work import Database
from domain.ai_model.model import AIModel, AIModelStatus
from domain.clock import FixedClock
from domain.commands import CheckRun
from domain.dataset.errors import DatasetNotReady
from domain.dataset.model import DatasetStatus
from domain.errors import DomainError, NotFound
from domain.journal.model import RunEvent
from domain.training import service
from domain.training.errors import (
    BadRunInput,
    DatasetNeeded,
    IdempotencyKeyReused,
    NotSupportedHere,
    ProviderNotAvailable,
    RecipeNeeded,
    RunAlreadyEnded,
    RunStillGoing,
    TooManyRuns,
)
from domain.training.model import LogLine, MetricPoint, RunAttempt, TrainingRun
from domain.training.recipe_errors import ColumnNotInDataset, OutOfRange, UnknownHyperparameter, UnknownRecipe
from domain.training.report import LogChunk, LogText, Outcome, Reading, Report
from domain.training.starting import Offer
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Viewer
from tests.factories import make_dataset, make_user
from tests.fakes import Told

pytestmark = pytest.mark.anyio

OFFER = Offer(
    providers=frozenset({Provider.LOCAL}),
    active_runs_per_user=3,
    time_limit_seconds=600,
    longest_time_limit_seconds=3600,
)
COLUMNS = [
    {"name": "width", "kind": "NUMBER", "missing": 0, "distinct": 90},
    {"name": "target", "kind": "CATEGORY", "missing": 0, "distinct": 3},
]


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database, email="ada@example.com")


@pytest.fixture
async def wish(database: Database, ada: Viewer) -> RunWish:
    data = await make_dataset(database, ada, columns=COLUMNS, row_count=100)
    return RunWish(model_name="Iris", provider=Provider.LOCAL, recipe="tabular-classification", dataset_id=data.id)


async def start(database: Database, viewer: Viewer, wish: RunWish) -> TrainingRun:
    async with database.begin(viewer) as work:
        return await service.start_run(work, viewer, wish, OFFER)


async def tell(database: Database, run: TrainingRun, **said: Any) -> TrainingRun:
    at = database.clock.now()
    async with database.begin() as work:
        after = await service.record(
            work, run.id, Report(**{"source": ReportSource.POLL, "attempt": 1, "at": at, **said})
        )
    assert after is not None
    return after


async def events_of(database: Database, run: TrainingRun) -> Sequence[RunEvent]:
    async with database.begin() as work:
        statement = select(RunEvent).where(RunEvent.run_id == run.id).order_by(col(RunEvent.seq))
        return (await work.session.exec(statement)).all()


async def count(database: Database, table: Any) -> int:
    async with database.begin() as work:
        return (await work.session.exec(select(sa.func.count()).select_from(table))).one()


def lines(*texts: str, at: Any) -> tuple[LogText, ...]:
    return tuple(LogText(text, at) for text in texts)


async def test_a_new_run_is_queued_numbered_and_rung(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, told: Told
) -> None:
    told.forget()
    run = await start(database, ada, wish)
    assert (run.status, run.stage, run.progress, run.attempt) == (RunStatus.QUEUED, RunStage.WAITING, 0.0, 1)
    assert [(e.seq, e.type) for e in await events_of(worker_database, run)] == [
        (1, "run.status_changed"),
        (2, "run.attempt_started"),
    ]
    assert told.commands == [CheckRun(run.id)]
    async with worker_database.begin() as work:
        model = (await work.session.exec(select(AIModel).where(AIModel.id == run.model_id))).one()
    assert (model.status, model.current_run_id) == (AIModelStatus.TRAINING, run.id)


REFUSED: list[tuple[str, dict[str, Any], type[DomainError]]] = [
    ("empty name", {"model_name": "  "}, BadRunInput),
    ("control character", {"model_name": "a\x00b"}, BadRunInput),
    ("too many tags", {"tags": tuple(str(n) for n in range(21))}, BadRunInput),
    ("long metadata", {"metadata": {"x": "y" * 20_000}}, BadRunInput),
    ("short time", {"time_limit_seconds": 1}, BadRunInput),
    ("long time", {"time_limit_seconds": 99_999}, BadRunInput),
    ("negative budget", {"budget_micros": -1}, BadRunInput),
    ("no recipe", {"recipe": None}, RecipeNeeded),
    ("unknown recipe", {"recipe": "alchemy"}, UnknownRecipe),
    ("no dataset", {"dataset_id": None}, DatasetNeeded),
    ("gpu on local", {"gpu_types": ("A100",)}, NotSupportedHere),
    ("image on local", {"image": "x"}, NotSupportedHere),
    ("not offered", {"provider": Provider.RUNPOD}, ProviderNotAvailable),
    ("unknown setting", {"hyperparameters": {"warp": 9}}, UnknownHyperparameter),
    ("impossible setting", {"hyperparameters": {"epochs": -5}}, OutOfRange),
    ("wrong column", {"hyperparameters": {"targetColumn": "height"}}, ColumnNotInDataset),
]


@pytest.mark.parametrize(("change", "error"), [(c, e) for _, c, e in REFUSED], ids=[name for name, _, _ in REFUSED])
async def test_a_refused_wish_leaves_nothing(
    database: Database,
    worker_database: Database,
    ada: Viewer,
    wish: RunWish,
    told: Told,
    change: dict[str, Any],
    error: type[DomainError],
) -> None:
    told.forget()
    with pytest.raises(error):
        await start(database, ada, replace(wish, **change))
    assert await count(worker_database, TrainingRun) == 0
    assert await count(worker_database, AIModel) == 0
    assert (told.events, told.commands) == ([], [])


async def test_a_dataset_without_bytes_is_not_trained_on(database: Database, ada: Viewer, wish: RunWish) -> None:
    empty = await make_dataset(database, ada, status=DatasetStatus.EMPTY)
    with pytest.raises(DatasetNotReady):
        await start(database, ada, replace(wish, dataset_id=empty.id))


async def test_a_foreign_dataset_is_not_found(database: Database, wish: RunWish) -> None:
    eve = await make_user(database, email="eve@example.com")
    with pytest.raises(NotFound):
        await start(database, eve, wish)


async def test_more_runs_than_allowed_wait(database: Database, ada: Viewer, wish: RunWish) -> None:
    for _ in range(3):
        await start(database, ada, wish)
    with pytest.raises(TooManyRuns):
        await start(database, ada, wish)


async def test_one_key_is_one_run(database: Database, worker_database: Database, ada: Viewer, wish: RunWish) -> None:
    keyed = replace(wish, idempotency_key="k1")
    first = await start(database, ada, keyed)
    assert (await start(database, ada, keyed)).id == first.id
    with pytest.raises(IdempotencyKeyReused):
        await start(database, ada, replace(keyed, model_name="Other"))
    assert await count(worker_database, TrainingRun) == 1


async def test_log_lines_and_their_offset_commit_together(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, clock: FixedClock
) -> None:
    run = await start(database, ada, wish)
    first = LogChunk(0, 20, lines("one", "two", at=clock.now()))
    await tell(worker_database, run, log=first)
    await tell(worker_database, run, log=first)
    await tell(worker_database, run, log=LogChunk(10, 30, lines("two", "three", at=clock.now())))
    after = await tell(worker_database, run, log=LogChunk(20, 30, lines("three", at=clock.now())))
    assert after.log_lines == 3
    async with worker_database.begin() as work:
        rows = (await work.session.exec(select(LogLine).order_by(col(LogLine.line)))).all()
        attempt = (await work.session.exec(select(RunAttempt))).one()
    assert [(row.line, row.text) for row in rows] == [(1, "one"), (2, "two"), (3, "three")]
    assert attempt.log_offset == 30
    logged = [e.data for e in await events_of(worker_database, run) if e.type == "run.logged"]
    assert [(d["fromLine"], d["toLine"], [x["text"] for x in d["lines"]]) for d in logged] == [
        (1, 2, ["one", "two"]),
        (3, 3, ["three"]),
    ]


async def test_a_flood_of_lines_comes_in_batches_the_bus_can_carry(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, clock: FixedClock
) -> None:
    run = await start(database, ada, wish)
    flood = lines(*("x" * 500 for _ in range(300)), at=clock.now())
    await tell(worker_database, run, log=LogChunk(0, 1, flood))
    batches = [e.data for e in await events_of(worker_database, run) if e.type == "run.logged"]
    assert sum(len(batch["lines"]) for batch in batches) == 300
    assert all(len(str(batch["lines"])) < 32 * 1024 for batch in batches)


async def test_readings_are_kept_once(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, clock: FixedClock
) -> None:
    run = await start(database, ada, wish)
    points = (Reading("loss", 1, 0.5, clock.now()), Reading("loss", 2, 0.4, clock.now()))
    await tell(worker_database, run, readings=points[:1])
    await tell(worker_database, run, readings=points)
    assert await count(worker_database, MetricPoint) == 2
    measured = [e.data["readings"] for e in await events_of(worker_database, run) if e.type == "run.measured"]
    assert measured == [[{"name": "loss", "step": 1, "value": 0.5}], [{"name": "loss", "step": 2, "value": 0.4}]]


async def test_progress_is_told_at_most_twice_a_second_and_never_lost(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, clock: FixedClock
) -> None:
    run = await start(database, ada, wish)
    await tell(worker_database, run, stage=RunStage.TRAINING)
    for percent in range(1, 11):
        clock.at += timedelta(seconds=0.1)
        after = await tell(worker_database, run, percent=percent)
    assert after.progress == 18.5
    clock.at += timedelta(seconds=1)
    await tell(worker_database, run)
    told_progress = [e.run["progress"] for e in await events_of(worker_database, run) if e.type == "run.progressed"]  # type: ignore[index]
    assert len(told_progress) <= 4
    assert told_progress[-1] == 18.5


async def test_the_final_status_is_the_last_event(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, clock: FixedClock
) -> None:
    run = await start(database, ada, replace(wish, deploy=False))
    await tell(
        worker_database,
        run,
        log=LogChunk(0, 5, lines("bye", at=clock.now())),
        outcome=Outcome(EndReason.CODE_ERROR, "boom"),
    )
    await tell(worker_database, run, percent=99)
    events = await events_of(worker_database, run)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert (events[-1].type, events[-1].data["to"], events[-1].data["final"]) == ("run.status_changed", "FAILED", True)
    assert events[-1].as_event().is_last
    async with worker_database.begin() as work:
        attempt = (await work.session.exec(select(RunAttempt))).one()
    assert (attempt.end_reason, attempt.error_message) == (EndReason.CODE_ERROR, "boom")


async def test_what_vanished_opens_another_attempt(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish
) -> None:
    run = await start(database, ada, wish)
    await tell(worker_database, run, stage=RunStage.TRAINING, percent=50)
    after = await tell(worker_database, run, vanished=True)
    assert (after.attempt, after.status, after.progress, after.end_reason) == (2, RunStatus.QUEUED, 0.0, None)
    late = await tell(worker_database, run, outcome=Outcome(EndReason.SUCCEEDED))
    assert late.status is RunStatus.QUEUED
    for attempt in (2, 3):
        after = await tell(worker_database, run, attempt=attempt, vanished=True)
    assert (after.status, after.end_reason) == (RunStatus.FAILED, EndReason.LOST)


async def test_canceling_before_anything_was_started_is_at_once(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish
) -> None:
    run = await start(database, ada, wish)
    async with database.begin(ada) as work:
        after = await service.cancel_run(work, ada, run_id=run.id)
    assert (after.status, after.end_reason) == (RunStatus.CANCELED, EndReason.CANCELED_BY_USER)
    statuses = [e.data["to"] for e in await events_of(worker_database, run) if e.type == "run.status_changed"]
    assert statuses == ["QUEUED", "CANCELING", "CANCELED"]


async def test_canceling_waits_for_the_provider(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish, told: Told
) -> None:
    run = await start(database, ada, wish)
    async with worker_database.begin() as work:
        await service.begin_attempt(work, run.id, slots={})
    told.forget()
    async with database.begin(ada) as work:
        after = await service.cancel_run(work, ada, run_id=run.id)
    assert (after.status, told.commands) == (RunStatus.CANCELING, [CheckRun(run.id)])
    ended = await tell(worker_database, run, outcome=Outcome(EndReason.SUCCEEDED))
    assert ended.status is RunStatus.CANCELED
    async with database.begin(ada) as work:
        assert (await service.cancel_run(work, ada, run_id=run.id)).status is RunStatus.CANCELED


async def test_of_another_user_is_not_found(database: Database, ada: Viewer, wish: RunWish) -> None:
    run = await start(database, ada, wish)
    eve = await make_user(database, email="eve@example.com")
    for verb in (service.cancel_run, service.sync_run):
        with pytest.raises(NotFound):
            async with database.begin(eve) as work:
                await verb(work, eve, run_id=run.id)


async def test_only_an_ended_run_is_tried_again(
    database: Database, worker_database: Database, ada: Viewer, wish: RunWish
) -> None:
    run = await start(database, ada, wish)
    with pytest.raises(RunStillGoing):
        async with database.begin(ada) as work:
            await service.retry_run(work, ada, OFFER, run_id=run.id, idempotency_key=None)
    await tell(worker_database, run, outcome=Outcome(EndReason.CODE_ERROR))
    with pytest.raises(RunAlreadyEnded):
        async with database.begin(ada) as work:
            await service.cancel_run(work, ada, run_id=run.id)
    async with database.begin(ada) as work:
        again = await service.retry_run(work, ada, OFFER, run_id=run.id, idempotency_key=None)
    assert (again.retry_of_id, again.status, again.model_id) == (run.id, RunStatus.QUEUED, run.model_id)
