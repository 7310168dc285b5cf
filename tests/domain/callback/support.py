"""Tokens, operators and kept callbacks to begin a test with."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select

from db.unit_of_work import Database
from domain.callback import service
from domain.callback.model import Callback, CallbackSource
from domain.callback.service import Call
from domain.training.model import PodTokenKind, TrainingRun
from domain.training.tokens import issue_pod_token
from domain.viewer import Viewer


async def make_operator(engine: AsyncEngine, viewer: Viewer) -> None:
    """As `python -m db operator` does, in the role of the database's owner."""
    async with engine.begin() as connection:
        statement = sa.text("INSERT INTO operators (user_id, created_at) VALUES (:user_id, now())")
        await connection.execute(statement, {"user_id": viewer.user_id})


async def make_token(
    worker: Database, run: TrainingRun, *, attempt: int = 1, kind: PodTokenKind = PodTokenKind.POD
) -> str:
    async with worker.begin() as work:
        token = await issue_pod_token(work, run, attempt, kind)
    return token.reveal()


async def keep(database: Database, body: bytes = b"{}", **facts: Any) -> UUID | None:
    """Keep a call as a door does; gives the callback's id if it was new."""
    given: dict[str, Any] = {"source": CallbackSource.REPLICATE, "body": body}
    async with database.begin() as work:
        stored = await service.store_callback(work, Call(**given | facts))
    return stored.id if stored is not None else None


async def callbacks(worker: Database) -> list[Callback]:
    """All of them, in the order in which they came."""
    async with worker.begin() as work:
        return list((await work.session.exec(select(Callback).order_by(col(Callback.id)))).all())
