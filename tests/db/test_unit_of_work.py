"""One transaction, then its events, then its commands; and nothing of all this when it fails."""

import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import select

from db.postgres import engine_of
from db.unit_of_work import Database, SqlUnitOfWork
from domain.account.model import AuditEntry
from domain.base import new_id
from domain.clock import FixedClock
from domain.commands import CheckRun, Command
from domain.errors import NotFound, Unavailable
from domain.events import Event, Stream, StreamKind
from domain.viewer import Viewer, ViewerKind
from tests.factories import make_user
from tests.fakes import Told

pytestmark = pytest.mark.anyio

RUN = UUID("01900000-0000-7000-8000-000000000001")


def event(seq: int = 1) -> Event:
    at = datetime(2026, 1, 15, 12, tzinfo=UTC)
    return Event(type="run.progressed", stream=Stream(StreamKind.RUN, RUN), seq=seq, at=at)


def write(work: SqlUnitOfWork, viewer: Viewer, action: str = "tested") -> None:
    """A row, an event and a command."""
    work.session.add(AuditEntry(id=new_id(), created_at=work.now, user_id=viewer.require(), action=action))
    work.publish(event())
    work.enqueue(CheckRun(RUN))


async def actions(engine: AsyncEngine) -> list[str]:
    """What is in the audit log, seen from outside of any open transaction."""
    async with engine.connect() as connection:
        return list((await connection.execute(sa.text("SELECT action FROM audit_log ORDER BY id"))).scalars())


async def ask(work: SqlUnitOfWork, statement: str) -> Any:
    return (await (await work.session.connection()).execute(sa.text(statement))).scalar_one()


class TestEndingWell:
    async def test_rows_come_first_then_events_then_commands(
        self, database: Database, owner_engine: AsyncEngine
    ) -> None:
        viewer = await make_user(database)
        order: list[object] = []

        class Watching:
            async def publish(self, events: list[Event]) -> None:
                order.extend([await actions(owner_engine), *events])

            async def enqueue(self, commands: list[Command]) -> None:
                order.extend(commands)

        database.bus = database.queue = Watching()
        async with database.begin(viewer) as work:
            write(work, viewer)
            work.publish(event(2))
            assert order == []
        assert order == [["tested"], event(1), event(2), CheckRun(RUN)]

    async def test_the_same_command_is_given_once(self, database: Database, told: Told) -> None:
        async with database.begin() as work:
            for _ in range(3):
                work.enqueue(CheckRun(RUN))
        assert told.commands == [CheckRun(RUN)]

    async def test_the_hour_is_the_clocks_for_the_whole_transaction(
        self, database: Database, clock: FixedClock
    ) -> None:
        began = clock.at
        async with database.begin() as work:
            clock.at = clock.at.replace(hour=13)
            assert work.now == began

    async def test_rows_can_be_read_after_it(self, database: Database) -> None:
        viewer = await make_user(database)
        async with database.begin(viewer) as work:
            write(work, viewer)
            row = (await work.session.exec(select(AuditEntry))).one()
        assert row.action == "tested"

    @pytest.mark.parametrize("lost", ["publish", "enqueue"])
    async def test_what_was_lost_in_telling_does_not_undo_it(
        self,
        database: Database,
        told: Told,
        owner_engine: AsyncEngine,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        lost: str,
    ) -> None:
        async def fail(messages: list[Any]) -> None:
            raise ConnectionError("redis://:secret@10.0.0.1 is away")

        monkeypatch.setattr(told, lost, fail)
        viewer = await make_user(database)
        with caplog.at_level(logging.WARNING):
            async with database.begin(viewer) as work:
                write(work, viewer)
        assert await actions(owner_engine) == ["tested"]
        assert (len(told.events), len(told.commands)) == ((0, 1) if lost == "publish" else (1, 0))
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "secret" not in caplog.text


class TestFailing:
    async def test_nothing_is_kept_and_nothing_told(
        self, database: Database, told: Told, owner_engine: AsyncEngine
    ) -> None:
        viewer = await make_user(database)
        with pytest.raises(NotFound):
            async with database.begin(viewer) as work:
                write(work, viewer)
                await work.session.flush()
                raise NotFound("TrainingRun")
        assert await actions(owner_engine) == []
        assert (told.events, told.commands) == ([], [])

    async def test_a_commit_that_fails_tells_nothing(
        self, database: Database, told: Told, owner_engine: AsyncEngine
    ) -> None:
        viewer = await make_user(database)
        with pytest.raises(Unavailable):
            async with database.begin(viewer) as work:
                write(work, viewer)
                await work.session.flush()
                process = await ask(work, "SELECT pg_backend_pid()")
                async with owner_engine.connect() as connection:
                    await connection.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": process})
        assert await actions(owner_engine) == []
        assert (told.events, told.commands) == ([], [])
        async with database.begin(viewer) as work:
            assert await ask(work, "SELECT 1") == 1

    async def test_a_database_that_is_away_is_said_so(self, tmp_path: Any) -> None:
        engine = engine_of(f"postgresql://runwire_owner@/runwire?host={tmp_path}", role=None, name="tests")
        with pytest.raises(Unavailable) as refusal:
            async with Database(engine).begin() as work:
                await ask(work, "SELECT 1")
        await engine.dispose()
        assert refusal.value.retry_after_seconds == 2
        assert str(tmp_path) not in refusal.value.message()

    async def test_a_statement_that_takes_too_long_is_stopped(self, database: Database) -> None:
        with pytest.raises(Unavailable):
            async with database.begin() as work:
                await ask(work, "SELECT set_config('statement_timeout', '20ms', true)")
                await ask(work, "SELECT pg_sleep(5)")

    async def test_a_mistake_of_ours_is_not_called_unavailable(self, database: Database) -> None:
        with pytest.raises(sa.exc.ProgrammingError):
            async with database.begin() as work:
                await ask(work, "SELECT nothing FROM nowhere")


class TestViewer:
    async def test_is_set_for_the_transaction_and_gone_after_it(self, database: Database) -> None:
        viewer = Viewer(kind=ViewerKind.USER, user_id=new_id())
        async with database.begin(viewer) as work:
            assert await ask(work, "SELECT runwire_viewer()") == viewer.user_id
            process = await ask(work, "SELECT pg_backend_pid()")
        async with database.begin() as work:
            assert await ask(work, "SELECT pg_backend_pid()") == process
            assert await ask(work, "SELECT runwire_viewer()") is None

    async def test_each_process_has_its_role(self, database: Database, worker_database: Database) -> None:
        for ours, role in ((database, "runwire_api"), (worker_database, "runwire_worker")):
            async with ours.begin() as work:
                assert await ask(work, "SELECT current_user") == role
