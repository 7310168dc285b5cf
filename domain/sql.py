"""Plain SQL within a unit of work, for the few things that no `select()` can say."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlmodel.ext.asyncio.session import AsyncSession


async def plain(session: AsyncSession, statement: str, **params: Any) -> Sequence[sa.Row[Any]]:
    """Run the statement and give its rows; none for a statement that returns nothing."""
    result = await (await session.connection()).execute(sa.text(statement), params)
    return result.all() if result.returns_rows else ()
