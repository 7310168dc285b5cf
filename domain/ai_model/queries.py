"""What is asked about models. Every question of a viewer begins with what they may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.account.model import User
from domain.ai_model.model import AIModel
from domain.errors import NotFound
from domain.paging import PageOf, page_of
from domain.training.model import RunAttempt, TrainingRun
from domain.training.status import ACTIVE, Provider, RunStatus
from domain.viewer import Scope, Viewer


async def lock_owner(session: AsyncSession, user_id: UUID) -> None:
    """Take turns with everything else that changes this user's models, apps and deployments.

    The user's row is also the counter of their feed, which whoever changes a model needs anyway; taking it before the
    model instead of after it is what keeps two transactions from waiting for each other."""
    await session.exec(select(User.id).where(User.id == user_id).with_for_update(key_share=True))


async def model_of(session: AsyncSession, viewer: Viewer, model_id: UUID) -> AIModel:
    """The viewer's model. Raises `NotFound`, for foreign ones too."""
    user_id = viewer.require(Scope.MODELS_READ)
    model = (
        await session.exec(select(AIModel).where(AIModel.id == model_id, AIModel.user_id == user_id))
    ).one_or_none()
    if model is None:
        raise NotFound("AIModel")
    return model


async def models_page(session: AsyncSession, user_id: UUID, *, first: int, after: str | None) -> PageOf[AIModel]:
    """A page of the user's models, newest first."""

    def narrow(statement: SelectOfScalar[AIModel]) -> SelectOfScalar[AIModel]:
        return statement.where(AIModel.user_id == user_id)

    return await page_of(session, AIModel, narrow, first=first, after=after)


async def models_by_id(session: AsyncSession, ids: Sequence[UUID]) -> dict[UUID, AIModel]:
    """Those of these models that the transaction's viewer may see."""
    rows = (await session.exec(select(AIModel).where(col(AIModel.id).in_(ids)))).all()
    return {row.id: row for row in rows}


async def locked_model(session: AsyncSession, model_id: UUID) -> AIModel | None:
    """The model, whoever owns it, with its row locked until the transaction ends; `lock_owner` goes before."""
    return (await session.exec(_locked(select(AIModel).where(AIModel.id == model_id)))).one_or_none()


async def locked_model_named(session: AsyncSession, user_id: UUID, name: str) -> AIModel | None:
    statement = select(AIModel).where(AIModel.user_id == user_id, AIModel.name == name)
    return (await session.exec(_locked(statement))).one_or_none()


async def newest_run(session: AsyncSession, model_id: UUID, *, active: bool = False) -> TrainingRun | None:
    """The run of the model that was started last; with `active`, the last one that has not ended."""
    statement = select(TrainingRun).where(TrainingRun.model_id == model_id)
    if active:
        statement = statement.where(col(TrainingRun.status).in_(sorted(ACTIVE)))
    return (await session.exec(statement.order_by(col(TrainingRun.id).desc()).limit(1))).one_or_none()


async def is_being_deployed(session: AsyncSession, model_id: UUID) -> bool:
    """Whether a run of the model is in DEPLOYING."""
    statement = select(TrainingRun.id).where(
        TrainingRun.model_id == model_id, TrainingRun.status == RunStatus.DEPLOYING
    )
    return (await session.exec(statement.limit(1))).first() is not None


@dataclass(frozen=True, slots=True)
class RemoteAttempt:
    """The latest try at training a model at a remote provider."""

    run: TrainingRun
    attempt: RunAttempt


async def latest_remote_attempt(session: AsyncSession, model_id: UUID) -> RemoteAttempt | None:
    """Where and with whose account the model was last trained elsewhere."""
    statement = (
        select(TrainingRun, RunAttempt)
        .join(RunAttempt, col(RunAttempt.run_id) == TrainingRun.id)
        .where(TrainingRun.model_id == model_id, RunAttempt.provider != Provider.LOCAL)
        .order_by(col(RunAttempt.id).desc())
        .limit(1)
    )
    found = (await session.exec(statement)).first()
    return RemoteAttempt(*found) if found is not None else None


async def is_reference_of(
    session: AsyncSession, user_id: UUID, provider: Provider, references: Sequence[str], *, test_mode: bool
) -> bool:
    """Whether one of these is what a provider calls a training of the user's with the operator's account; or, in test
    mode, with their simulated one, whose numbers mean nothing elsewhere."""
    statement = (
        select(RunAttempt.id)
        .join(TrainingRun, col(TrainingRun.id) == col(RunAttempt.run_id))
        .where(
            RunAttempt.user_id == user_id,
            RunAttempt.provider == provider,
            col(RunAttempt.reference).in_(references),
            col(RunAttempt.integration_id).is_(None),
            TrainingRun.test_mode == test_mode,
        )
    )
    return (await session.exec(statement.limit(1))).first() is not None


async def providers_of(session: AsyncSession, model_id: UUID) -> set[Provider]:
    """Where the model's runs were."""
    statement = select(TrainingRun.provider).where(TrainingRun.model_id == model_id).distinct()
    return {Provider(name) for name in await session.exec(statement)}


def _locked(statement: SelectOfScalar[AIModel]) -> SelectOfScalar[AIModel]:
    return statement.with_for_update(key_share=True).execution_options(populate_existing=True)
