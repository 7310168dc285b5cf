"""What all tables share: names of constraints, ids, times, and columns that SQLModel has no short word for."""

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
import uuid_utils.compat
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlmodel import Field, SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


def new_id() -> UUID:
    """A UUIDv7: unique, and in the order of creation."""
    return uuid_utils.compat.uuid7()


class Row(SQLModel):
    """A table's base: its own id, and when it was made."""

    id: UUID = Field(default_factory=new_id, primary_key=True)
    created_at: datetime


class Owned(SQLModel):
    """A row that belongs to a user; row level security reads `user_id`."""

    user_id: UUID = Field(foreign_key="users.id", ondelete="CASCADE", index=True)


def enum_type(kind: type[StrEnum], *, name: str | None = None) -> sa.Enum:
    """An enum as text with a CHECK: native enums cannot lose a value, and hide their names from plain SQL.

    The second column of one kind in a table needs a `name` of its own for its CHECK."""
    values: Callable[[Any], list[str]] = lambda members: [member.value for member in members]  # noqa: E731
    return sa.Enum(
        kind,
        native_enum=False,
        length=40,
        create_constraint=True,
        name=name or _snake(kind.__name__),
        values_callable=values,
    )


def _snake(name: str) -> str:
    return "".join(
        "_" + c.lower() if c.isupper() and i and not name[i - 1].isupper() else c.lower() for i, c in enumerate(name)
    )


JSON_TYPE = JSONB
TEXT_ARRAY = ARRAY(sa.Text)
BIG = sa.BigInteger
TEXT = sa.Text
BYTES = sa.LargeBinary
DOUBLE = sa.Double
