"""Those who look after the whole installation: what concerns everybody is shown to them, and to nobody else."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel.ext.asyncio.session import AsyncSession

from domain.account.errors import OperatorOnly
from domain.viewer import Scope, Viewer

CALLBACK_SCOPES = (Scope.ACCOUNT_READ, Scope.RUNS_READ)
"""What a credential must have to see what providers and scripts have called to say."""


async def require_operator(session: AsyncSession, viewer: Viewer, *scopes: Scope) -> UUID:
    """The viewer's user id, if they are an operator and their credential may do all this.

    `ACCOUNT_READ` is always among it, which no token in an address has. Raises `NotSignedIn` or `Forbidden`, and
    `OperatorOnly` for everybody else."""
    user_id = viewer.require_unbound(Scope.ACCOUNT_READ, *scopes)
    if not await is_operator(session):
        raise OperatorOnly
    return user_id


async def is_operator(session: AsyncSession) -> bool:
    """Whether the viewer of this work is one."""
    ask: Any = sa.text("SELECT runwire_is_operator()")
    return bool((await session.exec(ask)).scalar_one())
