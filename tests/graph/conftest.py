"""A whole API process for the tests that look at it from outside.

It serves all tests of a module, each with users of its own: tenants do not see each other, and neither do tests.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from db.embedded import EmbeddedServers
from db.postgres import owner_engine
from db.settings import Settings
from domain.viewer import Viewer
from jobs.simulators.kit import serving as simulating
from jobs.simulators.server import Simulators
from tests.conftest import SUPERUSER
from tests.factories import make_user
from tests.graph.served import Served, serving
from tests.graph.world import World, build_world


@pytest.fixture(scope="module")
async def served(
    servers: EmbeddedServers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """An API process over a database of the module's own. Every provider is its simulator."""
    name = f"served_{uuid4().hex}"
    connection = await asyncpg.connect(servers.postgres.address_of("postgres", SUPERUSER))
    try:
        await connection.execute(f"CREATE DATABASE {name} OWNER runwire_owner TEMPLATE {template} STRATEGY FILE_COPY")
        settings = served_settings(servers, name, tmp_path_factory.mktemp("served"))
        async with simulating(Simulators().app) as url:
            asked = {f"{vendor}_base_url": f"{url}/{vendor}" for vendor in ("replicate", "runpod", "astria", "e2b")}
            async with serving(settings.model_copy(update={**asked, "simulators_url": url})) as running:
                yield running
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await connection.close()


def served_settings(servers: EmbeddedServers, name: str, folder: Path) -> Settings:
    """As the fixture `settings`, whatever the environment says: what is given here goes before it."""
    given = {name: field.get_default() for name, field in Settings.model_fields.items()}
    return Settings(
        **given
        | {
            "environment": "test",
            "database_url": servers.postgres.address_of(name),
            "redis_url": servers.redis.address,
            "data_dir": folder / "data",
            "public_url": "http://runwire.test",
            "allowed_origins": ("https://app.example.com",),
            # All modules sign up from one address, and count in one Redis.
            "sign_in_attempts_per_minute": 1000,
        }
    )


@pytest.fixture
async def ada(served: Served) -> Viewer:
    """Who owns what the test makes."""
    return await make_user(served.database, name="Ada")


@pytest.fixture
async def eve(served: Served) -> Viewer:
    """Another tenant."""
    return await make_user(served.database, name="Eve")


@pytest.fixture(scope="module")
async def world(served: Served) -> AsyncIterator[World]:
    """Ada with one of everything, and those who would like to have it."""
    engine = owner_engine(served.api.settings)
    yield await build_world(served, engine)
    await engine.dispose()
