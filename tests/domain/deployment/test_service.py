"""The verbs of apps and deployments."""

import re

import pytest
from sqlmodel import select

from db.unit_of_work import Database
from domain.ai_model import service as ai_model
from domain.ai_model.errors import ModelIsDeploying, ModelNotTrained
from domain.ai_model.model import AIModel, AIModelStatus
from domain.commands import CheckDeployment
from domain.deployment import service
from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus, ResourceStatus
from domain.errors import NotFound
from domain.training.model import TrainingRun
from domain.training.status import EndReason, Provider, RunStatus
from domain.viewer import Scope, ScopeMissing, Viewer
from tests.domain.deployment.support import (
    app_row,
    deployment_row,
    make_app,
    make_artifact,
    make_deployment,
    resource_row,
)
from tests.factories import make_model, make_run, make_user
from tests.fakes import Told

pytestmark = pytest.mark.anyio

STARTING, LIVE, WAKING, STOPPED, FAILED = DeploymentStatus


async def trained_model(database: Database, worker_database: Database, viewer: Viewer) -> tuple[AIModel, TrainingRun]:
    """A READY model with an artifact."""
    model = await make_model(database, viewer, status=AIModelStatus.READY, progress=100.0)
    run = await make_run(database, viewer, model=model, status=RunStatus.READY)
    await make_artifact(worker_database, run)
    async with database.begin(viewer) as work:
        row = await work.session.get_one(AIModel, model.id)
        row.trained_run_id, row.current_run_id, row.trained_at = run.id, run.id, work.now
    return model, run


async def begin(database: Database, run: TrainingRun) -> Deployment:
    async with database.begin() as work:
        return await service.deployment_of_run(work, run)


async def test_deploying_begins_a_deployment_and_writes_its_cost_down_first(
    database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    model, run = await trained_model(database, worker_database, viewer)

    async with database.begin(viewer) as work:
        await service.deploy_model(work, viewer, model_id=model.id)

    async with worker_database.begin() as work:
        (app,) = (await work.session.exec(select(App))).all()
        (deployment,) = (await work.session.exec(select(Deployment))).all()
    resource = await resource_row(worker_database, deployment)
    assert re.fullmatch("[a-z2-7]{16}", app.slug)
    assert (app.model_id, app.access, app.current_deployment_id) == (model.id, AppAccess.LINK, deployment.id)
    assert (deployment.status, deployment.run_id, deployment.provider) == (STARTING, run.id, Provider.LOCAL)
    assert (resource.tag, resource.status) == (f"app-{deployment.id.hex}", ResourceStatus.INTENDED)
    assert told.commands == [CheckDeployment(deployment.id)]
    assert [(event.type, event.data) for event in told.events] == [
        (
            "deployment.changed",
            {
                "deploymentId": str(deployment.id),
                "appId": str(app.id),
                "modelId": str(model.id),
                "runId": str(run.id),
                "slug": app.slug,
                "from": None,
                "status": "STARTING",
                "errorMessage": None,
            },
        )
    ]


async def test_deploying_twice_is_one_deployment(database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)
    model, _ = await trained_model(database, worker_database, viewer)

    for _ in range(2):
        async with database.begin(viewer) as work:
            await service.deploy_model(work, viewer, model_id=model.id)

    async with worker_database.begin() as work:
        assert len((await work.session.exec(select(Deployment))).all()) == 1


async def test_untrained_model_is_not_deployed(database: Database, told: Told) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)

    with pytest.raises(ModelNotTrained):
        async with database.begin(viewer) as work:
            await service.deploy_model(work, viewer, model_id=model.id)

    async with database.begin(viewer) as work:
        assert (await work.session.exec(select(App))).all() == []
    assert (told.events, told.commands) == ([], [])


async def test_model_whose_run_deploys_is_not_deployed(
    database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    model, _ = await trained_model(database, worker_database, viewer)
    await make_run(database, viewer, model=model, status=RunStatus.DEPLOYING)

    with pytest.raises(ModelIsDeploying):
        async with database.begin(viewer) as work:
            await service.deploy_model(work, viewer, model_id=model.id)

    assert (told.events, told.commands) == ([], [])


async def test_of_another_user_is_not_found(database: Database, worker_database: Database, told: Told) -> None:
    ada, bob = await make_user(database), await make_user(database)
    model, run = await trained_model(database, worker_database, ada)
    app = await make_app(database, ada, run=run)
    deployment = await make_deployment(database, ada, app, run)

    for verb in (
        lambda work: service.deploy_model(work, bob, model_id=model.id),
        lambda work: service.stop_deployment(work, bob, deployment_id=deployment.id),
        lambda work: service.set_app_access(work, bob, app_id=app.id, access=AppAccess.PRIVATE),
        lambda work: ai_model.sync_model(work, bob, model_id=model.id),
    ):
        with pytest.raises(NotFound):
            async with database.begin(bob) as work:
                await verb(work)

    assert (await app_row(worker_database, app)).access is AppAccess.LINK
    assert (await deployment_row(worker_database, deployment)).status is LIVE
    assert told.events == []


async def test_reading_is_not_writing(database: Database, worker_database: Database) -> None:
    viewer = await make_user(database, scopes=frozenset({Scope.MODELS_READ}))
    model, _ = await trained_model(database, worker_database, viewer)

    with pytest.raises(ScopeMissing):
        async with database.begin(viewer) as work:
            await service.deploy_model(work, viewer, model_id=model.id)


async def test_newer_deployment_takes_over_and_ends_the_one_before(
    database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    old_run = await make_run(database, viewer, model=model, status=RunStatus.READY)
    app = await make_app(database, viewer, run=old_run)
    old = await make_deployment(database, viewer, app, old_run)
    run = await make_run(database, viewer, model=model, status=RunStatus.DEPLOYING)
    new = await begin(worker_database, run)
    assert (await app_row(worker_database, app)).current_deployment_id == old.id
    told.forget()

    async with worker_database.begin() as work:
        await service.note_running(work, new.id, reference="r", host="127.0.0.1", port=4000)
    async with worker_database.begin() as work:
        await service.mark_live(work, new.id)

    assert (await app_row(worker_database, app)).current_deployment_id == new.id
    assert (await deployment_row(worker_database, new)).status is LIVE
    assert (await deployment_row(worker_database, old)).status is STOPPED
    assert (await resource_row(worker_database, old)).status is ResourceStatus.ENDING
    assert (await resource_row(worker_database, new)).status is ResourceStatus.ALIVE
    assert [(event.data["deploymentId"], event.data["status"]) for event in told.events] == [
        (str(new.id), "LIVE"),
        (str(old.id), "STOPPED"),
    ]
    assert told.commands == [CheckDeployment(old.id)]


async def test_deployment_proved_after_a_newer_one_steps_back(database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)
    model = await make_model(database, viewer)
    older_run = await make_run(database, viewer, model=model, status=RunStatus.DEPLOYING)
    newer_run = await make_run(database, viewer, model=model, status=RunStatus.DEPLOYING)
    older, newer = await begin(worker_database, older_run), await begin(worker_database, newer_run)

    for deployment in (newer, older):
        async with worker_database.begin() as work:
            await service.mark_live(work, deployment.id)

    async with worker_database.begin() as work:
        app = (await work.session.exec(select(App))).one()
    assert app.current_deployment_id == newer.id
    stepped_back = await deployment_row(worker_database, older)
    assert (stepped_back.status, stepped_back.live_at is not None) == (STOPPED, True)


@pytest.mark.parametrize("status", [STOPPED, FAILED])
async def test_what_has_ended_does_not_come_back(
    status: DeploymentStatus, database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, status=RunStatus.READY)
    app = await make_app(database, viewer, run=run)
    deployment = await make_deployment(database, viewer, app, run, status=status)

    async with worker_database.begin() as work:
        await service.mark_live(work, deployment.id)
        await service.mark_waking(work, deployment.id)
        await service.mark_failed(work, deployment.id, "late")
        await service.mark_stopped(work, deployment.id)

    after = await deployment_row(worker_database, deployment)
    assert (after.status, after.error_message) == (status, None)
    assert told.events == []


async def test_only_a_live_one_wakes(database: Database, worker_database: Database, told: Told) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, status=RunStatus.READY)
    app = await make_app(database, viewer, run=run)
    deployment = await make_deployment(database, viewer, app, run)

    for _ in range(2):
        async with database.begin(viewer) as work:
            await service.mark_waking(work, deployment.id)

    assert (await deployment_row(worker_database, deployment)).status is WAKING
    assert told.types() == ["deployment.changed"]
    assert told.commands == [CheckDeployment(deployment.id)]


async def test_run_that_ends_otherwise_abandons_what_was_starting(
    database: Database, worker_database: Database
) -> None:
    viewer = await make_user(database)
    run = await make_run(database, viewer, status=RunStatus.DEPLOYING)
    deployment = await begin(worker_database, run)

    async with worker_database.begin() as work:
        row = await work.session.get_one(TrainingRun, run.id)
        row.status = RunStatus.CANCELED
        await ai_model.follow_run(work, row)

    assert (await deployment_row(worker_database, deployment)).status is STOPPED
    assert (await resource_row(worker_database, deployment)).status is ResourceStatus.ENDING


async def test_model_is_ready_once_it_could_be_deployed_after_all(
    database: Database, worker_database: Database, told: Told
) -> None:
    viewer = await make_user(database)
    model, run = await trained_model(database, worker_database, viewer)
    async with database.begin(viewer) as work:
        row = await work.session.get_one(TrainingRun, run.id)
        row.status, row.end_reason = RunStatus.FAILED, EndReason.DEPLOYMENT_FAILED
        await ai_model.follow_run(work, row)
    deployment = await begin(worker_database, run)
    told.forget()

    async with worker_database.begin() as work:
        await ai_model.follow_deployment(work, await service.mark_live(work, deployment.id))

    async with worker_database.begin() as work:
        after = await work.session.get_one(AIModel, model.id)
    assert (after.status, after.error_message, after.progress) == (AIModelStatus.READY, None, 100.0)
    assert told.types() == ["deployment.changed", "model.status_changed"]
    assert told.events[1].data["deployedSlug"] == told.events[0].data["slug"]
