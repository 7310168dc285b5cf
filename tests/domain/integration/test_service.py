"""Connecting, testing and disconnecting accounts: what is written, and what is refused."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import col, select

from db.unit_of_work import Database
from domain import integration
from domain.account.model import AuditEntry
from domain.base import new_id
from domain.clock import FixedClock
from domain.deployment.model import ResourceStatus
from domain.errors import NotFound, NotSignedIn
from domain.integration import choosing, queries, service
from domain.integration.errors import IntegrationInUse, NotInTestMode, TooManyIntegrations
from domain.integration.model import Integration, IntegrationStatus
from domain.integration.service import NOTHING
from domain.secret import Secret
from domain.training.status import Provider
from domain.viewer import Scope, ScopeMissing, Viewer
from tests.domain.integration.support import VAULT, make_alive, make_integration
from tests.factories import make_user

pytestmark = pytest.mark.anyio

KEY = Secret("r8_sim_acme")


async def connect(
    database: Database,
    viewer: Viewer,
    *,
    provider: Provider = Provider.REPLICATE,
    name: str = "Work",
    key: Secret = KEY,
    account_name: str = "acme",
    sees: Mapping[str, str] = NOTHING,
) -> Integration:
    async with database.begin(viewer) as work:
        return await integration.connect(
            work,
            viewer,
            provider=provider,
            name=name,
            seal=lambda binding: VAULT.seal(key, bound_to=binding),
            account_name=account_name,
            sees=sees,
        )


async def disconnect(database: Database, viewer: Viewer, integration_id: UUID) -> Integration:
    async with database.begin(viewer) as work:
        return await integration.disconnect(work, viewer, integration_id=integration_id)


async def rows_of(database: Database, viewer: Viewer) -> list[Integration]:
    async with database.begin(viewer) as work:
        return list((await work.session.exec(select(Integration).order_by(col(Integration.id)))).all())


async def audit_of(database: Database, viewer: Viewer) -> list[AuditEntry]:
    async with database.begin(viewer) as work:
        return list((await work.session.exec(select(AuditEntry).order_by(col(AuditEntry.id)))).all())


class TestConnecting:
    async def test_keeps_the_key_sealed_for_its_row(
        self, database: Database, clock: FixedClock, owner_engine: AsyncEngine
    ) -> None:
        viewer = await make_user(database)
        made = await connect(database, viewer)
        (row,) = await rows_of(database, viewer)
        assert row.model_dump(exclude={"secret"}) == {
            "id": made.id,
            "user_id": viewer.user_id,
            "created_at": clock.at,
            "provider": Provider.REPLICATE,
            "name": "Work",
            "account_name": "acme",
            "status": IntegrationStatus.CONNECTED,
            "error_message": None,
            "tested_at": clock.at,
            "updated_at": clock.at,
        }
        assert row.secret is not None
        assert VAULT.open(row.secret, bound_to=row.binding) == KEY
        async with owner_engine.connect() as connection:
            stored = (await connection.execute(sa.text("SELECT t::text FROM user_integrations t"))).scalar_one()
        assert KEY.reveal() not in stored and KEY.reveal().encode().hex() not in stored

    async def test_is_in_the_audit_log_without_the_key(self, database: Database) -> None:
        viewer = await make_user(database)
        row = await connect(database, viewer)
        await disconnect(database, viewer, row.id)
        assert [
            (one.action, one.subject_id, one.credential_id, one.details) for one in await audit_of(database, viewer)
        ] == [
            (f"account.integration_{what}", row.id, viewer.credential_id, {"provider": "REPLICATE", "name": "Work"})
            for what in ("connected", "disconnected")
        ]

    async def test_of_the_same_name_replaces_the_key(self, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        first = await connect(database, viewer)
        async with database.begin(viewer) as work:
            assert first.secret is not None
            await integration.note_tested(
                work, viewer.require(), integration_id=first.id, tested=first.secret, refusal="No."
            )
        clock.at += timedelta(minutes=1)
        await connect(database, viewer, key=Secret("r8_sim_other"), account_name="other")
        (row,) = await rows_of(database, viewer)
        assert (row.id, row.created_at, row.updated_at) == (first.id, clock.at - timedelta(minutes=1), clock.at)
        assert (row.status, row.error_message, row.account_name) == (IntegrationStatus.CONNECTED, None, "other")
        assert VAULT.open(row.secret or b"", bound_to=row.binding) == Secret("r8_sim_other")

    async def test_of_the_same_name_elsewhere_is_another(self, database: Database) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        for who, provider in ((viewer, Provider.REPLICATE), (viewer, Provider.E2B), (stranger, Provider.REPLICATE)):
            await connect(database, who, provider=provider)
        assert [row.provider for row in await rows_of(database, viewer)] == [Provider.REPLICATE, Provider.E2B]
        assert len(await rows_of(database, stranger)) == 1

    async def test_what_the_provider_calls_the_account_is_made_fit_for_a_line(self, database: Database) -> None:
        viewer = await make_user(database)
        row = await connect(database, viewer, account_name="acme\n\0 r8_sim_acme " + "x" * 300)
        assert row.account_name == ("acme   r8_•••" + " " + "x" * 300)[:200]

    async def test_another_account_does_not_take_the_place_of_one_in_use(
        self, database: Database, worker_database: Database
    ) -> None:
        viewer = await make_user(database)
        row = await connect(database, viewer)
        running = await make_alive(worker_database, row, reference="abc", status=ResourceStatus.ALIVE)
        intended = await make_alive(worker_database, row)
        await connect(database, viewer, key=Secret("r8_sim_acme2"), sees={"abc": running.tag, "new": intended.tag})
        for sees, alive in ((NOTHING, 2), ({"abc": "whatever"}, 1), ({"new": intended.tag}, 1)):
            with pytest.raises(IntegrationInUse) as refused:
                await connect(database, viewer, key=Secret("r8_sim_other"), sees=sees)
            assert refused.value.params == {"name": "Work", "alive": alive}
        (kept,) = await rows_of(database, viewer)
        assert VAULT.open(kept.secret or b"", bound_to=kept.binding) == Secret("r8_sim_acme2")

    async def test_only_so_many_can_be_connected(self, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "MOST_CONNECTED", 3)
        viewer = await make_user(database)
        gone = await connect(database, viewer, name="gone")
        await disconnect(database, viewer, gone.id)
        for name in ("one", "two"):
            await connect(database, viewer, name=name)
        refusals: list[TooManyIntegrations] = []

        async def attempt(name: str) -> None:
            try:
                await connect(database, viewer, name=name)
            except TooManyIntegrations as refusal:
                refusals.append(refusal)

        async with anyio.create_task_group() as tasks:
            for name in ("three", "four", "gone"):
                tasks.start_soon(attempt, name)
        assert [refusal.params for refusal in refusals] == [{"most": 3}] * 2
        await connect(database, viewer, name="one", account_name="other")
        connected = [row for row in await rows_of(database, viewer) if row.status is IntegrationStatus.CONNECTED]
        assert len(connected) == 3

    async def test_rows_of_disconnected_ones_do_not_pile_up(
        self, database: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "MOST_EVER", 2)
        viewer = await make_user(database)
        for name in ("one", "two"):
            await disconnect(database, viewer, (await connect(database, viewer, name=name)).id)
        with pytest.raises(TooManyIntegrations):
            await connect(database, viewer, name="three")
        await connect(database, viewer, name="two")

    async def test_is_for_those_who_may_write_and_mean_it(self, database: Database) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer)
        refusals: list[tuple[Viewer, Any]] = [
            (Viewer.nobody(), NotSignedIn),
            (replace(viewer, scopes=frozenset(Scope) - {Scope.ACCOUNT_WRITE}), ScopeMissing),
            (replace(viewer, test_mode=True), NotInTestMode),
        ]
        for asker, refusal in refusals:
            with pytest.raises(refusal):
                await connect(database, asker, name="new")
            with pytest.raises(refusal):
                await disconnect(database, asker, row.id)
        assert [one.name for one in await rows_of(database, viewer)] == ["Work"]


class TestTesting:
    async def note(self, database: Database, row: Integration, tested: bytes | None = None, **said: Any) -> Integration:
        async with database.begin(Viewer(user_id=row.user_id)) as work:
            return await integration.note_tested(
                work, row.user_id, integration_id=row.id, tested=tested or row.secret or b"", **said
            )

    async def test_a_refusal_is_kept_and_lifted(self, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        made = await make_integration(database, viewer)
        clock.at += timedelta(minutes=1)
        refused = await self.note(database, made, refusal="The token r8_sim_acme\nis wrong.")
        assert (refused.status, refused.error_message) == (IntegrationStatus.REFUSED, "The token r8_••• is wrong.")
        assert (refused.tested_at, refused.updated_at) == (clock.at, clock.at - timedelta(minutes=1))
        taken = await self.note(database, made, account_name="acme & sons")
        assert (taken.status, taken.error_message, taken.account_name) == (
            IntegrationStatus.CONNECTED,
            None,
            "acme & sons",
        )
        assert taken.secret == made.secret

    async def test_a_worker_may_note_it_too(self, database: Database, worker_database: Database) -> None:
        viewer = await make_user(database)
        made = await make_integration(database, viewer)
        await self.note(worker_database, made, refusal="No money.")
        (row,) = await rows_of(database, viewer)
        assert (row.status, row.error_message) == (IntegrationStatus.REFUSED, "No money.")

    async def test_a_key_that_was_replaced_meanwhile_keeps_its_state(self, database: Database) -> None:
        viewer = await make_user(database)
        made = await make_integration(database, viewer)
        old = made.secret
        await connect(database, viewer)
        row = await self.note(database, made, tested=old, refusal="No.")
        assert row.status is IntegrationStatus.CONNECTED

    async def test_one_that_was_disconnected_meanwhile_stays_so(self, database: Database) -> None:
        viewer = await make_user(database)
        made = await make_integration(database, viewer)
        await disconnect(database, viewer, made.id)
        row = await self.note(database, made, tested=made.secret, account_name="acme")
        assert (row.status, row.secret) == (IntegrationStatus.DISCONNECTED, None)

    async def test_a_key_is_sealed_anew_with_a_newer_one(self, database: Database) -> None:
        viewer = await make_user(database)
        made = await make_integration(database, viewer)
        resealed = VAULT.seal(KEY, bound_to=made.binding)
        row = await self.note(database, made, account_name="acme", resealed=resealed)
        assert row.secret == resealed != made.secret


class TestDisconnecting:
    async def test_forgets_the_key_and_keeps_the_row_once(self, database: Database, clock: FixedClock) -> None:
        viewer = await make_user(database)
        made = await make_integration(database, viewer)
        for _ in range(2):
            clock.at += timedelta(minutes=1)
            await disconnect(database, viewer, made.id)
        (row,) = await rows_of(database, viewer)
        assert (row.id, row.secret, row.status) == (made.id, None, IntegrationStatus.DISCONNECTED)
        assert row.updated_at == clock.at - timedelta(minutes=1)
        assert [entry.action for entry in await audit_of(database, viewer)] == ["account.integration_disconnected"]

    async def test_waits_for_what_only_this_key_can_end(
        self, database: Database, worker_database: Database, clock: FixedClock
    ) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer)
        await make_alive(worker_database, row, status=ResourceStatus.ENDED, ended_at=clock.at)
        alive = await make_alive(worker_database, row, status=ResourceStatus.ENDING)
        with pytest.raises(IntegrationInUse):
            await disconnect(database, viewer, row.id)
        assert [one.secret for one in await rows_of(database, viewer)] == [row.secret]
        async with worker_database.begin() as work:
            (await work.session.get_one(type(alive), alive.id)).status = ResourceStatus.ENDED
        assert (await disconnect(database, viewer, row.id)).secret is None

    async def test_of_a_refused_key_waits_for_nothing(self, database: Database, worker_database: Database) -> None:
        viewer = await make_user(database)
        row = await make_integration(database, viewer, status=IntegrationStatus.REFUSED, error_message="No.")
        await make_alive(worker_database, row)
        assert (await disconnect(database, viewer, row.id)).error_message is None

    async def test_of_foreign_and_unknown_ones_is_not_found(self, database: Database) -> None:
        viewer, stranger = await make_user(database), await make_user(database)
        row = await make_integration(database, stranger)
        for id in (row.id, new_id()):
            with pytest.raises(NotFound):
                await disconnect(database, viewer, id)
        assert [one.status for one in await rows_of(database, stranger)] == [IntegrationStatus.CONNECTED]


async def test_the_page_shows_all_newest_first(database: Database) -> None:
    viewer, stranger = await make_user(database), await make_user(database)
    names = ["one", "two", "three"]
    made = [await make_integration(database, viewer, name=name) for name in names]
    await disconnect(database, viewer, made[0].id)
    await make_integration(database, stranger)
    async with database.begin(viewer) as work:
        page = await queries.integrations_page(work.session, viewer.require(), first=20, after=None)
    assert [row.name for row in page.rows] == names[::-1]


async def test_runs_choose_connected_ones_only(database: Database) -> None:
    viewer = await make_user(database)
    older = await make_integration(database, viewer, name="older")
    newer = await make_integration(database, viewer, name="newer")
    async with database.begin(viewer) as work:
        assert (await choosing.newest_usable(work.session, viewer.require(), Provider.REPLICATE)) == newer
    await disconnect(database, viewer, newer.id)
    async with database.begin(viewer) as work:
        newest = await choosing.newest_usable(work.session, viewer.require(), Provider.REPLICATE)
        assert newest is not None and newest.id == older.id
        assert await choosing.usable(work.session, viewer.require(), newer.id) is None
