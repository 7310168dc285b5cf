"""One row in every table, for any user, made from the tables' own descriptions: a new table needs no line here."""

import secrets
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.tables import OWNED, metadata

NOON = datetime(2026, 1, 15, 12, tzinfo=UTC)
Values = dict[str, Any]


def owned_tables() -> list[sa.Table]:
    """The tables whose rows belong to a user, in an order in which they can be filled."""
    names = {kind.__tablename__ for kind in OWNED}
    return [table for table in metadata.sorted_tables if table.name in names]


def owner_column(table: sa.Table) -> sa.Column[Any]:
    """What row level security looks at."""
    return table.c.id if table.name == "users" else table.c.user_id


def row_of(table: sa.Table, user_id: UUID, made: dict[str, Values]) -> Values:
    """A row that all constraints allow. `made` holds the user's rows of other tables, to refer to."""
    row: Values = {}
    for column in table.columns:
        if column is owner_column(table):
            row[column.name] = user_id
        elif column.foreign_keys:
            target = next(iter(column.foreign_keys)).column
            row[column.name] = None if column.nullable else made[target.table.name][target.name]
        elif not column.nullable:
            row[column.name] = _value(column.type)
    return row


async def fill(connection: AsyncConnection, user_id: UUID) -> dict[str, Values]:
    """A row of this user in each table that users own, written as the database's owner."""
    made: dict[str, Values] = {}
    for table in owned_tables():
        made[table.name] = row_of(table, user_id, made)
        await connection.execute(table.insert().values(made[table.name]))
    return made


def _value(kind: sa.types.TypeEngine[Any]) -> Any:
    match kind:
        case sa.Enum():
            return next(iter(kind.enum_class or []))
        case sa.Uuid():
            return uuid4()
        case sa.DateTime():
            return NOON
        case sa.Boolean():
            return True
        case sa.Integer() | sa.Float():
            return 1
        case JSONB():
            return {}
        case ARRAY():
            return []
        case sa.LargeBinary():
            return secrets.token_bytes(16)
        case sa.Text() | sa.String():
            return secrets.token_hex(8)
        case sa.types.TypeDecorator():
            return _value(kind.impl_instance)
    raise TypeError(f"No value is known for {kind!r}: teach this function one.")
