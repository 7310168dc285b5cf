"""Pages of lists, by key: rows that arrive meanwhile shift nothing.

Ids are UUIDv7, so the id is the order of creation, and a cursor needs nothing else.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession
from sqlmodel.sql.expression import SelectOfScalar

from domain.base import Row
from domain.errors import Invalid

LARGEST_PAGE = 100
RowType = TypeVar("RowType", bound=Row)


class BadPage(Invalid):
    """More was asked for than a page can hold, or less than one."""

    code = "BAD_PAGE"
    en = "'first' must be between 1 and {largest}."
    pt = "'first' deve estar entre 1 e {largest}."

    def __init__(self, largest: int = LARGEST_PAGE) -> None:
        super().__init__(field=("first",), largest=largest)


class BadCursor(Invalid):
    """A cursor that we did not make, or that belongs to something else."""

    code = "BAD_CURSOR"
    en = "This cursor is not one of this list or stream; leave it out to begin anew."
    pt = "Este cursor não pertence a esta lista ou fluxo; omita-o para começar de novo."

    def __init__(self, field: str = "after") -> None:
        super().__init__(field=(field,))


@dataclass(frozen=True, slots=True)
class PageOf(Generic[RowType]):
    """Some rows, newest first, and whether older ones follow."""

    rows: Sequence[RowType]
    has_next: bool


def checked_first(first: int, largest: int = LARGEST_PAGE) -> int:
    if not 1 <= first <= largest:
        raise BadPage(largest)
    return first


def cursor_of(id: UUID) -> str:
    return base64.urlsafe_b64encode(b"1." + id.bytes).decode().rstrip("=")


def id_of_cursor(cursor: str) -> UUID:
    """Raises `BadCursor`."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except (binascii.Error, ValueError):
        raise BadCursor from None
    if len(raw) != 18 or not raw.startswith(b"1."):
        raise BadCursor
    return UUID(bytes=raw[2:])


async def page_of(
    session: AsyncSession,
    table: type[RowType],
    narrow: Callable[[SelectOfScalar[RowType]], SelectOfScalar[RowType]],
    *,
    first: int,
    after: str | None,
) -> PageOf[RowType]:
    """One page of a table, newest first. `narrow` adds the conditions, beginning with what the asker may see."""
    first = checked_first(first)
    key: Any = col(table.id)
    statement = narrow(select(table)).order_by(key.desc()).limit(first + 1)
    if after is not None:
        statement = statement.where(key < id_of_cursor(after))
    rows = (await session.exec(statement)).all()
    return PageOf(rows[:first], has_next=len(rows) > first)
