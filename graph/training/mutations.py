"""Starting, stopping and trying runs again."""

from typing import Annotated

import strawberry

from domain.training import quoting, service
from domain.training.status import Provider
from graph.context import Info
from graph.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import uuid_of
from graph.training.inputs import StartTrainingRunInput
from graph.training.offer import offer_of
from graph.training.quotes import TrainingQuote
from graph.training.types import TrainingRun
from jobs.quoting import offers_for

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
    TrainingRun | NotFound | Forbidden | LimitReached | Unavailable,
    strawberry.union("SyncTrainingRunResult", description="The run, whose provider is read again now."),
]

QuoteTrainingRunResult = Annotated[
    TrainingQuote | NotFound | Invalid | Forbidden | LimitReached | Unavailable,
    strawberry.union("QuoteTrainingRunResult", description="What the run would be, or why it cannot be started."),
]


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
        description="Ask what a run would cost, how long it would take and whether a machine is free, provider by"
        " provider. The wish is checked as at its start; nothing is started."
    )
    async def quote_training_run(
        self, info: Info, input: Annotated[StartTrainingRunInput, strawberry.argument(description="The wish.")]
    ) -> QuoteTrainingRunResult:
        viewer = info.context.viewer
        user_id = viewer.require()
        async with info.context.begin() as work:
            prospect = await quoting.prospect(work, viewer, input.wish(), offer_of(info.context))
        elsewhere = sum(place.provider is not Provider.LOCAL for place in prospect.places)
        await info.context.services.attempts.check_reads(user_id, cost=elsewhere)
        offers = await offers_for(info.context.services.accounts, viewer, prospect)
        return TrainingQuote.of(offers, prospect, test_mode=viewer.test_mode)

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
        await info.context.services.attempts.check_reads(viewer.require())
        async with info.context.begin() as work:
            run = await service.sync_run(work, viewer, run_id=uuid_of(id, "TrainingRun"))
        return TrainingRun.of(run)
