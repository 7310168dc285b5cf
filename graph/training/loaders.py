"""Loaders: one question for many rows, per operation."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlmodel import SQLModel, col, select
from strawberry.dataloader import DataLoader

from domain.ai_model.model import AIModel
from domain.dataset.model import Dataset
from domain.training import queries
from domain.training.model import RunAttempt, TrainingRun
from graph.context import Info

Table = TypeVar("Table", bound=SQLModel)


def run_loader(info: Info) -> DataLoader[UUID, Any]:
    return _by_id(info, TrainingRun)


def ai_model_loader(info: Info) -> DataLoader[UUID, Any]:
    return _by_id(info, AIModel)


def dataset_loader(info: Info) -> DataLoader[UUID, Any]:
    return _by_id(info, Dataset)


def attempts_loader(info: Info) -> DataLoader[UUID, list[RunAttempt]]:
    async def load(run_ids: list[UUID]) -> list[list[RunAttempt]]:
        async with info.context.begin() as work:
            rows = await queries.attempts_of(work.session, run_ids)
        return [[row for row in rows if row.run_id == run_id] for run_id in run_ids]

    return _kept(info, "attempts", lambda: DataLoader(load_fn=load))


def _by_id(info: Info, table: Any) -> DataLoader[UUID, Any]:
    async def load(ids: list[UUID]) -> Sequence[Any]:
        async with info.context.begin() as work:
            rows = (await work.session.exec(select(table).where(col(table.id).in_(ids)))).all()
        by_id = {row.id: row for row in rows}
        return [by_id.get(id) for id in ids]

    return _kept(info, table.__tablename__, lambda: DataLoader(load_fn=load))


def _kept(info: Info, name: str, make: Callable[[], DataLoader[UUID, Any]]) -> DataLoader[UUID, Any]:
    loaders = info.context.loaders
    if name not in loaders:
        loaders[name] = make()
    loader: DataLoader[UUID, Any] = loaders[name]
    return loader
