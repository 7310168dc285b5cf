"""LocalTrainer and LocalAppHost: real trainings of real data, watched to their end, then served."""

import json
import os
import signal
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen
from uuid import UUID, uuid4

import anyio
import pytest

from domain.training.recipes import checked_hyperparameters
from domain.training.report import Report, StoredArtifact
from domain.training.status import EndReason, LogLevel, RunStage, RunStatus
from jobs.providers.base import (
    AppOrder,
    DatasetOrder,
    Position,
    ProviderLost,
    ProviderRefused,
    RunningApp,
    Started,
    TrainingOrder,
)
from jobs.providers.local.app_host import LocalAppHost
from jobs.providers.local.folders import inhabitants
from jobs.providers.local.sandbox import Sandbox, SandboxState
from jobs.providers.local.trainer import LocalTrainer
from tests.jobs.providers.local.support import GIB, WAIT_LIMIT_SECONDS, ended, supervisor_of
from tests.jobs.recipes.data import as_csv, as_jsonl, diabetes, digits, sentences
from tests.jobs.recipes.serving import DatasetServer, serving

pytestmark = pytest.mark.anyio

RUN = UUID("01890000-0000-7000-8000-000000000001")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests of this module, so that the environment is made once."""
    return tmp_path_factory.mktemp("local")


@pytest.fixture
def trainer(data_dir: Path) -> LocalTrainer:
    return LocalTrainer(data_dir)


def order(
    dataset: DatasetOrder | None, recipe: str = "tabular-classification", **hyperparameters: object
) -> TrainingOrder:
    return TrainingOrder(
        tag=uuid4().hex,
        run_id=RUN,
        attempt=1,
        recipe=recipe,
        hyperparameters=checked_hyperparameters(recipe, {"epochs": 1, **hyperparameters}, None),
        dataset=dataset,
        time_limit_seconds=60,
        memory_limit_bytes=2 * GIB,
        disk_limit_bytes=GIB,
    )


async def followed(trainer: LocalTrainer, tag: str) -> list[Report]:
    """All reports to the end, each read where the one before ended."""
    reports = []
    offset = 0
    with anyio.fail_after(WAIT_LIMIT_SECONDS * 2):
        while True:
            report = await trainer.report(tag, Position(offset, 1), datetime.now(UTC))
            if report.log is not None:
                assert report.log.start == offset
                offset = report.log.end
            reports.append(report)
            if report.outcome is not None or report.vanished:
                return reports
            await anyio.sleep(0.05)


async def trains(trainer: LocalTrainer, tag: str) -> None:
    """Wait until its first epochs are told."""
    with anyio.fail_after(WAIT_LIMIT_SECONDS):
        while True:
            if (await trainer.report(tag, Position(0, 1), datetime.now(UTC))).percent:
                return
            await anyio.sleep(0.05)


def all_that_others_see(pids: set[int], folder: Path) -> list[bytes]:
    """Arguments and environments of processes, and every file of a folder."""
    shown = [Path(f"/proc/{pid}/{name}").read_bytes() for pid in pids for name in ("cmdline", "environ")]
    return shown + [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def texts(reports: list[Report]) -> list[str]:
    return [line.text for report in reports if report.log for line in report.log.lines]


def ask(app: RunningApp, path: str, body: object = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"http://{app.host}:{app.port}/{path}", data=data, headers=headers)
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def served(host_order: StoredArtifact) -> AppOrder:
    return AppOrder(uuid4().hex, RUN, host_order.location, host_order.sha256, GIB)


@pytest.mark.parametrize(
    ("recipe", "kind", "content", "options", "metric", "least"),
    [
        ("tabular-classification", "CSV", as_csv(digits(900)), {"epochs": 12}, "validation_accuracy", 0.95),
        ("tabular-regression", "JSONL", as_jsonl(diabetes()), {"epochs": 30, "model": "linear"}, "validation_r2", 0.3),
        ("text-classification", "CSV", as_csv(sentences()), {"epochs": 5}, "validation_accuracy", 0.95),
    ],
)
async def test_a_recipe_trains_and_its_model_is_served(
    trainer: LocalTrainer,
    data_dir: Path,
    recipe: str,
    kind: str,
    content: bytes,
    options: Mapping[str, Any],
    metric: str,
    least: float,
) -> None:
    with serving(DatasetServer(content)) as server:
        wish = order(server.order(kind), recipe, **options)
        assert await trainer.start(wish) == Started(wish.tag)
        assert await trainer.find(wish.tag) == Started(wish.tag)
        reports = await followed(trainer, wish.tag)

    last = reports[-1]
    assert last.outcome is not None
    assert last.outcome.end_reason is EndReason.SUCCEEDED
    assert all(report.artifact is None for report in reports[:-1])
    stages = list(dict.fromkeys(report.stage for report in reports if report.stage is not None))
    assert stages == sorted(stages, key=lambda stage: stage.rank)
    assert stages[-1] is RunStage.SAVING
    percents = [report.percent for report in reports if report.percent is not None]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    readings = [reading for report in reports for reading in report.readings]
    epochs = list(range(1, options["epochs"] + 1))
    assert [reading.step for reading in readings if reading.name == "loss"] == epochs
    assert [reading.step for reading in readings if reading.name == metric] == epochs
    assert sum(text.startswith("epoch ") for text in texts(reports)) == options["epochs"]
    assert not any("::runwire" in text for text in texts(reports))

    artifact = last.artifact
    assert artifact is not None
    assert artifact.details["metrics"][metric] >= least  # type: ignore[index]  # details are plain JSON
    assert artifact.details["runId"] == str(RUN)

    host = LocalAppHost(data_dir)
    app = await host.start(served(artifact))
    try:
        samples: list[dict[str, Any]] = artifact.details["samples"]  # type: ignore[assignment]  # as above
        assert len(samples) == 5
        status, text = await anyio.to_thread.run_sync(
            ask, app, "predict", {"rows": [sample["row"] for sample in samples]}
        )
        answer = json.loads(text)
        assert status == 200
        assert (answer["runId"], answer["artifactSha256"]) == (str(RUN), artifact.sha256)
        assert answer["predictions"] == pytest.approx([sample["prediction"] for sample in samples])
        for sample in samples:  # one by one the same
            _, text = await anyio.to_thread.run_sync(ask, app, "predict", {"rows": [sample["row"]]})
            assert json.loads(text)["predictions"] == pytest.approx([sample["prediction"]])
    finally:
        assert await host.stop(app.reference)


async def test_an_app_outlives_its_training_and_comes_back_after_a_kill(trainer: LocalTrainer, data_dir: Path) -> None:
    with serving(DatasetServer(as_csv(digits(120)))) as server:
        wish = order(server.order(), model="linear")
        await trainer.start(wish)
        artifact = (await followed(trainer, wish.tag))[-1].artifact
    assert artifact is not None
    host = LocalAppHost(data_dir)
    app_order = served(artifact)
    apps: list[RunningApp] = []

    async def start() -> None:
        apps.append(await host.start(app_order))

    async with anyio.create_task_group() as group:
        group.start_soon(start)
        group.start_soon(start)
    app, same = apps
    assert app == same
    assert await host.is_alive(app.reference)
    status, text = await anyio.to_thread.run_sync(ask, app, "")
    assert (status, json.loads(text)["artifactSha256"]) == (200, artifact.sha256)

    os.kill(supervisor_of(Sandbox(data_dir, app.reference)), signal.SIGKILL)
    await ended(Sandbox(data_dir, app.reference))
    assert not await host.is_alive(app.reference)
    app = await host.start(app_order)
    assert await host.is_alive(app.reference)

    assert await Sandbox(data_dir, wish.tag).remove()
    status, _ = await anyio.to_thread.run_sync(ask, app, "health")
    assert status == 200
    assert await host.stop(app.reference)
    assert not await host.is_alive(app.reference)
    assert await host.stop(app.reference)
    with pytest.raises(ProviderRefused, match="not there any more"):
        await host.start(app_order)


async def test_an_app_whose_model_was_changed_does_not_start(data_dir: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.joblib"
    model.write_bytes(b"not what was trained")

    with pytest.raises(ProviderRefused, match="SHA-256 differs"):
        await LocalAppHost(data_dir).start(AppOrder(uuid4().hex, RUN, str(model), "0" * 64, GIB))


async def test_a_cut_download_goes_on_where_it_stopped(trainer: LocalTrainer) -> None:
    content = as_csv(digits(200))
    with serving(DatasetServer(content, cut_after=[10_000])) as server:
        wish = order(server.order(), model="linear")
        await trainer.start(wish)
        reports = await followed(trainer, wish.tag)

    assert server.ranges == [None, "bytes=10000-"]
    assert reports[-1].outcome is not None
    assert reports[-1].outcome.succeeded
    warned = [line for report in reports if report.log for line in report.log.lines if line.level is LogLevel.WARNING]
    assert "stopped at 10,000" in warned[0].text


@pytest.mark.parametrize(
    ("content", "faults", "words"),
    [
        (as_csv(digits(50)), {"sha256": "0" * 64}, "SHA-256 differs"),
        (b"a,b,label\n1,2,x\n1,2\n", {}, "Line 3 of the CSV has 2 values"),
        (as_csv(digits(50)), {"answer": 403}, "refused (403)"),
        (as_csv(digits(50)), {"targetColumn": "colour"}, "no column 'colour'"),
    ],
)
async def test_bad_data_ends_it_with_a_diagnosis(
    trainer: LocalTrainer, content: bytes, faults: dict[str, Any], words: str
) -> None:
    server = DatasetServer(content, answers=[faults["answer"]] if "answer" in faults else [])
    options = {"targetColumn": faults["targetColumn"]} if "targetColumn" in faults else {}
    with serving(server):
        wish = order(server.order(sha256=faults.get("sha256")), **options)
        await trainer.start(wish)
        reports = await followed(trainer, wish.tag)

    outcome = reports[-1].outcome
    assert outcome is not None
    assert outcome.end_reason is EndReason.DATA_ERROR
    assert words in (outcome.message or "")
    assert texts(reports)[-1] == f"ERROR {outcome.message}"
    assert reports[-1].artifact is None


async def test_a_training_that_runs_away_is_told_at_once(trainer: LocalTrainer) -> None:
    with serving(DatasetServer(as_csv(diabetes()))) as server:
        wish = order(server.order(), "tabular-regression", model="linear", learningRate=1_000.0, epochs=500)
        await trainer.start(wish)
        reports = await followed(trainer, wish.tag)

    assert reports[-1].outcome is not None
    assert reports[-1].outcome.end_reason is EndReason.DIVERGED


async def test_the_grant_is_nowhere_to_be_read(trainer: LocalTrainer, data_dir: Path) -> None:
    with serving(DatasetServer(as_csv(digits(300)))) as server:
        wish = order(server.order(), epochs=10_000)
        await trainer.start(wish)
        sandbox = Sandbox(data_dir, wish.tag)
        await trains(trainer, wish.tag)
        pids = inhabitants(sandbox.folder) | {supervisor_of(sandbox)}
        shown = all_that_others_see(pids, sandbox.folder)

        assert await trainer.stop(wish.tag)

    assert len(pids) == 2
    assert not any(server.token.encode() in content for content in shown)
    reports = await followed(trainer, wish.tag)
    assert (reports[-1].outcome, reports[-1].vanished) == (None, True)
    assert not inhabitants(sandbox.folder)


async def test_a_time_limit_comes_after_the_tail_of_the_log(trainer: LocalTrainer) -> None:
    with serving(DatasetServer(as_csv(digits(300)))) as server:
        wish = order(server.order(), epochs=10_000, hiddenLayers=[8])
        short = TrainingOrder(**{**{name: getattr(wish, name) for name in wish.__slots__}, "time_limit_seconds": 3})
        await trainer.start(short)
        reports = await followed(trainer, wish.tag)

    outcome = reports[-1].outcome
    assert outcome is not None
    assert (outcome.end_reason, outcome.message) == (EndReason.TIMED_OUT, "The time limit of 3 seconds was reached.")
    assert texts(reports)[-1] == f"WARNING {outcome.message}"
    statuses = {report.status for report in reports if report.status is not None}
    assert statuses <= {RunStatus.PREPARING, RunStatus.TRAINING}


async def test_when_the_supervisor_is_killed_the_attempt_has_vanished(trainer: LocalTrainer, data_dir: Path) -> None:
    with serving(DatasetServer(as_csv(digits(300)))) as server:
        wish = order(server.order(), epochs=10_000)
        await trainer.start(wish)
        sandbox = Sandbox(data_dir, wish.tag)
        assert await sandbox.state() is SandboxState.RUNNING
        os.kill(supervisor_of(sandbox), signal.SIGKILL)
        reports = await followed(trainer, wish.tag)

    assert reports[-1].vanished
    assert reports[-1].outcome is None
    assert await trainer.stop(wish.tag)


async def test_a_report_starts_what_its_maker_could_not(trainer: LocalTrainer, data_dir: Path) -> None:
    with serving(DatasetServer(as_csv(digits(60)))) as server:
        wish = order(server.order(), model="linear")
        await trainer.start(wish)
        await followed(trainer, wish.tag)
        half = Sandbox(data_dir, uuid4().hex)
        made = Sandbox(data_dir, wish.tag)
        spec = json.loads((made.folder / "spec.json").read_text(encoding="utf-8"))
        half.home.mkdir(parents=True)
        (half.folder / "spec.json").write_text(json.dumps({**spec, "argv": ["/bin/echo", "at last"]}))

        # The folder is there, its supervisor is not: as after a kill between the two.
        spec_home = spec["environment"]["HOME"]
        assert spec_home.endswith("home")
        reports = await followed(trainer, half.tag)

    assert texts(reports) == ["at last"]
    assert reports[-1].outcome is not None
    assert reports[-1].outcome.message == "The program ended without saying how."


async def test_what_was_never_started_is_lost(trainer: LocalTrainer) -> None:
    assert await trainer.find("never") is None
    with pytest.raises(ProviderLost):
        await trainer.report("never", Position(0, 1), datetime.now(UTC))
    assert await trainer.stop("never")


async def test_an_order_without_data_is_refused(trainer: LocalTrainer) -> None:
    wish = order(None)
    with pytest.raises(ProviderRefused):
        await trainer.start(wish)
    assert await trainer.find(wish.tag) is None
