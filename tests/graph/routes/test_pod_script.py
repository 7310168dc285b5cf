"""A pod's real start script at our real doors: what it says becomes the run's truth, and what it left its model."""

import csv
import hashlib
import io
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from anyio import to_thread
from sqlmodel import col, select

from db.artifacts import ArtifactStore
from db.storage import DatasetStore
from domain.base import new_id
from domain.callback.model import Callback, CallbackStatus
from domain.dataset import service as datasets
from domain.secret import Secret
from domain.training.model import Artifact, LogLine, MetricPoint, PodTokenKind, TrainingRun
from domain.training.recipes import checked_hyperparameters
from domain.training.status import EndReason, Provider, RunStatus
from domain.training.tokens import issue_pod_token
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.base import DatasetOrder, HomeOrder, TrainingOrder
from jobs.providers.runpod import creation
from jobs.tasks.callback import sweep_callbacks
from tests.factories import make_dataset, make_run
from tests.graph.served import Served

pytestmark = pytest.mark.anyio

SCRIPT = Path(creation.__file__).with_name("pod.sh")
LONGEST_SECONDS = 60


@pytest.fixture
async def worker(served: Served) -> AsyncIterator[JobContext]:
    """A worker that applies what the doors have kept, and does nothing else."""
    async with httpx2.AsyncClient(trust_env=False) as http:
        yield JobContext(
            worker_id=new_id(),
            settings=served.api.settings,
            database=served.worker,
            clock=served.clock,
            trainers={},
            app_hosts={},
            http=http,
        )


def table() -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["size", "colour", "label"])
    for number in range(60):
        writer.writerow([number, ("red", "green", "blue")[number % 3], "large" if number >= 30 else "small"])
    return text.getvalue().encode()


async def order_of(served: Served, run: TrainingRun, content: bytes | None = None) -> TrainingOrder:
    """The order of the run's first attempt, as a worker makes it, at this process's own address."""
    data: DatasetOrder | None = None
    url = f"http://127.0.0.1:{served.port}"
    async with served.worker.begin() as work:
        token = await issue_pod_token(work, run, 1, PodTokenKind.POD)
        if content is not None:
            _, grant = await datasets.grant_download(work, run=run, attempt=1)
            sha256 = hashlib.sha256(content).hexdigest()
            data = DatasetOrder(f"{url}/datasets/download", grant, "CSV", len(content), sha256)
    return TrainingOrder(
        tag=f"runwire-{run.id}-1",
        run_id=run.id,
        attempt=1,
        recipe=run.recipe or "",
        hyperparameters=run.hyperparameters,
        dataset=data,
        time_limit_seconds=60,
        memory_limit_bytes=0,
        disk_limit_bytes=0,
        home=HomeOrder(url, token),
    )


async def played(served: Served, worker: JobContext, order: TrainingOrder, folder: Path) -> TrainingRun:
    """Run the script to its end, with a worker beside it; gives the run as it ended."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(folder),
        "RUNWIRE_HOME": str(folder / "pod"),
        **creation.variables_of(order, patience_seconds=20),
    }
    (folder / "pod").mkdir()
    process = await anyio.open_process(
        ["bash", str(SCRIPT)], env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with anyio.fail_after(LONGEST_SECONDS):
            while True:
                await sweep_callbacks(worker)
                async with served.worker.begin() as work:
                    run = await work.session.get_one(TrainingRun, order.run_id)
                if run.status.is_final and process.returncode is not None:
                    return run
                await anyio.sleep(0.1)
    finally:
        if process.returncode is None:
            process.kill()
        await process.aclose()


async def rows(served: Served, kind: Any, run: TrainingRun) -> list[Any]:
    async with served.worker.begin() as work:
        return list((await work.session.exec(select(kind).where(kind.run_id == run.id))).all())


async def test_a_recipe_trains_and_its_model_comes_here(
    served: Served, worker: JobContext, ada: Viewer, tmp_path: Path
) -> None:
    content = table()
    dataset = await make_dataset(served.database, ada, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    store = DatasetStore.of(served.api.settings)

    def put() -> None:
        with store.receive(dataset.id) as incoming:
            incoming.write(content)
            incoming.keep()

    await to_thread.run_sync(put)
    wished = checked_hyperparameters("tabular-classification", {"targetColumn": "label", "epochs": 5}, None)
    run = await make_run(
        served.database,
        ada,
        dataset=dataset,
        status=RunStatus.PREPARING,
        provider=Provider.RUNPOD,
        hyperparameters=wished,
        deploy=False,
    )
    order = await order_of(served, run, content)

    ended = await played(served, worker, order, tmp_path)

    assert (ended.status, ended.end_reason, ended.error_message, ended.progress) == (
        RunStatus.READY,
        EndReason.SUCCEEDED,
        None,
        100.0,
    )
    (artifact,) = await rows(served, Artifact, run)
    with ArtifactStore.of(served.api.settings).open(order.tag, artifact.name) as file:
        assert hashlib.sha256(file.read()).hexdigest() == artifact.sha256
    assert artifact.details["metrics"]
    async with served.worker.begin() as work:
        statement = select(LogLine.text).where(LogLine.run_id == run.id).order_by(col(LogLine.line))
        lines = list((await work.session.exec(statement)).all())
    assert any("Runwire answers" in line for line in lines) and any(line.startswith("saved ") for line in lines)
    assert not any("did not arrive" in line for line in lines)
    names = {point.name for point in await rows(served, MetricPoint, run)}
    assert {"loss", "memory_percent", "disk_percent"} <= names
    calls: list[Callback] = await rows(served, Callback, run)
    assert {call.status for call in calls} == {CallbackStatus.APPLIED}
    assert [call.sequence for call in sorted(calls, key=lambda call: call.id)] == list(range(1, len(calls) + 1))
    assert order.home is not None and order.dataset is not None
    for secret in (order.home.token, order.dataset.token):
        _in_none(secret, [line.encode() for line in lines] + [call.body for call in calls])


async def test_a_command_that_breaks_is_told_with_its_words(
    served: Served, worker: JobContext, ada: Viewer, tmp_path: Path
) -> None:
    command = "echo step 1\npython3 -c 'raise ValueError(\"no such column\")'"
    run = await make_run(
        served.database,
        ada,
        status=RunStatus.PREPARING,
        provider=Provider.RUNPOD,
        recipe="command",
        hyperparameters={"command": command},
        deploy=False,
    )

    ended = await played(served, worker, await order_of(served, run), tmp_path)

    assert (ended.status, ended.end_reason) == (RunStatus.FAILED, EndReason.CODE_ERROR)
    assert ended.error_message is not None and "ValueError: no such column" in ended.error_message


def _in_none(secret: Secret, texts: list[bytes]) -> None:
    assert not any(secret.reveal().encode() in text for text in texts)
