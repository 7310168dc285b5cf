"""The plain event doors, as an EventSource, curl or a browser tab sees them; and GraphQL's own stream."""

import anyio
import orjson
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.types import ASGIApp

from db.postgres import owner_engine
from domain.events import Stream, StreamKind
from domain.journal.cursor import StreamCursor
from domain.training.model import TrainingRun
from domain.training.report import LogChunk, LogText, Outcome
from domain.training.status import EndReason, RunStage, RunStatus
from domain.viewer import Viewer
from graph.app import Api
from graph.routes.events import event_routes
from tests.factories import make_run
from tests.graph.served import EventReader, Served, bearer, data_of, serving
from tests.graph.training.following import FOLLOW
from tests.graph.training.wishes import id_of

pytestmark = pytest.mark.anyio

QUICK_SECONDS = 0.05


@pytest.fixture
async def run(served: Served, ada: Viewer) -> TrainingRun:
    return await make_run(served.database, ada, attempts=1)


def cursor(run: TrainingRun, seq: int) -> str:
    return str(StreamCursor(Stream(StreamKind.RUN, run.id), 1, seq))


class TestARun:
    async def test_is_told_from_connected_to_complete(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        async with served.events(f"/runs/{run.id}/events", served.token_of(ada)) as reader:
            headers = reader.response.headers
            assert headers["content-type"] == "text/event-stream; charset=utf-8"
            assert headers["cache-control"] == "no-store" and headers["x-accel-buffering"] == "no"
            connected, snapshot = await reader.next(), await reader.next()
            assert data_of(connected)["stream"] == f"run:{run.id}"
            assert (connected["event"], "id" in connected) == ("connected", False)
            assert (snapshot["event"], snapshot["id"]) == ("snapshot", cursor(run, 0))
            assert data_of(snapshot)["run"]["status"] == "QUEUED"
            await served.tell(run.id, stage=RunStage.TRAINING)
            await served.tell(run.id, log=LogChunk(0, 1, (LogText("hello", served.clock.now()),)))
            await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR, "boom"))
            rest = await reader.rest()
        assert [event["event"] for event in rest] == [
            "run.stage_changed",
            "run.status_changed",
            "run.logged",
            "run.status_changed",
            "complete",
        ]
        assert [event["id"] for event in rest[:-1]] == [cursor(run, seq) for seq in range(1, 5)]
        logged = data_of(rest[2])
        assert {name: logged[name] for name in ("v", "type", "stream", "seq", "firstSeq", "cursor", "attempt")} == {
            "v": 1,
            "type": "run.logged",
            "stream": f"run:{run.id}",
            "seq": 3,
            "firstSeq": 3,
            "cursor": cursor(run, 3),
            "attempt": 1,
        }
        assert logged["data"]["lines"][0]["text"] == "hello" and logged["run"]["status"] == "TRAINING"

    @pytest.mark.parametrize("way", ["header", "address"])
    async def test_goes_on_behind_the_last_event_id(
        self, served: Served, ada: Viewer, run: TrainingRun, way: str
    ) -> None:
        await served.tell(run.id, stage=RunStage.TRAINING)
        await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR))
        path, headers = f"/runs/{id_of(run)}/events", {"last_event_id": cursor(run, 1)}
        if way == "address":
            path, headers = f"{path}?after={cursor(run, 1)}", {}
        async with served.events(path, served.token_of(ada), **headers) as reader:
            rest = await reader.rest()
        assert [event.get("id") for event in rest] == [None, cursor(run, 2), cursor(run, 3), None]

    async def test_tells_a_gap_where_the_past_is_gone(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        async with served.events(
            f"/runs/{run.id}/events", served.token_of(ada), last_event_id=cursor(run, 99)
        ) as reader:
            await reader.next()
            gap = await reader.next()
        assert (gap["event"], gap["id"]) == ("gap", cursor(run, 0))
        assert data_of(gap)["run"]["id"] == id_of(run)


class TestTheFeed:
    async def test_begins_with_what_goes_on(self, served: Served, ada: Viewer) -> None:
        going = await make_run(served.database, ada, status=RunStatus.TRAINING)
        async with served.events("/events", served.token_of(ada)) as reader:
            assert (await reader.next())["event"] == "connected"
            snapshot = data_of(await reader.next())
            assert [run["id"] for run in snapshot["runs"]] == [id_of(going)]
            await served.tell(going.id, percent=50.0)
            told = await reader.next()
        assert told["event"] == "run.progressed"
        assert data_of(told)["stream"] == f"user:{ada.user_id}" and data_of(told)["seq"] == snapshot["seq"] + 1


class TestHeartbeat:
    async def test_silence_is_visibly_alive(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        def quick(api: Api) -> ASGIApp:
            doors = event_routes(api.services, api.connections, api.transport, heartbeat_seconds=QUICK_SECONDS)
            return Starlette(routes=doors, lifespan=api._lifespan)

        async with serving(served.api.settings, quick) as impatient:
            token = impatient.token_of(ada)
            async with impatient.events(f"/runs/{run.id}/events", token) as reader:
                events = [await reader.next() for _ in range(5)]
        told = [event["event"] for event in events]
        assert told[0] == "connected" and told.count("snapshot") == 1 and told.count("heartbeat") == 3
        assert {event["data"] for event in events if event["event"] == "heartbeat"} == {"{}"}


class TestCredentials:
    async def test_a_stream_token_stands_in_the_address(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        for token in (served.stream_token_of(ada), served.stream_token_of(ada, run.id)):
            async with served.events(f"/runs/{run.id}/events?access_token={token}") as reader:
                assert (await reader.next())["event"] == "connected"

    async def test_an_access_token_does_not(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        """Addresses end up in histories and logs; what stands there must be worth little."""
        response = await served.get(f"/runs/{run.id}/events?access_token={served.token_of(ada)}")
        assert (response.status_code, response.json()["code"]) == (401, "STREAM_TOKEN_NEEDED")

    @pytest.mark.parametrize(("language", "words"), [("en", "Sign in first"), ("pt-BR", "Entre primeiro")])
    async def test_a_missing_one_is_said_in_words(
        self, served: Served, run: TrainingRun, language: str, words: str
    ) -> None:
        for path in ("/events", f"/runs/{run.id}/events"):
            response = await served.get(path, accept="text/event-stream", accept_language=language)
            assert response.status_code == 401
            assert response.json()["code"] == "NOT_SIGNED_IN" and words in response.json()["message"]
            assert response.headers["www-authenticate"] == 'Bearer realm="runwire"'

    async def test_an_expired_stream_token_ends_its_stream(self, served: Served, ada: Viewer) -> None:
        token = served.stream_token_of(ada)
        async with served.events(f"/events?access_token={token}") as reader:
            await reader.next()
            served.clock.move(seconds=served.api.settings.stream_token_seconds)
            rest = await reader.rest()
        assert [event["event"] for event in rest] == ["snapshot", "refused"]
        assert data_of(rest[-1])["code"] == 4403
        response = await served.get(f"/events?access_token={token}")
        assert (response.status_code, response.json()["code"]) == (401, "TOKEN_EXPIRED")


class TestLeaving:
    async def test_a_reader_who_left_is_forgotten(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        async with served.events(f"/runs/{run.id}/events", served.token_of(ada)) as reader:
            assert (await reader.next())["event"] == "connected"
            assert (await reader.next())["event"] == "snapshot"
        with anyio.fail_after(5):
            while Stream(StreamKind.RUN, run.id) in served.api.hub.topics or len(served.api.connections):
                await anyio.sleep(0.01)


class TestFaults:
    async def test_a_stream_that_breaks_ends_and_says_nothing_of_why(
        self, served: Served, ada: Viewer, run: TrainingRun, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Something that the API reads cannot be read; the reader's EventSource will come back."""
        engine = owner_engine(served.api.settings)
        async with engine.begin() as connection:
            await connection.execute(sa.text("REVOKE SELECT ON journal_epoch FROM runwire_api"))
        try:
            async with served.events(f"/runs/{run.id}/events", served.token_of(ada)) as reader:
                rest = await reader.rest()
        finally:
            async with engine.begin() as connection:
                await connection.execute(sa.text("GRANT SELECT ON journal_epoch TO runwire_api"))
            await engine.dispose()
        assert [event["event"] for event in rest] == ["connected"]
        assert "A plain event stream broke." in caplog.messages
        async with served.events(f"/runs/{run.id}/events", served.token_of(ada)) as reader:
            assert [(await reader.next())["event"] for _ in range(2)] == ["connected", "snapshot"]


class TestGraphQL:
    async def test_a_subscription_by_server_sent_events(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        body = orjson.dumps({"query": FOLLOW, "variables": {"id": id_of(run)}})
        headers = {
            **bearer(served.token_of(ada)),
            "accept": "text/event-stream",
            "content-type": "application/json",
        }
        async with served.http.stream("POST", "/graphql", content=body, headers=headers) as response:
            assert response.status_code == 200
            reader = EventReader(response)
            first = await reader.next()
            await served.tell(run.id, stage=RunStage.TRAINING)
            await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR))
            rest = await reader.rest()
        assert (first["event"], first["id"]) == ("next", cursor(run, 0))
        assert data_of(first)["data"]["trainingRun"]["__typename"] == "Snapshot"
        assert [event["event"] for event in rest] == ["next", "next", "next", "complete"]
        assert [event["id"] for event in rest[:-1]] == [cursor(run, seq) for seq in (1, 2, 3)]
