"""The life of a run.

    QUEUED → PREPARING → TRAINING → DEPLOYING → READY
       └────────┴───────────┴──────────┴──→ FAILED | CANCELED      CANCELING between the wish and the provider's yes

QUEUED      accepted; nobody works on it yet. Next: PREPARING, or QUEUED for long: QUEUE_TIMED_OUT.
PREPARING   the provider makes a place and fetches the data. Next: TRAINING.
TRAINING    the trainer's own program runs. Next: DEPLOYING, or READY where nothing is to be served.
DEPLOYING   the model is stored and its address is proved. Next: READY.
CANCELING   somebody wants it stopped; the provider was not heard yet. Every end is then CANCELED.
READY, FAILED, CANCELED   final: a finished run never moves again.
"""

from enum import StrEnum


class RunStatus(StrEnum):
    QUEUED = "QUEUED"
    PREPARING = "PREPARING"
    TRAINING = "TRAINING"
    DEPLOYING = "DEPLOYING"
    CANCELING = "CANCELING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELED = "CANCELED"

    @property
    def is_final(self) -> bool:
        return self in FINAL

    @property
    def rank(self) -> int:
        """How far along within an attempt; never falls there."""
        return _RANK[self]


FINAL = frozenset({RunStatus.READY, RunStatus.FAILED, RunStatus.CANCELED})
ACTIVE = frozenset(RunStatus) - FINAL
_RANK = {
    RunStatus.QUEUED: 0,
    RunStatus.PREPARING: 1,
    RunStatus.TRAINING: 2,
    RunStatus.DEPLOYING: 3,
    RunStatus.CANCELING: 4,
    RunStatus.READY: 5,
    RunStatus.FAILED: 5,
    RunStatus.CANCELED: 5,
}


class RunStage(StrEnum):
    """The finer step within a status, in the order they happen."""

    WAITING = "WAITING"
    GENERATING_CODE = "GENERATING_CODE"
    CREATING_SANDBOX = "CREATING_SANDBOX"
    WRITING_FILES = "WRITING_FILES"
    INSTALLING = "INSTALLING"
    DOWNLOADING_DATA = "DOWNLOADING_DATA"
    TRAINING = "TRAINING"
    SAVING = "SAVING"
    DEPLOYING = "DEPLOYING"
    STOPPING = "STOPPING"
    DONE = "DONE"

    @property
    def rank(self) -> int:
        return _STAGE_RANK[self]

    @property
    def status(self) -> RunStatus:
        """The status that a trainer in this stage is in."""
        if self in (RunStage.WAITING,):
            return RunStatus.QUEUED
        if self in (RunStage.TRAINING, RunStage.SAVING):
            return RunStatus.TRAINING
        if self is RunStage.DEPLOYING:
            return RunStatus.DEPLOYING
        return RunStatus.PREPARING


_STAGE_RANK = {stage: rank for rank, stage in enumerate(RunStage)}


class EndReason(StrEnum):
    """Why a run or an attempt ended."""

    SUCCEEDED = "SUCCEEDED"
    CANCELED_BY_USER = "CANCELED_BY_USER"
    CANCELED_BY_OPERATOR = "CANCELED_BY_OPERATOR"
    NO_CAPACITY = "NO_CAPACITY"
    OUT_OF_BUDGET = "OUT_OF_BUDGET"
    PROVIDER_REFUSED = "PROVIDER_REFUSED"
    PROVIDER_ERROR = "PROVIDER_ERROR"
    DATA_ERROR = "DATA_ERROR"
    CODE_ERROR = "CODE_ERROR"
    DIVERGED = "DIVERGED"
    TIMED_OUT = "TIMED_OUT"
    QUEUE_TIMED_OUT = "QUEUE_TIMED_OUT"
    MEMORY_LIMIT = "MEMORY_LIMIT"
    DISK_LIMIT = "DISK_LIMIT"
    IDLE = "IDLE"
    DEPLOYMENT_FAILED = "DEPLOYMENT_FAILED"
    LOST = "LOST"


class Provider(StrEnum):
    """Who does the work."""

    LOCAL = "LOCAL"
    REPLICATE = "REPLICATE"
    RUNPOD = "RUNPOD"
    ASTRIA = "ASTRIA"
    E2B = "E2B"


class LogLevel(StrEnum):
    """How loud a log line is; taken from the line itself, else INFO for stdout and WARNING for stderr."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class ReportSource(StrEnum):
    """Which signal a report came by."""

    POLL = "POLL"
    WEBHOOK = "WEBHOOK"
    POD = "POD"
    WORKER = "WORKER"
    USER = "USER"


class WarningCode(StrEnum):
    """What a run's rules watch for."""

    NAN_LOSS = "NAN_LOSS"
    SILENCE = "SILENCE"
    DISK_NEARLY_FULL = "DISK_NEARLY_FULL"
    IDLE_GPU = "IDLE_GPU"
