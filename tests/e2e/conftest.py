"""The product in real processes, started once for this folder and made whole before each test."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.e2e.harness import Tenant, World


@pytest.fixture(scope="package")
def running_world() -> Iterator[World]:
    # On the disk that holds the packages: the sandboxes' environment is then linked, not copied.
    with TemporaryDirectory(prefix="runwire-e2e-", ignore_cleanup_errors=True) as folder:
        world = World(Path(folder))
        with world.stack:
            yield world


@pytest.fixture
async def world(running_world: World, request: pytest.FixtureRequest) -> AsyncIterator[World]:
    """Two APIs and two workers, all well; whatever the test does to them is repaired afterwards."""
    await running_world.whole()
    failed_before = request.session.testsfailed
    yield running_world
    if request.session.testsfailed > failed_before:
        print(running_world.last_words())
    await running_world.whole()


@pytest.fixture
async def tenant(world: World) -> AsyncIterator[Tenant]:
    """A user with a dataset, at the first API."""
    async with world.tenant() as tenant:
        yield tenant
