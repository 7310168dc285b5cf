"""Operators see what all users have at providers, what it costs so far, and how providers did."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db.settings import Settings
from db.unit_of_work import Database
from domain.clock import FixedClock
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.events import time_text
from domain.training.model import EtaPrediction, RunAttempt
from domain.training.status import EndReason, Provider, RunStatus
from domain.viewer import Scope, Viewer
from graph.ids import global_id
from tests.domain.callback.support import make_operator
from tests.factories import make_run, make_user
from tests.graph.deployment.asking import Asking

pytestmark = pytest.mark.anyio

RESOURCES = "query ($filter: ResourceFilter) { resources(filter: $filter) { nodes { id } } }"
FIGURES = """query ($since: DateTime, $test: Boolean! = false) { providerFigures(since: $since, test: $test) {
  provider attempts succeeded failed canceled withoutCapacity successRate secondsToStartMedian secondsToStart95
  costMicros failedCostMicros failedCostMicrosHighest etaPredictions etaWithin etaErrorMedian } }"""


@pytest.fixture
def ask(settings: Settings, database: Database) -> Asking:
    return Asking(settings, database)


@pytest.fixture
async def operator(database: Database, owner_engine: AsyncEngine) -> Viewer:
    viewer = await make_user(database, name="Grace")
    await make_operator(owner_engine, viewer)
    return viewer


@pytest.fixture
async def ada(database: Database) -> Viewer:
    return await make_user(database, name="Ada")


async def make_resource(database: Database, viewer: Viewer, **facts: Any) -> Resource:
    async with database.begin(viewer) as work:
        given: dict[str, Any] = {
            "created_at": work.now,
            "provider": Provider.RUNPOD,
            "kind": ResourceKind.TRAINING,
            "tag": f"run-{len(facts)}-{work.now.timestamp()}-{facts.get('reference')}",
            "status": ResourceStatus.ALIVE,
        }
        resource = Resource(user_id=viewer.require(), **given | facts)
        work.session.add(resource)
    return resource


class TestResources:
    async def ids(self, ask: Asking, viewer: Viewer, **filter: Any) -> set[str]:
        return {node["id"] for node in (await ask(RESOURCES, viewer, filter=filter))["resources"]["nodes"]}

    async def test_what_is_there_costs_more_by_the_second(
        self, ask: Asking, database: Database, ada: Viewer, clock: FixedClock
    ) -> None:
        run = await make_run(database, ada, status=RunStatus.TRAINING)
        resource = await make_resource(
            database,
            ada,
            run_id=run.id,
            attempt=1,
            gpu_type="NVIDIA L4",
            reference="pod-1",
            cost_micros=1_000,
            price_micros_per_hour=3_600_000,
            cost_at=clock.now(),
            began_at=clock.now(),
        )
        clock.at += timedelta(seconds=90)
        document = """{ resources { nodes { id runId attempt gpuType isTest reference status costMicros ageSeconds
          priceMicrosPerHour createdAt beganAt endedAt } } }"""
        (shown,) = (await ask(document, ada))["resources"]["nodes"]
        began = time_text(clock.now() - timedelta(seconds=90))
        assert shown == {
            "id": global_id("Resource", resource.id),
            "runId": global_id("TrainingRun", run.id),
            "attempt": 1,
            "gpuType": "NVIDIA L4",
            "isTest": False,
            "reference": "pod-1",
            "status": "ALIVE",
            "costMicros": 91_000,
            "ageSeconds": 90.0,
            "priceMicrosPerHour": 3_600_000,
            "createdAt": began,
            "beganAt": began,
            "endedAt": None,
        }

    async def test_what_has_ended_costs_what_it_cost(
        self, ask: Asking, database: Database, ada: Viewer, clock: FixedClock
    ) -> None:
        given = {"cost_micros": 500, "price_micros_per_hour": 3_600_000, "cost_at": clock.now()}
        await make_resource(database, ada, status=ResourceStatus.ENDED, ended_at=clock.now(), age_seconds=12.5, **given)
        await make_resource(database, ada, status=ResourceStatus.INTENDED, **given | {"cost_at": None})
        clock.at += timedelta(hours=1)
        shown = (await ask("{ resources { nodes { costMicros ageSeconds } } }", ada))["resources"]["nodes"]
        assert shown == [{"costMicros": 500, "ageSeconds": 3600.0}, {"costMicros": 500, "ageSeconds": 12.5}]

    async def test_they_are_found_by_provider_and_by_whether_they_are_there(
        self, ask: Asking, database: Database, ada: Viewer, clock: FixedClock
    ) -> None:
        places = [
            (provider, status)
            for provider in (Provider.RUNPOD, Provider.E2B)
            for status in (ResourceStatus.ALIVE, ResourceStatus.ENDING, ResourceStatus.ENDED)
        ]
        made = {
            (provider, status): global_id(
                "Resource",
                (
                    await make_resource(
                        database, ada, provider=provider, status=status, reference=f"{provider}{status}"
                    )
                ).id,
            )
            for provider, status in places
        }
        assert await self.ids(ask, ada) == set(made.values())
        assert await self.ids(ask, ada, provider="E2B") == {made[place] for place in places[3:]}
        there = {made[place] for place in places if place[1] is not ResourceStatus.ENDED}
        assert await self.ids(ask, ada, alive=True) == there
        assert await self.ids(ask, ada, alive=False) == set(made.values()) - there
        assert await self.ids(ask, ada, alive=False, provider="RUNPOD") == {made[places[2]]}

    async def test_an_operator_sees_everybodys_and_their_own_unless_asked(
        self, ask: Asking, database: Database, ada: Viewer, operator: Viewer
    ) -> None:
        hers = global_id("Resource", (await make_resource(database, ada, reference="a")).id)
        ended = global_id(
            "Resource", (await make_resource(database, ada, reference="b", status=ResourceStatus.ENDED)).id
        )
        own = global_id("Resource", (await make_resource(database, operator, reference="c")).id)
        assert await self.ids(ask, operator) == {own}
        assert await self.ids(ask, operator, all=True) == {hers, ended, own}
        assert await self.ids(ask, operator, all=True, alive=True) == {hers, own}
        document = """query ($after: String) { resources(first: 1, after: $after, filter: {all: true}) {
          pageInfo { endCursor } nodes { id } } }"""
        after, seen = None, []
        for _ in range(3):
            page = (await ask(document, operator, after=after))["resources"]
            seen.append(page["nodes"][0]["id"])
            after = page["pageInfo"]["endCursor"]
        assert seen == [own, ended, hers]
        node = "query ($id: ID!) { node(id: $id) { id } }"
        assert (await ask(node, operator, id=hers))["node"] == {"id": hers}
        assert (await ask(node, ada, id=own))["node"] is None

    async def test_nobody_else_does(self, ask: Asking, database: Database, ada: Viewer, operator: Viewer) -> None:
        await make_resource(database, operator)
        assert await ask.code(RESOURCES, ada, filter={"all": True}) == "OPERATOR_ONLY"
        weak = Viewer(kind=operator.kind, user_id=operator.user_id, scopes=operator.scopes - {Scope.ACCOUNT_READ})
        assert await ask.code(RESOURCES, weak, filter={"all": True}) == "SCOPE_MISSING"


class TestFigures:
    async def tried(
        self, database: Database, worker: Database, viewer: Viewer, at: datetime, reason: EndReason | None, **facts: Any
    ) -> RunAttempt:
        """One attempt at RunPod, begun then."""
        run_facts = {"provider": Provider.RUNPOD, "test_mode": facts.pop("test_mode", False)}
        run = await make_run(database, viewer, status=RunStatus.TRAINING, attempts=0, **run_facts)
        given: dict[str, Any] = {"tag": f"run-{run.id}-1", "number": 1, "provider": Provider.RUNPOD, "started_at": at}
        async with worker.begin() as work:
            attempt = RunAttempt(created_at=at, user_id=run.user_id, run_id=run.id, end_reason=reason, **given | facts)
            work.session.add(attempt)
        return attempt

    async def test_success_time_to_start_and_cost_over_all_users(
        self,
        ask: Asking,
        database: Database,
        worker_database: Database,
        ada: Viewer,
        operator: Viewer,
        clock: FixedClock,
    ) -> None:
        now = clock.now()
        reasons = [
            (EndReason.SUCCEEDED, 100, 10.0),
            (EndReason.SUCCEEDED, 200, 20.0),
            (EndReason.SUCCEEDED, 300, 30.0),
            (EndReason.CODE_ERROR, 40, 40.0),
            (EndReason.CANCELED_BY_USER, 5, None),
            (EndReason.NO_CAPACITY, 0, None),
            (None, 7, None),
        ]
        for number, (reason, cost, seconds) in enumerate(reasons):
            began = now + timedelta(seconds=seconds) if seconds is not None else None
            viewer = (ada, operator)[number % 2]
            attempt = await self.tried(
                database, worker_database, viewer, now, reason, cost_micros=cost, training_began_at=began
            )
            if number < 2:
                async with worker_database.begin() as work:
                    said: dict[str, Any] = {"checkpoint": 50, "elapsed_seconds": 1, "predicted_seconds": 90}
                    bounds: dict[str, Any] = {"low_seconds": 80, "high_seconds": 110 - 20 * number}
                    work.session.add(
                        EtaPrediction(
                            created_at=now,
                            user_id=attempt.user_id,
                            run_id=attempt.run_id,
                            attempt=1,
                            provider=Provider.RUNPOD,
                            actual_seconds=100,
                            **said,
                            **bounds,
                        )
                    )
        await self.tried(database, worker_database, ada, now - timedelta(days=31), EndReason.CODE_ERROR)
        await self.tried(database, worker_database, ada, now, EndReason.CODE_ERROR, test_mode=True)
        assert (await ask(FIGURES, operator))["providerFigures"] == [
            {
                "provider": "RUNPOD",
                "attempts": 7,
                "succeeded": 3,
                "failed": 1,
                "canceled": 1,
                "withoutCapacity": 1,
                "successRate": 0.75,
                "secondsToStartMedian": 25.0,
                "secondsToStart95": 38.5,
                "costMicros": 652,
                "failedCostMicros": 45,
                "failedCostMicrosHighest": 40,
                "etaPredictions": 2,
                "etaWithin": 1,
                "etaErrorMedian": 0.1,
            }
        ]
        (tests,) = (await ask(FIGURES, operator, test=True))["providerFigures"]
        assert (tests["attempts"], tests["failed"], tests["successRate"]) == (1, 1, 0.0)
        (ever,) = (await ask(FIGURES, operator, since="2020-01-01T00:00:00Z"))["providerFigures"]
        assert (ever["attempts"], ever["failed"]) == (8, 2)

    async def test_nobody_else_sees_them(
        self, ask: Asking, database: Database, worker_database: Database, ada: Viewer, clock: FixedClock
    ) -> None:
        await self.tried(database, worker_database, ada, clock.now(), EndReason.SUCCEEDED)
        assert await ask.code(FIGURES, ada) == "OPERATOR_ONLY"
        assert await ask.code(FIGURES, Viewer.nobody()) == "NOT_SIGNED_IN"
