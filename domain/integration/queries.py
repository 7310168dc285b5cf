"""What is asked about users' accounts at providers. Which of them a run is done with is asked in `choosing.py`."""

from collections.abc import Sequence
from uuid import UUID

from sqlmodel import col, func, select
from sqlmodel.ext.asyncio.session import AsyncSession

from domain.deployment.model import Resource, ResourceStatus
from domain.errors import NotFound
from domain.integration.model import Integration, IntegrationStatus
from domain.paging import PageOf, page_of
from domain.training.status import Provider


async def integration_of(
    session: AsyncSession, user_id: UUID, integration_id: UUID, *, lock: bool = False
) -> Integration:
    """One of the user's accounts, disconnected ones too. Raises `NotFound`."""
    statement = select(Integration).where(Integration.id == integration_id, Integration.user_id == user_id)
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = (await session.exec(statement)).one_or_none()
    if found is None:
        raise NotFound("Integration")
    return found


async def integration_named(
    session: AsyncSession, user_id: UUID, provider: Provider, name: str, *, lock: bool = False
) -> Integration | None:
    """The user's account at the provider that bears this name."""
    statement = select(Integration).where(
        Integration.user_id == user_id, Integration.provider == provider, Integration.name == name
    )
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    return (await session.exec(statement)).one_or_none()


async def integrations_page(
    session: AsyncSession, user_id: UUID, *, first: int, after: str | None
) -> PageOf[Integration]:
    """All accounts of the user, also disconnected ones, newest first."""
    return await page_of(
        session,
        Integration,
        lambda statement: statement.where(Integration.user_id == user_id),
        first=first,
        after=after,
    )


async def count_integrations(session: AsyncSession, user_id: UUID) -> tuple[int, int]:
    """How many accounts the user has connected, and how many rows they have with the disconnected ones."""
    connected = func.count().filter(col(Integration.status) != IntegrationStatus.DISCONNECTED)
    statement = select(connected, func.count()).where(Integration.user_id == user_id)
    return (await session.exec(statement)).one()


async def alive_with(session: AsyncSession, integration_id: UUID) -> Sequence[Resource]:
    """What was made at the provider with this account and is not known to have ended."""
    statement = select(Resource).where(
        Resource.integration_id == integration_id, col(Resource.status) != ResourceStatus.ENDED
    )
    return (await session.exec(statement)).all()
