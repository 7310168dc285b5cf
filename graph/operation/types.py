"""What providers are worth, in numbers."""

from typing import Self

import strawberry

import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.training.figures import ProviderFigures as Figures
from domain.training.status import Provider
from graph.scalars import BigInt


@strawberry.type(description="How one provider did, over all users: of every attempt that it was asked for.")
class ProviderFigures:
    provider: Provider = strawberry.field(description="Whose figures these are.")
    attempts: int = strawberry.field(description="How many attempts it was asked for.")
    succeeded: int = strawberry.field(description="How many of them ended well.")
    failed: int = strawberry.field(description="How many failed, those aside that found no free machine.")
    canceled: int = strawberry.field(description="How many somebody stopped.")
    without_capacity: int = strawberry.field(description="How many found no free machine.")
    success_rate: float | None = strawberry.field(
        description="The part that ended well of those that ended well or failed; null where there is none."
    )
    seconds_to_start_median: float | None = strawberry.field(
        description="Half of them trained so soon after the provider was asked."
    )
    seconds_to_start_95: float | None = strawberry.field(
        name="secondsToStart95", description="95 % of them trained so soon after the provider was asked."
    )
    cost_micros: BigInt = strawberry.field(description="What they cost together, in millionths of a US dollar.")
    failed_cost_micros: BigInt = strawberry.field(description="What those cost that did not end well.")
    failed_cost_micros_highest: BigInt = strawberry.field(description="What the dearest of those cost.")
    eta_predictions: int = strawberry.field(description="How often it was said when a training ends, and it ended.")
    eta_within: int = strawberry.field(description="How many of these held the true end in their range.")
    eta_error_median: float | None = strawberry.field(
        description="How far off half of these were at most, as a part of the time that was really left."
    )

    @classmethod
    def of(cls, figures: Figures) -> Self:
        return cls(
            provider=figures.provider,
            attempts=figures.attempts,
            succeeded=figures.succeeded,
            failed=figures.failed,
            canceled=figures.canceled,
            without_capacity=figures.without_capacity,
            success_rate=figures.success_rate,
            seconds_to_start_median=figures.seconds_to_start_median,
            seconds_to_start_95=figures.seconds_to_start_95,
            cost_micros=BigInt(figures.cost_micros),
            failed_cost_micros=BigInt(figures.failed_cost_micros),
            failed_cost_micros_highest=BigInt(figures.failed_cost_micros_highest),
            eta_predictions=figures.eta_predictions,
            eta_within=figures.eta_within,
            eta_error_median=figures.eta_error_median,
        )
