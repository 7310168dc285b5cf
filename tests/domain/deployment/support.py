"""Rows of served models to begin a test with."""

from typing import Any

from sqlmodel import select

from db.unit_of_work import Database
from domain.base import new_id
from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus, Resource, ResourceKind, ResourceStatus
from domain.training.model import Artifact, TrainingRun
from domain.training.status import Provider, RunStatus
from domain.viewer import Viewer
from tests.factories import make_run

SLUG = "abcdefghijklmnop"
HAS_PROCESS = (DeploymentStatus.LIVE, DeploymentStatus.WAKING)


async def make_app(
    database: Database,
    viewer: Viewer,
    *,
    run: TrainingRun | None = None,
    slug: str = SLUG,
    access: AppAccess = AppAccess.LINK,
) -> App:
    """An address at which nothing was deployed yet."""
    run = run or await make_run(database, viewer, status=RunStatus.READY)
    async with database.begin(viewer) as work:
        app = App(
            id=new_id(), created_at=work.now, user_id=run.user_id, model_id=run.model_id, slug=slug, access=access
        )
        work.session.add(app)
    return app


async def make_deployment(
    database: Database,
    viewer: Viewer,
    app: App,
    run: TrainingRun,
    *,
    status: DeploymentStatus = DeploymentStatus.LIVE,
    is_current: bool = True,
    **facts: Any,
) -> Deployment:
    """A deployment as if it had come to this status, with its resource; no events."""
    id = new_id()
    has_process = status in HAS_PROCESS
    given: dict[str, Any] = {"next_check_at": None}
    if has_process:
        given |= {"reference": f"ref-{id.hex}", "host": "127.0.0.1", "port": 9}
    async with database.begin(viewer) as work:
        if has_process:
            given["live_at"] = work.now
        deployment = Deployment(
            id=id,
            created_at=work.now,
            user_id=run.user_id,
            app_id=app.id,
            run_id=run.id,
            provider=Provider.LOCAL,
            status=status,
            **(given | facts),
        )
        resource = Resource(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            deployment_id=id,
            provider=Provider.LOCAL,
            kind=ResourceKind.APP,
            tag=f"app-{id.hex}",
            reference=deployment.reference,
            status=ResourceStatus.ALIVE if deployment.reference else ResourceStatus.INTENDED,
        )
        work.session.add_all([deployment, resource])
        await work.session.flush()
        if is_current:
            row = await work.session.get_one(App, app.id)
            row.current_deployment_id = id
    return deployment


async def make_artifact(worker_database: Database, run: TrainingRun, **facts: Any) -> Artifact:
    """What a training left behind."""
    given: dict[str, Any] = {
        "name": "model.joblib",
        "location": "/models/1/model.joblib",
        "bytes": 4,
        "sha256": "ab" * 32,
        "details": {"samples": [{"row": {"pixel": 1.0}, "prediction": 3}]},
    }
    async with worker_database.begin() as work:
        artifact = Artifact(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            attempt=run.attempt,
            **(given | facts),
        )
        work.session.add(artifact)
    return artifact


async def app_row(worker_database: Database, app: App) -> App:
    async with worker_database.begin() as work:
        return await work.session.get_one(App, app.id)


async def deployment_row(worker_database: Database, deployment: Deployment) -> Deployment:
    async with worker_database.begin() as work:
        return await work.session.get_one(Deployment, deployment.id)


async def resource_row(worker_database: Database, deployment: Deployment) -> Resource:
    async with worker_database.begin() as work:
        return (await work.session.exec(select(Resource).where(Resource.deployment_id == deployment.id))).one()
