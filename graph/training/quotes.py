"""What a run would cost and how long it would take, as the outside sees it."""

from collections.abc import Sequence
from typing import Self

import strawberry

import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.training.quoting import Prospect
from domain.training.status import Provider
from graph.scalars import BigInt
from graph.training.types import Eta
from jobs.quoting import PlaceOffer


@strawberry.type(description="What the run would be at one provider, on one kind of GPU.")
class QuoteOption:
    provider: Provider = strawberry.field(description="Who would do the work.")
    gpu_type: str | None = strawberry.field(description="On what kind of GPU, where one is chosen.")
    price_micros_per_hour: BigInt | None = strawberry.field(
        description="What an hour costs, in millionths of a US dollar; null where the price is flat or not known."
    )
    flat_micros: BigInt | None = strawberry.field(
        description="What the whole costs, however long it takes; null where time is what costs."
    )
    expected_micros: BigInt | None = strawberry.field(
        description="What it will cost as far as can be told: the flat price, or price times expected time."
    )
    keep_micros: BigInt | None = strawberry.field(
        description="What `keepSeconds` would add; null where nothing is kept or time costs nothing."
    )
    is_available: bool | None = strawberry.field(
        description="Whether a machine is free right now; null where the provider does not tell."
    )
    eta: Eta | None = strawberry.field(
        description="How long it would train, by your earlier runs of this recipe there, or the provider's own hint."
    )
    is_estimate: bool = strawberry.field(description="Whether the price comes from a table and not from the provider.")
    problem: str | None = strawberry.field(description="Why the provider could not be asked.")

    @classmethod
    def of(cls, offer: PlaceOffer) -> Self:
        expected = offer.expected
        return cls(
            provider=offer.place.provider,
            gpu_type=offer.gpu_type,
            price_micros_per_hour=_money(offer.price_micros_per_hour),
            flat_micros=_money(offer.flat_micros),
            expected_micros=_money(offer.expected_micros),
            keep_micros=_money(offer.keep_micros),
            is_available=offer.is_available,
            eta=Eta(
                seconds=expected.seconds,
                low_seconds=expected.low_seconds,
                high_seconds=expected.high_seconds,
                confidence=expected.confidence,
            )
            if expected is not None
            else None,
            is_estimate=offer.is_estimate,
            problem=offer.problem,
        )


@strawberry.type(description="What a run would be, place by place, in the order in which they would be tried.")
class TrainingQuote:
    options: list[QuoteOption] = strawberry.field(description="The places.")
    budget_micros: BigInt | None = strawberry.field(description="The budget that the wish names.")
    is_within_budget: bool | None = strawberry.field(
        description="Whether the first place is expected to cost no more than that; null where nobody can tell."
    )
    test_mode: bool = strawberry.field(description="Whether simulators would do it, free of charge.")

    @classmethod
    def of(cls, offers: Sequence[PlaceOffer], prospect: Prospect, *, test_mode: bool) -> Self:
        budget = prospect.wish.budget_micros
        expected = offers[0].expected_micros if offers else None
        return cls(
            options=[QuoteOption.of(offer) for offer in offers],
            budget_micros=_money(budget),
            is_within_budget=expected <= budget if expected is not None and budget is not None else None,
            test_mode=test_mode,
        )


def _money(micros: int | None) -> BigInt | None:
    return BigInt(micros) if micros is not None else None
