"""What a subscription says: a snapshot, a gap, or one of the events. The same types tell a run's past."""

from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

import strawberry

from domain.deployment.address import address_of
from domain.events import Event, Stream, StreamKind, time_of
from domain.journal import queries as journal
from domain.journal.cursor import StreamCursor
from domain.paging import checked_first
from domain.training.rules import RuleAction
from domain.training.status import EndReason, LogLevel, Provider, RunStage, RunStatus, WarningCode
from domain.training.texts import words_for
from graph.context import Info
from graph.ids import global_id
from graph.paging import PageInfo
from graph.scalars import URL, BigInt, Cursor
from graph.training.types import LogLine, TrainingRun


@strawberry.interface(description="Anything that a user's feed says.")
class ActivityMessage:
    seq: int = strawberry.field(description="The message's number in its stream; numbers have no holes.")
    first_seq: int = strawberry.field(
        description="From which number on the message stands. Always check that it is the last `seq` you saw plus one."
    )
    cursor: Cursor = strawberry.field(description="Give it as `after` to go on behind this message.")
    at: datetime = strawberry.field(description="When it was written down.")


@strawberry.interface(description="Anything that a run's stream says; the fields tell the run as it was right then.")
class TrainingRunMessage:
    core: strawberry.Private[dict[str, Any]]
    seq: int = strawberry.field(description="The message's number in its stream; numbers have no holes.")
    first_seq: int = strawberry.field(
        description="From which number on the message stands. Always check that it is the last `seq` you saw plus one."
    )
    cursor: Cursor = strawberry.field(description="Give it as `after` to go on behind this message.")
    at: datetime = strawberry.field(description="When it was written down.")

    @strawberry.field(description="The run that it is about.")
    def run_id(self) -> strawberry.ID:
        return strawberry.ID(global_id("TrainingRun", UUID(self.core["id"])))

    @strawberry.field(description="Which attempt of the run.")
    def attempt(self) -> int:
        return int(self.core["attempt"])

    @strawberry.field(description="Where the run stands.")
    def status(self) -> RunStatus:
        return RunStatus(self.core["status"])

    @strawberry.field(description="The finer step.")
    def stage(self) -> RunStage:
        return RunStage(self.core["stage"])

    @strawberry.field(description="How far the run is, 0 to 100.")
    def progress(self) -> float:
        return round(float(self.core["progress"]), 2)

    @strawberry.field(description="Whether the progress is a guess from time alone.")
    def progress_estimated(self) -> bool:
        return bool(self.core["progressEstimated"])

    @strawberry.field(description="Seconds until the training is expected to end.")
    def eta_seconds(self) -> int | None:
        eta = self.core["etaSeconds"]
        return round(eta) if eta is not None else None

    @strawberry.field(description="One line for a screen, in the viewer's language.")
    def message(self, info: Info) -> str | None:
        reason = self.core["endReason"]
        return words_for(self.status(), self.stage(), EndReason(reason) if reason else None, info.context.viewer.locale)

    @strawberry.field(description="The run; its plain fields are those of the event, not newer ones.")
    def run(self) -> TrainingRun:
        return TrainingRun.of_core(self.core)


@strawberry.type(description="How the run stands at the beginning of a subscription; everything before is in it.")
class Snapshot(TrainingRunMessage):
    pass


@strawberry.type(
    description="What you asked for is not kept any more, or the journal began anew: forget what you knew,"
    " and go on from this state of the run."
)
class Gap(TrainingRunMessage):
    from_: int = strawberry.field(name="from", description="The first number that cannot be told.")
    to: int = strawberry.field(description="The last number that cannot be told.")

    @strawberry.field(description="The run as it stands now.")
    def snapshot(self) -> TrainingRun:
        return TrainingRun.of_core(self.core)


@strawberry.interface(description="A numbered fact about a run: in its stream, in its owner's feed and in its past.")
class RunEvent(TrainingRunMessage, ActivityMessage):
    data: strawberry.Private[dict[str, Any]]

    @classmethod
    def of(cls, event: Event, cursor: str) -> Self:
        return cls(
            core=event.run or {},
            data=event.data,
            seq=event.seq,
            first_seq=event.first_seq,
            cursor=Cursor(cursor),
            at=event.at,
        )


@strawberry.type(description="The run moved on in its life. The last event of a run's stream is its final status.")
class RunStatusChanged(RunEvent):
    @strawberry.field(name="from", description="Where it stood before; null for a new run.")
    def from_(self) -> RunStatus | None:
        return RunStatus(self.data["from"]) if self.data["from"] else None

    @strawberry.field(description="Where it stands now.")
    def to(self) -> RunStatus:
        return RunStatus(self.data["to"])


@strawberry.type(description="The run reached the next step.")
class RunStageChanged(RunEvent):
    @strawberry.field(name="from", description="The step before.")
    def from_(self) -> RunStage:
        return RunStage(self.data["from"])

    @strawberry.field(description="The step it is in now.")
    def to(self) -> RunStage:
        return RunStage(self.data["to"])


@strawberry.type(description="A try began: the first, or another one after the last was lost.")
class RunAttemptStarted(RunEvent):
    @strawberry.field(description="Who does the work.")
    def provider(self) -> Provider:
        return Provider(self.data["provider"])

    @strawberry.field(description="On what kind of GPU, where one is chosen.")
    def gpu_type(self) -> str | None:
        gpu_type: str | None = self.data.get("gpuType")
        return gpu_type


@strawberry.type(description="The progress grew; at most two of these a second.")
class RunProgressed(RunEvent):
    pass


@strawberry.type(description="The trainer wrote some lines.")
class RunLogged(RunEvent):
    @strawberry.field(description="Number of the first line.")
    def from_line(self) -> int:
        return int(self.data["fromLine"])

    @strawberry.field(description="Number of the last line.")
    def to_line(self) -> int:
        return int(self.data["toLine"])

    @strawberry.field(description="The lines; empty where a slow reader has to read them from `run.logs`.")
    def lines(self) -> list[LogLine]:
        return [
            LogLine(line=line["line"], at=time_of(line["at"]), level=LogLevel(line["level"]), text=line["text"])
            for line in self.data["lines"]
        ]


@strawberry.type(description="One value of one metric at one step.")
class MetricReading:
    name: str = strawberry.field(description="The metric, such as loss.")
    step: int = strawberry.field(description="The trainer's step or epoch.")
    value: float = strawberry.field(description="A finite number.")


@strawberry.type(description="The trainer measured something.")
class RunMeasured(RunEvent):
    @strawberry.field(description="The new values.")
    def readings(self) -> list[MetricReading]:
        return [MetricReading(**reading) for reading in self.data["readings"]]


@strawberry.type(description="What the run costs so far changed.")
class RunCostChanged(RunEvent):
    @strawberry.field(description="The cost so far, in millionths of a US dollar.")
    def cost_micros(self) -> BigInt:
        return BigInt(self.core["costMicros"])


@strawberry.type(description="Something looks wrong with the training.")
class RunWarned(RunEvent):
    @strawberry.field(description="The stable code of what is wrong.")
    def reason(self) -> WarningCode:
        return WarningCode(self.data["reason"])

    @strawberry.field(description="What was seen, in a sentence.")
    def words(self) -> str:
        return str(self.data.get("message", ""))

    @strawberry.field(description="What is done about it, by the run's rules.")
    def action(self) -> RuleAction:
        return RuleAction(self.data.get("action", RuleAction.WARN.value))


@strawberry.type(description="Nothing is heard of the run; it ends as LOST if that stays so for 90 seconds.")
class RunSuspected(RunEvent):
    pass


@strawberry.type(description="The trainer fetched its data, whole and with the right checksum.")
class RunDatasetDownloaded(RunEvent):
    @strawberry.field(description="How much was sent.")
    def bytes(self) -> BigInt:
        return BigInt(self.data.get("bytes", 0))


@strawberry.type(description="A file that the training left behind was stored.")
class RunArtifactStored(RunEvent):
    @strawberry.field(description="The file's name.")
    def name(self) -> str:
        return str(self.data["name"])

    @strawberry.field(description="Its size.")
    def bytes(self) -> BigInt:
        return BigInt(self.data["bytes"])

    @strawberry.field(description="Its SHA-256, in hex.")
    def sha256(self) -> str:
        return str(self.data["sha256"])


@strawberry.type(description="The trained model answered at its address, as it should.")
class RunDeploymentReady(RunEvent):
    @strawberry.field(description="Where it answers: go there on this event, not on a timer.")
    def deployment_url(self, info: Info) -> URL:
        return URL(address_of(info.context.settings, self.data["slug"]))


class EventTypes:
    """Which type tells which event."""

    by_name: ClassVar[dict[str, type[RunEvent]]] = {
        "run.status_changed": RunStatusChanged,
        "run.stage_changed": RunStageChanged,
        "run.attempt_started": RunAttemptStarted,
        "run.progressed": RunProgressed,
        "run.logged": RunLogged,
        "run.measured": RunMeasured,
        "run.cost_changed": RunCostChanged,
        "run.warned": RunWarned,
        "run.suspected": RunSuspected,
        "run.dataset_downloaded": RunDatasetDownloaded,
        "run.artifact_stored": RunArtifactStored,
        "run.deployment_ready": RunDeploymentReady,
    }


@strawberry.type(description="One event of a run's past, with its cursor.")
class RunEventEdge:
    cursor: Cursor = strawberry.field(description="The event's place in the run's stream.")
    node: RunEvent = strawberry.field(description="The event.")


@strawberry.type(description="Some of a run's events, oldest first.")
class RunEventConnection:
    edges: list[RunEventEdge] = strawberry.field(description="The events with their cursors.")
    page_info: PageInfo = strawberry.field(description="Whether more follows, and where to go on.")


async def events_page(info: Info, run_id: UUID, *, first: int, after: str | None) -> RunEventConnection:
    """A page of a run's stream as it was told. Raises `BadPage`, `BadCursor`."""
    first = checked_first(first)
    stream = Stream(StreamKind.RUN, run_id)
    start = StreamCursor.parse(after, stream).seq if after is not None else 0
    async with info.context.begin() as work:
        epoch = await journal.epoch(work.session)
        events = await journal.events_after(work.session, stream, start, limit=first + 1)
    edges = []
    for event in events[:first]:
        cursor = str(StreamCursor(stream, epoch, event.seq))
        edges.append(RunEventEdge(cursor=Cursor(cursor), node=EventTypes.by_name[event.type].of(event, cursor)))
    return RunEventConnection(
        edges=edges,
        page_info=PageInfo(
            has_next_page=len(events) > first,
            has_previous_page=after is not None,
            start_cursor=edges[0].cursor if edges else None,
            end_cursor=edges[-1].cursor if edges else None,
        ),
    )
