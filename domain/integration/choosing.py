"""Which of a user's own credentials a run is done with."""

from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from domain.integration.model import Integration, IntegrationStatus
from domain.training.status import Provider


async def usable(session: AsyncSession, user_id: UUID, integration_id: UUID) -> Integration | None:
    """The user's credential, if the provider takes it as far as we know."""
    statement = select(Integration).where(
        Integration.id == integration_id,
        Integration.user_id == user_id,
        Integration.status == IntegrationStatus.CONNECTED,
    )
    return (await session.exec(statement)).one_or_none()


async def newest_usable(session: AsyncSession, user_id: UUID, provider: Provider) -> Integration | None:
    """The user's newest credential for that provider."""
    statement = (
        select(Integration)
        .where(
            Integration.user_id == user_id,
            Integration.provider == provider,
            Integration.status == IntegrationStatus.CONNECTED,
        )
        .order_by(col(Integration.id).desc())
        .limit(1)
    )
    return (await session.exec(statement)).one_or_none()
