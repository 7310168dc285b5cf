"""Trains at Astria: one attempt is one tune, found again by its title."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from typing import Any

import httpx2
from anyio import to_thread

from domain.training.report import HostedModel, Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus
from jobs.providers.astria import callback as callbacks
from jobs.providers.astria.order import FREE_BRANCH, addresses_of, fields_of, prompts_in
from jobs.providers.astria.tune import Tune, id_of
from jobs.providers.astria.upload import form_of
from jobs.providers.astria.wire import LOST_ANSWER_SECONDS, Content, Wire
from jobs.providers.base import (
    Account,
    CallbackBody,
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

PAGE_TUNES = 100
"""The vendor gives at most 120."""
UPLOAD_BYTES_PER_SECOND = 1024 * 1024
"""The slowest connection on which an upload is waited for."""
UPLOADS_AT_ONCE = 2
_TAG = re.compile(r"run-[0-9a-f]{32}-[0-9]{1,9}")


class AstriaTrainer:
    """The provider `ASTRIA`. The reference of a training is the tune's id, and so is its model's version.

    - `price_micros`: what a tune costs. The vendor tells prices to people only, and none by its API: an estimate.
    - `prompt_micros`: what each prompt costs that `extra` has run right after the training; an estimate too.
    - `overdue_seconds`: so long after its `eta` a tune is suspected, since no failure is documented.
    - `create_limit_seconds`: for a creation without uploads; the vendor's own gateway gives up after 30 seconds.
    - `most_pages`: how many pages of 100 tunes are looked through, newest first.
    """

    def __init__(
        self,
        account: Account,
        http: httpx2.AsyncClient,
        *,
        price_micros: int = 1_500_000,
        prompt_micros: int = 100_000,
        overdue_seconds: float = 7_200.0,
        create_limit_seconds: float = 35.0,
        most_pages: int = 20,
        pace: Pace | None = None,
    ) -> None:
        self.account = account
        self.price_micros = price_micros
        self.prompt_micros = prompt_micros
        self.overdue_seconds = overdue_seconds
        self.create_limit_seconds = create_limit_seconds
        self.most_pages = most_pages
        self._pace = pace or Pace(first_seconds=15.0, longest_seconds=60.0)
        self._wire = Wire(account, http)
        self._uploading = asyncio.Semaphore(UPLOADS_AT_ONCE)

    @property
    def pace(self) -> Pace:
        """Slow at once where the vendor has lately said that it is asked too often: its limits are not documented."""
        if self._wire.is_throttled:
            return Pace(self._pace.longest_seconds, self._pace.longest_seconds)
        return self._pace

    @property
    def bills_from_creation(self) -> bool:
        """No: a tune has one price, and how long it takes does not matter."""
        return False

    async def start(self, order: TrainingOrder) -> Started:
        """Make the tune; images go along from the dataset's ZIP, or by their addresses.

        Raises `ProviderRefused`, `CredentialRefused`, `ProviderBusy`; after a 504 or a lost answer the latter asks for
        a minute's patience, and the tune is then to be looked for with `find`.
        """
        fields = fields_of(order)
        hidden = [order.callback_url.reveal()] if order.callback_url is not None else []
        if order.dataset is None:
            tune = {"tune": {**fields, "image_urls": addresses_of(order)}}
            body = await self._wire.create("/tunes", tune, limit_seconds=self.create_limit_seconds, hidden=hidden)
        else:
            async with self._uploading:
                form = await to_thread.run_sync(form_of, order.dataset, fields)
                try:
                    body = await self._wire.create(
                        "/tunes",
                        Content(form.chunks(), form.length_bytes, form.kind),
                        limit_seconds=self.create_limit_seconds + form.length_bytes / UPLOAD_BYTES_PER_SECOND,
                        hidden=hidden,
                    )
                finally:
                    form.close()
        made = Tune.of(body)
        if made is None:
            raise ProviderBusy("Astria was asked for a tune, but the answer names none.", LOST_ANSWER_SECONDS)
        return _started(made)

    async def find(self, tag: str) -> Started | None:
        """The newest tune with this title, among the newest 2,000."""
        async with aclosing(self._tunes()) as tunes:
            async for tune in tunes:
                if tune.title == tag:
                    return _started(tune)
        return None

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        """What the tune's dates say. There is no log and no percent; progress is to be estimated from `began_at` and
        `expected_seconds`. Raises `ProviderLost` when Astria does not know the tune."""
        return self._said(await self._tune(reference), position, now)

    async def stop(self, reference: str) -> bool:
        """Delete the tune, which is the only way to end it; whether that saves its price is not documented.

        A trained tune is left alone: it costs nothing more, and deleting it would take the model away.
        """
        try:
            if (await self._tune(reference)).trained_at is None:
                await self._wire.delete(f"/tunes/{reference}")
        except ProviderLost:
            pass
        return True

    async def whose(self) -> str:
        """No call tells the account's name: the key itself is named, by the beginning of its digest."""
        await self._wire.read("/tunes", limit=1)
        digest = hashlib.sha256(self.account.api_key.reveal().encode()).hexdigest()
        return f"Astria account with the key of fingerprint {digest[:8]}"

    async def quotes(self, gpu_types: Sequence[str], hyperparameters: Mapping[str, Any]) -> Sequence[Quote]:
        """One flat price, whatever the machine: there is none to choose."""
        branch = hyperparameters.get("branch")
        flat = self._price(branch) + self._price_of_prompts(branch, hyperparameters)
        return [Quote(None, None, flat, is_available=None, expected_seconds=None)]

    async def alive(self) -> Mapping[str, str]:
        """Our tunes that wait or train, by reference, among the newest 2,000. Two can have one title: where the answer
        to a creation was lost and its tune was not listed yet."""
        return {tune.id: tune.title async for tune in self._tunes() if tune.is_alive and _TAG.fullmatch(tune.title)}

    async def finished(self, version: str) -> FinishedModel:
        """The trained tune with this id. Raises `ProviderLost`, and `ProviderRefused` for one that is not trained."""
        tune = await self._tune(version)
        if tune.trained_at is None:
            why = tune.failure or "it waits or is in training."
            raise ProviderRefused(f"The tune {tune.id} is no finished model: {why}")
        return FinishedModel(tune.id, _page_of(tune.id), tune.id, tune.trained_at)

    async def heard(self, callback: CallbackBody, reference: str, position: Position) -> Report | None:
        """Always None: anybody could have sent it, so the tune is to be read. The reference may be empty where the
        callback came before the answer to the creation. Raises `CallbackUnreadable`."""
        callbacks.check(callback.body, reference, position.tag)
        return None

    async def _tune(self, reference: str) -> Tune:
        if id_of(reference) is None:
            raise ProviderRefused("A tune of Astria is named by its number.")
        tune = Tune.of(await self._wire.read(f"/tunes/{reference}"))
        if tune is None or tune.id != reference:
            raise ProviderBusy("Astria answered with something else than the tune that was asked for.", 30.0)
        return tune

    async def _tunes(self) -> AsyncGenerator[Tune, None]:
        """All tunes of the account, newest first, as many as are looked through."""
        before: int | None = None
        for _ in range(self.most_pages):
            query = {"limit": PAGE_TUNES} | ({"before_id": before} if before is not None else {})
            page = await self._wire.read("/tunes", **query)
            if not isinstance(page, list):
                raise ProviderBusy("Astria answered with something else than a list of tunes.", 30.0)
            tunes = [tune for one in page if (tune := Tune.of(one)) is not None]
            for tune in tunes:
                yield tune
            lowest = min((int(tune.id) for tune in tunes), default=None)
            if len(page) < PAGE_TUNES or lowest is None or (before is not None and lowest >= before):
                return
            before = lowest

    def _said(self, tune: Tune, position: Position, now: datetime) -> Report:
        status, stage = RunStatus.PREPARING, None
        expected = eta = None
        if tune.started_at is not None:
            status, stage = RunStatus.TRAINING, RunStage.TRAINING
        if tune.is_alive and tune.started_at is not None and tune.eta is not None:
            expected = _positive(tune.eta - tune.started_at)
            eta = _positive(tune.eta - now)
        outcome: Outcome | None = None
        hosted: HostedModel | None = None
        if tune.trained_at is not None:
            outcome, hosted = Outcome(EndReason.SUCCEEDED), HostedModel(tune.id, _page_of(tune.id))
        elif tune.failure is not None:
            outcome = Outcome(EndReason.PROVIDER_ERROR, tune.failure)
        return Report(
            source=ReportSource.POLL,
            attempt=position.attempt,
            at=now,
            status=status,
            stage=stage,
            eta_seconds=eta,
            expected_seconds=expected,
            began_at=tune.started_at,
            cost_micros=self._cost(tune, position),
            hosted=hosted,
            outcome=outcome,
            suspicion=self._suspicion(tune, position, now) if outcome is None else None,
        )

    def _suspicion(self, tune: Tune, position: Position, now: datetime) -> str | None:
        """Inferred: nothing documents how a failed tune looks, and one that is far beyond its time has failed."""
        due = tune.eta or tune.started_at or tune.created_at or position.begun_at
        if due is None or now - due <= timedelta(seconds=self.overdue_seconds):
            return None
        hours = (now - due).total_seconds() / 3_600
        return f"Astria's tune should have been there {hours:.1f} hours ago, and says neither that nor why."

    def _cost(self, tune: Tune, position: Position) -> int:
        """Estimated. When the price is taken is not documented: here with the beginning of the training, and that of
        its prompts with its end."""
        branch = tune.branch or position.hyperparameters.get("branch")
        cost = self._price(branch) if tune.started_at is not None else 0
        if tune.trained_at is not None:
            cost += self._price_of_prompts(branch, position.hyperparameters)
        return cost

    def _price(self, branch: object) -> int:
        return 0 if branch == FREE_BRANCH else self.price_micros

    def _price_of_prompts(self, branch: object, hyperparameters: Mapping[str, Any]) -> int:
        return 0 if branch == FREE_BRANCH else self.prompt_micros * prompts_in(hyperparameters)


def _started(tune: Tune) -> Started:
    return Started(reference=tune.id, url=_page_of(tune.id))


def _page_of(number: str) -> str:
    """For people; built from the id, since the tune's own `url` names different hosts in the documentation."""
    return f"https://www.astria.ai/tunes/{number}"


def _positive(span: timedelta) -> float | None:
    seconds = span.total_seconds()
    return seconds if seconds > 0 else None
