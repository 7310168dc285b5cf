"""What a user wishes to have trained, checked before a row is written."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self
from uuid import UUID

import orjson

from domain.training.choices import MOST_CHOICES, Choice, ProviderChoice, choice_of, choices_of
from domain.training.errors import BadRunInput, NotSupportedHere, RecipeNeeded
from domain.training.model import TrainingConfig, TrainingRun
from domain.training.recipe_errors import RecipeNotOnProvider
from domain.training.recipes import recipe_of
from domain.training.rules import RuleAction
from domain.training.status import Provider, WarningCode

LONGEST_NAME = 200
MOST_TAGS = 20
LONGEST_TAG = 64
LARGEST_METADATA_BYTES = 16 * 1024
LONGEST_KEY = 200
SHORTEST_TIME_LIMIT_SECONDS = 10
LONGEST_KEEP_SECONDS = 3600
_SCENARIO = re.compile(r"[a-z0-9_]{1,64}")


@dataclass(frozen=True, slots=True)
class RunWish:
    """The input of `startTrainingRun`, in the domain's words. None and empty mean: not said."""

    model_name: str
    provider: Provider
    recipe: str | None = None
    dataset_id: UUID | None = None
    training_config_id: UUID | None = None
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    gpu_types: tuple[str, ...] = ()
    image: str | None = None
    keep_seconds: int = 0
    integration_id: UUID | None = None
    """The user's own credential to do it with; None for the operator's, or the user's newest where he has none."""
    fallbacks: tuple[ProviderChoice, ...] = ()
    rules: Mapping[WarningCode, RuleAction] = field(default_factory=dict)
    scenario: str | None = None
    """What a simulator is to play; test mode only."""
    budget_micros: int | None = None
    time_limit_seconds: int | None = None
    deploy: bool = True
    idempotency_key: str | None = None

    @classmethod
    def again(cls, run: TrainingRun, model_name: str, idempotency_key: str | None) -> Self:
        """The wish that a run came from."""
        return cls(
            model_name=model_name,
            recipe=run.recipe,
            dataset_id=run.dataset_id,
            hyperparameters=run.hyperparameters,
            image=run.image,
            keep_seconds=run.keep_seconds,
            fallbacks=tuple(_again(Choice.of_json(facts)) for facts in run.choices[1:]),
            rules={WarningCode(code): RuleAction(action) for code, action in run.rules.items()},
            scenario=run.scenario,
            **_first(run),
            tags=tuple(run.tags),
            metadata=run.notes,
            budget_micros=run.budget_micros,
            time_limit_seconds=run.time_limit_seconds,
            deploy=run.deploy,
            idempotency_key=idempotency_key,
        )

    @property
    def digest(self) -> str:
        """Two wishes with one idempotency key are the same only if their digests are."""
        plain = orjson.dumps(asdict(self), default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
        return hashlib.sha256(plain).hexdigest()

    def with_config(self, config: TrainingConfig) -> "RunWish":
        """What the wish does not say is taken from the saved config."""
        return replace(
            self,
            recipe=self.recipe or config.recipe,
            hyperparameters={**config.hyperparameters, **self.hyperparameters},
            gpu_types=self.gpu_types or tuple(config.gpu_types),
            image=self.image or config.image,
            time_limit_seconds=self.time_limit_seconds or config.time_limit_seconds,
        )

    def checked(self, *, longest_time_limit_seconds: int) -> "RunWish":
        """This wish, with its names trimmed. Raises `Invalid` with the field that is wrong."""
        name = self.model_name.strip()
        if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
            raise BadRunInput("modelName", "1 to 200 printable characters", "de 1 a 200 caracteres imprimíveis")
        tags = tuple(dict.fromkeys(tag.strip() for tag in self.tags))
        if len(tags) > MOST_TAGS or any(not 1 <= len(tag) <= LONGEST_TAG or not tag.isprintable() for tag in tags):
            raise BadRunInput(
                "tags",
                "at most 20 tags of 1 to 64 printable characters",
                "no máximo 20 etiquetas de 1 a 64 caracteres imprimíveis",
            )
        if not isinstance(self.metadata, Mapping) or len(orjson.dumps(dict(self.metadata))) > LARGEST_METADATA_BYTES:
            raise BadRunInput("metadata", "a JSON object of at most 16 KB", "um objeto JSON de até 16 KB")
        if not isinstance(self.hyperparameters, Mapping):
            raise BadRunInput("hyperparameters", "a JSON object", "um objeto JSON")
        limit = self.time_limit_seconds
        if limit is not None and not SHORTEST_TIME_LIMIT_SECONDS <= limit <= longest_time_limit_seconds:
            raise BadRunInput(
                "timeLimitSeconds",
                f"between {SHORTEST_TIME_LIMIT_SECONDS} and {longest_time_limit_seconds}",
                f"entre {SHORTEST_TIME_LIMIT_SECONDS} e {longest_time_limit_seconds}",
            )
        if self.budget_micros is not None and self.budget_micros < 0:
            raise BadRunInput("budgetMicros", "zero or more", "zero ou mais")
        key = self.idempotency_key
        if key is not None and not (1 <= len(key) <= LONGEST_KEY and key.isprintable()):
            raise BadRunInput("idempotencyKey", "1 to 200 printable characters", "de 1 a 200 caracteres imprimíveis")
        if self.scenario is not None and not _SCENARIO.fullmatch(self.scenario):
            raise BadRunInput("scenario", "the name of a scenario", "o nome de um cenário")
        self._check_providers()
        if self.recipe is None:
            raise RecipeNeeded
        recipe = recipe_of(self.recipe)
        for choice in self.places:
            if choice.provider not in recipe.providers:
                raise RecipeNotOnProvider(recipe, choice.provider)
        return replace(self, model_name=name, tags=tags)

    @property
    def places(self) -> list[Choice]:
        """Where it may be done, in the order to try."""
        first = ProviderChoice(self.provider, self.gpu_types, self.integration_id)
        return choices_of([first, *self.fallbacks])

    def _check_providers(self) -> None:
        if self.provider is Provider.LOCAL:
            given = {"gpuTypes": self.gpu_types, "image": self.image, "fallbacks": self.fallbacks}
            for what, value in {**given, "integrationId": self.integration_id}.items():
                if value:
                    raise NotSupportedHere(Provider.LOCAL, what)
        wanted = [ProviderChoice(self.provider, self.gpu_types), *self.fallbacks]
        for choice in wanted:
            if choice.gpu_types and choice.provider is not Provider.RUNPOD:
                raise NotSupportedHere(choice.provider, "gpuTypes")
            if not all(1 <= len(gpu) <= LONGEST_NAME and gpu.isprintable() for gpu in choice.gpu_types):
                raise BadRunInput("gpuTypes", "names of GPU types", "nomes de tipos de GPU")
        if self.image and all(choice.provider is not Provider.RUNPOD for choice in wanted):
            raise NotSupportedHere(self.provider, "image")
        if self.image and not (len(self.image) <= LONGEST_NAME and self.image.isprintable()):
            raise BadRunInput("image", "the name of an image", "o nome de uma imagem")
        if self.keep_seconds and all(choice.provider is not Provider.RUNPOD for choice in wanted):
            raise NotSupportedHere(self.provider, "keepSeconds")
        if not 0 <= self.keep_seconds <= LONGEST_KEEP_SECONDS:
            raise BadRunInput("keepSeconds", "between 0 and 3600", "entre 0 e 3600")
        if len(self.places) > MOST_CHOICES:
            raise BadRunInput("fallbacks", "at most 20 places in all", "no máximo 20 lugares ao todo")


def _first(run: TrainingRun) -> dict[str, Any]:
    """The place that a run was to be done at first."""
    choice = choice_of(run.choices, 0, run.provider)
    return {
        "provider": choice.provider,
        "gpu_types": (choice.gpu_type,) if choice.gpu_type else (),
        "integration_id": choice.integration_id,
    }


def _again(choice: Choice) -> ProviderChoice:
    return ProviderChoice(choice.provider, (choice.gpu_type,) if choice.gpu_type else (), choice.integration_id)
