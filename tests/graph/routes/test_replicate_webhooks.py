"""Replicate's webhooks at our real door: however they come, the run ends where its training did, from them alone."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import pytest
from sqlmodel import col, select

from domain.base import new_id
from domain.callback.model import Callback, CallbackStatus
from domain.callback.queries import SHOWN_BYTES
from domain.secret import Secret
from domain.training.model import LogLine, RunAttempt, TrainingRun
from domain.training.status import EndReason, Provider, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.simulators.replicate import ReplicateSimulator
from jobs.tasks.callback import sweep_callbacks
from tests.factories import make_run
from tests.graph.served import Served
from tests.jobs.providers.replicate.stage import Stage, stage_of
from tests.jobs.providers.replicate.support import FLUX, Bench, bench_of

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with stage_of() as stage:
        yield stage


@pytest.fixture
async def bench(stage: Stage) -> AsyncIterator[Bench]:
    simulator = ReplicateSimulator(seed=3, late_reply_seconds=0.6, oversized_characters=3_000_000)
    async with bench_of(stage, simulator) as bench:
        yield bench


async def trained(served: Served, bench: Bench, viewer: Viewer, scenario: str) -> tuple[TrainingRun, list[Callback]]:
    """A run as Replicate's calls alone have made it, and what became of them."""
    run = await make_run(
        served.database,
        viewer,
        status=RunStatus.PREPARING,
        provider=Provider.REPLICATE,
        recipe="flux-lora",
        deploy=False,
    )
    tag = f"run-{run.id.hex}-1"
    async with served.worker.begin() as work:
        row = (await work.session.exec(select(RunAttempt).where(RunAttempt.run_id == run.id))).one()
        run_row = await work.session.get_one(TrainingRun, run.id)
        row.tag, run_row.hyperparameters = tag, dict(FLUX)
    trainer = bench.trainer(scenario)
    worker = JobContext(
        worker_id=new_id(),
        settings=served.api.settings,
        database=served.worker,
        clock=served.clock,
        trainers={Provider.REPLICATE: trainer},
        app_hosts={},
        http=bench.http,
    )
    address = f"http://127.0.0.1:{served.port}/webhooks/replicate?run={tag}"
    order = replace(bench.order(dataset=bench.dataset(tag)), tag=tag, run_id=run.id, callback_url=Secret(address))
    started = await trainer.start(order)
    await sweep_callbacks(worker)  # what came before the answer to the creation finds no reference yet
    async with served.worker.begin() as work:
        row = (await work.session.exec(select(RunAttempt).where(RunAttempt.run_id == run.id))).one()
        row.reference = started.reference
    with anyio.fail_after(20):
        while True:
            await bench.walk(1.0, steps=2)
            await sweep_callbacks(worker)
            served.clock.move(seconds=0.5)
            async with served.worker.begin() as work:
                run = await work.session.get_one(TrainingRun, run.id, populate_existing=True)
                found = (await work.session.exec(select(Callback).where(Callback.run_id == run.id))).all()
            if run.status.is_final and all(row.status is not CallbackStatus.RECEIVED for row in found):
                return run, list(found)


@pytest.mark.parametrize(
    "scenario",
    ["success", "webhook_doubled", "webhook_reordered", "webhook_early", "webhook_oversized", "webhook_forged"],
)
async def test_a_training_is_followed_to_its_end(served: Served, bench: Bench, ada: Viewer, scenario: str) -> None:
    run, calls = await trained(served, bench, ada, scenario)

    assert (run.status, run.end_reason, run.progress) == (RunStatus.READY, EndReason.SUCCEEDED, 100.0)
    told = Counter(call.status for call in calls)
    assert told[CallbackStatus.APPLIED] >= 1 and not told[CallbackStatus.UNREADABLE]
    if scenario == "webhook_forged":
        assert told[CallbackStatus.REJECTED] >= 2
    else:
        assert told[CallbackStatus.REJECTED] == 0
    sent = [one for one in bench.simulator.webhooks.sent if not one.is_forged]
    assert {one.answer for one in sent} == {200}
    assert len({(call.headers["webhook-id"], call.sha256) for call in calls}) == len(calls)  # doubles are kept once
    async with served.worker.begin() as work:
        statement = select(LogLine.text).where(LogLine.run_id == run.id).order_by(col(LogLine.line))
        lines = list((await work.session.exec(statement)).all())
    assert lines and len(lines) == run.log_lines
    if scenario == "webhook_oversized":
        assert max(one.bytes for one in sent) > 2_000_000
        assert max(len(call.body) for call in calls) == SHOWN_BYTES  # of what had its effect no more is kept


async def test_a_failure_is_told_with_its_words(served: Served, bench: Bench, ada: Viewer) -> None:
    run, _ = await trained(served, bench, ada, "fails_while_training")
    assert (run.status, run.end_reason) == (RunStatus.FAILED, EndReason.CODE_ERROR)
    assert run.error_message
