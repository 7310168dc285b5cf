"""Every table of the product, in one import, so that metadata is whole wherever it is needed."""

from sqlmodel import SQLModel

from domain.account.model import ApiKey, AuditEntry, RefreshToken, User, UserSession
from domain.ai_model.model import AIModel
from domain.dataset.model import Dataset, DownloadGrant, DownloadReceipt
from domain.deployment.model import App, Deployment, Resource
from domain.journal.model import FeedEvent, JournalEpoch, RunEvent
from domain.training.model import (
    Artifact,
    LogLine,
    MetricPoint,
    RunAttempt,
    TrainingConfig,
    TrainingRun,
    WorkerProcess,
)

metadata = SQLModel.metadata

OWNED = (
    User, UserSession, RefreshToken, ApiKey, AuditEntry, AIModel, Dataset, DownloadGrant, DownloadReceipt, App,
    Deployment, Resource, RunEvent, FeedEvent, TrainingConfig, TrainingRun, RunAttempt, LogLine, MetricPoint, Artifact,
)  # fmt: skip
"""Tables whose rows belong to a user; the first is the user itself."""

SHARED = (JournalEpoch, WorkerProcess)
"""Tables that belong to nobody and hold nothing about anybody."""
