"""What callers give to start and to find runs."""

from datetime import datetime
from typing import Any
from uuid import UUID

import strawberry

from domain.errors import NotFound
from domain.training.choices import ProviderChoice as ProviderChoiceFacts
from domain.training.errors import BadRunInput, NotSupportedHere
from domain.training.queries import RunFilter
from domain.training.rules import RuleAction
from domain.training.status import Provider, RunStatus, WarningCode
from domain.training.wish import RunWish
from graph.ids import uuid_of
from graph.scalars import BigInt


@strawberry.input(description="Another provider to go to when the one before has no free machine.")
class ProviderChoice:
    provider: Provider = strawberry.field(description="Who may do the work instead.")
    gpu_types: list[str] | None = strawberry.field(
        default=None, description="Its GPU types, the best first; RUNPOD only."
    )
    integration_id: strawberry.ID | None = strawberry.field(
        default=None, description="A credential of yours for it; else the operator's, or your newest where he has none."
    )

    def choice(self) -> ProviderChoiceFacts:
        integration = _id(self.integration_id, "Integration", "integrationId")
        return ProviderChoiceFacts(self.provider, tuple(self.gpu_types or ()), integration)


@strawberry.input(description="What is done when something looks wrong with the training.")
class RunRuleInput:
    warning: WarningCode = strawberry.field(description="What looks wrong.")
    action: RuleAction = strawberry.field(description="What is done then; without a rule you are told.")


@strawberry.input(description="What is to be trained, how, on what, and what may be done with the result.")
class StartTrainingRunInput:
    model_name: str = strawberry.field(description="The model to train; made if you have none of this name.")
    provider: Provider = strawberry.field(description="Who does the work.")
    recipe: str | None = strawberry.field(default=None, description="One of `recipes`, unless the config says it.")
    fragment_id: strawberry.ID | None = strawberry.field(
        default=None, description="Generated code to run instead of a recipe; not offered yet."
    )
    dataset_id: strawberry.ID | None = strawberry.field(default=None, description="The data to train on.")
    fallbacks: list[ProviderChoice] | None = strawberry.field(
        default=None, description="Where to go, in order, when there is no free machine; not for LOCAL."
    )
    gpu_types: list[str] | None = strawberry.field(
        default=None, description="GPU types, the best first; RUNPOD only. Without it: types of 24 GB and more."
    )
    image: str | None = strawberry.field(default=None, description="The machine image to run in; RUNPOD only.")
    keep_seconds: int = strawberry.field(
        default=0,
        description="How long the machine is kept after success, to look around in; at most 3600, and it costs what"
        " `quoteTrainingRun` says. RUNPOD only.",
    )
    integration_id: strawberry.ID | None = strawberry.field(
        default=None,
        description="A credential of yours to do it with; else the operator's, or your newest where he has none.",
    )
    rules: list[RunRuleInput] | None = strawberry.field(
        default=None, description="What is done when something looks wrong; you are told of what has no rule."
    )
    scenario: str | None = strawberry.field(
        default=None,
        description="What the simulator is to play, one of `testScenarios`; with an API key of test mode only. Each"
        " fallback plays it too and has to know it; LOCAL plays nothing and can stand behind any.",
    )
    training_config_id: strawberry.ID | None = strawberry.field(
        default=None, description="Saved settings; what you give here goes before them."
    )
    hyperparameters: strawberry.scalars.JSON | None = strawberry.field(
        default=None, description="An object with settings of the recipe; what is left out gets its default."
    )
    tags: list[str] | None = strawberry.field(default=None, description="At most 20 words to find the run by.")
    metadata: strawberry.scalars.JSON | None = strawberry.field(
        default=None, description="An object of your own, kept as it is; at most 16 KB."
    )
    budget_micros: BigInt | None = strawberry.field(
        default=None, description="The run is stopped before it costs more, in millionths of a US dollar."
    )
    time_limit_seconds: int | None = strawberry.field(
        default=None, description="The training is stopped after so long."
    )
    deploy: bool = strawberry.field(default=True, description="Whether the result is to answer at an address.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="A word of yours; asking again with it gives the same run instead of another one."
    )

    def wish(self) -> RunWish:
        """Raises `NotFound` and `Invalid` for ids and values that cannot be."""
        if self.fragment_id is not None:
            raise NotSupportedHere(self.provider, "fragmentId")
        return RunWish(
            model_name=self.model_name,
            provider=self.provider,
            recipe=self.recipe,
            dataset_id=_id(self.dataset_id, "Dataset", "datasetId"),
            training_config_id=_id(self.training_config_id, "TrainingConfig", "trainingConfigId"),
            hyperparameters=_object(self.hyperparameters, "hyperparameters"),
            tags=tuple(self.tags or ()),
            metadata=_object(self.metadata, "metadata"),
            gpu_types=tuple(self.gpu_types or ()),
            image=self.image,
            keep_seconds=self.keep_seconds,
            integration_id=_id(self.integration_id, "Integration", "integrationId"),
            fallbacks=tuple(choice.choice() for choice in self.fallbacks or ()),
            rules={rule.warning: rule.action for rule in self.rules or ()},
            scenario=self.scenario,
            budget_micros=self.budget_micros,
            time_limit_seconds=self.time_limit_seconds,
            deploy=self.deploy,
            idempotency_key=self.idempotency_key,
        )


@strawberry.input(description="Which runs to list; what is left out does not narrow.")
class TrainingRunFilter:
    statuses: list[RunStatus] | None = strawberry.field(default=None, description="In one of these.")
    providers: list[Provider] | None = strawberry.field(default=None, description="With one of these.")
    tags: list[str] | None = strawberry.field(default=None, description="With all of these.")
    model_id: strawberry.ID | None = strawberry.field(default=None, description="Of this model.")
    created_after: datetime | None = strawberry.field(default=None, description="Asked for after this moment.")
    created_before: datetime | None = strawberry.field(default=None, description="Asked for before this moment.")

    def conditions(self) -> RunFilter:
        return RunFilter(
            statuses=tuple(self.statuses or ()),
            providers=tuple(self.providers or ()),
            tags=tuple(self.tags or ()),
            model_id=uuid_of(self.model_id, "AIModel") if self.model_id else None,
            created_after=self.created_after,
            created_before=self.created_before,
        )


def _id(given: strawberry.ID | None, kind: str, field: str) -> UUID | None:
    if given is None:
        return None
    try:
        return uuid_of(given, kind)
    except NotFound:
        raise NotFound(kind, field=(field,)) from None


def _object(given: Any, field: str) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadRunInput(field, "a JSON object", "um objeto JSON")
    return given
