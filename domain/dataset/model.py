"""Tables of a user's training data and of the right to fetch it."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlmodel import Field

from domain.base import BIG, BYTES, JSON_TYPE, TEXT, Owned, Row, enum_type


class DatasetFormat(StrEnum):
    CSV = "CSV"
    JSONL = "JSONL"
    ZIP = "ZIP"


class DatasetStatus(StrEnum):
    """EMPTY → READY once its bytes were received and read; an upload that cannot be read leaves it EMPTY."""

    EMPTY = "EMPTY"
    READY = "READY"


class Dataset(Row, Owned, table=True):
    """A file that runs train on. Its bytes never change once it is READY."""

    __tablename__ = "datasets"

    name: str = Field(sa_type=TEXT)
    """Data, never a path."""
    format: DatasetFormat = Field(sa_type=enum_type(DatasetFormat))
    status: DatasetStatus = Field(default=DatasetStatus.EMPTY, sa_type=enum_type(DatasetStatus))
    bytes: int = Field(default=0, sa_type=BIG)
    sha256: str | None = Field(default=None, sa_type=TEXT)
    """Hex, of the bytes as uploaded."""
    row_count: int | None = Field(default=None, sa_type=BIG)
    columns: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON_TYPE)
    """One report per column: name, kind, missing, distinct, examples."""
    uploaded_at: datetime | None = None
    deleted_at: datetime | None = None
    """Deleted datasets keep their row, since runs tell of them; their bytes are gone."""


class DownloadGrant(Row, Owned, table=True):
    """The right of one run to fetch one dataset for a while. Only the token's hash is kept."""

    __tablename__ = "dataset_download_tokens"

    dataset_id: UUID = Field(foreign_key="datasets.id", ondelete="CASCADE", index=True)
    run_id: UUID = Field(foreign_key="training_runs.id", ondelete="CASCADE", index=True)
    attempt: int
    hash: bytes = Field(sa_type=BYTES, unique=True)
    expires_at: datetime
    used_at: datetime | None = None
    """The first use."""
    download_count: int = 0
    """Requests answered with bytes."""
    bytes_sent: int = Field(default=0, sa_type=BIG)
    revoked_at: datetime | None = None


class DownloadReceipt(Row, Owned, table=True):
    """One answered download: what was sent, and when."""

    __tablename__ = "dataset_downloads"

    grant_id: UUID = Field(foreign_key="dataset_download_tokens.id", ondelete="CASCADE", index=True)
    dataset_id: UUID
    run_id: UUID
    range_start: int = Field(default=0, sa_type=BIG)
    bytes_sent: int = Field(default=0, sa_type=BIG)
    is_complete: bool = False
    """Whether everything that was asked for was sent."""
    sha256: str | None = Field(default=None, sa_type=TEXT)
    """The dataset's checksum, which the receiver should find."""
    ended_at: datetime | None = None
