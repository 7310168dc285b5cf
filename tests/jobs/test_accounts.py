"""Whose account a provider is asked with: chosen, built once, kept while it is used, closed afterwards."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from db.settings import Settings
from db.unit_of_work import Database
from db.vault import Vault
from domain.base import new_id
from domain.clock import FixedClock
from domain.integration.model import IntegrationStatus
from domain.integration.service import disconnect
from domain.secret import Secret
from domain.training.status import Provider
from domain.viewer import Viewer
from jobs import accounts as module
from jobs.accounts import Accounts, Opened, Wanted, loaded_from, provider_http
from jobs.providers.base import Account, CredentialRefused, ProviderBusy, ProviderRefused, RemoteTrainer
from jobs.simulators.kit import serving
from jobs.simulators.server import Simulators
from jobs.vendors import trainer_for_account
from tests.domain.integration.support import VAULT, make_integration
from tests.factories import make_user

pytestmark = pytest.mark.anyio

REMOTE = [provider for provider in Provider if provider is not Provider.LOCAL]
KEY = "r8_sim_acme"


@dataclass
class Built:
    """Stands in for an adapter: remembers its account and whether it was closed."""

    account: Account
    closed: int = 0
    says: Callable[[], Any] = lambda: "acme"

    async def whose(self) -> str:
        return str(self.says())

    async def alive(self) -> dict[str, str]:
        return {"abc": "run-1"}

    async def close(self) -> None:
        self.closed += 1


@dataclass
class Workshop:
    """Builds trainers of nothing, and has a clock to be moved."""

    seconds: float = 0.0
    built: list[Built] = field(default_factory=list)
    says: Callable[[], Any] = lambda: "acme"

    def build(self, account: Account) -> RemoteTrainer:
        self.built.append(Built(account, says=self.says))
        return self.built[-1]  # type: ignore[return-value]  # only what the tests ask of it


@pytest.fixture
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture
def operated(settings: Settings) -> Settings:
    """The operator has an account at Replicate, and simulators."""
    changes = {"replicate_api_token": SecretStr(KEY), "simulators_url": "http://127.0.0.1:9000"}
    return settings.model_copy(update=changes)


@pytest.fixture
async def accounts(operated: Settings, database: Database, workshop: Workshop) -> Any:
    async with httpx2.AsyncClient() as http:
        made = Accounts(
            operated, http, VAULT, loaded_from(database), build=workshop.build, seconds=lambda: workshop.seconds
        )
        yield made
        await made.close()


def wanted(viewer: Viewer, provider: Provider = Provider.REPLICATE, **more: Any) -> Wanted:
    return Wanted(provider, viewer.require(), **more)


class TestChoosing:
    async def test_the_operators_account_is_everybodys(
        self, accounts: Accounts, database: Database, workshop: Workshop
    ) -> None:
        viewers = [await make_user(database) for _ in range(2)]
        trainers = [await accounts.trainer_of(wanted(viewer)) for viewer in viewers]
        assert trainers[0] is trainers[1]
        assert [one.account for one in workshop.built] == [
            Account(Provider.REPLICATE, Secret(KEY), "https://api.replicate.com")
        ]

    @pytest.mark.parametrize("provider", REMOTE[1:])
    async def test_without_one_it_is_said_what_to_do(
        self, accounts: Accounts, database: Database, provider: Provider
    ) -> None:
        with pytest.raises(CredentialRefused, match=rf"connectIntegration.*{provider.value}_API_KEY"):
            await accounts.trainer_of(wanted(await make_user(database), provider))

    async def test_a_users_own_account_is_opened_for_its_own_row(
        self, accounts: Accounts, database: Database, workshop: Workshop
    ) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer, provider=Provider.ASTRIA, key="sd_sim_own")
        await accounts.trainer_of(wanted(viewer, Provider.ASTRIA, integration_id=row.id))
        assert [one.account for one in workshop.built] == [
            Account(Provider.ASTRIA, Secret("sd_sim_own"), "https://api.astria.ai", integration_id=row.id)
        ]

    async def test_a_worker_finds_it_too_and_for_its_owner_only(
        self, operated: Settings, database: Database, worker_database: Database, workshop: Workshop
    ) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        row = await make_integration(database, viewer)
        async with httpx2.AsyncClient() as http:
            accounts = Accounts(operated, http, VAULT, loaded_from(worker_database), build=workshop.build)
            await accounts.trainer_of(wanted(viewer, integration_id=row.id))
            with pytest.raises(CredentialRefused):
                await accounts.trainer_of(wanted(stranger, integration_id=row.id))
        assert len(workshop.built) == 1

    async def test_foreign_unknown_and_other_providers_accounts_are_none(
        self, accounts: Accounts, database: Database, workshop: Workshop
    ) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        row = await make_integration(database, stranger)
        own = await make_integration(database, viewer)
        refusals = []
        for asked in (
            wanted(viewer, integration_id=row.id),
            wanted(viewer, integration_id=new_id()),
            wanted(viewer, Provider.RUNPOD, integration_id=own.id),
        ):
            with pytest.raises(CredentialRefused) as refused:
                await accounts.trainer_of(asked)
            refusals.append(str(refused.value).replace("RUNPOD", "REPLICATE"))
        assert len(set(refusals)) == 1
        assert workshop.built == []

    async def test_a_disconnected_account_is_told_by_its_name(self, accounts: Accounts, database: Database) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer)
        await accounts.trainer_of(wanted(viewer, integration_id=row.id))
        async with database.begin(viewer) as work:
            await disconnect(work, viewer, integration_id=row.id)
        with pytest.raises(CredentialRefused, match="'Work' is disconnected"):
            await accounts.trainer_of(wanted(viewer, integration_id=row.id))

    async def test_a_refused_account_is_tried_again(self, accounts: Accounts, database: Database) -> None:
        """Only the provider knows whether its owner has paid meanwhile."""
        viewer = await make_user(database)
        row = await make_integration(database, viewer, status=IntegrationStatus.REFUSED, error_message="No money.")
        await accounts.trainer_of(wanted(viewer, integration_id=row.id))

    async def test_a_key_of_another_vault_is_no_key(self, accounts: Accounts, database: Database) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer, vault=Vault(["some other key"]))
        with pytest.raises(CredentialRefused, match="cannot be read any more") as refused:
            await accounts.trainer_of(wanted(viewer, integration_id=row.id))
        assert KEY not in str(refused.value)

    async def test_local_has_no_accounts(self, accounts: Accounts, database: Database) -> None:
        with pytest.raises(ProviderRefused):
            await accounts.trainer_of(wanted(await make_user(database), Provider.LOCAL))


class TestTestMode:
    @pytest.mark.parametrize(("provider", "prefix"), list(module.PREFIXES.items()))
    async def test_each_user_has_a_simulated_account(
        self, accounts: Accounts, database: Database, workshop: Workshop, provider: Provider, prefix: str
    ) -> None:
        viewer = await make_user(database)
        for scenario in (None, "fails_at_start"):
            await accounts.trainer_of(wanted(viewer, provider, test_mode=True, scenario=scenario))
        key = f"{prefix}sim_u-{viewer.require().hex}"
        base_url = f"http://127.0.0.1:9000/{provider.value.lower()}"
        assert [one.account for one in workshop.built] == [
            Account(provider, Secret(text), base_url, is_test=True) for text in (key, f"{key}.fails_at_start")
        ]

    async def test_a_users_own_account_is_not_touched(
        self, accounts: Accounts, database: Database, workshop: Workshop
    ) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer)
        await accounts.trainer_of(wanted(viewer, integration_id=row.id, test_mode=True))
        assert [one.account.is_test for one in workshop.built] == [True]

    async def test_there_must_be_simulators(self, settings: Settings, database: Database, workshop: Workshop) -> None:
        async with httpx2.AsyncClient() as http:
            accounts = Accounts(settings, http, VAULT, loaded_from(database), build=workshop.build)
            with pytest.raises(CredentialRefused, match="SIMULATORS_URL"):
                await accounts.trainer_of(wanted(await make_user(database), test_mode=True))

    @pytest.mark.parametrize("scenario", ["a.b", "a b", "A", "x" * 65, "é"])
    async def test_a_scenario_is_a_word(self, accounts: Accounts, database: Database, scenario: str) -> None:
        with pytest.raises(ProviderRefused):
            await accounts.trainer_of(wanted(await make_user(database), test_mode=True, scenario=scenario))


class TestKeeping:
    async def test_a_changed_key_counts_at_once(
        self, accounts: Accounts, database: Database, workshop: Workshop, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer)
        asked = wanted(viewer, integration_id=row.id)
        first = await accounts.trainer_of(asked)
        assert await accounts.trainer_of(asked) is first
        clock.at += timedelta(seconds=1)
        async with database.begin(viewer) as work:
            changed = await work.session.get_one(type(row), row.id)
            changed.secret = VAULT.seal(Secret("r8_sim_new"), bound_to=row.binding)
            changed.updated_at = work.now
        second = await accounts.trainer_of(asked)
        assert second is not first
        assert [one.account.api_key.reveal() for one in workshop.built] == [KEY, "r8_sim_new"]

    async def test_those_who_ask_at_once_get_the_same(
        self, accounts: Accounts, database: Database, workshop: Workshop
    ) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer)
        got = []

        async def ask() -> None:
            got.append(await accounts.trainer_of(wanted(viewer, integration_id=row.id)))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
        assert len({id(one) for one in got}) == len(workshop.built) == 1

    async def test_what_was_not_used_for_longest_is_closed_but_nothing_in_use(
        self, accounts: Accounts, database: Database, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_IDLE", 2)
        viewers = [await make_user(database) for _ in range(6)]
        asked = [wanted(viewer, test_mode=True) for viewer in viewers]
        for one in asked[:4]:
            await accounts.trainer_of(one)
        assert [one.closed for one in workshop.built] == [0, 0, 0, 0]
        workshop.seconds += module.USED_AGAIN_SECONDS + 1
        await accounts.trainer_of(asked[0])  # is in use again
        await accounts.trainer_of(asked[4])
        assert [one.closed for one in workshop.built] == [0, 1, 0, 0, 0]
        workshop.seconds += 1
        await accounts.trainer_of(asked[5])
        assert [one.closed for one in workshop.built] == [0, 1, 0, 0, 0, 0]
        await accounts.close()
        assert [one.closed for one in workshop.built] == [1] * 6

    async def test_too_many_in_use_are_told_to_wait(
        self, accounts: Accounts, database: Database, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MOST_KEPT", 1)
        first, second = [wanted(await make_user(database), test_mode=True) for _ in range(2)]
        await accounts.trainer_of(first)
        with pytest.raises(ProviderBusy):
            await accounts.trainer_of(second)
        await accounts.trainer_of(first)
        workshop.seconds += module.USED_AGAIN_SECONDS + 1
        await accounts.trainer_of(second)
        assert [one.closed for one in workshop.built] == [1, 0]


class TestOpening:
    async def test_says_whose_it_is_and_keeps_nothing(self, accounts: Accounts, workshop: Workshop) -> None:
        assert await accounts.opened(Provider.REPLICATE, Secret("r8_sim_new")) == Opened("acme", {})
        assert await accounts.opened(Provider.REPLICATE, Secret("r8_sim_new"), with_alive=True) == Opened(
            "acme", {"abc": "run-1"}
        )
        assert [(one.account.api_key.reveal(), one.closed) for one in workshop.built] == [("r8_sim_new", 1)] * 2

    @pytest.mark.parametrize("kind", [CredentialRefused, ProviderRefused, ProviderBusy])
    async def test_a_providers_words_never_hold_the_key(
        self, accounts: Accounts, workshop: Workshop, kind: type[Exception]
    ) -> None:
        def refuse() -> str:
            raise kind("The key 'odd-key' of Bearer odd-key is wrong.")

        workshop.says = refuse
        with pytest.raises(kind) as refused:
            await accounts.opened(Provider.REPLICATE, Secret("odd-key"))
        assert str(refused.value) == "The key '•••' of Bearer ••• is wrong."
        assert refused.value.__cause__ is None and refused.value.__suppress_context__
        assert workshop.built[0].closed == 1
        workshop.says = lambda: "the owner of odd-key"
        assert (await accounts.opened(Provider.REPLICATE, Secret("odd-key"))).owner == "the owner of •••"

    async def test_waits_no_longer_than_it_may(
        self, accounts: Accounts, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def hang(_: Built) -> str:
            await anyio.sleep_forever()
            return ""

        monkeypatch.setattr(module, "KEY_TEST_SECONDS", 0.01)
        monkeypatch.setattr(Built, "whose", hang)
        with pytest.raises(ProviderBusy):
            await accounts.opened(Provider.REPLICATE, Secret(KEY))
        assert workshop.built[0].closed == 1


class TestVendors:
    @pytest.mark.parametrize("provider", REMOTE)
    async def test_each_has_an_adapter_that_speaks_with_its_simulator(
        self, settings: Settings, database: Database, provider: Provider
    ) -> None:
        """The real adapters, unpatched, by a user's own account in test mode."""
        viewer = await make_user(database)
        async with serving(Simulators().app) as url, provider_http() as http:
            tested = settings.model_copy(update={"simulators_url": url})
            accounts = Accounts(tested, http, VAULT, loaded_from(database))
            trainer = await accounts.trainer_of(wanted(viewer, provider, test_mode=True))
            assert isinstance(trainer, RemoteTrainer)
            assert await trainer.whose()
            assert await trainer.alive() == {}
            refused = await accounts.trainer_of(wanted(viewer, provider, test_mode=True, scenario="unauthorized"))
            with pytest.raises(ProviderRefused):
                await refused.whose()
            await accounts.close()

    async def test_local_has_none(self, settings: Settings) -> None:
        async with provider_http() as http:
            with pytest.raises(ProviderRefused):
                trainer_for_account(Account(Provider.LOCAL, Secret(""), ""), http, settings)
