"""Figures about providers. For operators only."""

from datetime import datetime, timedelta
from typing import Annotated

import strawberry

from domain.account.operators import require_operator
from domain.training.figures import provider_figures
from domain.viewer import Scope
from graph.context import Info
from graph.operation.types import ProviderFigures

USUAL_SPAN = timedelta(days=30)


@strawberry.type
class OperationQueries:
    @strawberry.field(description="How each provider did, over all users. For operators only.")
    async def provider_figures(
        self,
        info: Info,
        since: Annotated[
            datetime | None, strawberry.argument(description="Attempts since then; else of the last 30 days.")
        ] = None,
        test: Annotated[
            bool, strawberry.argument(description="Those of runs in test mode, which simulators played, instead.")
        ] = False,
    ) -> list[ProviderFigures]:
        async with info.context.begin() as work:
            await require_operator(work.session, info.context.viewer, Scope.RUNS_READ)
            figures = await provider_figures(work.session, since=since or work.now - USUAL_SPAN, test=test)
        return [ProviderFigures.of(one) for one in figures]
