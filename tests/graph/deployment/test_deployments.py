"""Apps, deployments and resources in the schema."""

import pytest

from db.settings import Settings
from db.unit_of_work import Database
from domain.commands import CheckDeployment
from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus, ResourceStatus
from domain.training.status import RunStatus
from domain.viewer import Scope, Viewer
from graph.ids import global_id
from tests.domain.deployment.support import (
    SLUG,
    app_row,
    deployment_row,
    make_app,
    make_deployment,
    resource_row,
)
from tests.factories import make_run, make_user
from tests.fakes import Told
from tests.graph.deployment.asking import Asking

pytestmark = pytest.mark.anyio

APP = """query ($slug: String!) { app(slug: $slug) { id slug url access model { id } deployment { id }
  deployments(first: 5) { id status provider runId liveAt stoppedAt errorMessage app { slug } } } }"""
STOP = """mutation ($id: ID!) { stopDeployment(id: $id) { __typename
  ... on Deployment { id status stoppedAt } ... on Problem { code } } }"""
ACCESS = """mutation ($id: ID!, $access: AppAccess!) { setAppAccess(id: $id, access: $access) { __typename
  ... on App { id access } ... on Problem { code } } }"""
NOT_FOUND = {"__typename": "NotFound", "code": "NOT_FOUND"}


@pytest.fixture
def ask(settings: Settings, database: Database) -> Asking:
    return Asking(settings, database)


async def served(database: Database, viewer: Viewer) -> tuple[App, Deployment]:
    run = await make_run(database, viewer, status=RunStatus.READY)
    app = await make_app(database, viewer, run=run)
    return app, await make_deployment(database, viewer, app, run)


async def test_app_tells_what_answers_there(ask: Asking, database: Database) -> None:
    viewer = await make_user(database)
    app, deployment = await served(database, viewer)

    data = await ask(APP, viewer, slug=SLUG)

    assert data["app"] == {
        "id": global_id("App", app.id),
        "slug": SLUG,
        "url": f"http://runwire.test/apps/{SLUG}/",
        "access": "LINK",
        "model": {"id": global_id("AIModel", app.model_id)},
        "deployment": {"id": global_id("Deployment", deployment.id)},
        "deployments": [
            {
                "id": global_id("Deployment", deployment.id),
                "status": "LIVE",
                "provider": "LOCAL",
                "runId": global_id("TrainingRun", deployment.run_id),
                "liveAt": "2026-01-15T12:00:00.000000Z",
                "stoppedAt": None,
                "errorMessage": None,
                "app": {"slug": SLUG},
            }
        ],
    }


async def test_what_exists_at_providers_is_listed(ask: Asking, database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)
    _, deployment = await served(database, viewer)
    resource = await resource_row(worker_database, deployment)

    data = await ask(
        "{ resources { nodes { id kind status tag runId deploymentId costMicros priceMicrosPerHour endedAt } } }",
        viewer,
    )

    assert data["resources"]["nodes"] == [
        {
            "id": global_id("Resource", resource.id),
            "kind": "APP",
            "status": "ALIVE",
            "tag": f"app-{deployment.id.hex}",
            "runId": global_id("TrainingRun", deployment.run_id),
            "deploymentId": global_id("Deployment", deployment.id),
            "costMicros": 0,
            "priceMicrosPerHour": 0,
            "endedAt": None,
        }
    ]


async def test_stopping_ends_what_answers(
    ask: Asking, database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    _, deployment = await served(database, viewer)
    id = global_id("Deployment", deployment.id)

    answers = [(await ask(STOP, viewer, id=id))["stopDeployment"] for _ in range(2)]

    stopped = {"id": id, "status": "STOPPED", "stoppedAt": "2026-01-15T12:00:00.000000Z"}
    assert answers == [{"__typename": "Deployment", **stopped}] * 2
    assert (await resource_row(worker_database, deployment)).status is ResourceStatus.ENDING
    assert told.types() == ["deployment.changed"]
    assert told.commands == [CheckDeployment(deployment.id)]


async def test_access_is_the_owners_choice(ask: Asking, database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)
    app, _ = await served(database, viewer)

    data = await ask(ACCESS, viewer, id=global_id("App", app.id), access="PRIVATE")

    assert data["setAppAccess"] == {"__typename": "App", "id": global_id("App", app.id), "access": "PRIVATE"}
    assert (await app_row(worker_database, app)).access is AppAccess.PRIVATE


async def test_other_tenant_reads_and_changes_nothing(
    ask: Asking, database: Database, worker_database: Database, told: Told
) -> None:
    ada, bob = await make_user(database), await make_user(database)
    app, deployment = await served(database, ada)

    assert (await ask(APP, bob, slug=SLUG))["app"] is None
    assert (await ask("{ apps { nodes { id } } }", bob))["apps"]["nodes"] == []
    assert (await ask("{ resources { nodes { id } } }", bob))["resources"]["nodes"] == []
    assert (await ask(STOP, bob, id=global_id("Deployment", deployment.id)))["stopDeployment"] == NOT_FOUND
    answer = await ask(ACCESS, bob, id=global_id("App", app.id), access="PRIVATE")
    assert answer["setAppAccess"] == NOT_FOUND

    assert (await deployment_row(worker_database, deployment)).status is DeploymentStatus.LIVE
    assert (await app_row(worker_database, app)).access is AppAccess.LINK
    assert (told.events, told.commands) == ([], [])


async def test_rights_are_looked_at(ask: Asking, database: Database) -> None:
    reader = await make_user(database, scopes=frozenset({Scope.MODELS_READ}))
    weak = await make_user(database, scopes=frozenset({Scope.DATASETS_READ}))
    app, deployment = await served(database, reader)

    stop = await ask(STOP, reader, id=global_id("Deployment", deployment.id))
    access = await ask(ACCESS, reader, id=global_id("App", app.id), access="PRIVATE")

    missing = {"__typename": "Forbidden", "code": "SCOPE_MISSING"}
    assert (stop["stopDeployment"], access["setAppAccess"]) == (missing, missing)
    for query in ("{ apps { nodes { id } } }", "{ resources { nodes { id } } }", '{ app(slug: "x") { id } }'):
        assert await ask.code(query, weak) == "SCOPE_MISSING"
        assert await ask.code(query, Viewer.nobody()) == "NOT_SIGNED_IN"
