"""Postgres is restarted in immediate mode, and killed: requests are told so, streams go on, nothing is lost."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest

from domain.training.status import RunStatus
from graph.cli import documents
from graph.cli.errors import Unreachable
from tests.e2e.harness import Run, Tenant, World, observed, run_of, until
from tests.e2e.ledger import check_run
from tests.e2e.watching import watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

AWAY_SECONDS = 3.0
LONGEST_ANSWER_SECONDS = 10.0
BACK_SECONDS = 10.0
"""From Postgres' return until everything is answered again."""
PAUSE_SECONDS = 0.05
STARTS = 6
BETWEEN_STARTS_SECONDS = 0.8


@dataclass
class Canary:
    """Asks one API without pause, and writes down what it was told."""

    url: str
    tenant: Tenant
    answers: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    last_refused_at: float = 0.0
    readiness: set[int] = field(default_factory=set)

    async def ask(self, run: Run) -> None:
        """A query, a mutation, the status door and readiness, in turns, until cancelled."""
        authorization = {"Authorization": self.tenant.client.authorization or ""}
        async with httpx2.AsyncClient(timeout=30, trust_env=False, base_url=self.url, headers=authorization) as http:
            while True:
                await self._graphql(http, documents.RUN, id=run.id)
                await self._graphql(http, documents.SYNC_RUN, id=run.id)
                await self._note(lambda: http.get(f"/runs/{run.id}/status"), "status door")
                readiness = await self._note(lambda: http.get("/readyz"), "readyz")
                self.readiness.add(readiness.status_code)
                await anyio.sleep(PAUSE_SECONDS)

    async def _graphql(self, http: httpx2.AsyncClient, document: str, **variables: Any) -> None:
        body = {"query": document, "variables": variables}
        accept = {"Accept": "application/graphql-response+json"}
        response = await self._note(lambda: http.post("/graphql", json=body, headers=accept), "graphql")
        answer = response.json()
        refusals = [error["extensions"].get("code") for error in answer.get("errors", [])]
        value = next(iter((answer.get("data") or {"": None}).values()))
        if isinstance(value, dict) and "code" in value:
            refusals.append(value["code"])
        if refusals:
            self.last_refused_at = time.time()
        for code in refusals:
            self.answers[str(code)] += 1
            if code != "UNAVAILABLE":
                self.wrong.append(f"{document.split()[1]}: {answer}")

    async def _note(self, call: Any, door: str) -> httpx2.Response:
        began = time.monotonic()
        response: httpx2.Response = await call()
        self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
        self.answers[f"{door} {response.status_code}"] += 1
        if response.status_code not in (200, 304, 503):
            self.wrong.append(f"{door}: {response.status_code} {response.text[:300]}")
        if response.status_code == 503:
            self.last_refused_at = time.time()
            if "retry-after" not in response.headers and door != "readyz":
                self.wrong.append(f"{door}: 503 without Retry-After")
        return response


async def test_postgres_comes_back(world: World, tenant: Tenant) -> None:
    runs = [await tenant.start(f"before-{number}", epochs=1500, layers=64, deploy=number == 0) for number in range(2)]
    canaries = [Canary(url, tenant) for url in world.stack.api_urls]
    starts = Starts(world, tenant)
    async with watching(tenant, runs, world.stack.api_urls) as watchers:
        for watcher in watchers.all:
            await watcher.until_seen(status=RunStatus.TRAINING)
        async with anyio.create_task_group() as group:
            for canary in canaries:
                group.start_soon(canary.ask, runs[0])
            group.start_soon(starts.all_of_them)
            await anyio.to_thread.run_sync(lambda: world.postgres.restart(immediate=True))
            await anyio.sleep(1)
            await anyio.to_thread.run_sync(world.postgres.kill)
            await anyio.sleep(AWAY_SECONDS)
            await anyio.to_thread.run_sync(world.postgres.start)
            returned = time.time()
            await starts.until_acknowledged()
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        await watchers.until_ended()
        for run in runs:
            await check_run(world, tenant, run, deploy=run == runs[0], watchers=watchers.of(run))
    for run in starts.acknowledged.values():
        await check_run(world, tenant, run)
    async with world.database() as rows:
        stored = "SELECT idempotency_key, id FROM training_runs WHERE idempotency_key IS NOT NULL AND user_id ="
        of_user = f"{stored} (SELECT user_id FROM training_runs WHERE id = $1)"
        found = {row["idempotency_key"]: row["id"] for row in await rows.all(of_user, runs[0].row)}
    assert found == {key: run.row for key, run in starts.acknowledged.items()}
    answers = sum((canary.answers for canary in canaries), Counter[str]())
    observed(
        f"Postgres restarted in immediate mode, then killed and away for {AWAY_SECONDS:g} seconds",
        answers=dict(sorted(answers.items())),
        longest_answer=max(canary.longest_seconds for canary in canaries),
        last_refusal_after_its_return=max(canary.last_refused_at for canary in canaries) - returned,
        starts_acknowledged=len(starts.acknowledged),
        starts_refused_before=starts.refused,
        socket_cuts=sum(len(watcher.drops) for watcher in watchers.all),
    )
    assert [problem for canary in canaries for problem in canary.wrong] == []
    for canary in canaries:
        assert canary.longest_seconds < LONGEST_ANSWER_SECONDS
        assert canary.last_refused_at < returned + BACK_SECONDS
        assert canary.readiness == {200, 503}


class Starts:
    """Runs that are asked for while Postgres comes and goes; each again with the same key until it is acknowledged."""

    def __init__(self, world: World, tenant: Tenant) -> None:
        self.world = world
        self.tenant = tenant
        self.acknowledged: dict[str, Run] = {}
        self.refused = 0

    async def all_of_them(self) -> None:
        async with anyio.create_task_group() as group:
            for number in range(STARTS):
                group.start_soon(self._one, number)
                await anyio.sleep(BETWEEN_STARTS_SECONDS)

    async def until_acknowledged(self) -> None:
        async def all_there() -> bool:
            return len(self.acknowledged) == STARTS

        await until("every start is acknowledged", all_there)

    async def _one(self, number: int) -> None:
        key = f"key-{number}"
        async with self.tenant.at(self.world.url(number % 2)) as client:
            while key not in self.acknowledged:
                wish = self.tenant.wish(f"model-{number}", idempotencyKey=key)
                try:
                    self.acknowledged[key] = run_of(await client.ask(documents.START_RUN, input=wish))
                except Unreachable:
                    self.refused += 1
                    await anyio.sleep(PAUSE_SECONDS)
