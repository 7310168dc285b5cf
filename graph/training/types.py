"""A run and what belongs to it."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Self
from uuid import UUID

import strawberry

import graph.training.enums  # noqa: F401  # the enums' names and words, before a field speaks of them
from domain.deployment.address import address_of
from domain.events import time_of
from domain.training import queries
from domain.training.choices import Choice
from domain.training.errors import BadRunInput
from domain.training.model import LogLine as LogLineRow
from domain.training.model import RunAttempt as RunAttemptRow
from domain.training.model import TrainingRun as TrainingRunRow
from domain.training.queries import LogFilter
from domain.training.rules import RuleAction
from domain.training.status import EndReason, LogLevel, Provider, RunStage, RunStatus, WarningCode
from domain.training.view import core_of
from domain.viewer import Scope
from graph.context import Info
from graph.ids import global_id
from graph.node import Node
from graph.paging import Connection, Edge
from graph.scalars import URL, BigInt, Cursor
from graph.training.loaders import ai_model_loader, attempts_loader, dataset_loader, run_loader
from graph.training.series import MetricSeries, series_of

if TYPE_CHECKING:
    from graph.ai_model.types import AIModel
    from graph.dataset.types import Dataset
    from graph.training.messages import RunEventConnection

DEFAULT_LINES = 100
MOST_LINES = 1000
MOST_POINTS = 5000


@strawberry.type(description="When a run's training is expected to end.")
class Eta:
    seconds: float = strawberry.field(
        description="Seconds from now, by the observed rate, your earlier runs and the provider's word."
    )
    low_seconds: float | None = strawberry.field(
        default=None,
        description="With this and `highSeconds`: the range that holds the true end in four of five cases.",
    )
    high_seconds: float | None = strawberry.field(default=None, description="The end of that range.")
    confidence: float | None = strawberry.field(
        default=None, description="How much there is to go by: 0 is a guess, 1 a steady rate near its end."
    )


@strawberry.type(description="One numbered try of a run at one provider.")
class RunAttempt(Node):
    number: int = strawberry.field(description="1 for the first try.")
    provider: Provider = strawberry.field(description="Who did the work.")
    gpu_type: str | None = strawberry.field(description="On what kind of GPU, where one was chosen.")
    provider_reference: str | None = strawberry.field(description="The provider's own id of it.")
    provider_url: URL | None = strawberry.field(description="The provider's page about it, where there is one.")
    end_reason: EndReason | None = strawberry.field(description="Why it ended; null while it goes on.")
    error_message: str | None = strawberry.field(description="What went wrong, in the provider's or script's words.")
    cost_micros: BigInt = strawberry.field(description="What it cost, in millionths of a US dollar.")
    price_micros_per_hour: BigInt = strawberry.field(
        description="What an hour costs while it goes on, in millionths of a US dollar; 0 where time is not what costs."
    )
    started_at: datetime | None = strawberry.field(description="When the provider was asked.")
    training_began_at: datetime | None = strawberry.field(description="When its training program began.")
    ended_at: datetime | None = strawberry.field(description="When it ended.")

    @classmethod
    def of(cls, row: RunAttemptRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("RunAttempt", row.id)),
            number=row.number,
            provider=row.provider,
            gpu_type=row.gpu_type,
            provider_reference=row.reference,
            provider_url=URL(row.provider_url) if row.provider_url else None,
            end_reason=row.end_reason,
            error_message=row.error_message,
            cost_micros=BigInt(row.cost_micros),
            price_micros_per_hour=BigInt(row.price_micros_per_hour),
            started_at=row.started_at,
            training_began_at=row.training_began_at,
            ended_at=row.ended_at,
        )


@strawberry.type(description="One line that a trainer wrote.")
class LogLine:
    line: int = strawberry.field(description="Its number within the run, from 1, without holes.")
    at: datetime = strawberry.field(description="When it was written.")
    level: LogLevel = strawberry.field(description="How loud it is.")
    text: str = strawberry.field(description="The line without its end; at most 8,192 characters.")
    attempt: int | None = strawberry.field(default=None, description="Which attempt of the run wrote it.")

    @classmethod
    def of(cls, row: LogLineRow) -> Self:
        return cls(line=row.line, at=row.at, level=row.level, text=row.text, attempt=row.attempt)


@strawberry.type(description="A place where a run may be done.")
class RunPlace:
    provider: Provider = strawberry.field(description="Who would do the work.")
    gpu_type: str | None = strawberry.field(description="On what kind of GPU, where one is chosen.")
    integration_id: strawberry.ID | None = strawberry.field(
        description="With which credential of yours; null for the operator's."
    )

    @classmethod
    def of(cls, choice: Choice) -> Self:
        integration = choice.integration_id
        return cls(
            provider=choice.provider,
            gpu_type=choice.gpu_type,
            integration_id=strawberry.ID(global_id("Integration", integration)) if integration else None,
        )


@strawberry.type(description="What is done when something looks wrong with the training.")
class RunRule:
    warning: WarningCode = strawberry.field(description="What looks wrong.")
    action: RuleAction = strawberry.field(description="What is done then.")


@strawberry.type(description="Something to have trained, and where it stands.")
class TrainingRun(Node):
    core: strawberry.Private[dict[str, Any]]

    @classmethod
    def of(cls, row: TrainingRunRow) -> Self:
        return cls.of_core(core_of(row))

    @classmethod
    def of_core(cls, core: dict[str, Any]) -> Self:
        """From what an event carries."""
        return cls(id=strawberry.ID(global_id("TrainingRun", UUID(core["id"]))), core=core)

    @property
    def uuid(self) -> UUID:
        return UUID(self.core["id"])

    @strawberry.field(description="What is trained.")
    async def model(self, info: Info) -> Annotated["AIModel", strawberry.lazy("graph.ai_model.types")]:
        from graph.ai_model.types import AIModel

        return AIModel.of(await ai_model_loader(info).load(UUID(self.core["modelId"])))

    @strawberry.field(description="The data it trains on.")
    async def dataset(self, info: Info) -> Annotated["Dataset", strawberry.lazy("graph.dataset.types")] | None:
        from graph.dataset.types import Dataset

        if self.core["datasetId"] is None or Scope.DATASETS_READ not in info.context.viewer.scopes:
            return None
        row = await dataset_loader(info).load(UUID(self.core["datasetId"]))
        return Dataset.of(row) if row is not None else None

    @strawberry.field(description="Where it stands.")
    def status(self) -> RunStatus:
        return RunStatus(self.core["status"])

    @strawberry.field(description="The finer step.")
    def stage(self) -> RunStage:
        return RunStage(self.core["stage"])

    @strawberry.field(description="How far it is, 0 to 100, with two decimals; 100 only when READY.")
    def progress(self) -> float:
        return round(float(self.core["progress"]), 2)

    @strawberry.field(description="Whether the progress is a guess from time alone, without a word of the trainer.")
    def progress_estimated(self) -> bool:
        return bool(self.core["progressEstimated"])

    @strawberry.field(description="When the training is expected to end; null where nobody can tell.")
    def eta(self) -> Eta | None:
        if self.core["etaSeconds"] is None:
            return None
        return Eta(
            seconds=self.core["etaSeconds"],
            low_seconds=self.core.get("etaLowSeconds"),
            high_seconds=self.core.get("etaHighSeconds"),
            confidence=self.core.get("etaConfidence"),
        )

    @strawberry.field(description="Why it ended; null while it goes on.")
    def end_reason(self) -> EndReason | None:
        return EndReason(self.core["endReason"]) if self.core["endReason"] else None

    @strawberry.field(description="What went wrong, in the provider's or script's words.")
    def error_message(self) -> str | None:
        message: str | None = self.core["errorMessage"]
        return message

    @strawberry.field(description="The number of the current attempt.")
    def attempt(self) -> int:
        return int(self.core["attempt"])

    @strawberry.field(description="All tries, in order.")
    async def attempts(self, info: Info) -> list[RunAttempt]:
        return [RunAttempt.of(row) for row in await attempts_loader(info).load(self.uuid)]

    @strawberry.field(description="Who does the work.")
    def provider(self) -> Provider:
        return Provider(self.core["provider"])

    @strawberry.field(description="Whether simulators do the work, free of charge.")
    def test_mode(self) -> bool:
        return bool(self.core.get("testMode", False))

    @strawberry.field(description="The provider's page about the run, where there is one.")
    async def provider_url(self, info: Info) -> URL | None:
        attempts = await attempts_loader(info).load(self.uuid)
        url = attempts[-1].provider_url if attempts else None
        return URL(url) if url else None

    @strawberry.field(description="What is trained how: one of `recipes`.")
    def recipe(self) -> str | None:
        recipe: str | None = self.core["recipe"]
        return recipe

    @strawberry.field(description="The recipe's settings, complete with their defaults.")
    async def hyperparameters(self, info: Info) -> strawberry.scalars.JSON:
        return strawberry.scalars.JSON((await run_loader(info).load(self.uuid)).hyperparameters)

    @strawberry.field(description="Your own words to find runs by.")
    def tags(self) -> list[str]:
        return list(self.core["tags"])

    @strawberry.field(description="Your own notes, as you gave them.")
    async def metadata(self, info: Info) -> strawberry.scalars.JSON:
        return strawberry.scalars.JSON((await run_loader(info).load(self.uuid)).notes)

    @strawberry.field(
        description="What it may cost at most, in millionths of a US dollar; null where nothing was said."
    )
    async def budget_micros(self, info: Info) -> BigInt | None:
        budget = (await run_loader(info).load(self.uuid)).budget_micros
        return BigInt(budget) if budget is not None else None

    @strawberry.field(description="Where it may be done, in the order in which that is tried.")
    async def places(self, info: Info) -> list["RunPlace"]:
        row = await run_loader(info).load(self.uuid)
        return [RunPlace.of(Choice.of_json(facts)) for facts in row.choices]

    @strawberry.field(
        description="What is done when something looks wrong, as far as that was said; else you are told."
    )
    async def rules(self, info: Info) -> list["RunRule"]:
        row = await run_loader(info).load(self.uuid)
        return [RunRule(warning=WarningCode(code), action=RuleAction(action)) for code, action in row.rules.items()]

    @strawberry.field(description="The machine image that was asked for.")
    async def image(self, info: Info) -> str | None:
        image: str | None = (await run_loader(info).load(self.uuid)).image
        return image

    @strawberry.field(description="How long its machine is kept after success.")
    async def keep_seconds(self, info: Info) -> int:
        return int((await run_loader(info).load(self.uuid)).keep_seconds)

    @strawberry.field(description="What the simulator plays, in test mode.")
    async def scenario(self, info: Info) -> str | None:
        scenario: str | None = (await run_loader(info).load(self.uuid)).scenario
        return scenario

    @strawberry.field(description="Seconds after which the training is stopped.")
    async def time_limit_seconds(self, info: Info) -> int:
        return int((await run_loader(info).load(self.uuid)).time_limit_seconds)

    @strawberry.field(description="What it cost so far, in millionths of a US dollar.")
    def cost_micros(self) -> BigInt:
        return BigInt(self.core["costMicros"])

    @strawberry.field(description="Where the trained model answers; null until it did.")
    def deployment_url(self, info: Info) -> URL | None:
        slug = self.core["appSlug"]
        return URL(address_of(info.context.settings, slug)) if slug else None

    @strawberry.field(description="The run that this one tries again.")
    async def retry_of(self, info: Info) -> Annotated["TrainingRun", strawberry.lazy("graph.training.types")] | None:
        if self.core["retryOfId"] is None or not info.context.viewer.may_watch(UUID(self.core["retryOfId"])):
            return None
        row = await run_loader(info).load(UUID(self.core["retryOfId"]))
        return TrainingRun.of(row) if row is not None else None

    @strawberry.field(description="When it was asked for.")
    def created_at(self) -> datetime:
        return time_of(self.core["createdAt"])

    @strawberry.field(description="When the trainer's program began.")
    def started_at(self) -> datetime | None:
        return time_of(self.core["startedAt"]) if self.core["startedAt"] else None

    @strawberry.field(description="When it ended.")
    def ended_at(self) -> datetime | None:
        return time_of(self.core["endedAt"]) if self.core["endedAt"] else None

    @strawberry.field(description="Seconds from the beginning of the training to its end, or until now.")
    def duration_seconds(self, info: Info) -> float | None:
        if self.core["startedAt"] is None:
            return None
        end = self.core["endedAt"]
        until = time_of(end) if end else info.context.services.database.clock.now()
        return round((until - time_of(self.core["startedAt"])).total_seconds(), 3)

    @strawberry.field(description="What happened so far, in order; `after` takes the cursor of any event of the run.")
    async def events(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[Cursor | None, strawberry.argument(description="The cursor of the last one you know.")] = None,
    ) -> Annotated["RunEventConnection", strawberry.lazy("graph.training.messages")]:
        from graph.training.messages import events_page

        return await events_page(info, self.uuid, first=first, after=after)

    @strawberry.field(description="Its log, from the beginning (`first`, `after`) or from the end (`last`, `before`).")
    async def logs(
        self,
        info: Info,
        first: Annotated[int | None, strawberry.argument(description="How many from the beginning, 1 to 1000.")] = None,
        after: Annotated[str | None, strawberry.argument(description="Only lines after this cursor.")] = None,
        last: Annotated[int | None, strawberry.argument(description="How many from the end, 1 to 1000.")] = None,
        before: Annotated[str | None, strawberry.argument(description="Only lines before this cursor.")] = None,
        level: Annotated[LogLevel | None, strawberry.argument(description="Only lines at least this loud.")] = None,
        search: Annotated[
            str | None, strawberry.argument(description="Only lines that hold this, in capitals or not.")
        ] = None,
    ) -> "LogLineConnection":
        if first is not None and last is not None:
            raise BadRunInput("first", "given without 'last'", "informado sem 'last'")
        from_end = last is not None
        count = last if last is not None else first if first is not None else DEFAULT_LINES
        if not 1 <= count <= MOST_LINES:
            name = "last" if from_end else "first"
            raise BadRunInput(name, f"between 1 and {MOST_LINES}", f"entre 1 e {MOST_LINES}")
        if search is not None and not 1 <= len(search) <= 200:
            raise BadRunInput("search", "1 to 200 characters", "de 1 a 200 caracteres")
        wanted = LogFilter(after=line_of(after, "after"), before=line_of(before, "before"), level=level, search=search)
        async with info.context.begin() as work:
            rows, more = await queries.log_lines(work.session, self.uuid, wanted, count=count, from_end=from_end)
        edges = [Edge(cursor=str(row.line), node=LogLine.of(row)) for row in rows]
        has_next = (wanted.before is not None) if from_end else more
        has_previous = more if from_end else wanted.after is not None
        return LogLineConnection.of_edges(edges, has_next=has_next, has_previous=has_previous)

    @strawberry.field(description="Its metrics, one series per name and attempt, thinned to at most `maxPoints` each.")
    async def metrics(
        self,
        info: Info,
        names: Annotated[list[str] | None, strawberry.argument(description="Only these; else all.")] = None,
        max_points: Annotated[int, strawberry.argument(description="Points per series, 2 to 5000.")] = 500,
    ) -> list[MetricSeries]:
        if not 2 <= max_points <= MOST_POINTS:
            raise BadRunInput("maxPoints", f"between 2 and {MOST_POINTS}", f"entre 2 e {MOST_POINTS}")
        async with info.context.begin() as work:
            points = await queries.metric_points(work.session, self.uuid, names)
        return series_of(points, max_points)


@strawberry.type(description="Some lines of a log.")
class LogLineConnection(Connection[LogLine]):
    pass


def line_of(cursor: str | None, field: str) -> int | None:
    """The line's number is its cursor. Raises `BadRunInput`."""
    if cursor is None:
        return None
    if not cursor.isdecimal() or len(cursor) > 18:
        raise BadRunInput(field, "the cursor of a log line", "o cursor de uma linha do registro")
    return int(cursor)
