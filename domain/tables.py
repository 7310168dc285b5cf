"""Every table of the product, in one import, so that metadata is whole wherever it is needed."""

from sqlmodel import SQLModel

from domain.account.model import ApiKey, AuditEntry, Operator, RefreshToken, User, UserSession
from domain.ai_model.model import AIModel
from domain.callback.model import Callback
from domain.dataset.model import Dataset, DownloadGrant, DownloadReceipt
from domain.deployment.model import App, Deployment, Resource
from domain.integration.model import Integration
from domain.journal.model import FeedEvent, JournalEpoch, RunEvent
from domain.training.model import (
    Artifact,
    EtaPrediction,
    LogLine,
    MetricPoint,
    PodToken,
    RunAttempt,
    TrainingConfig,
    TrainingRun,
    WorkerProcess,
)

metadata = SQLModel.metadata

OWNED = (
    User, UserSession, RefreshToken, ApiKey, AuditEntry, AIModel, Dataset, DownloadGrant, DownloadReceipt, App,
    Deployment, Resource, RunEvent, FeedEvent, TrainingConfig, TrainingRun, RunAttempt, LogLine, MetricPoint, Artifact,
    Operator, Integration, PodToken, EtaPrediction,
)  # fmt: skip
"""Tables whose rows belong to a user; the first is the user itself."""

SHARED = (JournalEpoch, WorkerProcess)
"""Tables that belong to nobody and hold nothing about anybody."""

OPERATED = (Callback,)
"""Tables that only the operator sees: what came from outside, before it is known whose it is."""
