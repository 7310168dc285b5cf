"""Starting, stopping and trying runs again."""

from typing import Annotated

import strawberry

from domain.training import service
from domain.training.service import Offer
from domain.training.status import Provider
from graph.context import Context, Info
from graph.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import uuid_of
from graph.training.inputs import StartTrainingRunInput
from graph.training.types import TrainingRun

StartTrainingRunResult = Annotated[
    TrainingRun | NotFound | Invalid | Conflict | Forbidden | LimitReached | Unavailable,
    strawberry.union("StartTrainingRunResult", description="The new run, or why there is none."),
]
CancelTrainingRunResult = Annotated[
    TrainingRun | NotFound | Conflict | Forbidden | Unavailable,
    strawberry.union("CancelTrainingRunResult", description="The run, CANCELING or CANCELED, or why it cannot be."),
]
RetryTrainingRunResult = Annotated[
    TrainingRun | NotFound | Invalid | Conflict | Forbidden | LimitReached | Unavailable,
    strawberry.union("RetryTrainingRunResult", description="The new run, or why there is none."),
]
SyncTrainingRunResult = Annotated[
    TrainingRun | NotFound | Forbidden | Unavailable,
    strawberry.union("SyncTrainingRunResult", description="The run, whose provider is read again now."),
]

OFFERED = frozenset({Provider.LOCAL})


def offer_of(context: Context) -> Offer:
    settings = context.settings
    offered = OFFERED
    if settings.is_production and not settings.sandbox_in_production:
        offered = OFFERED - {Provider.LOCAL}
    return Offer(
        providers=offered,
        active_runs_per_user=settings.active_runs_per_user,
        time_limit_seconds=settings.run_time_limit_seconds,
        longest_time_limit_seconds=settings.longest_time_limit_seconds,
    )


@strawberry.type
class TrainingMutations:
    @strawberry.mutation(description="Start a run. It begins as QUEUED; follow it with the subscription `trainingRun`.")
    async def start_training_run(
        self, info: Info, input: Annotated[StartTrainingRunInput, strawberry.argument(description="The wish.")]
    ) -> StartTrainingRunResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            run = await service.start_run(work, viewer, input.wish(), offer_of(info.context))
        return TrainingRun.of(run)

    @strawberry.mutation(
        description="Ask for a run to be stopped. It is CANCELING until the provider confirms that nothing of it is"
        " left."
    )
    async def cancel_training_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The run.")]
    ) -> CancelTrainingRunResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            run = await service.cancel_run(work, viewer, run_id=uuid_of(id, "TrainingRun"))
        return TrainingRun.of(run)

    @strawberry.mutation(description="Start a new run with the wish of one that has ended.")
    async def retry_training_run(
        self,
        info: Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="The run that ended.")],
        idempotency_key: Annotated[
            str | None, strawberry.argument(description="A word of yours; asking again with it gives the same run.")
        ] = None,
    ) -> RetryTrainingRunResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            run = await service.retry_run(
                work,
                viewer,
                offer_of(info.context),
                run_id=uuid_of(id, "TrainingRun"),
                idempotency_key=idempotency_key,
            )
        return TrainingRun.of(run)

    @strawberry.mutation(description="Have the provider read again now, instead of at the next check.")
    async def sync_training_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The run.")]
    ) -> SyncTrainingRunResult:
        viewer = info.context.viewer
        viewer.require()
        async with info.context.begin() as work:
            run = await service.sync_run(work, viewer, run_id=uuid_of(id, "TrainingRun"))
        return TrainingRun.of(run)
