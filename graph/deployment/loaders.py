"""Loaders of apps and deployments: one question for many rows, per operation."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession
from strawberry.dataloader import DataLoader

from domain.deployment import queries
from domain.deployment.model import App, Deployment
from graph.context import Info

RowType = TypeVar("RowType")
Question = Callable[[AsyncSession, Sequence[UUID]], Awaitable[dict[UUID, RowType]]]


def app_loader(info: Info) -> DataLoader[UUID, App | None]:
    return _kept(info, "apps", queries.apps_by_id)


def app_of_model_loader(info: Info) -> DataLoader[UUID, App | None]:
    """The app of a model, by the model's id."""
    return _kept(info, "apps of models", queries.apps_by_model)


def deployment_loader(info: Info) -> DataLoader[UUID, Deployment | None]:
    return _kept(info, "deployments", queries.deployments_by_id)


def _kept(info: Info, name: str, question: "Question[RowType]") -> DataLoader[UUID, RowType | None]:
    async def load(ids: list[UUID]) -> list[RowType | None]:
        async with info.context.begin() as work:
            found = await question(work.session, ids)
        return [found.get(id) for id in ids]

    loader: DataLoader[UUID, RowType | None] = info.context.loaders.setdefault(name, DataLoader(load_fn=load))
    return loader
