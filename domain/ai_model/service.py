"""The verbs of models. A model never moves by itself: it follows its runs, within their transactions."""

from typing import Any
from uuid import UUID

from domain.ai_model import queries
from domain.ai_model.errors import BadModelName
from domain.ai_model.model import AIModel, AIModelStatus
from domain.base import new_id
from domain.commands import CheckRun
from domain.deployment import queries as deployments
from domain.deployment import service as deployment_service
from domain.deployment.model import Deployment
from domain.events import time_text
from domain.integration.errors import NotInTestMode
from domain.journal.service import append_feed_event
from domain.training import queries as training
from domain.training.model import TrainingRun
from domain.training.report import HostedModel
from domain.training.status import EndReason, Provider, RunStatus
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

LONGEST_NAME = 200


async def model_for_run(work: UnitOfWork, user_id: UUID, name: str) -> AIModel:
    """The user's model of this name, made if it is new, locked until the transaction ends.

    Raises `BadModelName`."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise BadModelName(LONGEST_NAME)
    await queries.lock_owner(work.session, user_id)
    model = await queries.locked_model_named(work.session, user_id, name)
    if model is None:
        model = AIModel(id=new_id(), created_at=work.now, updated_at=work.now, user_id=user_id, name=name)
        work.session.add(model)
        await work.session.flush()
    return model


async def follow_run(work: UnitOfWork, run: TrainingRun) -> None:
    """Bring the run's model to where its runs are now; called whenever a run's status or progress has changed.

    The run's row is locked and holds the change already. The newest run leads; where that one was canceled, the newest
    one that still goes on does. A trained version that a run leaves behind is kept, however the run ended."""
    await work.session.flush()
    await queries.lock_owner(work.session, run.user_id)
    model = await queries.locked_model(work.session, run.model_id)
    if model is None:
        return
    before = model.status
    if await _left_a_version(work, run) and (model.trained_run_id is None or run.id >= model.trained_run_id):
        model.trained_run_id, model.trained_at = run.id, work.now
    newest = await queries.newest_run(work.session, model.id)
    leading = newest
    if newest is not None and newest.status is RunStatus.CANCELED:
        leading = await queries.newest_run(work.session, model.id, active=True)
    _settle(model, leading)
    current = leading or newest
    model.current_run_id = current.id if current else None
    model.updated_at = work.now
    if run.status in (RunStatus.FAILED, RunStatus.CANCELED):
        await deployment_service.abandon_deployments(work, run.id)
    await _announce(work, model, before)


async def keep_hosted(work: UnitOfWork, run: TrainingRun, hosted: HostedModel) -> None:
    """The run left a model that stays at its provider: the model's version from now on, unless a newer run left one."""
    await work.session.flush()
    await queries.lock_owner(work.session, run.user_id)
    model = await queries.locked_model(work.session, run.model_id)
    if model is None or (model.trained_run_id is not None and run.id < model.trained_run_id):
        return
    model.provider, model.provider_version, model.model_url = run.provider, hosted.version, hosted.url
    model.trained_run_id, model.trained_at = run.id, work.now


async def attach_version(
    work: UnitOfWork, viewer: Viewer, *, model_id: UUID, provider: Provider, version: str, url: str | None
) -> AIModel:
    """A model that finished at its provider without being recorded here is this model's version from now on.

    Whoever calls has read it from the provider with the owner's credential. Raises `NotFound`."""
    user_id = viewer.require(Scope.MODELS_WRITE)
    await queries.lock_owner(work.session, user_id)
    await queries.model_of(work.session, viewer, model_id)
    model = await queries.locked_model(work.session, model_id)
    assert model is not None
    before = model.status
    model.provider, model.provider_version, model.model_url = provider, version, url
    model.trained_at = model.updated_at = work.now
    leading = await queries.newest_run(work.session, model.id, active=True)
    if leading is None:
        model.status, model.progress, model.error_message = AIModelStatus.READY, 100.0, None
    await _announce(work, model, before)
    return model


async def follow_deployment(work: UnitOfWork, deployment: Deployment) -> None:
    """A model that was trained but could not be deployed is READY once it answers after all."""
    await queries.lock_owner(work.session, deployment.user_id)
    run = await work.session.get(TrainingRun, deployment.run_id)
    model = await queries.locked_model(work.session, run.model_id) if run else None
    if run is None or model is None or model.status is not AIModelStatus.ERROR:
        return
    if model.trained_run_id == run.id == model.current_run_id and run.end_reason is EndReason.DEPLOYMENT_FAILED:
        before = model.status
        model.status, model.progress, model.error_message = AIModelStatus.READY, 100.0, None
        model.updated_at = work.now
        await _announce(work, model, before)


async def sync_model(work: UnitOfWork, viewer: Viewer, *, model_id: UUID) -> AIModel:
    """Have the provider of the model's current run read again now, by a worker. Raises `NotFound`; and
    `NotInTestMode` where a key for tests names a model that is trained for real."""
    viewer.require(Scope.MODELS_WRITE)
    model = await queries.model_of(work.session, viewer, model_id)
    run = await training.locked_run(work.session, model.current_run_id) if model.current_run_id else None
    if run is not None and viewer.test_mode and not run.test_mode:
        raise NotInTestMode
    if run is not None and not run.status.is_final:
        run.next_check_at = work.now
        work.enqueue(CheckRun(run.id))
    return model


def _settle(model: AIModel, leading: TrainingRun | None) -> None:
    """What the run that leads makes of the model; without one, what was trained before."""
    model.error_message = None
    if leading is None or leading.status is RunStatus.CANCELED:
        is_trained = model.trained_at is not None
        model.status = AIModelStatus.READY if is_trained else AIModelStatus.NEW
        model.progress = 100.0 if is_trained else 0.0
    elif leading.status is RunStatus.READY:
        model.status, model.progress = AIModelStatus.READY, 100.0
    elif leading.status is RunStatus.FAILED:
        model.status, model.progress = AIModelStatus.ERROR, leading.progress
        reason = leading.end_reason.value if leading.end_reason else RunStatus.FAILED.value
        model.error_message = leading.error_message or reason
    else:
        model.status, model.progress = AIModelStatus.TRAINING, leading.progress


async def _left_a_version(work: UnitOfWork, run: TrainingRun) -> bool:
    """Whether a run that has ended left a whole trained model."""
    if run.status is RunStatus.READY:
        return True
    deployable = run.status is RunStatus.CANCELED or (
        run.status is RunStatus.FAILED and run.end_reason is EndReason.DEPLOYMENT_FAILED
    )
    return deployable and await training.artifact_of(work.session, run.id) is not None


async def _announce(work: UnitOfWork, model: AIModel, before: AIModelStatus) -> None:
    if model.status is before:
        return
    data: dict[str, Any] = {
        "modelId": str(model.id),
        "name": model.name,
        "from": before.value,
        "status": model.status.value,
        "progress": model.progress,
        "runId": str(model.current_run_id) if model.current_run_id else None,
        "deployedSlug": await deployments.slug_of_model(work.session, model.id),
        "errorMessage": model.error_message,
        "trainedAt": time_text(model.trained_at) if model.trained_at else None,
        "updatedAt": time_text(model.updated_at),
    }
    await append_feed_event(work, model.user_id, "model.status_changed", data)
