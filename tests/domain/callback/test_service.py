"""Callbacks: kept once as they came, marked once with what became of them, applied again by operators alone."""

import hashlib
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select

from db.unit_of_work import Database
from domain.account.errors import OperatorOnly
from domain.account.model import AuditEntry
from domain.base import new_id
from domain.callback import queries, service
from domain.callback.errors import CallbackNotApplicable
from domain.callback.model import Callback, CallbackSource, CallbackStatus
from domain.clock import FixedClock
from domain.commands import ApplyCallback
from domain.errors import NotFound
from domain.training.model import PodTokenKind
from domain.training.status import RunStatus
from domain.training.tokens import MARGIN
from domain.viewer import Scope, ScopeMissing, Viewer
from tests.domain.callback.support import callbacks, keep, make_operator, make_token
from tests.factories import make_run, make_user
from tests.fakes import Told

pytestmark = pytest.mark.anyio


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database)


class TestStoring:
    async def test_a_call_is_kept_as_it_came_and_a_worker_is_rung(
        self, database: Database, worker_database: Database, clock: FixedClock, told: Told, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        body = b'\x00\xff{"not": "read"'
        id = await keep(
            database, body, headers={"webhook-id": "msg_1"}, event_id="e1", tag=f"runwire-{run.id}-1", sequence=2**40
        )
        assert id is not None and told.commands == [ApplyCallback(id)]
        (row,) = await callbacks(worker_database)
        assert row == Callback(
            id=id,
            created_at=clock.now(),
            source=CallbackSource.REPLICATE,
            event_id="e1",
            run_id=run.id,
            attempt=1,
            sequence=2**40,
            headers={"webhook-id": "msg_1"},
            body=body,
            sha256=hashlib.sha256(body).hexdigest(),
            status=CallbackStatus.RECEIVED,
            error=None,
            tries=0,
            next_try_at=clock.now(),
            applied_at=None,
        )

    async def test_the_same_one_is_kept_once(self, database: Database, worker_database: Database, told: Told) -> None:
        first = await keep(database, event_id="e1")
        assert await keep(database, event_id="e1") is None
        assert await keep(database, event_id="e1", source=CallbackSource.E2B) is not None
        assert await keep(database, event_id="e2") is not None
        assert (await callbacks(worker_database))[0].id == first
        assert len(told.commands) == 3

    async def test_a_hint_that_waits_is_enough(
        self, database: Database, worker_database: Database, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        token = await make_token(worker_database, run, kind=PodTokenKind.CALLBACK)
        first = await keep(database, source=CallbackSource.ASTRIA, token=token)
        assert first is not None
        assert await keep(database, source=CallbackSource.ASTRIA, token=token) is None
        async with worker_database.begin() as work:
            service.mark_applied(work, await work.session.get_one(Callback, first))
        assert await keep(database, source=CallbackSource.ASTRIA, token=token) is not None

    async def test_a_rejected_copy_does_not_keep_the_true_one_out(
        self, database: Database, worker_database: Database
    ) -> None:
        forged = await keep(database, b"x", event_id="e1", headers={"webhook-signature": "v1,forged"})
        async with worker_database.begin() as work:
            await service.mark_rejected(work, await work.session.get_one(Callback, forged), "No valid signature.")
        assert await keep(database, b"x", event_id="e1", headers={"webhook-signature": "v1,true"}) == forged
        (row,) = await callbacks(worker_database)
        assert (row.status, row.headers, row.error) == (
            CallbackStatus.RECEIVED,
            {"webhook-signature": "v1,true"},
            None,
        )

    async def test_of_what_nobody_knows_a_thousand_an_hour_are_kept(
        self, database: Database, worker_database: Database, clock: FixedClock
    ) -> None:
        async with worker_database.begin() as work:
            work.session.add_all(
                Callback(
                    created_at=work.now,
                    source=CallbackSource.E2B,
                    body=b"",
                    sha256="",
                    next_try_at=work.now,
                    event_id=str(number),
                )
                for number in range(1000)
            )
        assert await keep(database, event_id="one more") is None
        clock.at += timedelta(hours=1)
        assert await keep(database, event_id="one more") is not None


class TestTokens:
    async def test_a_token_stands_for_its_attempt(
        self, database: Database, worker_database: Database, clock: FixedClock, ada: Viewer
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING, attempts=2, time_limit_seconds=60)
        older, newer = [await make_token(worker_database, run, attempt=2) for _ in range(2)]
        assert older != newer and older.startswith("rwp_")
        for token in (older, newer):
            async with database.begin() as work:
                found = await queries.find_pod_token(work.session, token)
            assert found == queries.FoundToken(
                user_id=run.user_id,
                run_id=run.id,
                attempt=2,
                kind=PodTokenKind.POD,
                expires_at=clock.now() + timedelta(seconds=60) + MARGIN,
                run_status=RunStatus.TRAINING,
                run_attempt=2,
                is_stopping=False,
            )
            assert not found.is_over and not found.shall_stop

    @pytest.mark.parametrize(
        ("status", "attempt", "is_over", "shall_stop"),
        [
            (RunStatus.PREPARING, 1, True, True),  # the run is at its second
            (RunStatus.PREPARING, 2, False, False),
            (RunStatus.CANCELING, 2, False, True),
            (RunStatus.FAILED, 2, True, True),
        ],
    )
    async def test_what_has_ended_is_over(
        self,
        database: Database,
        worker_database: Database,
        ada: Viewer,
        status: RunStatus,
        attempt: int,
        is_over: bool,
        shall_stop: bool,
    ) -> None:
        run = await make_run(database, ada, status=status, attempts=2)
        token = await make_token(worker_database, run, attempt=attempt)
        async with database.begin() as work:
            found = await queries.find_pod_token(work.session, token)
        assert found is not None and (found.is_over, found.shall_stop) == (is_over, shall_stop)

    async def test_an_unknown_one_stands_for_nothing(self, database: Database) -> None:
        async with database.begin() as work:
            assert await queries.find_pod_token(work.session, "rwp_" + "x" * 43) is None


class TestMarking:
    async def test_what_changes_nothing_keeps_its_beginning_only(
        self, database: Database, worker_database: Database, clock: FixedClock
    ) -> None:
        await keep(database, b"x" * 10_000, event_id="e1")
        async with worker_database.begin() as work:
            (row,) = (await work.session.exec(select(Callback))).all()
            service.mark_moot(work, row, "The run is over.")
        (row,) = await callbacks(worker_database)
        assert (row.status, len(row.body), row.error) == (CallbackStatus.MOOT, 4096, "The run is over.")

    async def test_a_claimed_one_is_left_alone_for_a_while(
        self, database: Database, worker_database: Database, clock: FixedClock
    ) -> None:
        id = await keep(database, event_id="e1")
        assert id is not None

        async def claimed() -> int | None:
            async with worker_database.begin() as work:
                found = await queries.claim(work.session, id, now=work.now, seconds=30)
            return found.tries if found else None

        assert [await claimed(), await claimed()] == [1, None]
        clock.at += timedelta(seconds=31)
        async with worker_database.begin() as work:
            assert await queries.due(work.session, now=work.now, count=10) == [id]
        assert await claimed() == 2

    async def test_a_later_try_has_its_reason(
        self, database: Database, worker_database: Database, clock: FixedClock
    ) -> None:
        id = await keep(database, event_id="e1")
        async with worker_database.begin() as work:
            service.try_later(work, await work.session.get_one(Callback, id), 5, "The provider is\0 busy.")
        (row,) = await callbacks(worker_database)
        assert (row.status, row.next_try_at, row.error) == (
            CallbackStatus.RECEIVED,
            clock.now() + timedelta(seconds=5),
            "The provider is\ufffd busy.",
        )


class TestApplyingAgain:
    async def rejected(self, database: Database, worker: Database) -> UUID:
        id = await keep(database, event_id="e1")
        assert id is not None
        async with worker.begin() as work:
            row = await work.session.get_one(Callback, id)
            row.tries = 7
            await service.mark_rejected(work, row, "No valid signature.")
        return id

    async def test_an_operator_has_it_applied_anew_and_that_is_written_down(
        self, database: Database, worker_database: Database, owner_engine: AsyncEngine, told: Told, ada: Viewer
    ) -> None:
        await make_operator(owner_engine, ada)
        id = await self.rejected(database, worker_database)
        told.forget()
        for _ in range(2):
            async with database.begin(ada) as work:
                await service.apply_again(work, ada, callback_id=id)
        (row,) = await callbacks(worker_database)
        assert (row.status, row.error, row.tries) == (CallbackStatus.RECEIVED, None, 0)
        assert told.commands == [ApplyCallback(id)]
        async with database.begin(ada) as work:
            (entry,) = (await work.session.exec(select(AuditEntry))).all()
        assert (entry.action, entry.subject_id) == ("callback.applied_again", id)

    async def test_nobody_else_may(
        self, database: Database, worker_database: Database, owner_engine: AsyncEngine, told: Told, ada: Viewer
    ) -> None:
        id = await self.rejected(database, worker_database)
        told.forget()
        for wanted in (id, new_id()):
            with pytest.raises(OperatorOnly):
                async with database.begin(ada) as work:
                    await service.apply_again(work, ada, callback_id=wanted)
        await make_operator(owner_engine, ada)
        weak = Viewer(kind=ada.kind, user_id=ada.user_id, scopes=ada.scopes - {Scope.ACCOUNT_WRITE})
        with pytest.raises(ScopeMissing):
            async with database.begin(weak) as work:
                await service.apply_again(work, weak, callback_id=id)
        (row,) = await callbacks(worker_database)
        assert row.status is CallbackStatus.REJECTED and told.commands == []

    async def test_what_had_its_effect_is_not_applied_again(
        self, database: Database, worker_database: Database, owner_engine: AsyncEngine, ada: Viewer
    ) -> None:
        await make_operator(owner_engine, ada)
        id = await keep(database, event_id="e1")
        assert id is not None
        async with worker_database.begin() as work:
            service.mark_applied(work, await work.session.get_one(Callback, id))
        with pytest.raises(CallbackNotApplicable) as refusal:
            async with database.begin(ada) as work:
                await service.apply_again(work, ada, callback_id=id)
        assert refusal.value.params == {"status": "APPLIED"}
        with pytest.raises(NotFound):
            async with database.begin(ada) as work:
                await service.apply_again(work, ada, callback_id=new_id())
