"""Ending what costs money: asked until the provider confirms, and settled then. Safe to call again and again."""

import logging
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from domain.deployment.model import Resource, ResourceStatus
from domain.journal.service import append_feed_event
from domain.training import queries, service
from domain.training.budget import spent_by_now
from domain.training.model import TrainingRun
from jobs.context import JobContext
from jobs.providers.base import ProviderBusy, ProviderError, ProviderLost, Started
from jobs.retry import STOPPING

logger = logging.getLogger("runwire.jobs")

REFUSED_SECONDS = 60.0
"""Until what a provider refuses to end is asked for again."""


async def note_started(context: JobContext, run_id: UUID, attempt: int, started: Started) -> bool:
    """Write down what the provider has of an attempt: under which name, since when and at which price. False where the
    attempt has another name already."""
    async with context.begin() as work:
        return await service.note_started(
            work,
            run_id,
            attempt=attempt,
            reference=started.reference,
            url=started.url,
            price_micros_per_hour=started.price_micros_per_hour,
            began_at=started.began_at,
        )


async def end_resource_of(context: JobContext, tag: str, *, is_gone: bool = False) -> bool:
    """End what the attempt of that tag has at its provider; True once nothing of it is left.

    With `is_gone` the provider has confirmed that already. What it does not confirm now is left to the sweep."""
    async with context.begin() as work:
        resource = await queries.resource_of_tag(work.session, tag)
        run = await work.session.get(TrainingRun, resource.run_id) if resource and resource.run_id else None
    if resource is None or resource.status is ResourceStatus.ENDED:
        return True
    if not is_gone and resource.keep_until is not None and context.clock.now() < resource.keep_until:
        return False
    bills_on = False
    try:
        trainer = await context.trainer_for(
            resource.provider,
            user_id=resource.user_id,
            integration_id=resource.integration_id,
            test_mode=resource.is_test,
            scenario=run.scenario if run is not None else None,
        )
        bills_on = trainer.bills_from_creation
        if not is_gone:
            reference = resource.reference
            if reference is None:
                found = await trainer.find(tag)
                if found is not None and resource.run_id is not None and resource.attempt is not None:
                    await note_started(context, resource.run_id, resource.attempt, found)
                reference = found.reference if found is not None else None
            is_gone = reference is None or await trainer.stop(reference)
    except ProviderLost:
        is_gone = True
    except ProviderError as error:
        if not is_gone:
            logger.warning("A resource would not end; it is tried again.", extra={"resource_id": str(resource.id)})
            await _note(context, resource, str(error), again_seconds=_patience_with(error))
            return False
    if is_gone:
        await _ended(context, resource, bills_on=bills_on)
    else:
        await _note(context, resource, None, again_seconds=STOPPING.first_seconds)
    return is_gone


def _patience_with(error: ProviderError) -> float:
    """Until the sweep asks again: soon where it may go by itself, later where somebody has to mend it."""
    if isinstance(error, ProviderBusy):
        return min(max(error.retry_after_seconds, STOPPING.first_seconds), REFUSED_SECONDS)
    return REFUSED_SECONDS


async def _note(context: JobContext, resource: Resource, error: str | None, *, again_seconds: float) -> None:
    """It is asked to end, and has not confirmed."""
    async with context.begin() as work:
        again_at = work.now + timedelta(seconds=again_seconds)
        statement = (
            sa.update(Resource)
            .where(col(Resource.id) == resource.id, col(Resource.status) != ResourceStatus.ENDED)
            .values(status=ResourceStatus.ENDING, last_error=error, next_check_at=again_at)
        )
        await work.session.exec(statement)


async def _ended(context: JobContext, resource: Resource, *, bills_on: bool) -> None:
    async with context.begin() as work:
        if resource.run_id is not None:
            await queries.locked_run(work.session, resource.run_id)  # before the resource, as everywhere
        row = await work.session.get(Resource, resource.id, with_for_update=True, populate_existing=True)
        if row is None or row.status is ResourceStatus.ENDED:
            return
        if bills_on and row.price_micros_per_hour > 0 and row.cost_at is not None:
            since = (work.now - row.cost_at).total_seconds()
            cost = spent_by_now(row.cost_micros, row.price_micros_per_hour, since)
            await service.settle_cost(work, row, cost)
        row.status, row.ended_at, row.last_error = ResourceStatus.ENDED, work.now, None
        row.age_seconds = (work.now - row.created_at).total_seconds()
        data = {
            "resourceId": str(row.id),
            "runId": str(row.run_id),
            "provider": row.provider.value,
            "kind": row.kind.value,
            "costMicros": row.cost_micros,
        }
        await append_feed_event(work, row.user_id, "resource.ended", data)
