"""The vendor, simulated: in this process, and behind a real server for what the connection has a part in."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx2
import pytest

from jobs.simulators.astria import AstriaSimulator
from jobs.simulators.kit import serving
from tests.jobs.providers.astria.support import Bench


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    simulator = AstriaSimulator()
    task = asyncio.create_task(simulator.run())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(simulator.app), trust_env=False) as http:
        yield Bench(simulator, http, "http://astria")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def wire() -> AsyncIterator[Bench]:
    simulator = AstriaSimulator()
    async with serving(simulator.app) as base_url, httpx2.AsyncClient(trust_env=False) as http:
        yield Bench(simulator, http, base_url)
