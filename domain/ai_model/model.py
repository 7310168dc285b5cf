"""The table of what is trained. A model follows its runs in their transactions."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import Field

from domain.base import DOUBLE, TEXT, Owned, Row, enum_type
from domain.training.status import Provider


class AIModelStatus(StrEnum):
    """NEW → TRAINING → READY or ERROR; a canceled run gives back what was before."""

    NEW = "NEW"
    TRAINING = "TRAINING"
    READY = "READY"
    ERROR = "ERROR"


class AIModel(Row, Owned, table=True):
    """A named thing that runs train."""

    __tablename__ = "ai_models"
    __table_args__ = (sa.UniqueConstraint("user_id", "name"),)

    name: str = Field(sa_type=TEXT)
    status: AIModelStatus = Field(default=AIModelStatus.NEW, sa_type=enum_type(AIModelStatus))
    progress: float = Field(default=0.0, sa_type=DOUBLE)
    current_run_id: UUID | None = None
    trained_run_id: UUID | None = None
    """The run whose artifact is the model now."""
    model_url: str | None = Field(default=None, sa_type=TEXT)
    """Where the weights are, as far as the provider has an address for them."""
    provider: Provider | None = Field(default=None, sa_type=enum_type(Provider))
    """Where the model lives, if it stays at a provider."""
    provider_version: str | None = Field(default=None, sa_type=TEXT)
    """What names it there."""
    error_message: str | None = Field(default=None, sa_type=TEXT)
    trained_at: datetime | None = None
    updated_at: datetime
