"""The migrations build what the models say, up, down and up again, whoever runs them and how often."""

import re
from collections.abc import Iterator
from uuid import uuid4

import anyio
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import AsyncEngine

from db.embedded import EmbeddedServers
from db.postgres import engine_of
from db.upgrade import MIGRATIONS, alembic_config, current_revision, newest_revision, upgrade
from domain.tables import metadata

pytestmark = pytest.mark.anyio

DESCRIPTION = """
SELECT 'column' AS kind, c.relname || '.' || a.attname AS name, format_type(a.atttypid, a.atttypmod)
       || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
       || coalesce(' DEFAULT ' || pg_get_expr(d.adbin, d.adrelid), '') AS text
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'constraint', c.relname || '.' || k.conname, pg_get_constraintdef(k.oid)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
 WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
"""


@pytest.fixture
def empty_database(servers: EmbeddedServers) -> Iterator[str]:
    """The owner's address of a database without a table."""
    name = f"empty_{uuid4().hex}"
    yield servers.postgres.create_database(name)
    servers.postgres.drop_database(name)


async def description_of(engine: AsyncEngine) -> set[tuple[str, str, str]]:
    """All columns, constraints and indexes, in PostgreSQL's own words."""
    async with engine.connect() as connection:
        rows = await connection.execute(sa.text(DESCRIPTION))
        return {(row.kind, row.name, row.text) for row in rows if "alembic_version" not in row.name}


async def downgrade(engine: AsyncEngine) -> None:
    """Back to the empty database."""

    def run(connection: sa.Connection) -> None:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    async with engine.connect() as connection:
        await connection.run_sync(run)
        await connection.commit()


async def test_alembic_finds_no_difference_to_the_models(owner_engine: AsyncEngine) -> None:
    def differences(connection: sa.Connection) -> list[object]:
        options = {"compare_type": True, "compare_server_default": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))

    async with owner_engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_models_and_migrations_build_the_same(owner_engine: AsyncEngine, empty_database: str) -> None:
    """Alembic looks at no CHECK, and so at no value of an enum; PostgreSQL's own description has them all."""
    engine = engine_of(empty_database, role=None, name="tests")
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    from_models = await description_of(engine)
    await engine.dispose()
    from_migrations = await description_of(owner_engine)
    assert from_migrations - from_models == set()
    assert from_models - from_migrations == set()
    assert len(from_models) > 200


async def test_every_enum_is_checked_in_the_database(owner_engine: AsyncEngine) -> None:
    checks = {name: text for kind, name, text in await description_of(owner_engine) if kind == "constraint"}
    enums = [
        (table, column, column.type)
        for table in metadata.sorted_tables
        for column in table.columns
        if isinstance(column.type, sa.Enum)
    ]
    assert len(enums) > 10
    for table, column, kind in enums:
        check = next(
            text for name, text in checks.items() if name.startswith(f"{table.name}.") and f"({column.name})" in text
        )
        assert set(re.findall(r"'([^']*)'", check)) == set(kind.enums), f"{table.name}.{column.name}"


async def test_down_and_up_again_builds_the_same(empty_database: str) -> None:
    engine = engine_of(empty_database, role=None, name="tests")
    assert await current_revision(engine) is None
    await upgrade(engine)
    built = await description_of(engine)
    assert await current_revision(engine) == newest_revision()
    await downgrade(engine)
    assert await description_of(engine) == set()
    assert await current_revision(engine) is None
    await upgrade(engine)
    assert await description_of(engine) == built
    async with engine.connect() as connection:
        epochs = await connection.scalar(sa.text("SELECT count(*) FROM journal_epoch"))
    await engine.dispose()
    assert epochs == 1


async def test_two_who_migrate_at_once_take_turns(empty_database: str) -> None:
    engines = [engine_of(empty_database, role=None, name=f"tests {n}") for n in range(2)]
    async with anyio.create_task_group() as tasks:
        for engine in engines:
            tasks.start_soon(upgrade, engine)
    assert await current_revision(engines[0]) == newest_revision()
    for engine in engines:
        await engine.dispose()


async def test_again_changes_nothing(owner_engine: AsyncEngine) -> None:
    before = await description_of(owner_engine)
    await upgrade(owner_engine)
    assert await description_of(owner_engine) == before


def test_they_form_one_line_of_numbered_sentences() -> None:
    scripts = list(ScriptDirectory.from_config(alembic_config()).walk_revisions())
    assert [script.revision for script in reversed(scripts)] == [f"{n:04}" for n in range(1, len(scripts) + 1)]
    for script in scripts:
        name = f"{script.revision}_{re.sub('[^a-z0-9]+', '_', script.doc)}.py"
        assert (MIGRATIONS / "versions" / name).is_file(), name


def test_none_waits_long_for_a_lock() -> None:
    for path in sorted((MIGRATIONS / "versions").glob("[0-9]*.py")):
        upgrading = path.read_text().partition("def upgrade() -> None:\n")[2]
        assert upgrading.lstrip().startswith('op.execute("SET LOCAL lock_timeout'), path.name
