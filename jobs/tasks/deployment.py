"""Deployments that a worker must look at: to be started, to be woken, gone, or to be ended."""

import logging
from datetime import timedelta
from uuid import UUID

import anyio

from domain.deployment import queries, service
from domain.deployment.model import Deployment, DeploymentStatus, Resource
from domain.errors import Unavailable
from domain.training import queries as training
from jobs.context import JobContext
from jobs.deploying import (
    LEASE_SECONDS,
    DeploymentFailed,
    bring_up_leased,
    host_of,
    kept_lease,
    lease_of,
    order_of,
)
from jobs.providers.base import ProviderError, ProviderLost, ProviderRefused

logger = logging.getLogger("runwire.jobs")

AT_ONCE = 16
"""Deployments that one sweep looks at, side by side."""
STOP_AGAIN_SECONDS = 20.0
"""How long one try to end an app may take before somebody tries again."""
STOP_AGAIN_AFTER = timedelta(seconds=5)


async def check_deployment(context: JobContext, deployment_id: UUID) -> None:
    """Look at a deployment now and do what its row says. Quiet where it is gone or somebody else looks at it."""
    async with context.begin() as work:
        if await work.session.get(Deployment, deployment_id) is None:
            return
    async with lease_of(context, deployment_id) as is_ours:
        if is_ours:
            await _look_at(context, deployment_id)
    await _end_apps(context, deployment_id)


async def sweep_deployments(context: JobContext) -> None:
    """Everything that is due: what a crash, a lost message or a killed process left behind."""
    async with context.begin() as work:
        claimed = await queries.claim_deployments(
            work.session,
            worker_id=context.worker_id,
            now=work.now,
            lease_seconds=LEASE_SECONDS,
            count=AT_ONCE,
        )
    async with anyio.create_task_group() as group:
        for deployment_id in claimed:
            group.start_soon(_swept, context, deployment_id)
        group.start_soon(_end_apps, context)


async def _swept(context: JobContext, deployment_id: UUID) -> None:
    """One of many: its trouble is its own."""
    try:
        async with kept_lease(context, deployment_id):
            await _look_at(context, deployment_id)
    except Unavailable:
        logger.warning("Postgres does not answer; the deployment is looked at again.", extra=_ids(deployment_id))
    except Exception:
        logger.exception("Looking at a deployment failed; it is looked at again.", extra=_ids(deployment_id))


async def _look_at(context: JobContext, deployment_id: UUID) -> None:
    """The deployment's lease is ours."""
    async with context.begin() as work:
        deployment = await work.session.get_one(Deployment, deployment_id)
    if deployment.status is DeploymentStatus.LIVE:
        if await _is_alive(context, deployment):
            await _look_again_later(context, deployment_id)
            return
        async with context.begin() as work:
            deployment = await service.mark_waking(work, deployment_id)
    if deployment.status in (DeploymentStatus.STARTING, DeploymentStatus.WAKING):
        try:
            await bring_up_leased(context, deployment_id)
        except DeploymentFailed as error:
            logger.info("A deployment failed.", extra={**_ids(deployment_id), "error": str(error)})


async def _is_alive(context: JobContext, deployment: Deployment) -> bool:
    """Whether the provider says that the app's process is there; in doubt it is."""
    if deployment.reference is None:
        return False
    try:
        return await host_of(context, deployment).is_alive(deployment.reference)
    except ProviderLost:
        return False
    except ProviderError:
        return True


async def _look_again_later(context: JobContext, deployment_id: UUID) -> None:
    async with context.begin() as work:
        row = await queries.locked_deployment(work.session, deployment_id)
        row.next_check_at = work.now + timedelta(seconds=service.LIVE_CHECK_SECONDS)


async def _end_apps(context: JobContext, deployment_id: UUID | None = None) -> None:
    """End the processes of deployments that are over, until their provider confirms that nothing is left."""
    async with context.begin() as work:
        ids = await queries.claim_ending(
            work.session,
            now=work.now,
            again_seconds=STOP_AGAIN_SECONDS,
            count=AT_ONCE,
            deployment_id=deployment_id,
        )
    for resource_id in ids:
        try:
            await _end_app(context, resource_id)
        except Unavailable:
            logger.warning("Postgres does not answer; the app is ended later.", extra={"resource_id": str(resource_id)})
        except Exception:
            logger.exception("Ending an app failed; it is tried again.", extra={"resource_id": str(resource_id)})


async def _end_app(context: JobContext, resource_id: UUID) -> None:
    async with context.begin() as work:
        resource = await work.session.get_one(Resource, resource_id)
        deployment = await work.session.get_one(Deployment, resource.deployment_id)
    is_gone, problem = False, resource.last_error
    # Whoever holds the lease may be starting it right now, and would start it after its end.
    async with lease_of(context, deployment.id) as is_ours:
        if is_ours:
            try:
                is_gone, problem = await _stopped(context, resource, deployment), None
            except ProviderLost:
                is_gone = True
            except ProviderError as error:
                problem = str(error)
    async with context.begin() as work:
        row = await work.session.get_one(Resource, resource_id, with_for_update={"key_share": True})
        if is_gone:
            await service.note_ended(work, row)
        else:
            row.last_error = problem
            row.next_check_at = work.now + STOP_AGAIN_AFTER


async def _stopped(context: JobContext, resource: Resource, deployment: Deployment) -> bool:
    """Whether nothing is left of the app."""
    async with context.begin() as work:
        artifact = await training.artifact_of(work.session, deployment.run_id)
    host = host_of(context, deployment)
    reference = resource.reference
    if reference is None:
        # The worker may have died between the start and writing down its answer. Starting the same tag again is no
        # second app, and tells the reference of the one that may be there.
        if artifact is None:
            return True
        try:
            reference = (await host.start(order_of(context, resource, artifact))).reference
        except ProviderRefused:
            return True
    return await host.stop(reference)


def _ids(deployment_id: UUID) -> dict[str, str]:
    return {"deployment_id": str(deployment_id)}
