"""Models in the schema: reading, deploying and syncing them."""

import pytest

from db.settings import Settings
from db.unit_of_work import Database
from domain.ai_model.model import AIModel, AIModelStatus
from domain.commands import CheckDeployment, CheckRun
from domain.deployment.model import DeploymentStatus
from domain.training.model import TrainingRun
from domain.training.status import RunStatus
from domain.viewer import Scope, Viewer
from graph.ids import global_id
from tests.domain.deployment.support import SLUG, make_app, make_artifact, make_deployment
from tests.factories import make_model, make_run, make_user
from tests.fakes import Told
from tests.graph.deployment.asking import Asking

pytestmark = pytest.mark.anyio

MODEL = """query ($id: ID!) { aiModel(id: $id) {
  id name status progress modelUrl deployedUrl errorMessage trainedAt createdAt updatedAt
  currentRun { id status } trainedRun { id } app { slug deployment { status } }
  runs(first: 1) { nodes { id } pageInfo { hasNextPage } } } }"""
DEPLOY = """mutation ($id: ID!) { deployModel(id: $id) { __typename
  ... on AIModel { id app { deployment { status runId } } } ... on Problem { code } } }"""
SYNC = """mutation ($id: ID!, $version: String) { syncModel(id: $id, providerVersion: $version) { __typename
  ... on AIModel { id } ... on Problem { code field message } } }"""


@pytest.fixture
def ask(settings: Settings, database: Database) -> Asking:
    return Asking(settings, database)


async def point_at(database: Database, viewer: Viewer, model: AIModel, run: TrainingRun) -> None:
    """The model follows this run, and is its result."""
    async with database.begin(viewer) as work:
        row = await work.session.get_one(AIModel, model.id)
        row.current_run_id = row.trained_run_id = run.id
        row.trained_at = work.now


async def test_model_tells_its_life(ask: Asking, database: Database) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer, status=AIModelStatus.READY, progress=100.0)
    older = await make_run(database, viewer, model=model, status=RunStatus.FAILED)
    run = await make_run(database, viewer, model=model, status=RunStatus.READY)
    await point_at(database, viewer, model, run)
    await make_deployment(database, viewer, await make_app(database, viewer, run=run), run)

    data = await ask(MODEL, viewer, id=global_id("AIModel", model.id))

    run_id = global_id("TrainingRun", run.id)
    assert older.id < run.id
    assert data["aiModel"] == {
        "id": global_id("AIModel", model.id),
        "name": "Digits",
        "status": "READY",
        "progress": 100.0,
        "modelUrl": None,
        "deployedUrl": f"http://runwire.test/apps/{SLUG}/",
        "errorMessage": None,
        "trainedAt": "2026-01-15T12:00:00.000000Z",
        "createdAt": "2026-01-15T12:00:00.000000Z",
        "updatedAt": "2026-01-15T12:00:00.000000Z",
        "currentRun": {"id": run_id, "status": "READY"},
        "trainedRun": {"id": run_id},
        "app": {"slug": SLUG, "deployment": {"status": "LIVE"}},
        "runs": {"nodes": [{"id": run_id}], "pageInfo": {"hasNextPage": True}},
    }


async def test_stopped_app_is_no_deployed_address(ask: Asking, database: Database) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, status=RunStatus.READY)
    app = await make_app(database, viewer, run=run)
    await make_deployment(database, viewer, app, run, status=DeploymentStatus.STOPPED)

    data = await ask("{ aiModels { nodes { deployedUrl app { slug } } } }", viewer)

    assert data["aiModels"]["nodes"] == [{"deployedUrl": None, "app": {"slug": SLUG}}]


async def test_of_another_user_is_null(ask: Asking, database: Database) -> None:
    ada, bob = await make_user(database), await make_user(database)
    model = await make_model(database, ada)

    for id in (global_id("AIModel", model.id), global_id("TrainingRun", model.id), "nonsense"):
        assert (await ask(MODEL, bob, id=id))["aiModel"] is None
    assert (await ask("{ aiModels { nodes { id } } }", bob))["aiModels"]["nodes"] == []


async def test_reading_models_needs_its_right(ask: Asking, database: Database) -> None:
    weak = await make_user(database, scopes=frozenset({Scope.RUNS_READ}))

    assert await ask.code("{ aiModels { nodes { id } } }", weak) == "SCOPE_MISSING"
    assert await ask.code("{ aiModels { nodes { id } } }", Viewer.nobody()) == "NOT_SIGNED_IN"


async def test_deploying_begins_and_rings_a_worker(
    ask: Asking, database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer, status=AIModelStatus.READY)
    run = await make_run(database, viewer, model=model, status=RunStatus.READY)
    await make_artifact(worker_database, run)
    await point_at(database, viewer, model, run)

    data = await ask(DEPLOY, viewer, id=global_id("AIModel", model.id))

    assert data["deployModel"] == {
        "__typename": "AIModel",
        "id": global_id("AIModel", model.id),
        "app": {"deployment": {"status": "STARTING", "runId": global_id("TrainingRun", run.id)}},
    }
    (command,) = told.commands
    assert isinstance(command, CheckDeployment)
    assert told.types() == ["deployment.changed"]


async def test_deploying_is_refused_with_words(ask: Asking, database: Database, told: Told) -> None:
    ada = await make_user(database)
    model = await make_model(database, ada)
    id = global_id("AIModel", model.id)
    reader = await make_user(database, scopes=frozenset({Scope.MODELS_READ}))

    answers = [
        (await ask(DEPLOY, viewer, id=wanted))["deployModel"]
        for viewer, wanted in (
            (ada, id),
            (await make_user(database), id),
            (ada, "nonsense"),
            (reader, id),
            (Viewer.nobody(), id),
        )
    ]

    assert answers == [
        {"__typename": "Conflict", "code": "MODEL_NOT_TRAINED"},
        {"__typename": "NotFound", "code": "NOT_FOUND"},
        {"__typename": "NotFound", "code": "NOT_FOUND"},
        {"__typename": "Forbidden", "code": "SCOPE_MISSING"},
        {"__typename": "Forbidden", "code": "NOT_SIGNED_IN"},
    ]
    assert (told.events, told.commands) == ([], [])


async def test_syncing_rings_for_the_current_run(ask: Asking, database: Database, told: Told) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    run = await make_run(database, viewer, model=model, status=RunStatus.TRAINING)
    await point_at(database, viewer, model, run)

    data = await ask(SYNC, viewer, id=global_id("AIModel", model.id))

    assert data["syncModel"] == {"__typename": "AIModel", "id": global_id("AIModel", model.id)}
    assert told.commands == [CheckRun(run.id)]


async def test_only_remote_providers_have_versions(ask: Asking, database: Database, told: Told) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    run = await make_run(database, viewer, model=model, status=RunStatus.TRAINING)
    await point_at(database, viewer, model, run)

    data = await ask(SYNC, viewer, id=global_id("AIModel", model.id), version="abc123")

    assert data["syncModel"] == {
        "__typename": "Invalid",
        "code": "VERSION_NOT_SUPPORTED",
        "field": ["providerVersion"],
        "message": "LOCAL keeps no finished model of this name; leave providerVersion out, or name one that is"
        " finished.",
    }
    assert told.commands == []
