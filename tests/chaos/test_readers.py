"""What a reader saw of somebody else's, twice, or not at all is found."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from domain.training.status import Provider
from graph.cli.client import Client
from graph.cli.errors import BrokenStream
from graph.ids import global_id
from tests.chaos.people import Feed, Person, StartedRun
from tests.chaos.plan import PlannedRun
from tests.chaos.readers import about_feed, about_run
from tests.e2e.harness import Run, Tenant
from tests.e2e.watching import Watcher

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:1"
MINE, THEIRS = UUID(int=1), UUID(int=2)
OWN = {global_id("TrainingRun", MINE)}
STORED = {seq: {"seq": seq, "type": "run.progressed", "run": str(MINE)} for seq in (1, 2, 3)}


@pytest.fixture
async def person() -> AsyncIterator[Person]:
    """Somebody who was told everything, once and in order."""
    async with Client(URL) as client, Client(URL) as reader:
        feed = Feed(reader, [URL])
        feed.messages = [
            {"__typename": "ActivitySnapshot", "seq": 1, "firstSeq": 1, "activeRuns": [{"id": next(iter(OWN))}]},
            told(2, MINE),
            told(3, MINE),
        ]
        yield Person(0, UUID(int=9), Tenant(client, "dataset"), [URL], {}, feed)


def told(seq: int, run: UUID) -> dict[str, Any]:
    return {"__typename": "RunProgressed", "seq": seq, "firstSeq": seq, "runId": global_id("TrainingRun", run)}


def kinds(person: Person, newest: int = 3) -> list[str]:
    return [finding.kind for finding in about_feed(person, STORED, newest, OWN)]


class TestFeeds:
    async def test_what_is_as_it_should_be_is_let_pass(self, person: Person) -> None:
        assert kinds(person) == []

    async def test_somebody_elses_run_is_found(self, person: Person) -> None:
        person.feed.messages[1] = told(2, THEIRS)
        assert kinds(person) == ["tenants", "events"]

    async def test_somebody_elses_run_in_a_snapshot_is_found(self, person: Person) -> None:
        person.feed.messages[0]["activeRuns"].append({"id": global_id("TrainingRun", THEIRS)})
        assert kinds(person) == ["tenants"]

    async def test_somebody_elses_model_is_found(self, person: Person) -> None:
        person.feed.messages[2] = {"__typename": "ModelStatusChanged", "seq": 3, "firstSeq": 3, "modelId": "theirs"}
        assert kinds(person) == ["tenants"]

    async def test_what_never_came_is_found(self, person: Person) -> None:
        assert kinds(person, newest=4) == ["events"]

    async def test_what_came_wrongly_and_what_ended_it_is_found(self, person: Person) -> None:
        person.feed.stream.wrong.append("RunProgressed 2…2 came after 2")
        person.feed.ended_by = BrokenStream("It broke.")
        assert kinds(person) == ["events", "events"]


class TestRuns:
    async def test_a_stream_that_is_whole_is_let_pass_and_each_other_is_found(self, person: Person) -> None:
        run = Run(next(iter(OWN)), MINE)
        planned = PlannedRun(0, 0, Provider.E2B, "success", 0.0, "nothing")
        watcher = Watcher(person.tenant, run, [URL])
        watcher.ended.set()
        watcher.messages = [{**told(seq, MINE), "status": "READY" if seq == 3 else "TRAINING"} for seq in (1, 2, 3)]
        one = StartedRun(planned, run, person, watcher)
        assert [*about_run(one, 3)] == []
        assert [finding.kind for finding in about_run(one, 4)] == ["events"]
        watcher.messages[1] |= {"runId": global_id("TrainingRun", THEIRS)}
        assert [finding.kind for finding in about_run(one, 3)] == ["tenants"]
        del watcher.messages[1]
        assert [finding.kind for finding in about_run(one, 3)] == ["events"]
        watcher.messages.clear()
        assert [finding.kind for finding in about_run(one, 3)] == ["events"]
        await watcher.client.close()
