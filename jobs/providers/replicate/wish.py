"""What is asked of Replicate for one attempt, from our hyperparameters."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobs.providers.base import ProviderRefused, TrainingOrder

FLUX = "flux-lora"
ANY = "replicate-trainer"
FLUX_INPUT = "input_images"
SLUG_CHARACTERS = 40
_TRAINER = re.compile(r"(?P<owner>[\w-][\w.-]*)/(?P<name>[\w-][\w.-]*)(?::(?P<version>[0-9A-Za-z]{1,128}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class ModelName:
    """A model at Replicate, and perhaps one version of it."""

    owner: str
    name: str
    version: str | None = None

    @classmethod
    def of(cls, text: object) -> "ModelName | None":
        """From `owner/name` or `owner/name:version`; None for anything else, which could lead a path elsewhere."""
        found = _TRAINER.fullmatch(text) if isinstance(text, str) else None
        return cls(found["owner"], found["name"], found["version"]) if found else None

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"


@dataclass(frozen=True, slots=True)
class Wish:
    """One creation, as far as it is known before Replicate was asked anything."""

    trainer: ModelName
    input: Mapping[str, Any]
    destination: ModelName | None
    """None: one is made for the run."""
    is_marked: bool
    """Whether the attempt's tag is somewhere in the input, for `find`."""
    hardware: str
    visibility: str


def wish_of(order: TrainingOrder) -> Wish:
    """What the order asks of Replicate. Raises `ProviderRefused` for one that no trainer could follow."""
    given = order.hyperparameters
    trainer = ModelName.of(given.get("trainer"))
    if trainer is None:
        raise ProviderRefused("The trainer must be written as owner/name or owner/name:version.")
    destination = None
    if given.get("destination") is not None:
        destination = ModelName.of(given["destination"])
        if destination is None or destination.version is not None:
            raise ProviderRefused("The destination must be written as owner/name.")
    further = given.get("input") or {}
    if not isinstance(further, Mapping):
        raise ProviderRefused("The trainer's further inputs must be an object.")
    content: dict[str, Any] = dict(further)
    dataset_input = dataset_input_of(order.recipe, given)
    if order.recipe == FLUX:
        if order.dataset is None:
            raise ProviderRefused("flux-lora learns from pictures: a dataset in the format ZIP is needed.")
        content |= {"trigger_word": given.get("triggerWord", "TOK"), "steps": given.get("steps", 1_000)}
    elif order.recipe != ANY:
        raise ProviderRefused(f"Replicate has no trainer for the recipe {order.recipe}.")
    if order.dataset is not None:
        content[dataset_input] = order.dataset.address.reveal()
    is_marked = _mark(content, order.tag)
    return Wish(
        trainer=trainer,
        input=content,
        destination=destination,
        is_marked=is_marked,
        hardware=str(given.get("hardware") or "gpu-t4"),
        visibility=str(given.get("visibility") or "private"),
    )


def dataset_input_of(recipe: str, hyperparameters: Mapping[str, Any]) -> str:
    """The name of the trainer's input that takes the dataset."""
    return FLUX_INPUT if recipe == FLUX else str(hyperparameters.get("datasetInput") or FLUX_INPUT)


def destination_name(order: TrainingOrder, *, is_marked: bool) -> str:
    """The name of the model that is made for the run.

    The id's last digits are random, its first ones are the time. Where nothing else tells attempts apart, each has a
    model of its own, so that `find` never takes an older attempt for a newer one.
    """
    name = f"{_slug(order.model_name)}-{order.run_id.hex[-8:]}"
    return name if is_marked or order.attempt == 1 else f"{name}-{order.attempt}"


def destination_mark(tag: str) -> re.Pattern[str] | None:
    """What the full name of an unmarked attempt's own destination looks like."""
    found = re.fullmatch(r"run-[0-9a-f]{24}(?P<run>[0-9a-f]{8})-(?P<attempt>\d+)", tag)
    if found is None:
        return None
    attempt = "" if found["attempt"] == "1" else f"-{found['attempt']}"
    return re.compile(rf"[^/]+/[a-z0-9-]+-{found['run']}{attempt}")


def _slug(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:SLUG_CHARACTERS].rstrip("-") or "model"


def _mark(content: dict[str, Any], tag: str) -> bool:
    """See to it that the tag is in the input, as a fragment of an address if need be: no server ever sees those."""
    texts = {name: value for name, value in content.items() if isinstance(value, str)}
    if any(tag in text for text in texts.values()):
        return True
    for name, text in texts.items():
        if text.startswith(("https://", "http://")):
            content[name] = f"{text}{'&' if '#' in text else '#'}{tag}"
            return True
    return False
