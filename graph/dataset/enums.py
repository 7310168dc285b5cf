"""The enums of datasets, with what each value means to those who read the schema."""

from domain.dataset.columns import ColumnKind
from domain.dataset.model import DatasetFormat, DatasetStatus
from graph.enums import expose

expose(
    DatasetFormat,
    "How a dataset's file is written. UTF-8 all.",
    {
        "CSV": "Rows of values, the first with the columns' names.",
        "JSONL": "One JSON object per line.",
        "ZIP": "An archive that holds exactly one CSV or JSONL file, or nothing but pictures (JPEG, PNG, WebP).",
    },
)
expose(
    DatasetStatus,
    "Whether runs can use a dataset.",
    {"EMPTY": "Its content was not uploaded yet.", "READY": "Its content was uploaded and read, for good."},
)
expose(
    ColumnKind,
    "What a column's values are, missing ones aside.",
    {
        "INTEGER": "Whole numbers.",
        "NUMBER": "Numbers.",
        "BOOLEAN": "True and false, or yes and no.",
        "CATEGORY": "Few texts, used again and again.",
        "TEXT": "Texts.",
        "JSON": "Lists or objects.",
        "EMPTY": "All are missing.",
    },
)
