"""Subscriptions over real sockets, while providers tell of runs through the one door."""

import pytest
import sqlalchemy as sa
from sqlmodel import col

from db.unit_of_work import Database
from domain.events import Stream, StreamKind
from domain.journal.cursor import StreamCursor
from domain.journal.model import RunEvent
from domain.training.model import TrainingRun
from domain.training.report import LogChunk, LogText, Outcome, Reading
from domain.training.status import EndReason, RunStage, RunStatus
from domain.viewer import Viewer
from graph.ids import global_id
from tests.factories import make_run
from tests.graph.served import Served
from tests.graph.training.following import ACTIVITY, FOLLOW, follow, following
from tests.graph.training.wishes import CANCEL, START, id_of, make_data, wish_of
from tests.graph.transport.toy import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def run(served: Served, ada: Viewer) -> TrainingRun:
    return await make_run(served.database, ada, attempts=1)


async def tell_its_story(served: Served, run: TrainingRun) -> None:
    """Six events: two of the beginning, progress, a log, a metric, the end."""
    at = served.clock.now()
    await served.tell(run.id, stage=RunStage.TRAINING)
    await served.tell(run.id, log=LogChunk(0, 2, (LogText("one", at), LogText("two", at))))
    await served.tell(run.id, readings=(Reading("loss", 1, 0.5, at),))
    await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR, "boom"))


class TestOneRun:
    async def test_a_snapshot_then_each_event_then_the_end(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run)) as follower:
            first = await follower.message()
            assert (first["__typename"], first["seq"], first["status"]) == ("Snapshot", 0, "QUEUED")
            await tell_its_story(served, run)
            told = [await follower.message() for _ in range(5)]
            await follower.completed()
        assert [message["__typename"] for message in told] == [
            "RunStageChanged",
            "RunStatusChanged",
            "RunLogged",
            "RunMeasured",
            "RunStatusChanged",
        ]
        assert [(message["firstSeq"], message["seq"]) for message in told] == [(seq, seq) for seq in range(1, 6)]
        assert told[2]["lines"] == [{"line": 1, "text": "one"}, {"line": 2, "text": "two"}]
        assert told[3]["readings"] == [{"name": "loss", "step": 1, "value": 0.5}]
        assert told[4]["run"] == {"id": id_of(run), "status": "FAILED", "endReason": "CODE_ERROR"}
        assert told[4]["message"] == "The training program failed; see the last lines of the log"

    async def test_a_run_that_has_ended_is_one_snapshot(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.READY)
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run)) as follower:
            assert (await follower.message())["status"] == "READY"
            await follower.completed()

    @pytest.mark.parametrize("seen", range(6))
    async def test_a_cursor_gives_exactly_what_was_missed(
        self, served: Served, ada: Viewer, run: TrainingRun, seen: int
    ) -> None:
        await tell_its_story(served, run)
        cursor = str(StreamCursor(Stream(StreamKind.RUN, run.id), 1, seen))
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run), after=cursor) as follower:
            told = [await follower.message() for _ in range(5 - seen)]
            await follower.completed()
        assert [message["seq"] for message in told] == list(range(seen + 1, 6))

    async def test_a_reader_who_leaves_and_returns_gets_each_number_once(
        self, served: Served, ada: Viewer, run: TrainingRun
    ) -> None:
        token, seen, cursor = served.token_of(ada), [], None
        for percent in range(10, 60, 10):
            async with following(served, token, FOLLOW, id=id_of(run), after=cursor) as follower:
                if cursor is None:
                    seen.append((await follower.message())["seq"])
                served.clock.move(seconds=1)
                await served.tell(run.id, percent=float(percent))
                message = await follower.message()
                seen.append(message["seq"])
                cursor = message["cursor"]
            served.clock.move(seconds=1)
            await served.tell(run.id, percent=percent + 5.0)
            async with following(served, token, FOLLOW, id=id_of(run), after=cursor) as follower:
                message = await follower.message()
                seen.append(message["seq"])
                cursor = message["cursor"]
        assert seen == list(range(11))

    async def test_what_retention_removed_is_told_as_a_gap(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        await tell_its_story(served, run)
        async with served.worker.begin() as work:
            await work.session.exec(sa.delete(RunEvent).where(col(RunEvent.run_id) == run.id, col(RunEvent.seq) == 3))
        cursor = str(StreamCursor(Stream(StreamKind.RUN, run.id), 1, 1))
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run), after=cursor) as follower:
            assert (await follower.message())["seq"] == 2
            gap = await follower.message()
            await follower.completed()
        assert (gap["__typename"], gap["seq"], gap["snapshot"]["status"]) == ("Gap", 5, "FAILED")
        assert gap["to"] == 5 and gap["from"] <= 3

    @pytest.mark.parametrize(("epoch", "seq"), [(1, 99), (7, 2)], ids=["ahead of the log", "of another epoch"])
    async def test_a_cursor_that_leads_nowhere_is_a_gap(
        self, served: Served, ada: Viewer, run: TrainingRun, epoch: int, seq: int
    ) -> None:
        await served.tell(run.id, stage=RunStage.TRAINING)
        cursor = str(StreamCursor(Stream(StreamKind.RUN, run.id), epoch, seq))
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run), after=cursor) as follower:
            gap = await follower.message()
            await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR))
            after = await follower.message()
            await follower.completed()
        assert (gap["__typename"], gap["seq"]) == ("Gap", 2)
        assert (after["firstSeq"], after["seq"]) == (3, 3)

    async def test_a_message_that_redis_lost_comes_within_two_seconds(
        self, served: Served, ada: Viewer, run: TrainingRun
    ) -> None:
        mute = Database(served.worker.engine, clock=served.clock)
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run)) as follower:
            assert await follower.kinds(1) == ["Snapshot"]
            spoken, served.worker = served.worker, mute
            await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR))
            served.worker = spoken
            assert await follower.kinds(1) == ["RunStatusChanged"]
            await follower.completed()

    async def test_words_come_in_the_language_that_was_asked_for(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        document = "mutation { updateViewer(input: {locale: PT_BR}) { __typename } }"
        await served.data(document, served.token_of(ada))
        async with following(served, served.token_of(ada), FOLLOW, id=id_of(run)) as follower:
            assert (await follower.message())["message"] == "Treinando"


class TestSharing:
    async def test_all_who_follow_one_run_share_one_topic(self, served: Served, ada: Viewer, run: TrainingRun) -> None:
        token = served.token_of(ada)
        stream = Stream(StreamKind.RUN, run.id)
        async with served.socket(token) as one, served.socket(token) as other:
            followers = [
                await follow(one, FOLLOW, "a", id=id_of(run)),
                await follow(other, FOLLOW, "b", id=id_of(run)),
            ]
            for follower in followers:
                assert await follower.kinds(1) == ["Snapshot"]
            assert len(served.api.hub.topics[stream].members) == 2
            await served.tell(run.id, stage=RunStage.TRAINING)
            heard = [[await follower.message() for _ in range(2)] for follower in followers]
            assert heard[0] == heard[1]
            await one.say({"id": "a", "type": "complete"})
            await until(lambda: len(served.api.hub.topics[stream].members) == 1)
        await until(lambda: stream not in served.api.hub.topics)

    async def test_one_socket_follows_many_runs(self, served: Served, ada: Viewer) -> None:
        runs = [await make_run(served.database, ada, attempts=1) for _ in range(5)]
        async with served.socket(served.token_of(ada)) as socket:
            for number, run in enumerate(runs):
                follower = await follow(socket, FOLLOW, str(number), id=id_of(run))
                assert (await follower.message())["run"]["id"] == id_of(run)
            for run in reversed(runs):
                await served.tell(run.id, outcome=Outcome(EndReason.CODE_ERROR))
            ended: list[str] = []
            while len(ended) < len(runs):
                message = await socket.hear()
                if message["type"] == "complete":
                    ended.append(message["id"])
        assert sorted(ended) == ["0", "1", "2", "3", "4"]


class TestActivity:
    async def test_it_begins_with_what_goes_on_and_tells_of_everything(self, served: Served, ada: Viewer) -> None:
        going = await make_run(served.database, ada, status=RunStatus.TRAINING)
        await make_run(served.database, ada, status=RunStatus.READY)
        data = await make_data(served, ada)
        token = served.token_of(ada)
        async with following(served, token, ACTIVITY) as follower:
            first = await follower.message()
            assert first["activeRuns"] == [{"id": id_of(going), "status": "TRAINING"}]
            started = (await served.data(START, token, input=wish_of(data)))["answer"]["id"]
            told = [await follower.message() for _ in range(3)]
            assert [message["__typename"] for message in told] == [
                "RunStatusChanged",
                "RunAttemptStarted",
                "ModelStatusChanged",
            ]
            assert told[0]["runId"] == started
            assert (told[2]["status"], told[2]["model"]) == ("TRAINING", {"name": "Iris"})
            await served.data(CANCEL, token, id=started)
            rest = await follower.kinds(4)
            assert rest.count("RunStatusChanged") == 2 and rest[-1] == "ModelStatusChanged"
        numbers = [message["seq"] for message in told]
        assert numbers == [first["seq"] + 1, first["seq"] + 2, first["seq"] + 3]

    async def test_it_resumes_behind_a_cursor(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        token = served.token_of(ada)
        async with following(served, token, ACTIVITY) as follower:
            cursor = (await follower.message())["cursor"]
        await served.data(START, token, input=wish_of(data))
        async with following(served, token, ACTIVITY, after=cursor) as follower:
            assert await follower.kinds(3) == ["RunStatusChanged", "RunAttemptStarted", "ModelStatusChanged"]

    async def test_logs_and_metrics_stay_in_their_run(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        at = served.clock.now()
        async with following(served, served.token_of(ada), ACTIVITY) as follower:
            await follower.message()
            await served.tell(run.id, log=LogChunk(0, 1, (LogText("x", at),)), readings=(Reading("loss", 1, 1.0, at),))
            await served.tell(run.id, percent=50.0)
            message = await follower.message()
        assert message["__typename"] == "RunProgressed" and message["runId"] == global_id("TrainingRun", run.id)


async def test_who_may_not_follow_keeps_the_socket(served: Served, ada: Viewer, run: TrainingRun) -> None:
    async with served.socket(served.token_of(ada)) as socket:
        await follow(socket, FOLLOW, "1", id="x")
        message = await socket.hear()
        assert (message["type"], message["id"]) == ("error", "1")
        assert message["payload"][0]["extensions"]["code"] == "NOT_FOUND"
        follower = await follow(socket, FOLLOW, "2", id=id_of(run))
        assert await follower.kinds(1) == ["Snapshot"]
