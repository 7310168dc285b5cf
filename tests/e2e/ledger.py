"""The ledger of a run: what must be true of its rows, its sandbox and its readers, whatever happened on the way."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from domain.training.status import RunStatus
from graph.cli import documents
from jobs.providers.local.folders import inhabitants
from jobs.providers.local.sandbox import Sandbox, tags_of
from jobs.providers.local.transcript import Transcript, transcript_of
from tests.e2e.harness import Rows, Run, Tenant, World, until
from tests.e2e.watching import Watcher

ENDED_SECONDS = 30.0
"""The sweep for resources that nobody owns comes every five seconds; what a killed worker had taken up waits ten."""


async def check_run(
    world: World,
    tenant: Tenant,
    run: Run,
    *,
    status: RunStatus = RunStatus.READY,
    deploy: bool = False,
    watchers: Sequence[Watcher] = (),
) -> None:
    """The run ended so, was trained once, and everything is written down once. Ends its app, if it has one."""
    async with world.database() as rows:
        await rows.until_status(run.row, status)
        row = await rows.one("SELECT * FROM training_runs WHERE id = $1", run.row)
        await _check_events(rows, row, status)
        tags = [tag for tag in await anyio.to_thread.run_sync(tags_of, world.folder) if run.row.hex in tag]
        await _check_training(world, rows, run, row, tags, status)
        await _check_grants(rows, run)
        if deploy and status is RunStatus.READY:
            await _check_app(world, tenant, rows, run)
        await _check_resources(world, rows, run)
    for watcher in watchers:
        assert watcher.problems() == []
        assert watcher.seqs[-1] == row["seq"]


async def _check_events(rows: Rows, run: dict[str, Any], status: RunStatus) -> None:
    events = await rows.all("SELECT seq, type, data, run FROM run_events WHERE run_id = $1 ORDER BY seq", run["id"])
    assert [event["seq"] for event in events] == list(range(1, run["seq"] + 1))
    facts = [(event["type"], json.loads(event["data"]), json.loads(event["run"])) for event in events]
    changes = [data for type, data, _ in facts if type == "run.status_changed"]
    assert [change["final"] for change in changes] == [False] * (len(changes) - 1) + [True]
    assert (facts[-1][0], changes[-1]["to"]) == ("run.status_changed", status)
    assert all(before["to"] == after["from"] for before, after in itertools.pairwise(changes))
    assert [type for type, _, _ in facts].count("run.attempt_started") == 1, "It was attempted more than once"
    told = [run["progress"] for _, _, run in facts]
    assert told == sorted(told), "Progress fell"
    logged = [data for type, data, _ in facts if type == "run.logged"]
    lines = [number for data in logged for number in range(data["fromLine"], data["toLine"] + 1)]
    assert lines == list(range(1, run["log_lines"] + 1)), "The events do not tell each log line once"
    feed = await rows.column(
        "SELECT (data->>'runSeq')::int FROM feed_events WHERE run->>'id' = $1 OR data->>'runId' = $1 ORDER BY seq",
        str(run["id"]),
    )
    of_run = [seq for seq in feed if seq is not None]
    assert of_run == sorted(set(of_run)), "The feed tells an event twice, or out of order"


async def _check_training(
    world: World, rows: Rows, run: Run, row: dict[str, Any], tags: list[str], status: RunStatus
) -> None:
    assert row["attempt"] == 1
    said: Transcript | None = None  # what is canceled leaves nothing that is worth its place on the disk
    if tags or status is RunStatus.READY:
        assert tags == [f"run-{run.row.hex}-1"]
        said = await anyio.to_thread.run_sync(_read, world.folder, tags[0])
        starts = [line.text for line in said.lines if line.text.startswith("recipe ")]
        assert len(starts) <= 1, "The training's program was started more than once"
        assert len(starts) == 1 or status is not RunStatus.READY
        assert await anyio.to_thread.run_sync(inhabitants, Sandbox(world.folder, tags[0]).folder) == set()
    stored = await rows.all("SELECT line, text FROM run_logs WHERE run_id = $1 ORDER BY line", run.row)
    assert [line["line"] for line in stored] == list(range(1, row["log_lines"] + 1))
    if said is not None:
        texts, written = [line["text"] for line in stored], [line.text for line in said.lines]
        # A canceled run's last words are not waited for.
        assert texts == (written if status is RunStatus.READY else written[: len(texts)])
    points = {
        (point["name"], point["step"])
        for point in await rows.all("SELECT * FROM run_metrics WHERE run_id = $1", run.row)
    }
    told = await rows.column("SELECT data FROM run_events WHERE run_id = $1 AND type = 'run.measured'", run.row)
    readings = [(reading["name"], reading["step"]) for data in told for reading in json.loads(data)["readings"]]
    assert len(readings) == len(points) and set(readings) == points
    if said is not None and status is RunStatus.READY:
        assert points == {(reading.name, reading.step) for reading in said.readings}
        assert await rows.value("SELECT count(*) FROM run_artifacts WHERE run_id = $1", run.row) == 1


async def _check_grants(rows: Rows, run: Run) -> None:
    live = "SELECT count(*) FROM dataset_download_tokens WHERE run_id = $1 AND revoked_at IS NULL"
    assert await rows.value(live, run.row) == 0, "A grant of an ended run is still good"


async def _check_app(world: World, tenant: Tenant, rows: Rows, run: Run) -> None:
    """One deployment, live, that answers; then it is stopped, since it takes memory."""
    found = await rows.all("SELECT id, status FROM deployments WHERE run_id = $1", run.row)
    assert [deployment["status"] for deployment in found] == ["LIVE"]
    apps = [tag for tag in await anyio.to_thread.run_sync(tags_of, world.folder) if found[0]["id"].hex in tag]
    assert len(apps) == 1, "The model is served more than once"
    view = await tenant.client.ask(documents.RUN, id=run.id)
    answer = await tenant.client.post_json(
        f"{view['deploymentUrl']}predict", {"rows": [{"a": 5.1, "b": 3.5, "c": 1.4, "d": 0.2}]}
    )
    assert len(answer["predictions"]) == 1
    await tenant.stop_deployment(found[0]["id"])


async def _check_resources(world: World, rows: Rows, run: Run) -> None:
    left = "SELECT id FROM provider_resources WHERE run_id = $1 AND status <> 'ENDED'"

    async def all_ended() -> bool:
        return not await rows.column(left, run.row)

    await until("every resource of the run is ended", all_ended, limit_seconds=ENDED_SECONDS)
    tags = await rows.column("SELECT tag FROM provider_resources WHERE run_id = $1", run.row)
    assert len(tags) == len(set(tags))
    for tag in [*tags, *(f"app-{tag}" for tag in tags)]:
        assert await anyio.to_thread.run_sync(inhabitants, Sandbox(world.folder, tag).folder) == set()


def _read(folder: Path, tag: str) -> Transcript:
    """What the sandbox's own log file says."""
    return transcript_of((Sandbox(folder, tag).folder / "log").read_bytes().split(b"\n")[:-1])
