"""What providers have alive that no run knows of: the double of a creation whose answer was lost, or something that was
thought to have ended. Found by the names that everything of ours has, and ended."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, or_

from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.errors import Unavailable
from domain.training import queries
from domain.training.model import TrainingRun
from domain.training.status import Provider
from jobs.context import JobContext
from jobs.providers.base import ProviderError, ProviderLost, RemoteTrainer, Trainer

logger = logging.getLogger("runwire.jobs")

LOOKED_BACK = timedelta(hours=2)
"""Accounts in which something was alive so lately are looked through."""
MOST_ACCOUNTS = 200
_TAG = re.compile(r"run-([0-9a-f]{32})-[0-9]+")


@dataclass(frozen=True, slots=True)
class _Account:
    provider: Provider
    user_id: UUID | None
    """Of whom, where the account is a user's own or a simulator's; None for the operator's."""
    integration_id: UUID | None
    is_test: bool
    example: UUID
    """Any user who used it."""


async def end_strays(context: JobContext) -> int:
    """Look through all accounts that were used lately. Gives how many strays were ended."""
    ended = 0
    for account in await _accounts(context):
        try:
            ended += await _end_in(context, account)
        except ProviderError as error:
            facts = {"provider": account.provider.value, "error": str(error)}
            logger.info("An account could not be looked through; it is tried again.", extra=facts)
        except Unavailable:
            raise
        except Exception:
            facts = {"provider": account.provider.value}
            logger.exception("Looking through an account failed; it is tried again.", extra=facts)
    return ended


async def _accounts(context: JobContext) -> Sequence[_Account]:
    """Those where it costs most first: the operator's, then users' own, then simulated ones; of too many at random, so
    that each has its turn."""
    since = context.clock.now() - LOOKED_BACK
    is_theirs = or_(col(Resource.is_test), col(Resource.integration_id).is_not(None))
    owner = sa.case((is_theirs, col(Resource.user_id)), else_=None)
    names: list[Any] = [Resource.provider, owner, Resource.integration_id, Resource.is_test]
    statement: Any = (
        sa.select(*names, sa.func.array_agg(col(Resource.user_id))[1])
        .where(
            col(Resource.kind) == ResourceKind.TRAINING,
            col(Resource.provider) != Provider.LOCAL,
            or_(col(Resource.status) != ResourceStatus.ENDED, col(Resource.ended_at) > since),
        )
        .group_by(*names)
        .order_by(col(Resource.is_test), col(Resource.integration_id).is_not(None), sa.func.random())
        .limit(MOST_ACCOUNTS)
    )
    async with context.begin() as work:
        rows = (await work.session.exec(statement)).all()
    return [_Account(Provider(provider), *facts) for provider, *facts in rows]


async def _end_in(context: JobContext, account: _Account) -> int:
    trainer = await context.trainer_for(
        account.provider,
        user_id=account.example,
        integration_id=account.integration_id,
        test_mode=account.is_test,
    )
    if not isinstance(trainer, RemoteTrainer):
        return 0
    ended = 0
    for reference, tag in (await trainer.alive()).items():
        if await _is_stray(context, reference, tag):
            ended += await _end(trainer, reference, tag)
    return ended


async def _is_stray(context: JobContext, reference: str, tag: str) -> bool:
    """Whether it is ours and nobody needs it. Names of runs that we do not have are another installation's."""
    match = _TAG.fullmatch(tag)
    if match is None:
        return False
    async with context.begin() as work:
        run = await work.session.get(TrainingRun, UUID(match[1]))
        resource = await queries.resource_of_tag(work.session, tag)
    if run is None or resource is None:
        return False
    if resource.status is ResourceStatus.ENDED:
        return True
    # Without a reference it is being started right now, or found by its name by whoever ends resources.
    return resource.reference is not None and resource.reference != reference


async def _end(trainer: Trainer, reference: str, tag: str) -> int:
    try:
        gone = await trainer.stop(reference)
    except ProviderLost:
        gone = True
    facts = {"action": "ended" if gone else "later", "tag": tag, "reference": reference}
    logger.warning("Something was alive that no run knows of.", extra=facts)
    return int(gone)
