"""With whose account a provider is asked: the operator's, a user's own, or a simulated one.

One trainer is made per account, kept while it is used, and closed some time after it was used last. Whoever gets one
asks for it again before the next look at a training, and does not keep it: a key that was changed or taken away
counts at once.
"""

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import anyio
import httpx2

from db.settings import Settings
from db.unit_of_work import Database
from db.vault import Vault, VaultClosed
from domain.account.service import known_user
from domain.errors import NotFound
from domain.integration.model import Integration
from domain.integration.queries import integration_of
from domain.secret import Secret, masked
from domain.training.status import Provider
from jobs.providers.base import (
    Account,
    CredentialRefused,
    ProviderBusy,
    ProviderRefused,
    RemoteTrainer,
)
from jobs.vendors import trainer_for_account

logger = logging.getLogger("runwire.jobs")

USED_AGAIN_SECONDS = 600.0
"""How long after it was given out a trainer is not closed: longer than any single call of an adapter may take, a large
upload included."""
MOST_IDLE = 100
"""Trainers that nobody has used for so long, beside those in use; the one unused for longest goes first."""
MOST_KEPT = 2000
"""All of them; with so many accounts in use at once a further one has to wait."""
CLOSE_SECONDS = 5.0
KEY_TEST_SECONDS = 8.0
"""How long a provider may take to say whose a key is; an operation of the API may take ten."""
BUSY_SECONDS = 30.0

PREFIXES = {Provider.REPLICATE: "r8_", Provider.RUNPOD: "rpa_", Provider.ASTRIA: "sd_", Provider.E2B: "e2b_"}
"""How the keys of each vendor begin, and those of its simulator, which are `<prefix>sim_<account>[.<scenario>]`."""
KEY_VARIABLES = {
    Provider.REPLICATE: "REPLICATE_API_TOKEN",
    Provider.RUNPOD: "RUNPOD_API_KEY",
    Provider.ASTRIA: "ASTRIA_API_KEY",
    Provider.E2B: "E2B_API_KEY",
}
_SCENARIO = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Who wants to be trained for, where, and with which account."""

    provider: Provider
    user_id: UUID
    integration_id: UUID | None = None
    """The user's own account; None for the operator's."""
    test_mode: bool = False
    """Whether a simulator plays the provider: then the account is a simulated one of the user's own."""
    scenario: str | None = None
    """What the simulator is to play; in test mode only."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An account that a key opens."""

    owner: str
    """Whose it is, for people."""
    alive: Mapping[str, str]
    """What of ours is alive in it, if that was asked: reference → tag."""


LoadIntegration: TypeAlias = Callable[[Wanted], Awaitable[Integration | None]]
BuildTrainer: TypeAlias = Callable[[Account], RemoteTrainer]


@dataclass(slots=True)
class _Kept:
    trainer: RemoteTrainer
    used_at: float


class Accounts:
    """The accounts that this process asks providers with."""

    def __init__(
        self,
        settings: Settings,
        http: httpx2.AsyncClient,
        vault: Vault,
        load_integration: LoadIntegration,
        *,
        build: BuildTrainer | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings = settings
        self.vault = vault
        self._load_integration = load_integration
        self._build = build or (lambda account: trainer_for_account(account, http, settings))
        self._seconds = seconds
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()

    async def trainer_of(self, wanted: Wanted) -> RemoteTrainer:
        """Who trains with the wanted account; to be asked for again before the next look at a training.

        Raises `CredentialRefused` where there is no such account, in a sentence that says what to do, `ProviderRefused`
        for LOCAL, and `ProviderBusy` where too many accounts are in use."""
        key, account_of = await self._account_of(wanted)
        kept = self._kept.get(key)
        if kept is None:
            await self._make_room()
            kept = self._kept.get(key)  # somebody else may have come first meanwhile
        if kept is None:
            kept = self._kept[key] = _Kept(self._build(account_of()), self._seconds())
        kept.used_at = self._seconds()
        self._kept.move_to_end(key)
        return kept.trainer

    async def opened(self, provider: Provider, api_key: Secret, *, with_alive: bool = False) -> Opened:
        """What a key opens, as the provider says just now; nothing is kept.

        Raises `ProviderRefused` in the provider's words, and `ProviderBusy` where it does not answer in time."""
        trainer = self._build(Account(provider, api_key, self.settings.base_url_of(provider)))
        try:
            with anyio.fail_after(KEY_TEST_SECONDS):
                owner = without(api_key, await trainer.whose())
                return Opened(owner, await trainer.alive() if with_alive else {})
        except TimeoutError:
            raise ProviderBusy(f"It did not answer within {KEY_TEST_SECONDS:g} seconds.", BUSY_SECONDS) from None
        except ProviderBusy as error:
            raise ProviderBusy(without(api_key, str(error)), error.retry_after_seconds) from None
        except ProviderRefused as error:
            raise type(error)(without(api_key, str(error))) from None
        finally:
            await _close(trainer)

    async def close(self) -> None:
        """End them all; for the end of the process."""
        while self._kept:
            await _close(self._kept.popitem()[1].trainer)

    async def _account_of(self, wanted: Wanted) -> tuple[Hashable, Callable[[], Account]]:
        """What names the account, and the account itself, whose key is not opened where its trainer is there."""
        if wanted.provider is Provider.LOCAL:
            raise ProviderRefused("The provider LOCAL needs no account.")
        if wanted.test_mode:
            key: Hashable = ("test", wanted.provider, wanted.user_id, wanted.scenario)
            return key, lambda: self._test_account(wanted)
        if wanted.integration_id is None:
            return ("operator", wanted.provider), lambda: self._operators_account(wanted.provider)
        row = await self._load_integration(wanted)
        if row is None or row.user_id != wanted.user_id or row.provider is not wanted.provider:
            raise CredentialRefused(
                f"There is no such account at {wanted.provider.value} among yours: connect it with connectIntegration,"
                " or choose another."
            )
        if row.secret is None:
            raise CredentialRefused(
                f"The account '{row.name}' is disconnected: connect it again with connectIntegration."
            )
        return (row.id, row.updated_at), lambda: self._users_account(row)

    def _operators_account(self, provider: Provider) -> Account:
        api_key = self.settings.api_key_of(provider)
        if api_key is None:
            raise CredentialRefused(
                f"This installation has no account at {provider.value}: connect one of your own with"
                f" connectIntegration, or have the operator set {KEY_VARIABLES[provider]}."
            )
        return Account(provider, api_key, self.settings.base_url_of(provider))

    def _users_account(self, row: Integration) -> Account:
        try:
            api_key = self.vault.open(row.secret or b"", bound_to=row.binding)
        except VaultClosed:
            logger.error("A stored key cannot be opened.", extra={"integration_id": str(row.id)})
            raise CredentialRefused(
                f"The stored key of '{row.name}' cannot be read any more: connect it again with connectIntegration."
            ) from None
        return Account(row.provider, api_key, self.settings.base_url_of(row.provider), integration_id=row.id)

    def _test_account(self, wanted: Wanted) -> Account:
        base_url = self.settings.base_url_of(wanted.provider, test_mode=True)
        if not base_url:
            raise CredentialRefused(
                "This installation has no simulators, so nothing runs in test mode: have the operator set"
                " SIMULATORS_URL, or use an API key that is not of test mode."
            )
        if wanted.scenario is not None and not _SCENARIO.fullmatch(wanted.scenario):
            raise ProviderRefused("A scenario's name has 1 to 64 small letters, digits and underscores.")
        ending = f".{wanted.scenario}" if wanted.scenario else ""
        api_key = Secret(f"{PREFIXES[wanted.provider]}sim_u-{wanted.user_id.hex}{ending}")
        return Account(wanted.provider, api_key, base_url, is_test=True)

    async def _make_room(self) -> None:
        """Close what was not used for long, so that there are not too many. The first of them was used first."""
        before = self._seconds() - USED_AGAIN_SECONDS
        idle = [key for key, kept in self._kept.items() if kept.used_at < before]
        for key in idle[: max(0, len(idle) - MOST_IDLE, len(self._kept) + 1 - MOST_KEPT)]:
            kept = self._kept.pop(key, None)
            if kept is not None:
                await _close(kept.trainer)
        if len(self._kept) >= MOST_KEPT:
            raise ProviderBusy("Too many accounts are in use at once.", BUSY_SECONDS)


def loaded_from(database: Database) -> LoadIntegration:
    """Reads an account of the user who wants it, and of nobody else: an API process as them, a worker as itself."""

    async def load(wanted: Wanted) -> Integration | None:
        if wanted.integration_id is None:
            return None
        async with database.begin(known_user(wanted.user_id)) as work:
            try:
                return await integration_of(work.session, wanted.user_id, wanted.integration_id)
            except NotFound:
                return None

    return load


def provider_http() -> httpx2.AsyncClient:
    """The client that adapters speak to providers with. Their calls have time limits of their own; this is the last."""
    limits = httpx2.Limits(max_connections=200, max_keepalive_connections=50)
    return httpx2.AsyncClient(timeout=httpx2.Timeout(60, connect=10), limits=limits, trust_env=False)


def without(api_key: Secret, words: str) -> str:
    """A provider's words, which may quote the key that it was shown."""
    return masked(words.replace(api_key.reveal(), "•••"))


async def _close(trainer: RemoteTrainer) -> None:
    """Let go of what the trainer holds, if it holds anything."""
    close = getattr(trainer, "close", None)
    if close is None:
        return
    with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_SECONDS):
        try:
            await close()
        except Exception:
            logger.exception("A trainer could not be closed.")
