"""Asking providers what a run would cost there, all at once, each for a few seconds at most."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

from domain.training.choices import Choice
from domain.training.eta import EtaRange, estimate
from domain.training.quoting import Prospect
from domain.training.status import Provider
from domain.viewer import Viewer
from jobs.providers.base import ProviderError, Quote, RemoteTrainer

if TYPE_CHECKING:
    from jobs.accounts import Accounts

QUOTE_SECONDS = 8.0
"""What one provider may take to answer."""


@dataclass(frozen=True, slots=True)
class PlaceOffer:
    """What the run would be in one place."""

    place: Choice
    gpu_type: str | None
    price_micros_per_hour: int | None
    flat_micros: int | None
    expected_micros: int | None
    """Without what keeping the machine adds."""
    keep_micros: int | None
    is_available: bool | None
    expected: EtaRange | None
    is_estimate: bool
    problem: str | None = None


async def offers_for(accounts: "Accounts | None", viewer: Viewer, prospect: Prospect) -> list[PlaceOffer]:
    """One offer per place, in their order. A provider that does not answer is told as a problem."""
    found: dict[int, PlaceOffer] = {}

    async def ask(number: int, place: Choice) -> None:
        found[number] = await _offer(accounts, viewer, prospect, place)

    async with anyio.create_task_group() as group:
        for number, place in enumerate(prospect.places):
            group.start_soon(ask, number, place)
    return [found[number] for number in sorted(found)]


async def _offer(accounts: "Accounts | None", viewer: Viewer, prospect: Prospect, place: Choice) -> PlaceOffer:
    history = prospect.history_seconds.get(place.provider, ())
    if place.provider is Provider.LOCAL:
        free = Quote(gpu_type=None, price_micros_per_hour=0, flat_micros=0, is_available=True, expected_seconds=None)
        return _told(place, free, history)
    try:
        with anyio.fail_after(QUOTE_SECONDS):
            quote = await _asked(accounts, viewer, prospect, place)
            return _told(place, quote, history, keep_seconds=prospect.wish.keep_seconds)
    except TimeoutError:
        problem = f"The provider did not answer within {QUOTE_SECONDS:g} seconds."
    except ProviderError as error:
        problem = str(error)
    return PlaceOffer(place, place.gpu_type, None, None, None, None, None, _expected(history, None), True, problem)


async def _asked(accounts: "Accounts | None", viewer: Viewer, prospect: Prospect, place: Choice) -> Quote:
    from jobs.accounts import Wanted

    if accounts is None or viewer.user_id is None:
        raise ProviderError("This installation asks no remote provider.")
    wanted = Wanted(place.provider, viewer.user_id, place.integration_id, viewer.test_mode, prospect.wish.scenario)
    trainer = await accounts.trainer_of(wanted)
    if not isinstance(trainer, RemoteTrainer):
        raise ProviderError("The provider tells no prices.")
    quotes: Sequence[Quote] = await trainer.quotes([place.gpu_type] if place.gpu_type else [], prospect.hyperparameters)
    if not quotes:
        raise ProviderError("The provider has no such GPU type." if place.gpu_type else "The provider tells no price.")
    return quotes[0]


def _told(place: Choice, quote: Quote, history: Sequence[float], *, keep_seconds: int = 0) -> PlaceOffer:
    """In test mode the simulator's prices are told as they are; nobody is charged."""
    expected = _expected(history, quote.expected_seconds)
    cost = quote.flat_micros
    if cost is None and quote.price_micros_per_hour is not None and expected is not None:
        cost = round(quote.price_micros_per_hour * expected.seconds / 3600)
    keep: int | None = None
    if keep_seconds and quote.price_micros_per_hour:
        keep = round(quote.price_micros_per_hour * keep_seconds / 3600)
    return PlaceOffer(
        place=place,
        gpu_type=quote.gpu_type or place.gpu_type,
        price_micros_per_hour=quote.price_micros_per_hour,
        flat_micros=quote.flat_micros,
        expected_micros=cost,
        keep_micros=keep,
        is_available=quote.is_available,
        expected=expected,
        is_estimate=quote.is_estimate,
    )


def _expected(history: Sequence[float], hint: float | None) -> EtaRange | None:
    return estimate({}, elapsed_seconds=0.0, percent=None, history_seconds=history, hint_seconds=hint)
