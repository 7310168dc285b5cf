"""The table of users' own provider credentials."""

from datetime import datetime
from enum import StrEnum

import sqlalchemy as sa
from sqlmodel import Field

from domain.base import BYTES, TEXT, Owned, Row, enum_type
from domain.training.status import Provider


class IntegrationStatus(StrEnum):
    """CONNECTED while the provider takes the key; REFUSED once it did not; DISCONNECTED by its owner."""

    CONNECTED = "CONNECTED"
    REFUSED = "REFUSED"
    DISCONNECTED = "DISCONNECTED"


class Integration(Row, Owned, table=True):
    """One credential. Its key is encrypted, and gone once it is disconnected."""

    __tablename__ = "user_integrations"
    __table_args__ = (sa.UniqueConstraint("user_id", "provider", "name"),)

    provider: Provider = Field(sa_type=enum_type(Provider))
    name: str = Field(sa_type=TEXT)
    """The user's own word for it."""
    secret: bytes | None = Field(default=None, sa_type=BYTES)
    """Encrypted, bound to this row (`db.vault`)."""
    account_name: str | None = Field(default=None, sa_type=TEXT)
    """Whose account it opens, as the provider says."""
    status: IntegrationStatus = Field(default=IntegrationStatus.CONNECTED, sa_type=enum_type(IntegrationStatus))
    error_message: str | None = Field(default=None, sa_type=TEXT)
    tested_at: datetime
    """When the provider last took or refused the key."""
    updated_at: datetime

    @property
    def binding(self) -> bytes:
        """What its key is encrypted for: this row of this user, so that it opens nowhere else."""
        return self.id.bytes + self.user_id.bytes
