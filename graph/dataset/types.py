"""A dataset, what its columns hold, and who fetched it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

import strawberry

import graph.dataset.enums  # noqa: F401  # gives the enums their place in the schema
from domain.dataset.columns import ColumnKind
from domain.dataset.model import Dataset as DatasetRow
from domain.dataset.model import DatasetFormat, DatasetStatus
from domain.dataset.model import DownloadGrant as DownloadGrantRow
from domain.dataset.model import DownloadReceipt as DownloadReceiptRow
from domain.dataset.queries import GRANTS_SHOWN, RECEIPTS_SHOWN
from domain.paging import checked_first
from domain.viewer import Scope
from graph.context import Info
from graph.dataset.loaders import grants_loader, receipts_loader
from graph.ids import global_id
from graph.node import Node
from graph.scalars import URL, BigInt


@strawberry.type(description="What was found in one column of a dataset.")
class DatasetColumn:
    name: str = strawberry.field(description="Its name in the file: data, as it was written there.")
    kind: ColumnKind = strawberry.field(description="What its values are.")
    missing: BigInt = strawberry.field(description="How many rows say nothing here.")
    distinct: BigInt = strawberry.field(description="How many different values it holds.")
    is_distinct_exact: bool = strawberry.field(description="False where counting stopped: there are more then.")
    minimum: float | None = strawberry.field(description="The least number, for columns of numbers.")
    maximum: float | None = strawberry.field(description="The largest number, for columns of numbers.")
    mean: float | None = strawberry.field(description="The mean, for columns of numbers.")
    examples: list[str] = strawberry.field(description="Its first different values: at most three, cut to 80 signs.")

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Self:
        return cls(
            name=report["name"],
            kind=ColumnKind(str(report["kind"]).upper()),
            missing=BigInt(report["missing"]),
            distinct=BigInt(report["distinct"]),
            is_distinct_exact=report.get("is_distinct_exact", True),
            minimum=report.get("minimum"),
            maximum=report.get("maximum"),
            mean=report.get("mean"),
            examples=list(report["examples"]),
        )


@strawberry.type(description="One answered download: what was sent, and when.")
class DownloadReceipt:
    started_at: datetime = strawberry.field(description="When the first byte was due.")
    ended_at: datetime | None = strawberry.field(description="When it ended; null while it goes on.")
    range_start: BigInt = strawberry.field(description="The first byte that was asked for; 0 unless it was resumed.")
    bytes_sent: BigInt = strawberry.field(description="How many bytes were handed to the connection.")
    is_complete: bool = strawberry.field(description="Whether all that was asked for was sent.")
    sha256: str | None = strawberry.field(description="The whole dataset's SHA-256, which the receiver should find.")

    @classmethod
    def of(cls, row: DownloadReceiptRow) -> Self:
        return cls(
            started_at=row.created_at,
            ended_at=row.ended_at,
            range_start=BigInt(row.range_start),
            bytes_sent=BigInt(row.bytes_sent),
            is_complete=row.is_complete,
            sha256=row.sha256,
        )


@strawberry.type(description="The right of one attempt of a run to fetch a dataset for a while.")
class DownloadGrant:
    row: strawberry.Private[DownloadGrantRow]
    id: strawberry.ID = strawberry.field(description="Opaque and stable; not the token, which nobody can read again.")
    run_id: strawberry.ID = strawberry.field(description="The run that may fetch.")
    attempt: int = strawberry.field(description="The attempt of the run that may fetch.")
    created_at: datetime = strawberry.field(description="When it was given.")
    expires_at: datetime = strawberry.field(description="When it ends, unless its run renews it.")
    used_at: datetime | None = strawberry.field(description="When it was used first.")
    download_count: int = strawberry.field(description="How many requests were answered with bytes.")
    bytes_sent: BigInt = strawberry.field(description="How many bytes its ended downloads were sent.")
    revoked_at: datetime | None = strawberry.field(description="When its run ended, or a newer attempt began.")

    @classmethod
    def of(cls, row: DownloadGrantRow) -> Self:
        return cls(
            row=row,
            id=strawberry.ID(global_id("DownloadGrant", row.id)),
            run_id=strawberry.ID(global_id("TrainingRun", row.run_id)),
            attempt=row.attempt,
            created_at=row.created_at,
            expires_at=row.expires_at,
            used_at=row.used_at,
            download_count=row.download_count,
            bytes_sent=BigInt(row.bytes_sent),
            revoked_at=row.revoked_at,
        )

    @strawberry.field(description="Its downloads, the newest first.")
    async def receipts(
        self, info: Info, first: Annotated[int, strawberry.argument(description="How many, from 1 to 100.")] = 20
    ) -> list[DownloadReceipt]:
        first = checked_first(first, RECEIPTS_SHOWN)
        rows = await receipts_loader(info).load(self.row.id)
        return [DownloadReceipt.of(row) for row in rows[:first]]


@strawberry.type(description="Data to train on: one file, uploaded once.")
class Dataset(Node):
    row: strawberry.Private[DatasetRow]
    name: str = strawberry.field(description="What you called it.")
    format: DatasetFormat = strawberry.field(description="How its file is written.")
    status: DatasetStatus = strawberry.field(description="Whether runs can use it.")
    bytes: BigInt = strawberry.field(description="The size of its file; 0 while EMPTY.")
    sha256: str | None = strawberry.field(description="The SHA-256 of its file in hex; null while EMPTY.")
    row_count: BigInt | None = strawberry.field(description="How many rows its file holds; null while EMPTY.")
    columns: list[DatasetColumn] = strawberry.field(description="Its columns in the file's order; none while EMPTY.")
    created_at: datetime = strawberry.field(description="When it was made.")
    uploaded_at: datetime | None = strawberry.field(description="When its content came; null while EMPTY.")
    deleted_at: datetime | None = strawberry.field(description="When it was deleted; old runs still name it then.")

    @classmethod
    def of(cls, row: DatasetRow) -> Self:
        return cls(
            row=row,
            id=strawberry.ID(global_id("Dataset", row.id)),
            name=row.name,
            format=row.format,
            status=row.status,
            bytes=BigInt(row.bytes),
            sha256=row.sha256,
            row_count=BigInt(row.row_count) if row.row_count is not None else None,
            columns=[DatasetColumn.of(report) for report in row.columns],
            created_at=row.created_at,
            uploaded_at=row.uploaded_at,
            deleted_at=row.deleted_at,
        )

    @strawberry.field(description="Where to PUT its content, as the request's whole body, with your credential.")
    def upload_url(self, info: Info) -> URL:
        return URL(f"{info.context.settings.own_url}/datasets/{self.row.id}/content")

    @strawberry.field(description="The rights of runs to fetch it, the newest first.")
    async def grants(
        self, info: Info, first: Annotated[int, strawberry.argument(description="How many, from 1 to 100.")] = 20
    ) -> list[DownloadGrant]:
        info.context.viewer.require(Scope.DATASETS_READ)
        first = checked_first(first, GRANTS_SHOWN)
        rows = await grants_loader(info).load(self.row.id)
        return [DownloadGrant.of(row) for row in rows[:first]]
