"""The enums of datasets, with what each value means to those who read the schema."""

import strawberry

from domain.dataset.columns import ColumnKind
from domain.dataset.model import DatasetFormat, DatasetStatus

strawberry.enum(
    DatasetFormat,
    name="DatasetFormat",
    description=(
        "How a dataset's file is written: CSV with a header row; JSONL with one object per line; or a ZIP that holds"
        " exactly one of them. UTF-8 all."
    ),
)
strawberry.enum(
    DatasetStatus,
    name="DatasetStatus",
    description="EMPTY until its content was uploaded and read, then READY for good.",
)
strawberry.enum(
    ColumnKind,
    name="ColumnKind",
    description=(
        "What a column's values are, missing ones aside: INTEGER, NUMBER, BOOLEAN (true and false, yes and no),"
        " CATEGORY (few texts, used again and again), TEXT, JSON (lists or objects), or EMPTY where all are missing."
    ),
)
