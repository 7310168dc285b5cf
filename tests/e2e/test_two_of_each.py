"""Two APIs and two workers at once: nothing is started twice, nothing told twice."""

import anyio
import pytest

from graph.cli import documents
from tests.e2e.harness import Run, Tenant, World, observed, run_of
from tests.e2e.ledger import check_run
from tests.e2e.watching import watching

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

RUNS = 10
ASKED_BY = 6
"""Requests that carry the same idempotency key at the same time, half of them to each API."""


async def test_ten_runs_are_each_started_once(world: World, tenant: Tenant) -> None:
    answers: list[list[Run]] = [[] for _ in range(RUNS)]

    async def ask(number: int, url: str) -> None:
        async with tenant.at(url) as client:
            wish = tenant.wish(f"model-{number}", deploy=number == 0, idempotencyKey=f"key-{number}")
            answers[number].append(run_of(await client.ask(documents.START_RUN, input=wish)))

    async with anyio.create_task_group() as group:
        for number in range(RUNS):
            for turn in range(ASKED_BY):
                group.start_soon(ask, number, world.url(turn % 2))
    assert all(len(set(found)) == 1 for found in answers), "One idempotency key gave several runs"
    runs = [found[0] for found in answers]
    assert len(set(runs)) == RUNS

    async with watching(tenant, runs, world.stack.api_urls) as watchers:
        await watchers.until_ended()
        for run in runs:
            await check_run(world, tenant, run, deploy=run == runs[0], watchers=watchers.of(run))
    async with world.database() as rows:
        owners = await rows.column("SELECT DISTINCT pid FROM workers")
        assert (
            await rows.value("SELECT count(*) FROM training_runs WHERE id = ANY($1)", [run.row for run in runs]) == RUNS
        )
    observed(
        "two APIs and two workers", requests=RUNS * ASKED_BY, runs=RUNS, workers=len(owners), readers=len(watchers.all)
    )
