"""The drivers, and the lives of their trainings: each is lived once, and looked at by many tests."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from domain.training.status import Provider
from tests.conformance.astria import AstriaDriver
from tests.conformance.driver import Driver, Play
from tests.conformance.e2b import E2BDriver
from tests.conformance.ground import Ground, ground_in
from tests.conformance.life import Life, lived
from tests.conformance.local import LocalDriver
from tests.conformance.replicate import ReplicateDriver
from tests.conformance.runpod import RunPodDriver

DRIVERS: tuple[Callable[[Ground], Driver], ...] = (
    LocalDriver,
    ReplicateDriver,
    RunPodDriver,
    AstriaDriver,
    E2BDriver,
)


@pytest.fixture(scope="package")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ground]:
    async with ground_in(Path(tmp_path_factory.mktemp("conformance"))) as ground:
        yield ground


def _name(driver: type[Driver]) -> str:
    return driver.provider.value


@pytest.fixture(params=DRIVERS, ids=_name)
def driver(request: pytest.FixtureRequest, ground: Ground) -> Driver:
    """Each provider."""
    made: Driver = request.param(ground)
    return made


@pytest.fixture(params=DRIVERS[1:], ids=_name)
def remote(request: pytest.FixtureRequest, ground: Ground) -> Driver:
    """Each provider that is elsewhere, and asked with a key."""
    made: Driver = request.param(ground)
    return made


@pytest.fixture(scope="package")
def lives() -> dict[tuple[Provider, Play], Life]:
    return {}


@pytest.fixture
async def success(driver: Driver, lives: dict[tuple[Provider, Play], Life]) -> Life:
    """The life of a training that succeeds."""
    return await _life(driver, Play.SUCCEEDS, lives)


@pytest.fixture
async def failure(driver: Driver, lives: dict[tuple[Provider, Play], Life]) -> Life:
    """The life of one that fails."""
    return await _life(driver, Play.FAILS, lives)


@pytest.fixture(params=[Play.SUCCEEDS, Play.FAILS])
async def life(request: pytest.FixtureRequest, driver: Driver, lives: dict[tuple[Provider, Play], Life]) -> Life:
    """Both."""
    return await _life(driver, request.param, lives)


async def _life(driver: Driver, play: Play, lives: dict[tuple[Provider, Play], Life]) -> Life:
    key = driver.provider, play
    if key not in lives:
        lives[key] = await lived(driver, play)
    return lives[key]
