"""Reading runs and recipes."""

from typing import Annotated, Self

import strawberry

from domain.dataset.model import DatasetFormat
from domain.errors import NotFound
from domain.training import queries
from domain.training.queries import RunFilter
from domain.training.recipes import DatasetUse, recipes
from domain.training.recipes import Parameter as RecipeParameterFacts
from domain.training.recipes import Recipe as RecipeFacts
from domain.training.status import Provider
from domain.viewer import Locale, Scope
from graph.context import Info
from graph.ids import uuid_of
from graph.paging import Connection
from graph.training.inputs import TrainingRunFilter
from graph.training.offer import played
from graph.training.types import TrainingRun


@strawberry.type(description="One setting of a recipe.")
class RecipeParameter:
    name: str = strawberry.field(description="Its name in `hyperparameters`.")
    kind: str = strawberry.field(description="What it takes: INT, FLOAT, STR, BOOL, INT_LIST, STR_LIST or OBJECT.")
    description: str = strawberry.field(description="What it does.")
    default: strawberry.scalars.JSON | None = strawberry.field(description="What it is when you leave it out.")
    minimum: float | None = strawberry.field(description="The least it may be.")
    maximum: float | None = strawberry.field(description="The most it may be.")
    choices: list[str] | None = strawberry.field(description="The only values it takes, if there are some.")
    is_required: bool = strawberry.field(description="Whether it must be given.")

    @classmethod
    def of(cls, facts: RecipeParameterFacts) -> Self:
        default = list(facts.default) if isinstance(facts.default, tuple) else facts.default
        return cls(
            name=facts.name,
            kind=facts.kind.value,
            description=facts.description,
            default=strawberry.scalars.JSON(default),
            minimum=facts.minimum,
            maximum=facts.maximum,
            choices=[str(choice) for choice in facts.choices] if facts.choices else None,
            is_required=facts.is_required,
        )


@strawberry.type(description="Something that can be trained without writing code.")
class Recipe:
    facts: strawberry.Private[RecipeFacts]
    name: str = strawberry.field(description="Give it as `recipe`.")
    formats: list[DatasetFormat] = strawberry.field(description="The dataset formats that it reads.")
    parameters: list[RecipeParameter] = strawberry.field(description="What `hyperparameters` may hold.")
    providers: list[Provider] = strawberry.field(description="Who trains it.")
    is_dataset_needed: bool = strawberry.field(description="Whether a run must have a dataset.")

    @classmethod
    def of(cls, facts: RecipeFacts) -> Self:
        return cls(
            facts=facts,
            name=facts.name,
            formats=[DatasetFormat(format) for format in facts.formats],
            parameters=[RecipeParameter.of(parameter) for parameter in facts.parameters],
            providers=[provider for provider in Provider if provider in facts.providers],
            is_dataset_needed=facts.dataset is not DatasetUse.OPTIONAL,
        )

    @strawberry.field(description="What it is for, in the viewer's language.")
    def description(self, info: Info) -> str:
        return self.facts.sentence_pt if info.context.viewer.locale is Locale.PT_BR else self.facts.sentence


@strawberry.type(description="Something that a provider's simulator plays in test mode.")
class TestScenario:
    __test__: strawberry.Private[bool] = False
    provider: Provider = strawberry.field(description="Whose simulator.")
    name: str = strawberry.field(description="Give it as `scenario` to `startTrainingRun`.")
    description: str = strawberry.field(description="What happens.")


@strawberry.type
class TrainingQueries:
    @strawberry.field(description="A run of yours; null if there is no such run.")
    async def training_run(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The run.")]
    ) -> TrainingRun | None:
        viewer = info.context.viewer
        viewer.require(Scope.RUNS_READ)
        try:
            run_id = uuid_of(id, "TrainingRun")
            async with info.context.begin() as work:
                return TrainingRun.of(await queries.run_of(work.session, viewer, run_id))
        except NotFound:
            return None

    @strawberry.field(description="Your runs, newest first.")
    async def training_runs(
        self,
        info: Info,
        first: Annotated[int, strawberry.argument(description="How many, 1 to 100.")] = 20,
        after: Annotated[str | None, strawberry.argument(description="Only those behind this cursor.")] = None,
        filter: Annotated[TrainingRunFilter | None, strawberry.argument(description="Which runs.")] = None,
    ) -> Connection[TrainingRun]:
        user_id = info.context.viewer.require_unbound(Scope.RUNS_READ)
        try:
            conditions = filter.conditions() if filter else RunFilter()
        except NotFound:
            return Connection.of_edges([], has_next=False, has_previous=False)
        async with info.context.begin() as work:
            page = await queries.runs_page(work.session, user_id, conditions, first=first, after=after)
        return Connection.of(page, TrainingRun.of, after=after)

    @strawberry.field(description="What can be trained without writing code.")
    def recipes(self) -> list[Recipe]:
        return [Recipe.of(facts) for facts in recipes()]

    @strawberry.field(
        description="What an API key of test mode may have played; nothing where this installation has no simulators."
    )
    def test_scenarios(
        self,
        info: Info,
        provider: Annotated[Provider | None, strawberry.argument(description="Only its.")] = None,
    ) -> list[TestScenario]:
        return [
            TestScenario(provider=each, name=name, description=description)
            for each, plays in played(info.context).items()
            if provider in (None, each)
            for name, description in plays.items()
        ]
