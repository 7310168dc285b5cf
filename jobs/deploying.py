"""Bringing a deployment up: start its app, prove it through the public address, and only then send everybody there.

Load, ask, apply, as everywhere: no transaction is open while the host or the address is asked. Whoever brings one up
holds its lease, and starting the same tag twice is one app, so a worker may die anywhere in between.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import anyio

from domain.ai_model import service as ai_model
from domain.deployment import queries, service
from domain.deployment.model import App, Deployment, DeploymentStatus, Resource
from domain.errors import Unavailable
from domain.training import queries as training
from domain.training.model import Artifact
from jobs.context import JobContext
from jobs.providers.base import AppHost, AppOrder, ProviderBusy, ProviderError, RunningApp
from jobs.proving import PROOF_SECONDS, NotProved, WrongAnswer, prove

logger = logging.getLogger("runwire.jobs")

LEASE_SECONDS = 10.0
"""A worker that was killed is missed after so long, and another one goes on."""
RENEW_SECONDS = 3.0
STARTING_LIMIT = timedelta(minutes=5)
"""How long a host may be busy, or the public address away, before a deployment is given up. One that was live before
is woken for as long as it takes."""
AGAIN_SECONDS = 5.0


class DeploymentFailed(Exception):
    """The deployment is over. `str(error)` is a sentence for its owner."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A deployment and all that is needed to bring it up, as one transaction saw it."""

    deployment: Deployment
    app: App
    resource: Resource
    artifact: Artifact | None


async def bring_up(context: JobContext, deployment_id: UUID, *, proof_seconds: float = PROOF_SECONDS) -> bool:
    """Make a STARTING or WAKING deployment LIVE; True once it is, False if it is not there yet: call again later.

    Raises `DeploymentFailed` when it never will be; the rows say so by then."""
    async with lease_of(context, deployment_id) as is_ours:
        if not is_ours:
            return await _is_live(context, deployment_id)
        return await bring_up_leased(context, deployment_id, proof_seconds=proof_seconds)


@asynccontextmanager
async def lease_of(context: JobContext, deployment_id: UUID) -> AsyncIterator[bool]:
    """Hold a deployment for as long as the block lasts; False where somebody else holds it."""
    async with context.begin() as work:
        claimed = await queries.claim_deployments(
            work.session,
            worker_id=context.worker_id,
            now=work.now,
            lease_seconds=LEASE_SECONDS,
            count=1,
            deployment_id=deployment_id,
        )
    if not claimed:
        yield False
        return
    async with kept_lease(context, deployment_id):
        yield True


@asynccontextmanager
async def kept_lease(context: JobContext, deployment_id: UUID) -> AsyncIterator[None]:
    """Renew a lease that was taken already, and give it back in the end."""
    failure: BaseException | None = None
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(_renew, context, deployment_id)
            try:
                yield
            except Exception as error:  # kept out of the group, which would wrap it
                failure = error
            group.cancel_scope.cancel()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(3):
            await _release(context, deployment_id)
    if failure is not None:
        raise failure


async def bring_up_leased(context: JobContext, deployment_id: UUID, *, proof_seconds: float = PROOF_SECONDS) -> bool:
    """`bring_up` for those who hold the lease."""
    plan = await _load(context, deployment_id)
    if _was_proved(plan.deployment):
        return True
    try:
        await _start_and_prove(context, plan, proof_seconds)
    except (ProviderBusy, NotProved) as reason:
        return await _later(context, plan.deployment, str(reason))
    except (ProviderError, WrongAnswer) as reason:
        raise await _give_up(context, deployment_id, str(reason)) from reason
    async with context.begin() as work:
        deployment = await service.mark_live(work, deployment_id)
        if _was_proved(deployment):  # and not stopped meanwhile
            await ai_model.follow_deployment(work, deployment)
    logger.info("A deployment is live.", extra={"action": "done", "deployment_id": str(deployment_id)})
    return True


def order_of(context: JobContext, resource: Resource, artifact: Artifact) -> AppOrder:
    """What the host is asked for; the same tag is the same app."""
    return AppOrder(
        tag=resource.tag,
        run_id=artifact.run_id,
        artifact_location=artifact.location,
        artifact_sha256=artifact.sha256,
        memory_limit_bytes=context.settings.local_memory_bytes,
    )


def host_of(context: JobContext, deployment: Deployment) -> AppHost:
    """Raises `ProviderError` where this installation cannot serve there."""
    host = context.app_hosts.get(deployment.provider)
    if host is None:
        raise ProviderError(f"This installation cannot serve models on {deployment.provider.value}.")
    return host


def _was_proved(deployment: Deployment) -> bool:
    """Whether it is live, or was until a newer one took over. Raises `DeploymentFailed` where it never will be."""
    if deployment.status is DeploymentStatus.FAILED:
        raise DeploymentFailed(deployment.error_message or "The deployment failed.")
    if deployment.status is DeploymentStatus.STOPPED and deployment.live_at is None:
        raise DeploymentFailed("The deployment was stopped before it answered.")
    return deployment.status in (DeploymentStatus.LIVE, DeploymentStatus.STOPPED)


async def _start_and_prove(context: JobContext, plan: Plan, proof_seconds: float) -> None:
    if plan.artifact is None:
        raise ProviderError("The run left no model that could be served.")
    host = host_of(context, plan.deployment)
    running = await host.start(order_of(context, plan.resource, plan.artifact))
    await _note_running(context, plan.deployment.id, running)
    await prove(context, app=plan.app, deployment_id=plan.deployment.id, artifact=plan.artifact, seconds=proof_seconds)


async def _load(context: JobContext, deployment_id: UUID) -> Plan:
    async with context.begin() as work:
        deployment = await work.session.get_one(Deployment, deployment_id)
        return Plan(
            deployment=deployment,
            app=await work.session.get_one(App, deployment.app_id),
            resource=await queries.resource_of(work.session, deployment_id),
            artifact=await training.artifact_of(work.session, deployment.run_id),
        )


async def _is_live(context: JobContext, deployment_id: UUID) -> bool:
    async with context.begin() as work:
        deployment = await work.session.get_one(Deployment, deployment_id)
    return deployment.status is DeploymentStatus.LIVE


async def _note_running(context: JobContext, deployment_id: UUID, running: RunningApp) -> None:
    async with context.begin() as work:
        await service.note_running(
            work, deployment_id, reference=running.reference, host=running.host, port=running.port
        )


async def _later(context: JobContext, deployment: Deployment, reason: str) -> bool:
    """Not now: somebody calls again, or the sweep does."""
    if deployment.live_at is None and context.clock.now() - deployment.created_at > STARTING_LIMIT:
        raise await _give_up(context, deployment.id, reason)
    async with context.begin() as work:
        row = await queries.locked_deployment(work.session, deployment.id)
        if _was_proved(row):
            return True
        row.next_check_at = work.now + timedelta(seconds=AGAIN_SECONDS)
    logger.info("A deployment does not answer yet.", extra={"action": "later", "deployment_id": str(deployment.id)})
    return False


async def _give_up(context: JobContext, deployment_id: UUID, reason: str) -> DeploymentFailed:
    async with context.begin() as work:
        await service.mark_failed(work, deployment_id, reason)
    logger.info("A deployment was given up.", extra={"action": "given up", "deployment_id": str(deployment_id)})
    return DeploymentFailed(reason)


async def _renew(context: JobContext, deployment_id: UUID) -> None:
    while True:
        await anyio.sleep(RENEW_SECONDS)
        try:
            async with context.begin() as work:
                await queries.renew_lease(
                    work.session,
                    worker_id=context.worker_id,
                    deployment_id=deployment_id,
                    now=work.now,
                    lease_seconds=LEASE_SECONDS,
                )
        except Unavailable:
            logger.warning("A lease was not renewed; another worker may bring the same app up, which does no harm.")


async def _release(context: JobContext, deployment_id: UUID) -> None:
    try:
        async with context.begin() as work:
            await queries.release_lease(work.session, worker_id=context.worker_id, deployment_id=deployment_id)
    except Unavailable:
        logger.warning("A lease was not given back; it runs out by itself.")
