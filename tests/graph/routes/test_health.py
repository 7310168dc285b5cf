"""`/healthz` and `/readyz`: alive, able, or able with something missing."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from db.settings import Settings
from domain.base import new_id
from domain.training.model import WorkerProcess
from tests.graph.served import Served, serving

pytestmark = pytest.mark.anyio

ALL_WELL = {"postgres": True, "migrations": True, "worker": True, "redis": True, "accepting": True}


async def see_a_worker(served: Served, *, seconds_ago: float | None = 1) -> None:
    """One worker, last seen so long ago; with None there was never one."""
    async with served.worker.begin() as work:
        await work.session.exec(sa.delete(WorkerProcess))
        if seconds_ago is not None:
            seen = work.now - timedelta(seconds=seconds_ago)
            work.session.add(WorkerProcess(id=new_id(), host="here", pid=1, started_at=seen, seen_at=seen))


async def test_a_process_that_runs_says_so_to_everybody(served: Served) -> None:
    response = await served.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_ready_with_everything_there(served: Served) -> None:
    await see_a_worker(served)
    response = await served.get("/readyz")
    assert (response.status_code, response.json()) == (200, {"status": "ready", "checks": ALL_WELL})
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("seconds_ago", [None, 31])
async def test_degraded_without_a_worker_seen_lately(served: Served, seconds_ago: float | None) -> None:
    await see_a_worker(served, seconds_ago=seconds_ago)
    response = await served.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "checks": {**ALL_WELL, "worker": False}}


async def test_degraded_without_redis(settings: Settings) -> None:
    async with serving(settings.model_copy(update={"redis_url": "unix:///nowhere/redis.sock"})) as served:
        await see_a_worker(served)
        response = await served.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {"status": "degraded", "checks": {**ALL_WELL, "redis": False}}


async def test_unavailable_without_postgres(settings: Settings) -> None:
    lost = {"database_url": "postgresql://runwire_owner@/lost?host=/nowhere"}
    async with serving(settings.model_copy(update=lost)) as served:
        response = await served.get("/readyz")
    assert response.status_code == 503
    none = dict.fromkeys(("postgres", "migrations", "worker"), False)
    assert response.json() == {"status": "unavailable", "checks": {**ALL_WELL, **none}}


async def test_unavailable_while_it_lets_go_of_its_readers(served: Served) -> None:
    await see_a_worker(served)
    served.api.connections.draining = True
    response = await served.get("/readyz")
    served.api.connections.draining = False
    assert response.status_code == 503
    assert response.json() == {"status": "unavailable", "checks": {**ALL_WELL, "accepting": False}}
