"""The doors for providers and scripts with real services behind them, and what is really stored."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from starlette.applications import Starlette

from db.artifacts import ArtifactStore
from db.settings import Settings
from db.unit_of_work import Database
from domain.callback.model import Callback
from domain.training.model import PodTokenKind, TrainingRun
from graph.app import body_limit_of
from graph.auth import Authentication
from graph.context import Services
from graph.dataset.pace import Pace
from graph.guards import Guards, GuardSettings
from graph.limiter import CallLimiter
from graph.routes.artifacts import artifact_routes
from graph.routes.callbacks import callback_routes
from graph.routes.pods import pod_routes
from tests.domain.callback.support import callbacks, make_token

ADDRESS = "http://runwire.test"


@dataclass
class Doors:
    """One process's doors, called as from outside."""

    app: Any
    services: Services
    worker: Database
    store: ArtifactStore

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app), base_url=ADDRESS)

    async def call(
        self, method: str, path: str, content: Any = b"", token: str | None = None, **headers: str
    ) -> httpx2.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent["authorization"] = f"Bearer {token}"
        async with self.client() as client:
            return await client.request(method, path, content=content, headers=sent)

    async def report(self, run: TrainingRun, token: str | None, **said: Any) -> httpx2.Response:
        async with self.client() as client:
            headers = {"authorization": f"Bearer {token}"} if token else {}
            return await client.post(f"/runs/{run.id}/reports", json={"sequence": 1, **said}, headers=headers)

    async def token(self, run: TrainingRun, *, attempt: int = 1, kind: PodTokenKind = PodTokenKind.POD) -> str:
        return await make_token(self.worker, run, attempt=attempt, kind=kind)

    async def callbacks(self) -> list[Callback]:
        return await callbacks(self.worker)


@asynccontextmanager
async def opened(
    settings: Settings,
    database: Database,
    worker: Database,
    *,
    pace: Pace | None = None,
    guards: GuardSettings | None = None,
    redis_url: str | None = None,
) -> AsyncIterator[Doors]:
    """The doors of one process, behind the guards of the whole API."""
    missing: Any = None
    services = Services(
        settings=settings,
        database=database,
        bus=missing,
        hub=missing,
        authentication=Authentication(settings, database),
        attempts=missing,
    )
    calls = CallLimiter(redis_url or settings.redis_url)
    store = ArtifactStore.of(settings)
    routes = [
        *callback_routes(services, calls),
        *pod_routes(services, calls),
        *artifact_routes(services, calls, store=store, pace=pace),
    ]
    try:
        yield Doors(Guards(Starlette(routes=routes), guards, body_limit_of=body_limit_of), services, worker, store)
    finally:
        await calls.close()


def digest_header(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"
