"""The adapter: starts trainings at Replicate, follows them by reads and webhooks, cancels them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import httpx2

from domain.training.report import Report
from domain.training.status import ReportSource
from jobs.providers.base import (
    Account,
    CallbackBody,
    CallbackForged,
    CallbackUnreadable,
    FinishedModel,
    Pace,
    Position,
    ProviderBusy,
    ProviderLost,
    ProviderRefused,
    Quote,
    Started,
    TrainingOrder,
)
from jobs.providers.replicate.api import CREATE_SECONDS, READ_SECONDS, ReplicateApi
from jobs.providers.replicate.prices import MICROS_PER_HOUR, USUAL_HARDWARE, price_of
from jobs.providers.replicate.quota import Quota
from jobs.providers.replicate.reading import report_of
from jobs.providers.replicate.seen import ENDED, Seen, Unreadable, is_reference, seen_of, time_of
from jobs.providers.replicate.webhook import Signed
from jobs.providers.replicate.wish import ModelName, Wish, destination_mark, destination_name, wish_of

USUAL_PACE = Pace(first_seconds=5, longest_seconds=60)
TEST_PACE = Pace(first_seconds=1, longest_seconds=5)
"""Simulated trainings take seconds."""
EVENTS = ("start", "logs", "completed")
PAGE_URL = "https://replicate.com/p/"
STARTING_LIMIT_SECONDS = 25 * 60
"""Less than a run may take to prepare, so that another GPU or provider gets its turn."""
LOOK_BACK_SECONDS = 2 * 24 * 3_600
MOST_REMEMBERED = 1_000
MOST_PAGES = 50
"""Of 100 trainings each."""
SECRET_AGAIN_SECONDS = 60.0
"""How often at most unmatched signatures make us ask whether the secret was changed."""


class ReplicateTrainer:
    """The provider `replicate`, with one account. The reference of a training is Replicate's own id.

    `prices` (millionths of a dollar per hour, by hardware) stands in for the list of `prices.py`. A training that got
    no machine within `starting_limit_seconds` is canceled, and ends as NO_CAPACITY: nothing is billed for waiting.
    """

    def __init__(
        self,
        account: Account,
        http: httpx2.AsyncClient,
        *,
        prices: Mapping[str, int] = MICROS_PER_HOUR,
        pace: Pace | None = None,
        starting_limit_seconds: float = STARTING_LIMIT_SECONDS,
        look_back_seconds: float = LOOK_BACK_SECONDS,
        read_seconds: float = READ_SECONDS,
        create_seconds: float = CREATE_SECONDS,
    ) -> None:
        self.account = account
        self._api = ReplicateApi(account, http, quota=Quota(), read_seconds=read_seconds, create_seconds=create_seconds)
        self._prices = prices
        self._pace = pace or (TEST_PACE if account.is_test else USUAL_PACE)
        self._starting_limit_seconds = starting_limit_seconds
        self._look_back = timedelta(seconds=look_back_seconds)
        self._username: str | None = None
        self._hardware: dict[str, object] = {}
        self._secret: str | None = None
        self._secret_asked_again = float("-inf")
        self._secret_lock = asyncio.Lock()

    @property
    def pace(self) -> Pace:
        return self._pace

    @property
    def bills_from_creation(self) -> bool:
        """Waiting for a machine costs nothing; `metrics` says in the end what was worked."""
        return False

    async def close(self) -> None:
        """Give back what the SDK holds open."""
        await self._api.close()

    async def start(self, order: TrainingOrder) -> Started:
        """Make the destination if it is missing, then create the training with its webhook.

        Raises `ProviderBusy` (whose words say if an answer was lost), `ProviderRefused`, `CredentialRefused`.
        """
        wish = wish_of(order)
        version = wish.trainer.version or await self._latest_version(wish.trainer)
        destination = await self._destination(order, wish)
        self._remember(order)
        reference = await self._api.create_training(
            wish.trainer.full_name,
            version,
            given=wish.input,
            destination=destination,
            webhook=order.callback_url.reveal() if order.callback_url is not None else None,
            events=EVENTS,
        )
        return Started(
            reference=reference,
            url=PAGE_URL + reference,
            price_micros_per_hour=self._price(order.hyperparameters) or 0,
            version=f"{wish.trainer.full_name}:{version}",
        )

    async def find(self, tag: str) -> Started | None:
        """The training whose input holds the tag, or whose destination was made for it; if several, one alive."""
        own_destination = destination_mark(tag)
        found: Seen | None = None
        async for seen in self._listed():
            made_in = seen.made_in or ""
            if tag in seen.tags or (not seen.tags and own_destination and own_destination.fullmatch(made_in)):
                found = seen if found is None or (found.has_ended and not seen.has_ended) else found
        if found is None:
            return None
        version = f"{found.model}:{found.version}" if found.model and found.version else None
        price = price_of(self._hardware.get(tag, USUAL_HARDWARE), self._prices) or 0
        return Started(reference=found.id, url=PAGE_URL + found.id, price_micros_per_hour=price, version=version)

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        """The training as it is now. Raises `ProviderLost`, `ProviderBusy`, `CredentialRefused`."""
        seen = await self._read(reference)
        waited = (now - seen.created_at).total_seconds() if seen.created_at is not None else 0.0
        if seen.status == "starting" and waited > self._starting_limit_seconds:
            await self.stop(reference)
            seen = await self._read(reference)
        return self._report(seen, position, ReportSource.POLL, now)

    async def stop(self, reference: str) -> bool:
        """Cancel the training; True once Replicate says that it has ended, however that was."""
        if not is_reference(reference):
            raise ProviderLost("Replicate has no training with such an id.")
        try:
            status = await self._api.cancel_training(reference)
        except ProviderLost:
            return True
        except ProviderRefused as refusal:
            if type(refusal) is not ProviderRefused:
                raise  # the key is the trouble, and the training may well go on
            status = None  # perhaps because it has ended already
        if status is None:
            return (await self._read(reference)).has_ended
        return status in ENDED

    async def whose(self) -> str:
        """The account's user name."""
        return await self._user()

    async def quotes(self, gpu_types: Sequence[str], hyperparameters: Mapping[str, object]) -> Sequence[Quote]:
        """One: trainers choose their hardware themselves. Replicate tells neither stock nor duration."""
        hardware = hyperparameters.get("billedHardware")
        return [
            Quote(
                gpu_type=hardware if isinstance(hardware, str) else None,
                price_micros_per_hour=self._price(hyperparameters),
                flat_micros=None,
                is_available=None,
                expected_seconds=None,
            )
        ]

    async def alive(self) -> Mapping[str, str]:
        """The trainings that wait or work and whose inputs hold a tag of ours."""
        return {seen.id: min(seen.tags) async for seen in self._listed() if seen.tags and not seen.has_ended}

    async def finished(self, version: str) -> FinishedModel:
        """By a training's id, `owner/name:version`, or `owner/name` for its latest version."""
        if is_reference(version):
            return _finished_of(await self._read(version))
        name = ModelName.of(version)
        if name is None:
            raise ProviderRefused("A model at Replicate is named owner/name, owner/name:version, or by its training.")
        path = f"/v1/models/{name.full_name}"
        if name.version is None:
            model = await self._api.get(path)
            shown = model.get("latest_version") if isinstance(model, Mapping) else None
        else:
            shown = await self._api.get(f"{path}/versions/{name.version}")
        if not isinstance(shown, Mapping) or not isinstance(shown.get("id"), str):
            raise ProviderRefused(f"The model {name.full_name} has no version yet.")
        full = f"{name.full_name}:{shown['id']}"
        async for seen in self._listed():
            if seen.output_version == full:
                return _finished_of(seen)
        url = f"https://replicate.com/{name.full_name}/versions/{shown['id']}"
        return FinishedModel(full, url, None, time_of(shown.get("created_at")))

    async def heard(self, callback: CallbackBody, reference: str, position: Position) -> Report | None:
        """What an authentic webhook says: the same as a read of the training at that moment."""
        signed = Signed(callback)
        if not await self._is_authentic(signed):
            raise CallbackForged("No signature is made with the account's secret.")
        try:
            seen = seen_of(json.loads(callback.body))
        except Unreadable as error:
            raise CallbackUnreadable(str(error)) from error
        except (ValueError, RecursionError) as error:
            raise CallbackUnreadable("JSON with a training was expected.") from error
        if seen.id != reference:
            raise CallbackForged("It is about another training than the one it was sent for.")
        return self._report(seen, position, ReportSource.WEBHOOK, min(signed.at, callback.received_at), signed.id)

    def _report(
        self, seen: Seen, position: Position, source: ReportSource, at: datetime, event_id: str | None = None
    ) -> Report:
        return report_of(
            seen,
            position,
            source=source,
            at=at,
            prices=self._prices,
            starting_limit_seconds=self._starting_limit_seconds,
            event_id=event_id,
        )

    async def _is_authentic(self, signed: Signed) -> bool:
        async with self._secret_lock:
            if self._secret is None:
                self._secret = await self._api.signing_secret()
            if signed.is_by(self._secret):
                return True
            now = time.monotonic()
            if now - self._secret_asked_again < SECRET_AGAIN_SECONDS:
                return False
            self._secret = await self._api.signing_secret()  # it may have been changed
            self._secret_asked_again = now
            return signed.is_by(self._secret)

    async def _read(self, reference: str) -> Seen:
        if not is_reference(reference):
            raise ProviderLost("Replicate has no training with such an id.")
        try:
            return seen_of(await self._api.get(f"/v1/trainings/{reference}"))
        except Unreadable as error:
            raise ProviderBusy(f"Replicate's answer could not be read. {error}") from error

    async def _listed(self) -> AsyncIterator[Seen]:
        """The account's trainings, newest first, as far back as is looked. What cannot be read is passed over."""
        cursor: str | None = None
        newest: datetime | None = None
        for _ in range(MOST_PAGES):
            page = await self._api.get("/v1/trainings", {"cursor": cursor} if cursor else None)
            results = page.get("results") if isinstance(page, Mapping) else None
            if not isinstance(results, list):
                raise ProviderBusy("Replicate's list of trainings could not be read.")
            oldest: datetime | None = None
            for item in results:
                try:
                    seen = seen_of(item)
                except Unreadable:
                    continue
                newest, oldest = newest or seen.created_at, seen.created_at or oldest
                yield seen
            before, cursor = cursor, _cursor_of(page.get("next"))
            if cursor in (None, before) or not results:
                return
            # By the newest one's time and not by our clock, which may go differently from theirs.
            if newest is not None and oldest is not None and newest - oldest > self._look_back:
                return

    async def _latest_version(self, trainer: ModelName) -> str:
        try:
            model = await self._api.get(f"/v1/models/{trainer.full_name}")
        except ProviderLost as error:
            raise ProviderRefused(f"Replicate has no trainer {trainer.full_name}.") from error
        latest = model.get("latest_version") if isinstance(model, Mapping) else None
        version = latest.get("id") if isinstance(latest, Mapping) else None
        if not isinstance(version, str) or not version.isalnum():
            raise ProviderRefused(f"The trainer {trainer.full_name} has no version.")
        return version

    async def _destination(self, order: TrainingOrder, wish: Wish) -> str:
        """The full name of a model that is there to take the new version."""
        name = wish.destination or ModelName(await self._user(), destination_name(order, is_marked=wish.is_marked))
        try:
            await self._api.get(f"/v1/models/{name.full_name}")
        except ProviderLost:
            body = {
                "owner": name.owner,
                "name": name.name,
                "visibility": wish.visibility,
                "hardware": wish.hardware,
            }
            try:
                await self._api.post("/v1/models", body)
            except ProviderRefused as refusal:
                if "already exists" not in str(refusal):
                    raise
        return name.full_name

    async def _user(self) -> str:
        if self._username is None:
            account = await self._api.get("/v1/account")
            username = account.get("username") if isinstance(account, Mapping) else None
            if not isinstance(username, str) or ModelName.of(f"{username}/x") is None:
                raise ProviderBusy("Replicate's answer about the account could not be read.")
            self._username = username
        return self._username

    def _remember(self, order: TrainingOrder) -> None:
        """What it is billed by, for `find`: no answer of the API tells it."""
        while len(self._hardware) >= MOST_REMEMBERED:
            del self._hardware[next(iter(self._hardware))]
        self._hardware[order.tag] = order.hyperparameters.get("billedHardware")

    def _price(self, hyperparameters: Mapping[str, object]) -> int | None:
        return price_of(hyperparameters.get("billedHardware"), self._prices)


def _cursor_of(following: object) -> str | None:
    """The cursor alone: the address around it is Replicate's word, and our key goes to nobody else's host."""
    if not isinstance(following, str):
        return None
    cursors = parse_qs(urlsplit(following).query).get("cursor", [])
    return cursors[0] if cursors else None


def _finished_of(seen: Seen) -> FinishedModel:
    if seen.status != "succeeded":
        raise ProviderRefused(f"The training {seen.id} has not succeeded: its status is {seen.status}.")
    return FinishedModel(seen.output_version or seen.id, seen.weights, seen.id, seen.completed_at)
