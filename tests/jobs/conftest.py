"""The pieces of a worker process."""

from collections.abc import AsyncIterator

import httpx2
import pytest

from db.settings import Settings
from db.unit_of_work import Database
from domain.viewer import Viewer
from jobs.context import JobContext
from tests.factories import make_user
from tests.jobs.support import ScriptedTrainer, context_of


@pytest.fixture
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=5, trust_env=False) as client:
        yield client


@pytest.fixture
def trainer() -> ScriptedTrainer:
    return ScriptedTrainer()


@pytest.fixture
def worker(
    settings: Settings, worker_database: Database, http: httpx2.AsyncClient, trainer: ScriptedTrainer
) -> JobContext:
    """A worker whose provider LOCAL is the scripted one."""
    return context_of(settings, worker_database, http, trainer)


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database, email="ada@example.com")
