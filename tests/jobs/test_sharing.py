"""The operator's account is everybody's: what one user trained with it, no other user can begin with or write over."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from db.unit_of_work import Database
from domain.integration.model import Integration
from domain.training import queries
from domain.training.choices import Choice
from domain.training.recording import open_attempt
from domain.training.status import EndReason, Provider, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.running import look_at
from tests.factories import make_model, make_run, make_user
from tests.jobs.calling import started
from tests.jobs.support import ScriptedTrainer
from tests.jobs.test_running_elsewhere import row_of

pytestmark = pytest.mark.anyio

TUNE = "2504944"
MODEL = "acme/Ada-Face.1-0f0f0f0f"


@pytest.fixture
def worker(worker: JobContext, trainer: ScriptedTrainer) -> JobContext:
    return replace(worker, trainers=dict.fromkeys(Provider, trainer))


@pytest.fixture
async def bob(database: Database) -> Viewer:
    return await make_user(database, email="bob@example.com")


async def tried(
    database: Database, worker: JobContext, viewer: Viewer, place: Choice, given: dict[str, Any], **facts: Any
) -> EndReason | None:
    """How the start of such a run ends; None where it is not refused."""
    choices = [place.as_json()]
    run = await make_run(
        database, viewer, provider=place.provider, choices=choices, hyperparameters=given, deploy=False, **facts
    )
    async with worker.begin() as work:
        row = await queries.locked_run(work.session, run.id)
        assert row is not None
        await open_attempt(work, row)
    await look_at(worker, run.id)
    row = await row_of(worker, run)
    if row.end_reason is not None:
        assert "another user" in (row.error_message or "")
    return row.end_reason


ASTRIA = Choice(Provider.ASTRIA)
REPLICATE = Choice(Provider.REPLICATE)


@pytest.mark.parametrize(
    "given",
    [
        {"baseTuneId": int(TUNE)},
        {"baseTuneId": float(TUNE)},
        {"extra": {"prompts_attributes": [{"text": f"<lora:{TUNE}:1.0> a portrait"}]}},
        {"extra": {"prompts_attributes": {"0": {"text": f"<faceid:{TUNE}:1>"}}}},
        {"extra": {"base_tunes": [TUNE]}},
        {"extra": {TUNE: 1}},
        {"token": f"<lora:{TUNE}:1>"},
    ],
)
async def test_a_tune_of_somebody_else_is_not_built_on(
    database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer, bob: Viewer, given: dict[str, Any]
) -> None:
    await started(database, ada, provider=Provider.ASTRIA, reference=TUNE, status=RunStatus.READY)
    assert await tried(database, worker, bob, ASTRIA, given) is EndReason.PROVIDER_REFUSED
    assert trainer.started == {}
    assert await tried(database, worker, ada, ASTRIA, given) is None  # whose it is may


async def test_numbers_that_are_nobody_elses_tune_may_be_named(
    database: Database, worker: JobContext, ada: Viewer, bob: Viewer
) -> None:
    await started(database, ada, provider=Provider.ASTRIA, reference=TUNE)
    await started(database, ada, provider=Provider.ASTRIA, reference="777", test_mode=True)
    address = f"https://pictures.example/{TUNE}.png"
    for given in ({"baseTuneId": 1504944}, {"imageUrls": [address]}, {"baseTuneId": 777}):
        assert await tried(database, worker, bob, ASTRIA, given) is None
    assert await tried(database, worker, bob, ASTRIA, {"baseTuneId": int(TUNE)}, test_mode=True) is None


async def test_with_an_account_of_ones_own_there_is_nobody_else(
    database: Database, worker: JobContext, ada: Viewer, bob: Viewer
) -> None:
    await started(database, ada, provider=Provider.ASTRIA, reference=TUNE)
    key = await _connect(database, bob, Provider.ASTRIA)
    assert await tried(database, worker, bob, Choice(Provider.ASTRIA, None, key), {"baseTuneId": int(TUNE)}) is None


@pytest.mark.parametrize(
    "given",
    [
        {"destination": MODEL},
        {"destination": MODEL.lower()},
        {"trainer": f"{MODEL}:9f"},
        {"input": {"lora": f"https://replicate.com/{MODEL}/versions/9f"}},
        {"input": {"models": [{"name": MODEL}]}},
    ],
)
async def test_a_model_of_somebody_else_is_neither_used_nor_written_over(
    database: Database, worker: JobContext, trainer: ScriptedTrainer, ada: Viewer, bob: Viewer, given: dict[str, Any]
) -> None:
    await make_model(database, ada, provider=Provider.REPLICATE, provider_version=f"{MODEL}:9f")
    assert await tried(database, worker, bob, REPLICATE, given) is EndReason.PROVIDER_REFUSED
    assert trainer.started == {}
    assert await tried(database, worker, ada, REPLICATE, given) is None


async def test_a_destination_that_somebody_else_trains_into_is_taken(
    database: Database, worker: JobContext, ada: Viewer, bob: Viewer
) -> None:
    await started(database, ada, provider=Provider.REPLICATE, hyperparameters={"destination": MODEL})
    assert await tried(database, worker, bob, REPLICATE, {"destination": MODEL}) is EndReason.PROVIDER_REFUSED
    assert (
        await tried(database, worker, bob, REPLICATE, {"destination": "acme/of-bob", "trainer": "ostris/flux"}) is None
    )


async def _connect(database: Database, viewer: Viewer, provider: Provider) -> UUID:
    assert viewer.user_id is not None
    async with database.begin(viewer) as work:
        facts: dict[str, Any] = {"created_at": work.now, "updated_at": work.now, "tested_at": work.now}
        row = Integration(user_id=viewer.user_id, provider=provider, name="mine", secret=b"sealed", **facts)
        work.session.add(row)
    return row.id
