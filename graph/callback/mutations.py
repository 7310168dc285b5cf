"""Having a callback applied anew. For operators only."""

from typing import Annotated

import strawberry

from domain.callback import service
from graph.callback.types import Callback
from graph.context import Info
from graph.errors import Conflict, Forbidden, NotFound, Unavailable
from graph.ids import uuid_of

ApplyCallbackResult = Annotated[
    Callback | NotFound | Conflict | Forbidden | Unavailable,
    strawberry.union("ApplyCallbackResult", description="The callback, which waits again, or why it does not."),
]


@strawberry.type
class CallbackMutations:
    @strawberry.mutation(
        description="Have a callback applied again that was REJECTED or UNREADABLE, when what was wrong is mended."
        " For operators only."
    )
    async def apply_callback(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The callback.")]
    ) -> ApplyCallbackResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            row = await service.apply_again(work, viewer, callback_id=uuid_of(id, "Callback"))
        return Callback.of(row)
