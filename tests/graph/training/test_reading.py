"""Reading runs: one, many by pages and filters, their events, logs and metrics."""

from datetime import timedelta
from typing import Any

import pytest

from domain.events import time_text
from domain.training.model import MetricPoint
from domain.training.report import LogChunk, LogText, Outcome
from domain.training.status import EndReason, LogLevel, Provider, RunStage, RunStatus
from domain.viewer import Viewer
from graph.ids import global_id
from tests.factories import make_model, make_run
from tests.graph.served import Served
from tests.graph.training.wishes import id_of

pytestmark = pytest.mark.anyio

LIST = """query ($first: Int! = 20, $after: String, $filter: TrainingRunFilter) {
  trainingRuns(first: $first, after: $after, filter: $filter) {
    nodes { id } edges { cursor node { id } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}"""
LOGS = """query (
  $id: ID!, $first: Int, $after: String, $last: Int, $before: String, $level: LogLevel, $search: String
) {
  trainingRun(id: $id) {
    logs(first: $first, after: $after, last: $last, before: $before, level: $level, search: $search) {
      edges { cursor node { line text level } } pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    }
  }
}"""
METRICS = """query ($id: ID!, $names: [String!], $most: Int! = 500) {
  trainingRun(id: $id) { metrics(names: $names, maxPoints: $most) { name attempt totalPoints points { step value } } }
}"""
EVENTS = """query ($id: ID!, $first: Int! = 20, $after: Cursor) {
  trainingRun(id: $id) {
    events(first: $first, after: $after) {
      edges { cursor node { __typename seq ... on RunStatusChanged { to } ... on RunLogged { fromLine toLine } } }
      pageInfo { hasNextPage hasPreviousPage endCursor }
    }
  }
}"""


class TestList:
    async def ids(self, served: Served, viewer: Viewer, **variables: Any) -> list[str]:
        page = (await served.data(LIST, served.token_of(viewer), **variables))["trainingRuns"]
        return [edge["node"]["id"] for edge in page["edges"]]

    async def test_pages_newest_first_while_rows_arrive(self, served: Served, ada: Viewer) -> None:
        token = served.token_of(ada)
        runs = [id_of(await make_run(served.database, ada)) for _ in range(5)]
        seen: list[str] = []
        after, pages = None, 0
        while True:
            page = (await served.data(LIST, token, first=2, after=after))["trainingRuns"]
            seen += [edge["node"]["id"] for edge in page["edges"]]
            assert [node["id"] for node in page["nodes"]] == [edge["node"]["id"] for edge in page["edges"]]
            assert page["pageInfo"]["startCursor"] == page["edges"][0]["cursor"]
            assert page["pageInfo"]["hasPreviousPage"] is (after is not None)
            after, pages = page["pageInfo"]["endCursor"], pages + 1
            await make_run(served.database, ada)  # somebody starts another one meanwhile: nothing shifts
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert seen == runs[::-1] and pages == 3

    async def test_filters_narrow_together(self, served: Served, ada: Viewer) -> None:
        model = await make_model(served.database, ada)
        early = served.clock.now()
        queued = await make_run(served.database, ada, model=model, tags=["a", "b"])
        training = await make_run(served.database, ada, status=RunStatus.TRAINING, tags=["a"])
        remote = await make_run(served.database, ada, status=RunStatus.FAILED, provider=Provider.REPLICATE)
        everything = [id_of(run) for run in (remote, training, queued)]
        cases: list[tuple[dict[str, Any], list[str]]] = [
            ({}, everything),
            ({"statuses": []}, everything),
            ({"statuses": ["TRAINING", "FAILED"]}, everything[:2]),
            ({"providers": ["REPLICATE"]}, everything[:1]),
            ({"tags": ["a"]}, everything[1:]),
            ({"tags": ["a", "b"]}, everything[2:]),
            ({"tags": ["a"], "statuses": ["TRAINING"]}, everything[1:2]),
            ({"modelId": global_id("AIModel", model.id)}, everything[2:]),
            ({"createdAfter": time_text(early - timedelta(seconds=1))}, everything),
            ({"createdBefore": time_text(early - timedelta(seconds=1))}, []),
            ({"createdAfter": time_text(training.created_at)}, everything[:1]),
            ({"tags": ["%"]}, []),
        ]
        for wanted, expected in cases:
            assert await self.ids(served, ada, filter=wanted) == expected, wanted

    @pytest.mark.parametrize("first", [0, -1, 101])
    async def test_a_page_has_bounds(self, served: Served, ada: Viewer, first: int) -> None:
        payload = await served.ask(LIST, served.token_of(ada), first=first)
        assert payload["errors"][0]["extensions"]["code"] == "BAD_PAGE"

    async def test_one_run_with_all_its_plain_fields(self, served: Served, ada: Viewer) -> None:
        run = await make_run(
            served.database, ada, status=RunStatus.TRAINING, progress=36.349, eta_seconds=90.5, cost_micros=2**40
        )
        served.clock.move(seconds=30)
        document = """query ($id: ID!) { trainingRun(id: $id) {
          status stage progress progressEstimated eta { seconds } endReason costMicros provider deploymentUrl
          attempts { number provider } durationSeconds timeLimitSeconds
        } }"""
        found = (await served.data(document, served.token_of(ada), id=id_of(run)))["trainingRun"]
        assert 30 <= found.pop("durationSeconds") < 60
        assert found == {
            "status": "TRAINING",
            "stage": "TRAINING",
            "progress": 36.35,
            "progressEstimated": True,
            "eta": {"seconds": 90.5},
            "endReason": None,
            "costMicros": 2**40,
            "provider": "LOCAL",
            "deploymentUrl": None,
            "attempts": [{"number": 1, "provider": "LOCAL"}],
            "timeLimitSeconds": 3600,
        }


class TestLogs:
    @pytest.fixture
    async def run_id(self, served: Served, ada: Viewer) -> str:
        """Ten lines: each third a warning, the seventh an error with a percent sign."""
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        at = served.clock.now()
        lines = []
        for number in range(1, 11):
            level = LogLevel.ERROR if number == 7 else LogLevel.WARNING if number % 3 == 0 else LogLevel.INFO
            lines.append(LogText(f"Line {number}" + (" at 7% of it" if number == 7 else ""), at, level))
        await served.tell(run.id, log=LogChunk(0, 10, tuple(lines)))
        return id_of(run)

    async def lines(self, served: Served, ada: Viewer, run_id: str, **wanted: Any) -> tuple[list[int], dict[str, Any]]:
        logs = (await served.data(LOGS, served.token_of(ada), id=run_id, **wanted))["trainingRun"]["logs"]
        return [edge["node"]["line"] for edge in logs["edges"]], logs["pageInfo"]

    async def test_from_the_beginning(self, served: Served, ada: Viewer, run_id: str) -> None:
        lines, page = await self.lines(served, ada, run_id, first=4)
        assert lines == [1, 2, 3, 4]
        assert page == {"hasNextPage": True, "hasPreviousPage": False, "startCursor": "1", "endCursor": "4"}
        lines, page = await self.lines(served, ada, run_id, first=100, after=page["endCursor"])
        assert lines == [5, 6, 7, 8, 9, 10]
        assert (page["hasNextPage"], page["hasPreviousPage"]) == (False, True)

    async def test_from_the_end(self, served: Served, ada: Viewer, run_id: str) -> None:
        lines, page = await self.lines(served, ada, run_id, last=3)
        assert lines == [8, 9, 10]
        assert (page["hasNextPage"], page["hasPreviousPage"]) == (False, True)
        lines, page = await self.lines(served, ada, run_id, last=100, before=page["startCursor"])
        assert lines == [1, 2, 3, 4, 5, 6, 7]
        assert (page["hasNextPage"], page["hasPreviousPage"]) == (True, False)

    async def test_all_of_a_short_log_by_default(self, served: Served, ada: Viewer, run_id: str) -> None:
        assert (await self.lines(served, ada, run_id))[0] == list(range(1, 11))

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"level": "DEBUG"}, list(range(1, 11))),
            ({"level": "WARNING"}, [3, 6, 7, 9]),
            ({"level": "ERROR"}, [7]),
            ({"search": "LINE 1"}, [1, 10]),
            ({"search": "7% of"}, [7]),
            ({"search": "%"}, [7]),
            ({"search": "_"}, []),
            ({"search": "line", "level": "WARNING", "last": 2}, [7, 9]),
            ({"search": "line", "after": "8"}, [9, 10]),
        ],
    )
    async def test_by_level_and_words(
        self, served: Served, ada: Viewer, run_id: str, wanted: dict[str, Any], expected: list[int]
    ) -> None:
        assert (await self.lines(served, ada, run_id, **wanted))[0] == expected

    @pytest.mark.parametrize(
        ("wanted", "field"),
        [
            ({"first": 0}, "first"),
            ({"first": 1001}, "first"),
            ({"last": -1}, "last"),
            ({"first": 1, "last": 1}, "first"),
            ({"after": "x"}, "after"),
            ({"before": "-1"}, "before"),
            ({"search": ""}, "search"),
            ({"search": "x" * 201}, "search"),
        ],
    )
    async def test_what_cannot_be_asked(
        self, served: Served, ada: Viewer, run_id: str, wanted: dict[str, Any], field: str
    ) -> None:
        payload = await served.ask(LOGS, served.token_of(ada), id=run_id, **wanted)
        extensions = payload["errors"][0]["extensions"]
        assert (extensions["code"], extensions["field"]) == ("BAD_RUN_INPUT", [field])


class TestMetrics:
    async def test_series_are_thinned_and_keep_their_shape(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        at = served.clock.now()
        async with served.worker.begin() as work:
            for step in range(1000):
                value = 99.0 if step == 500 else 1 / (step + 1)
                point: dict[str, Any] = {"run_id": run.id, "user_id": run.user_id, "attempt": 1, "step": step, "at": at}
                work.session.add(MetricPoint(name="loss", value=value, **point))
                if step < 3:
                    work.session.add(MetricPoint(name="accuracy", value=step / 10, **point))
        token = served.token_of(ada)
        found = (await served.data(METRICS, token, id=id_of(run), most=20))["trainingRun"]["metrics"]
        accuracy, loss = found
        assert accuracy["points"] == [{"step": step, "value": step / 10} for step in range(3)]
        assert (loss["name"], loss["attempt"], loss["totalPoints"]) == ("loss", 1, 1000)
        steps = [point["step"] for point in loss["points"]]
        assert len(steps) <= 20 and steps == sorted(set(steps))
        assert (steps[0], steps[-1]) == (0, 999) and 500 in steps  # the ends and the spike
        only = (await served.data(METRICS, token, id=id_of(run), names=["accuracy"]))["trainingRun"]["metrics"]
        assert [series["name"] for series in only] == ["accuracy"]

    @pytest.mark.parametrize("most", [1, 5001])
    async def test_points_have_bounds(self, served: Served, ada: Viewer, most: int) -> None:
        run = await make_run(served.database, ada)
        payload = await served.ask(METRICS, served.token_of(ada), id=id_of(run), most=most)
        assert payload["errors"][0]["extensions"]["code"] == "BAD_RUN_INPUT"


class TestEvents:
    async def test_the_past_is_told_in_order_and_by_pages(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, attempts=1)
        await served.tell(run.id, stage=RunStage.TRAINING)
        await served.tell(run.id, log=LogChunk(0, 1, (LogText("hello", served.clock.now()),)))
        await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR, "boom"))
        token = served.token_of(ada)
        everything = (await served.data(EVENTS, token, id=id_of(run)))["trainingRun"]["events"]
        assert [edge["node"] for edge in everything["edges"]] == [
            {"__typename": "RunStageChanged", "seq": 1},
            {"__typename": "RunStatusChanged", "seq": 2, "to": "TRAINING"},
            {"__typename": "RunLogged", "seq": 3, "fromLine": 1, "toLine": 1},
            {"__typename": "RunStatusChanged", "seq": 4, "to": "FAILED"},
        ]
        seen, after = [], None
        while True:
            page = (await served.data(EVENTS, token, id=id_of(run), first=3, after=after))["trainingRun"]["events"]
            seen += page["edges"]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert seen == everything["edges"]
