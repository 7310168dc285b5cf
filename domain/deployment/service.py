"""The verbs of apps and deployments.

Whoever changes one holds its owner's row first (`lock_owner`), then the app, then the deployment, so that two workers
and a viewer never wait for each other in a circle."""

import base64
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from domain.ai_model import queries as models
from domain.ai_model.errors import ModelIsDeploying, ModelNotTrained
from domain.ai_model.model import AIModel
from domain.base import new_id
from domain.commands import CheckDeployment
from domain.deployment import queries
from domain.deployment.model import App, AppAccess, Deployment, DeploymentStatus, Resource, ResourceKind, ResourceStatus
from domain.journal.service import append_feed_event
from domain.training import queries as training
from domain.training.model import TrainingRun
from domain.training.status import Provider
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

SLUG_BYTES = 10
"""80 random bits: 16 characters of base32."""
STARTER_SECONDS = 60
"""How long whoever began a deployment may take before a sweep looks after it too."""
LIVE_CHECK_SECONDS = 10
"""How often the process of a live deployment is looked for."""
ENDED = frozenset({DeploymentStatus.STOPPED, DeploymentStatus.FAILED})


async def app_of_model(work: UnitOfWork, model: AIModel) -> App:
    """The model's app, made with a new address if it has none."""
    await models.lock_owner(work.session, model.user_id)
    app = await queries.app_of_model(work.session, model.id)
    if app is None:
        app = App(id=new_id(), created_at=work.now, user_id=model.user_id, model_id=model.id, slug=_new_slug())
        work.session.add(app)
        await work.session.flush()
    return app


async def begin_deployment(work: UnitOfWork, app: App, run: TrainingRun, provider: Provider) -> Deployment:
    """Write down that this run's result is to be served at the app's address, and what that may cost.

    One that goes on already is given back, so that a worker who was killed after it finds it again."""
    await models.lock_owner(work.session, app.user_id)
    app = await queries.locked_app(work.session, app.id)
    going = await queries.going_deployment(work.session, app.id, run.id)
    if going is not None:
        return going
    deployment = Deployment(
        id=new_id(),
        created_at=work.now,
        user_id=app.user_id,
        app_id=app.id,
        run_id=run.id,
        provider=provider,
        next_check_at=work.now + timedelta(seconds=STARTER_SECONDS),
    )
    resource = Resource(
        id=new_id(),
        created_at=work.now,
        user_id=app.user_id,
        run_id=run.id,
        deployment_id=deployment.id,
        provider=provider,
        kind=ResourceKind.APP,
        tag=f"app-{deployment.id.hex}",
    )
    work.session.add_all([deployment, resource])
    await work.session.flush()
    if await _shows_nothing(work, app):
        app.current_deployment_id = deployment.id
    await _announce(work, app, deployment, before=None)
    return deployment


async def deployment_of_run(work: UnitOfWork, run: TrainingRun) -> Deployment:
    """The deployment of a run's result, begun if there is none; the run's row is locked."""
    model = await work.session.get_one(AIModel, run.model_id)
    return await begin_deployment(work, await app_of_model(work, model), run, run.provider)


async def deploy_model(work: UnitOfWork, viewer: Viewer, *, model_id: UUID) -> AIModel:
    """Serve the model's trained version at its address, by a job. One that is served already stays as it is.

    Raises `NotFound`, `ModelNotTrained`, `ModelIsDeploying`."""
    user_id = viewer.require(Scope.MODELS_WRITE)
    await models.lock_owner(work.session, user_id)
    model = await models.model_of(work.session, viewer, model_id)
    if await models.is_being_deployed(work.session, model.id):
        raise ModelIsDeploying
    run = await work.session.get(TrainingRun, model.trained_run_id) if model.trained_run_id else None
    if run is None or await training.artifact_of(work.session, run.id) is None:
        raise ModelNotTrained
    deployment = await begin_deployment(work, await app_of_model(work, model), run, run.provider)
    deployment.next_check_at = work.now
    work.enqueue(CheckDeployment(deployment.id))
    return model


async def stop_deployment(work: UnitOfWork, viewer: Viewer, *, deployment_id: UUID) -> Deployment:
    """Stop serving; the process is ended by a job. Stopping twice is stopping once. Raises `NotFound`."""
    viewer.require(Scope.MODELS_WRITE)
    await queries.deployment_of(work.session, viewer, deployment_id)
    return await mark_stopped(work, deployment_id)


async def set_app_access(work: UnitOfWork, viewer: Viewer, *, app_id: UUID, access: AppAccess) -> App:
    """Who may open the app from now on. Raises `NotFound`."""
    user_id = viewer.require(Scope.MODELS_WRITE)
    await models.lock_owner(work.session, user_id)
    app = await queries.app_of(work.session, viewer, app_id, lock=True)
    app.access = access
    return app


async def note_running(work: UnitOfWork, deployment_id: UUID, *, reference: str, host: str, port: int) -> Deployment:
    """The provider has the app and says where it listens. Nobody but its proof is sent there yet."""
    deployment = await queries.locked_deployment(work.session, deployment_id)
    resource = await queries.resource_of(work.session, deployment_id)
    resource.reference = reference
    if resource.status is ResourceStatus.INTENDED:
        resource.status = ResourceStatus.ALIVE
    elif resource.status is ResourceStatus.ENDED:  # ended while it was started: then it is there once more
        resource.status, resource.ended_at, resource.next_check_at = ResourceStatus.ENDING, None, work.now
        work.enqueue(CheckDeployment(deployment_id))
    deployment.reference, deployment.host, deployment.port = reference, host, port
    return deployment


async def mark_live(work: UnitOfWork, deployment_id: UUID) -> Deployment:
    """The address answered as it should: from now on everybody is sent to this deployment.

    The one before is stopped. A deployment that was proved after a newer one went live is stopped itself."""
    app, deployment = await _locked(work, deployment_id)
    if deployment.status in ENDED or deployment.status is DeploymentStatus.LIVE:
        return deployment
    before = deployment.status
    deployment.status, deployment.error_message = DeploymentStatus.LIVE, None
    deployment.live_at = deployment.live_at or work.now
    deployment.next_check_at = work.now + timedelta(seconds=LIVE_CHECK_SECONDS)
    current = await _current(work, app)
    if current is not None and current.id > deployment.id and current.status in queries.REACHABLE:
        await _end(work, app, deployment, DeploymentStatus.STOPPED, before=before)
        return deployment
    app.current_deployment_id = deployment.id
    await _announce(work, app, deployment, before=before)
    if current is not None and current.id != deployment.id and current.status in queries.REACHABLE:
        await _end(work, app, current, DeploymentStatus.STOPPED, before=current.status)
    return deployment


async def mark_waking(work: UnitOfWork, deployment_id: UUID) -> Deployment:
    """A live deployment's process has gone; it is brought up again, by a job."""
    app, deployment = await _locked(work, deployment_id)
    if deployment.status is DeploymentStatus.LIVE:
        deployment.status, deployment.next_check_at = DeploymentStatus.WAKING, work.now
        await _announce(work, app, deployment, before=DeploymentStatus.LIVE)
        work.enqueue(CheckDeployment(deployment.id))
    return deployment


async def mark_failed(work: UnitOfWork, deployment_id: UUID, message: str) -> Deployment:
    """It cannot be served; what it may have left at the provider is ended."""
    app, deployment = await _locked(work, deployment_id)
    if deployment.status not in ENDED:
        deployment.error_message = message
        await _end(work, app, deployment, DeploymentStatus.FAILED, before=deployment.status)
    return deployment


async def mark_stopped(work: UnitOfWork, deployment_id: UUID) -> Deployment:
    """It is to be served no longer."""
    app, deployment = await _locked(work, deployment_id)
    if deployment.status not in ENDED:
        await _end(work, app, deployment, DeploymentStatus.STOPPED, before=deployment.status)
    return deployment


async def abandon_deployments(work: UnitOfWork, run_id: UUID) -> None:
    """The run failed or was canceled: what was deployed for it, or was about to be, is not."""
    for deployment_id in await queries.going_deployments_of_run(work.session, run_id):
        await mark_stopped(work, deployment_id)


async def note_ended(work: UnitOfWork, resource: Resource) -> None:
    """The provider confirmed that nothing is left of it."""
    if resource.status is ResourceStatus.ENDED:
        return
    resource.status, resource.ended_at, resource.next_check_at = ResourceStatus.ENDED, work.now, None
    resource.last_error = None
    resource.age_seconds = round(_seconds_since(resource.created_at, work.now), 3)
    data = {
        "resourceId": str(resource.id),
        "kind": resource.kind.value,
        "provider": resource.provider.value,
        "runId": str(resource.run_id) if resource.run_id else None,
        "deploymentId": str(resource.deployment_id) if resource.deployment_id else None,
        "ageSeconds": resource.age_seconds,
        "costMicros": resource.cost_micros,
    }
    await append_feed_event(work, resource.user_id, "resource.ended", data)


async def _locked(work: UnitOfWork, deployment_id: UUID) -> tuple[App, Deployment]:
    found = await work.session.get_one(Deployment, deployment_id)
    await models.lock_owner(work.session, found.user_id)
    app = await queries.locked_app(work.session, found.app_id)
    return app, await queries.locked_deployment(work.session, deployment_id)


async def _current(work: UnitOfWork, app: App) -> Deployment | None:
    if app.current_deployment_id is None:
        return None
    return await queries.locked_deployment(work.session, app.current_deployment_id)


async def _shows_nothing(work: UnitOfWork, app: App) -> bool:
    """Whether the address has nothing that answers, so that it may as well tell of what is coming."""
    current = await _current(work, app)
    return current is None or current.status in ENDED


async def _end(
    work: UnitOfWork, app: App, deployment: Deployment, status: DeploymentStatus, *, before: DeploymentStatus
) -> None:
    deployment.status, deployment.stopped_at, deployment.next_check_at = status, work.now, None
    resource = await queries.resource_of(work.session, deployment.id)
    if resource.status is not ResourceStatus.ENDED:
        resource.status, resource.next_check_at = ResourceStatus.ENDING, work.now
        work.enqueue(CheckDeployment(deployment.id))
    await _announce(work, app, deployment, before=before)


async def _announce(work: UnitOfWork, app: App, deployment: Deployment, *, before: DeploymentStatus | None) -> None:
    data = {
        "deploymentId": str(deployment.id),
        "appId": str(app.id),
        "modelId": str(app.model_id),
        "runId": str(deployment.run_id),
        "slug": app.slug,
        "from": before.value if before else None,
        "status": deployment.status.value,
        "errorMessage": deployment.error_message,
    }
    await append_feed_event(work, app.user_id, "deployment.changed", data)


def _seconds_since(then: datetime, now: datetime) -> float:
    return max(0.0, (now - then).total_seconds())


def _new_slug() -> str:
    return base64.b32encode(secrets.token_bytes(SLUG_BYTES)).decode().lower()
