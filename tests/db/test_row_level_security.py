"""Yours alone: what each role of the database can see and do, whatever the code above it asks for."""

import random
from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID, uuid4

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlmodel import select

from db.postgres import API_ROLE, WORKER_ROLE, engine_of
from db.settings import Settings
from db.unit_of_work import Database
from domain.account.model import ApiKey
from domain.tables import OPERATED, OWNED, SHARED, metadata
from domain.viewer import Viewer, ViewerKind
from tests.db.rows import fill, owned_tables, owner_column, row_of

pytestmark = pytest.mark.anyio

NOT_ALLOWED = "42501"
"""SQLSTATE insufficient_privilege: no such grant, or the policy says no."""

TABLES = sa.text(
    "SELECT c.relname AS name, c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced,"
    " pg_get_userbyid(c.relowner) AS owner,"
    " ARRAY(SELECT pg_get_userbyid(role) FROM pg_policy p, unnest(p.polroles) AS role"
    " WHERE p.polrelid = c.oid) AS roles"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
    " AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"
)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """Two connections in the API's role, no more."""
    engine = engine_of(settings.database_url, role=API_ROLE, name="tests", pool_size=1)
    yield engine
    await engine.dispose()


@pytest.fixture
async def worker(settings: Settings) -> AsyncIterator[AsyncEngine]:
    engine = engine_of(settings.database_url, role=WORKER_ROLE, name="tests", pool_size=1)
    yield engine
    await engine.dispose()


@pytest.fixture
async def users(owner_engine: AsyncEngine) -> tuple[UUID, UUID]:
    """Two users who have a row in every table that users own."""
    mine, theirs = uuid4(), uuid4()
    async with owner_engine.begin() as connection:
        await fill(connection, mine)
        await fill(connection, theirs)
    return mine, theirs


async def set_viewer(connection: AsyncConnection, user_id: UUID) -> None:
    await connection.execute(sa.text("SELECT set_config('runwire.viewer', :id, true)"), {"id": str(user_id)})


async def unprotected(engine: AsyncEngine) -> list[str]:
    """What is wrong with which table."""
    wrong: list[str] = []
    async with engine.connect() as connection:
        for table in await connection.execute(TABLES):
            if not (table.enabled and table.forced):
                wrong.append(f"{table.name} does not force row level security")
            if missing := {API_ROLE, WORKER_ROLE} - set(table.roles):
                wrong.append(f"{table.name} has no policy for {', '.join(sorted(missing))}")
            if table.owner in (API_ROLE, WORKER_ROLE):
                wrong.append(f"{table.name} belongs to {table.owner}")
    return wrong


class TestCatalog:
    async def test_every_table_is_protected(self, owner_engine: AsyncEngine) -> None:
        assert await unprotected(owner_engine) == []

    async def test_a_table_that_somebody_forgets_is_found(self, owner_engine: AsyncEngine) -> None:
        async with owner_engine.begin() as connection:
            await connection.execute(sa.text("CREATE SCHEMA more"))
            await connection.execute(sa.text("CREATE TABLE more.forgotten (id int) PARTITION BY RANGE (id)"))
        assert await unprotected(owner_engine) == [
            "forgotten does not force row level security",
            "forgotten has no policy for runwire_api, runwire_worker",
        ]

    async def test_every_table_of_the_product_is_owned_shared_or_operated(self, owner_engine: AsyncEngine) -> None:
        listed = [str(kind.__tablename__) for kind in (*OWNED, *SHARED, *OPERATED)]
        assert sorted(listed) == sorted(metadata.tables)
        async with owner_engine.connect() as connection:
            found = {row.name for row in await connection.execute(TABLES)}
        assert found - {"alembic_version"} == set(listed)

    async def test_the_api_sees_by_the_viewer_alone(self, owner_engine: AsyncEngine) -> None:
        async with owner_engine.connect() as connection:
            policies = await connection.execute(
                sa.text(
                    "SELECT polrelid::regclass::text AS name, pg_get_expr(polqual, polrelid) AS seen,"
                    " pg_get_expr(polwithcheck, polrelid) AS written, polcmd::text AS command, polpermissive AS permits"
                    " FROM pg_policy WHERE polname = 'api'"
                )
            )
            found = {row.name: (row.seen, row.written, row.command, row.permits) for row in policies}
        for table in owned_tables():
            rule = f"({owner_column(table).name} = runwire_viewer())"
            assert found[table.name] == (rule, rule, "*", True)

    async def test_the_roles_are_bound_by_it(self, owner_engine: AsyncEngine) -> None:
        async with owner_engine.connect() as connection:
            found = await connection.execute(
                sa.text(
                    "SELECT rolname, rolsuper, rolbypassrls, rolcreaterole, rolcreatedb,"
                    " pg_has_role(oid, 'runwire_owner', 'MEMBER') AS is_owner, pg_has_role(oid,"
                    " CASE rolname WHEN 'runwire_api' THEN 'runwire_worker' ELSE 'runwire_api' END,"
                    " 'MEMBER') AS is_other"
                    " FROM pg_roles WHERE rolname IN ('runwire_api', 'runwire_worker') ORDER BY rolname"
                )
            )
            assert [tuple(row) for row in found] == [
                ("runwire_api", False, False, False, False, False, False),
                ("runwire_worker", False, False, False, False, False, False),
            ]

    async def test_what_passes_by_it_is_known_and_pinned(self, owner_engine: AsyncEngine) -> None:
        """Functions that run as the owner: these and no others, callable by the API alone, with a fixed search path."""
        async with owner_engine.connect() as connection:
            found = await connection.execute(
                sa.text(
                    "SELECT p.proname, p.proconfig, has_function_privilege('runwire_api', p.oid, 'EXECUTE') AS api,"
                    " has_function_privilege('runwire_worker', p.oid, 'EXECUTE') AS worker,"
                    " EXISTS (SELECT FROM aclexplode(p.proacl) WHERE grantee = 0) AS public FROM pg_proc p"
                    " JOIN pg_namespace n ON n.oid = p.pronamespace"
                    " WHERE p.prosecdef AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1"
                )
            )
            functions = {row.proname: (row.proconfig, row.api, row.worker, row.public) for row in found}
        assert set(functions) == {
            "find_api_key",
            "find_app",
            "find_ended_credentials",
            "find_grant",
            "find_login",
            "find_pod_token",
            "find_session",
            "journal_heads",
            "operated_resources",
            "provider_figures",
            "runwire_is_operator",
            "store_callback",
        }
        assert set(map(str, functions.values())) == {"(['search_path=public, pg_temp'], True, False, False)"}

    async def test_no_view_shows_what_its_tables_would_not(self, owner_engine: AsyncEngine) -> None:
        async with owner_engine.connect() as connection:
            views = await connection.execute(
                sa.text(
                    "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                    " WHERE c.relkind IN ('v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'"
                )
            )
            assert views.all() == []


class TestReading:
    async def test_without_a_viewer_there_is_nothing(self, users: tuple[UUID, UUID], api: AsyncEngine) -> None:
        async with api.connect() as connection:
            for table in owned_tables():
                assert await _owners(connection, table) == set(), table.name

    @pytest.mark.parametrize("setting", ["", str(UUID(int=0))])
    async def test_nor_for_a_viewer_who_is_nobody(
        self, users: tuple[UUID, UUID], api: AsyncEngine, setting: str
    ) -> None:
        async with api.connect() as connection:
            await connection.execute(sa.text("SELECT set_config('runwire.viewer', :id, true)"), {"id": setting})
            for table in owned_tables():
                assert await _owners(connection, table) == set(), table.name

    async def test_a_viewer_sees_their_own_rows_in_every_table(
        self, users: tuple[UUID, UUID], api: AsyncEngine
    ) -> None:
        for user_id in users:
            async with api.connect() as connection:
                await set_viewer(connection, user_id)
                for table in owned_tables():
                    assert await _owners(connection, table) == {user_id}, table.name

    async def test_a_worker_sees_everybodys(self, users: tuple[UUID, UUID], worker: AsyncEngine) -> None:
        async with worker.connect() as connection:
            for table in owned_tables():
                assert await _owners(connection, table) == set(users), table.name


class TestWriting:
    async def test_no_row_is_added_for_another(
        self, users: tuple[UUID, UUID], api: AsyncEngine, owner_engine: AsyncEngine
    ) -> None:
        mine, theirs = users
        async with owner_engine.connect() as connection:
            made = {table.name: await _row(connection, table, theirs) for table in owned_tables()}
        for table in owned_tables():
            someone = uuid4() if table.name == "users" else theirs
            row = row_of(table, someone, made)
            assert await _refusal(api, mine, table.insert().values(row)) == NOT_ALLOWED, table.name

    async def test_no_row_is_given_away(self, users: tuple[UUID, UUID], api: AsyncEngine) -> None:
        mine, theirs = users
        for table in owned_tables():
            owner = owner_column(table)
            given = table.update().where(owner == mine).values({owner.name: theirs})
            assert await _refusal(api, mine, given) == NOT_ALLOWED, table.name

    async def test_no_row_of_another_is_changed_or_removed(
        self, users: tuple[UUID, UUID], api: AsyncEngine, owner_engine: AsyncEngine
    ) -> None:
        mine, theirs = users
        for table in owned_tables():
            owner = owner_column(table)
            for statement in (
                table.update().where(owner == theirs).values({owner.name: theirs}),
                table.delete().where(owner == theirs),
            ):
                assert await _refusal(api, mine, statement) in (None, NOT_ALLOWED), table.name
        async with owner_engine.connect() as connection:
            for table in owned_tables():
                assert await _owners(connection, table) == set(users), table.name

    @pytest.mark.parametrize("name", ["audit_log", "run_events", "feed_events"])
    async def test_what_happened_stays_as_it_was_written(
        self, users: tuple[UUID, UUID], api: AsyncEngine, worker: AsyncEngine, name: str
    ) -> None:
        mine, _ = users
        table = metadata.tables[name]
        what = table.c.action if name == "audit_log" else table.c.type
        rewrite = table.update().where(table.c.user_id == mine).values({what.name: "something else"})
        assert await _refusal(api, mine, rewrite) == NOT_ALLOWED
        assert await _refusal(worker, mine, rewrite) == NOT_ALLOWED
        assert await _refusal(api, mine, table.delete().where(table.c.user_id == mine)) == NOT_ALLOWED
        assert await _refusal(api, mine, sa.text(f"TRUNCATE {name}")) == NOT_ALLOWED

    async def test_a_worker_makes_no_users_and_no_credentials(self, worker: AsyncEngine) -> None:
        user_id = uuid4()
        made: dict[str, dict[str, object]] = {"user_sessions": {"id": uuid4()}}
        for name in ("users", "user_sessions", "refresh_tokens", "api_keys"):
            table = metadata.tables[name]
            row = row_of(table, user_id, made)
            assert await _refusal(worker, user_id, table.insert().values(row)) == NOT_ALLOWED, name


async def test_a_shared_pool_never_shows_a_foreign_row(users: tuple[UUID, UUID], api: AsyncEngine) -> None:
    """200 requests of two tenants and nobody over two connections, some of which fail or are cut off half-way."""
    database = Database(api)
    chance = random.Random(20260115)
    viewers = [Viewer(kind=ViewerKind.USER, user_id=user_id) for user_id in users] + [Viewer.nobody()]
    seen: list[tuple[UUID | None, list[UUID]]] = []
    turns = anyio.Semaphore(8)  # more than the connections, so that some always wait for one

    async def request(viewer: Viewer, fate: str, pause_seconds: float) -> None:
        with suppress(RuntimeError, DBAPIError):
            async with turns:
                with anyio.move_on_after(pause_seconds if fate == "cut off" else None):
                    await answer(viewer, fate)

    async def answer(viewer: Viewer, fate: str) -> None:
        async with database.begin(viewer) as work:
            rows = (await work.session.exec(select(ApiKey))).all()
            seen.append((viewer.user_id, [row.user_id for row in rows]))
            if fate == "cut off":
                await (await work.session.connection()).execute(sa.text("SELECT pg_sleep(5)"))
            if fate == "refused":
                await (await work.session.connection()).execute(sa.text("SELECT 1 / 0"))
            if fate == "crashes":
                raise RuntimeError

    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            fate = chance.choice(["ends well", "ends well", "refused", "crashes", "cut off"])
            tasks.start_soon(request, chance.choice(viewers), fate, chance.uniform(0.01, 0.05))
    assert len(seen) > 120  # requests that were cut off while they waited for a connection saw nothing
    assert {len(owners) for user_id, owners in seen if user_id} == {1}
    assert all(owners == ([user_id] if user_id else []) for user_id, owners in seen)


async def _owners(connection: AsyncConnection, table: sa.Table) -> set[UUID]:
    return set((await connection.execute(sa.select(owner_column(table)))).scalars())


async def _row(connection: AsyncConnection, table: sa.Table, user_id: UUID) -> dict[str, object]:
    found = await connection.execute(sa.select(table).where(owner_column(table) == user_id))
    return dict(found.mappings().one())


async def _refusal(engine: AsyncEngine, viewer: UUID, statement: sa.Executable) -> str | None:
    """The SQLSTATE that the database refuses with; None if it does as it is told. Nothing is kept."""
    async with engine.connect() as connection:
        await set_viewer(connection, viewer)
        try:
            await connection.execute(statement)
        except DBAPIError as error:
            return str(getattr(error.orig, "sqlstate", ""))
        finally:
            await connection.rollback()
    return None
