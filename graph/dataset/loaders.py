"""Loaders: one question for many rows, per operation."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from sqlmodel.ext.asyncio.session import AsyncSession
from strawberry.dataloader import DataLoader

from domain.dataset import queries
from domain.dataset.model import DownloadGrant, DownloadReceipt
from graph.context import Info

Item = TypeVar("Item")


def grants_loader(info: Info) -> DataLoader[UUID, list[DownloadGrant]]:
    """The newest grants of a dataset."""
    return _kept(info, "dataset grants", queries.grants_of)


def receipts_loader(info: Info) -> DataLoader[UUID, list[DownloadReceipt]]:
    """The newest receipts of a grant."""
    return _kept(info, "dataset receipts", queries.receipts_of)


def _kept(
    info: Info, name: str, ask: Callable[[AsyncSession, list[UUID]], Awaitable[dict[UUID, list[Item]]]]
) -> DataLoader[UUID, list[Item]]:
    async def load(ids: list[UUID]) -> list[list[Item]]:
        async with info.context.begin() as work:
            found = await ask(work.session, ids)
        return [found[id] for id in ids]

    loaders: dict[str, Any] = info.context.loaders
    if name not in loaders:
        loaders[name] = DataLoader(load_fn=load)
    loader: DataLoader[UUID, list[Item]] = loaders[name]
    return loader
