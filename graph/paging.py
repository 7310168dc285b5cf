"""Lists as Relay connections."""

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import strawberry

from domain.paging import PageOf, cursor_of

NodeType = TypeVar("NodeType")


@strawberry.type(description="Whether more follows, and where to go on.")
class PageInfo:
    has_next_page: bool = strawberry.field(description="Whether more follows after `endCursor`.")
    has_previous_page: bool = strawberry.field(description="Whether something stands before `startCursor`.")
    start_cursor: str | None = strawberry.field(description="The cursor of the first edge.")
    end_cursor: str | None = strawberry.field(
        description="The cursor of the last edge: give it as `after` for the next page."
    )


@strawberry.type(description="One item of a list, with its cursor.")
class Edge(Generic[NodeType]):
    cursor: str = strawberry.field(description="The item's place in the list.")
    node: NodeType = strawberry.field(description="The item.")


@strawberry.type(description="A page of a list, newest first.")
class Connection(Generic[NodeType]):
    edges: list[Edge[NodeType]] = strawberry.field(description="The items with their cursors.")
    page_info: PageInfo = strawberry.field(description="Whether more follows, and where to go on.")

    @strawberry.field(description="The items alone, for those who need no cursors.")
    def nodes(self) -> list[NodeType]:
        return [edge.node for edge in self.edges]

    @classmethod
    def of(cls, page: PageOf[Any], convert: Callable[[Any], NodeType], *, after: str | None) -> Self:
        edges = [Edge(cursor=cursor_of(row.id), node=convert(row)) for row in page.rows]
        return cls.of_edges(edges, has_next=page.has_next, has_previous=after is not None)

    @classmethod
    def of_edges(cls, edges: list[Edge[NodeType]], *, has_next: bool, has_previous: bool) -> Self:
        return cls(
            edges=edges,
            page_info=PageInfo(
                has_next_page=has_next,
                has_previous_page=has_previous,
                start_cursor=edges[0].cursor if edges else None,
                end_cursor=edges[-1].cursor if edges else None,
            ),
        )
