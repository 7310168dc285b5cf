"""How Alembic reaches the database: over the connection that `db/upgrade.py` hands in, or DATABASE_URL on its own."""

import asyncio

import sqlalchemy as sa
from alembic import context

from db.postgres import owner_engine
from db.settings import Settings
from domain.tables import metadata


def migrate(connection: sa.Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_migrate() -> None:
    engine = owner_engine(Settings())
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    migrate(given)
else:
    asyncio.run(connect_and_migrate())
