"""Tables of what answers: apps with their stable addresses, deployments, and everything outside that costs money."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlmodel import Field

from domain.base import BIG, DOUBLE, TEXT, Owned, Row, enum_type
from domain.training.status import Provider


class AppAccess(StrEnum):
    """Who may open an app: whoever has the link, or its owner only."""

    LINK = "LINK"
    PRIVATE = "PRIVATE"


class DeploymentStatus(StrEnum):
    """STARTING → LIVE → STOPPED; WAKING when a live one's process has gone; FAILED when it cannot be started."""

    STARTING = "STARTING"
    LIVE = "LIVE"
    WAKING = "WAKING"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class App(Row, Owned, table=True):
    """A stable address for a model."""

    __tablename__ = "generated_apps"

    model_id: UUID = Field(foreign_key="ai_models.id", ondelete="CASCADE", unique=True)
    slug: str = Field(sa_type=TEXT, unique=True)
    """80 random bits in base32: cannot be guessed."""
    access: AppAccess = Field(default=AppAccess.LINK, sa_type=enum_type(AppAccess))
    current_deployment_id: UUID | None = None


class Deployment(Row, Owned, table=True):
    """What answers at an app's address, or did."""

    __tablename__ = "deployments"

    app_id: UUID = Field(foreign_key="generated_apps.id", ondelete="CASCADE", index=True)
    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE", index=True)
    status: DeploymentStatus = Field(default=DeploymentStatus.STARTING, sa_type=enum_type(DeploymentStatus))
    provider: Provider = Field(sa_type=enum_type(Provider))
    reference: str | None = Field(default=None, sa_type=TEXT)
    host: str | None = Field(default=None, sa_type=TEXT)
    port: int | None = None
    error_message: str | None = Field(default=None, sa_type=TEXT)
    live_at: datetime | None = None
    stopped_at: datetime | None = None
    next_check_at: datetime | None = None
    lease_owner: UUID | None = None
    lease_until: datetime | None = None


class ResourceStatus(StrEnum):
    """INTENDED before it is created, ALIVE once the provider gave a reference, ENDING until it confirmed, ENDED."""

    INTENDED = "INTENDED"
    ALIVE = "ALIVE"
    ENDING = "ENDING"
    ENDED = "ENDED"


class ResourceKind(StrEnum):
    TRAINING = "TRAINING"
    APP = "APP"


class Resource(Row, Owned, table=True):
    """Anything at a provider that may cost money: written down before it is created."""

    __tablename__ = "provider_resources"

    run_id: UUID | None = Field(default=None, index=True)
    deployment_id: UUID | None = Field(default=None, index=True)
    provider: Provider = Field(sa_type=enum_type(Provider))
    kind: ResourceKind = Field(sa_type=enum_type(ResourceKind))
    tag: str = Field(sa_type=TEXT, unique=True)
    """Its unique name at the provider: how it is found again when the answer to its creation was lost."""
    reference: str | None = Field(default=None, sa_type=TEXT)
    status: ResourceStatus = Field(default=ResourceStatus.INTENDED, sa_type=enum_type(ResourceStatus))
    attempt: int | None = None
    gpu_type: str | None = Field(default=None, sa_type=TEXT)
    integration_id: UUID | None = None
    """The user's own credential that pays for it; None for the operator's."""
    is_test: bool = False
    """Whether a simulator has it, so that it costs nothing."""
    price_micros_per_hour: int = Field(default=0, sa_type=BIG)
    cost_micros: int = Field(default=0, sa_type=BIG)
    """So far; settled once it has ended."""
    cost_at: datetime | None = None
    """When the cost was last read."""
    keep_until: datetime | None = None
    """Kept on purpose until then, by its owner's wish."""
    began_at: datetime | None = None
    """When the provider made it, as far as we know."""
    last_error: str | None = Field(default=None, sa_type=TEXT)
    age_seconds: float | None = Field(default=None, sa_type=DOUBLE)
    """How long it lived, once it ended."""
    ended_at: datetime | None = None
    next_check_at: datetime | None = None
