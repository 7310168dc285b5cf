"""What all tests stand on: real servers of their own, a fresh database and an empty Redis for each test, a given time.

The servers start once per session, on private sockets. The migrations run once, into a template; each test that asks
for a database is given a copy of it, and whatever it did there is dropped with the copy.
"""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import anyio
import asyncpg
import pytest
from redis.asyncio import Redis
from sqlalchemy.ext.asyncio import AsyncEngine

from db import postgres
from db.bus import RedisBus
from db.embedded import EmbeddedServers
from db.redis import redis_of
from db.settings import Settings
from db.unit_of_work import Database
from db.upgrade import upgrade
from domain.clock import FixedClock
from tests.fakes import Told

TEMPLATE = "runwire_template"
SUPERUSER = "postgres"
MEMORY_FOLDER = Path("/dev/shm")
ENOUGH_BYTES = 1024**3


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def servers() -> Iterator[EmbeddedServers]:
    """PostgreSQL and Redis, started. Tests that stop, kill or flush them start their own."""
    with (
        TemporaryDirectory(prefix="runwire-tests-", dir=_fast_folder(), ignore_cleanup_errors=True) as folder,
        EmbeddedServers(Path(folder), durable=False) as servers,
    ):
        yield servers


@pytest.fixture(scope="session")
def template(servers: EmbeddedServers) -> str:
    """The name of a migrated database, to be copied. Nobody may connect to it."""
    address = servers.postgres.create_database(TEMPLATE)

    async def migrate() -> None:
        engine = postgres.engine_of(address, role=None, name="tests")
        await upgrade(engine)
        await engine.dispose()

    anyio.run(migrate)
    return TEMPLATE


@pytest.fixture
async def database_url(servers: EmbeddedServers, template: str) -> AsyncIterator[str]:
    """The owner's address of a fresh, migrated, empty database."""
    name = f"test_{uuid4().hex}"
    connection = await asyncpg.connect(servers.postgres.address_of("postgres", SUPERUSER))
    try:
        await connection.execute(f"CREATE DATABASE {name} OWNER runwire_owner TEMPLATE {template} STRATEGY FILE_COPY")
        yield servers.postgres.address_of(name)
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


@pytest.fixture
async def redis_url(servers: EmbeddedServers) -> AsyncIterator[str]:
    """The address of an empty Redis."""
    client = redis_of(servers.redis.address)
    await client.flushall()
    yield servers.redis.address
    await client.flushall()
    await client.aclose()


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the test's Redis."""
    client = redis_of(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def clock() -> FixedClock:
    """Noon of 15 January 2026, until the test moves it."""
    return FixedClock(datetime(2026, 1, 15, 12, tzinfo=UTC))


@pytest.fixture
def settings(tmp_path: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A process's settings, on the test's own database, Redis and data folder, whatever the environment says."""
    for name in (*Settings.model_fields, "runpod_api_base_url", "e2b_api_url"):
        monkeypatch.delenv(name.upper(), raising=False)
    return Settings(
        environment="test",
        database_url=database_url,
        redis_url=redis_url,
        data_dir=tmp_path / "data",
        public_url="http://runwire.test",
    )


@pytest.fixture
def told() -> Told:
    """Hears every event and every command, in place of bus and queue."""
    return Told()


@pytest.fixture
async def bus(redis_url: str) -> AsyncIterator[RedisBus]:
    """The real bus, for tests in which messages travel."""
    bus = RedisBus([redis_url])
    yield bus
    await bus.close()


@pytest.fixture
async def database(settings: Settings, clock: FixedClock, told: Told) -> AsyncIterator[Database]:
    """The database as the API reaches it: in the role that row level security binds."""
    database = Database(postgres.api_engine(settings), bus=told, queue=told, clock=clock)
    yield database
    await database.close()


@pytest.fixture
async def worker_database(settings: Settings, clock: FixedClock, told: Told) -> AsyncIterator[Database]:
    """The database as a worker reaches it."""
    database = Database(postgres.worker_engine(settings), bus=told, queue=told, clock=clock)
    yield database
    await database.close()


@pytest.fixture
async def owner_engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    """The owner's engine: sees every row, to look at what is really stored."""
    engine = postgres.owner_engine(settings)
    yield engine
    await engine.dispose()


def _fast_folder() -> Path | None:
    """Memory, where there is enough: copying a database's 500 files takes 8 ms there, and up to 150 ms on a disk."""
    try:
        if os.access(MEMORY_FOLDER, os.W_OK) and shutil.disk_usage(MEMORY_FOLDER).free >= ENOUGH_BYTES:
            return MEMORY_FOLDER
    except OSError:
        pass
    return None
