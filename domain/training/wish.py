"""What a user wishes to have trained, checked before a row is written."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self
from uuid import UUID

import orjson

from domain.training.errors import BadRunInput, NotSupportedHere, RecipeNeeded
from domain.training.model import TrainingConfig, TrainingRun
from domain.training.status import Provider

LONGEST_NAME = 200
MOST_TAGS = 20
LONGEST_TAG = 64
LARGEST_METADATA_BYTES = 16 * 1024
LONGEST_KEY = 200
SHORTEST_TIME_LIMIT_SECONDS = 10


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
    fallbacks: tuple[Provider, ...] = ()
    budget_micros: int | None = None
    time_limit_seconds: int | None = None
    deploy: bool = True
    idempotency_key: str | None = None

    @classmethod
    def again(cls, run: TrainingRun, model_name: str, idempotency_key: str | None) -> Self:
        """The wish that a run came from."""
        return cls(
            model_name=model_name,
            provider=run.provider,
            recipe=run.recipe,
            dataset_id=run.dataset_id,
            hyperparameters=run.hyperparameters,
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
        plain = orjson.dumps(asdict(self), default=str, option=orjson.OPT_SORT_KEYS)
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
        self._check_provider()
        if self.recipe is None:
            raise RecipeNeeded
        return replace(self, model_name=name, tags=tags)

    def _check_provider(self) -> None:
        if self.provider is not Provider.LOCAL:
            return
        for what, given in (("gpuTypes", self.gpu_types), ("image", self.image), ("fallbacks", self.fallbacks)):
            if given:
                raise NotSupportedHere(Provider.LOCAL, what)
