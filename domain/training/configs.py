"""Saved training configs: settings to start runs from, each under a name of the user's own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.base import new_id
from domain.errors import LimitReached
from domain.paging import PageOf, page_of
from domain.training import queries
from domain.training.errors import BadRunInput, NotSupportedHere
from domain.training.model import TrainingConfig
from domain.training.recipes import checked_hyperparameters
from domain.training.status import Provider
from domain.training.wish import LONGEST_NAME, SHORTEST_TIME_LIMIT_SECONDS
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

MOST_CONFIGS = 500
"""Per user."""
MOST_GPU_TYPES = 20
LONGEST_WORD = 200


class TooManyConfigs(LimitReached):
    """More saved configs than anybody looks through."""

    code = "TOO_MANY_CONFIGS"
    en = "You have {limit} saved configs; delete one that you no longer use."
    pt = "Você tem {limit} configurações salvas; exclua alguma que não usa mais."

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit)


@dataclass(frozen=True, slots=True)
class ConfigWish:
    """What a config is to hold. None and empty mean: not said, so that the run says it."""

    name: str
    provider: Provider | None = None
    recipe: str | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    gpu_types: Sequence[str] = ()
    image: str | None = None
    time_limit_seconds: int | None = None


async def save_config(
    work: UnitOfWork, viewer: Viewer, wish: ConfigWish, *, longest_time_limit_seconds: int
) -> TrainingConfig:
    """Make the user's config of this name, or put this in place of what it held. Runs that began from it keep theirs.

    Raises `Invalid` with the field that is wrong, `TooManyConfigs`."""
    user_id = viewer.require(Scope.RUNS_WRITE)
    name = _checked(wish, longest_time_limit_seconds)
    await work.session.exec(
        sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(f"configs:{user_id}", 0)))  # type: ignore[call-overload]  # sqlmodel knows no select of a function
    )
    statement = select(TrainingConfig).where(TrainingConfig.user_id == user_id, TrainingConfig.name == name)
    config = (await work.session.exec(statement)).one_or_none()
    if config is None:
        await _check_room(work.session, user_id)
        config = TrainingConfig(id=new_id(), created_at=work.now, updated_at=work.now, user_id=user_id, name=name)
        work.session.add(config)
    config.provider = wish.provider
    config.recipe = wish.recipe
    config.hyperparameters = dict(wish.hyperparameters)
    config.gpu_types = list(wish.gpu_types)
    config.image = wish.image
    config.time_limit_seconds = wish.time_limit_seconds
    config.updated_at = work.now
    return config


async def delete_config(work: UnitOfWork, viewer: Viewer, *, config_id: UUID) -> TrainingConfig:
    """Remove a config; runs that began from it stay as they are. Gives what it was. Raises `NotFound`."""
    user_id = viewer.require(Scope.RUNS_WRITE)
    config = await queries.config_of(work.session, user_id, config_id)
    await work.session.delete(config)
    return config


async def configs_page(
    session: AsyncSession, user_id: UUID, *, first: int, after: str | None
) -> PageOf[TrainingConfig]:
    """A page of the user's configs, newest first."""

    def narrow(statement: SelectOfScalar[TrainingConfig]) -> SelectOfScalar[TrainingConfig]:
        return statement.where(TrainingConfig.user_id == user_id)

    return await page_of(session, TrainingConfig, narrow, first=first, after=after)


def _checked(wish: ConfigWish, longest_time_limit_seconds: int) -> str:
    """The name, trimmed; everything else is as it should be."""
    name = wish.name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise BadRunInput("name", "1 to 200 printable characters", "de 1 a 200 caracteres imprimíveis")
    if wish.recipe is not None:
        # Without a dataset, so columns are checked when a run begins.
        checked_hyperparameters(wish.recipe, wish.hyperparameters, None)
    elif wish.hyperparameters:
        raise BadRunInput("hyperparameters", "given with a recipe", "informado com uma receita")
    for what, given in (("gpuTypes", wish.gpu_types), ("image", wish.image)):
        if given and wish.provider is Provider.LOCAL:
            raise NotSupportedHere(Provider.LOCAL, what)
    if len(wish.gpu_types) > MOST_GPU_TYPES or not all(_is_word(word) for word in wish.gpu_types):
        raise BadRunInput("gpuTypes", "at most 20 names of GPUs", "no máximo 20 nomes de GPU")
    if wish.image is not None and not _is_word(wish.image):
        raise BadRunInput("image", "the name of an image", "o nome de uma imagem")
    limit = wish.time_limit_seconds
    if limit is not None and not SHORTEST_TIME_LIMIT_SECONDS <= limit <= longest_time_limit_seconds:
        raise BadRunInput(
            "timeLimitSeconds",
            f"between {SHORTEST_TIME_LIMIT_SECONDS} and {longest_time_limit_seconds}",
            f"entre {SHORTEST_TIME_LIMIT_SECONDS} e {longest_time_limit_seconds}",
        )
    return name


def _is_word(text: str) -> bool:
    return 1 <= len(text) <= LONGEST_WORD and text.isprintable()


async def _check_room(session: AsyncSession, user_id: UUID) -> None:
    statement = select(func.count(col(TrainingConfig.id))).where(TrainingConfig.user_id == user_id)
    if (await session.exec(statement)).one() >= MOST_CONFIGS:
        raise TooManyConfigs(MOST_CONFIGS)
