"""The operator's account at a provider holds the models of all its users: nobody builds on another's, or over it.

At Astria anybody who knows a tune's number, and they are given one after the other, can begin with it or have pictures
made of it; at Replicate whoever names a model as the destination puts a version into it. With an account of one's own
there is nobody else.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.ai_model.model import AIModel
from domain.training.model import RunAttempt, TrainingRun
from domain.training.status import Provider
from jobs.providers.base import ProviderRefused

ADDRESSES = "imageUrls"
"""Pictures' addresses hold numbers of other kinds."""
DEEPEST = 20
_NUMBER = re.compile(r"\d{1,19}", re.ASCII)
_PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+", re.ASCII)


async def check_shared(session: AsyncSession, run: TrainingRun, attempt: RunAttempt) -> None:
    """Raises `ProviderRefused` for a run with the operator's account that names what is another user's there."""
    if attempt.integration_id is not None or run.test_mode:
        return
    texts = list(_texts({name: value for name, value in run.hyperparameters.items() if name != ADDRESSES}))
    if attempt.provider is Provider.ASTRIA:
        numbers = {number for text in texts for number in _NUMBER.findall(text)}
        if await _is_a_tune_of_others(session, run, numbers):
            raise ProviderRefused(_words("a tune"))
    if attempt.provider is Provider.REPLICATE:
        names = {name.lower() for text in texts for name in _names(text)}
        if await _is_a_model_of_others(session, run, names):
            raise ProviderRefused(_words("a model"))


async def _is_a_tune_of_others(session: AsyncSession, run: TrainingRun, numbers: set[str]) -> bool:
    statement = _of_others(run, Provider.ASTRIA).where(col(RunAttempt.reference) == sa.any_(_array(numbers)))
    return (await session.exec(statement.limit(1))).first() is not None


async def _is_a_model_of_others(session: AsyncSession, run: TrainingRun, names: set[str]) -> bool:
    wanted = sa.any_(_array(names))
    name = sa.func.lower(sa.func.split_part(col(AIModel.provider_version), ":", 1))
    trained = select(AIModel.id).where(
        AIModel.provider == Provider.REPLICATE, AIModel.user_id != run.user_id, name == wanted
    )
    # Only what was begun counts: who is refused here takes nothing away from whose it is.
    ordered = _of_others(run, Provider.REPLICATE).where(
        col(RunAttempt.reference).is_not(None),
        sa.func.lower(col(TrainingRun.hyperparameters).op("->>")("destination")) == wanted,
    )
    for statement in (trained, ordered):
        if names and (await session.exec(statement.limit(1))).first() is not None:
            return True
    return False


def _of_others(run: TrainingRun, provider: Provider) -> SelectOfScalar[UUID]:
    """Attempts of other users with the operator's account there."""
    return (
        select(RunAttempt.id)
        .join(TrainingRun, col(TrainingRun.id) == col(RunAttempt.run_id))
        .where(
            RunAttempt.provider == provider,
            RunAttempt.user_id != run.user_id,
            col(RunAttempt.integration_id).is_(None),
            col(TrainingRun.test_mode).is_(False),
        )
    )


def _array(texts: set[str]) -> Any:
    return sa.cast(sorted(texts), ARRAY(sa.Text))


def _texts(value: object, depth: int = 0) -> Iterator[str]:
    """All strings and numbers in a JSON value, names included."""
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, Mapping | list | tuple):
        if depth > DEEPEST:
            raise ProviderRefused("The hyperparameters are nested too deeply.")
        for part in [*value.items()] if isinstance(value, Mapping) else value:
            yield from _texts(part, depth + 1)
    else:
        yield f"{value:.0f}" if isinstance(value, float) and value.is_integer() else str(value)


def _names(text: str) -> Iterator[str]:
    """Every `owner/name` in it, those in addresses too."""
    for path in _PATH.findall(text):
        parts = path.split("/")
        yield from (f"{owner}/{name}" for owner, name in pairwise(parts))


def _words(what: str) -> str:
    return (
        f"The hyperparameters name {what} of another user of this installation's account. Choose another, or connect an"
        " account of your own with connectIntegration."
    )
