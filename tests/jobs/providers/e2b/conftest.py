"""The vendor, simulated on a port, for all tests of a module; each test has an account of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from jobs.simulators.e2b import E2BSimulator
from jobs.simulators.e2b.control import Plan
from jobs.simulators.kit import serving
from tests.jobs.providers.e2b.support import Bench


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[tuple[E2BSimulator, str]]:
    simulator = E2BSimulator(plan=Plan(creations_per_second=50))
    async with serving(simulator.app) as base_url:
        yield simulator, base_url


@pytest.fixture
async def bench(server: tuple[E2BSimulator, str], tmp_path: Path) -> AsyncIterator[Bench]:
    async with httpx2.AsyncClient(trust_env=False) as http:
        yield Bench(*server, http, tmp_path)
