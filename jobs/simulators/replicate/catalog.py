"""The public trainers that the simulator knows, the hardware and what it costs.

Prices are those of replicate.com/pricing as of November 2026, in dollars per second.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

DOLLARS_PER_SECOND: Mapping[str, str] = {
    "cpu": "0.000100",
    "gpu-t4": "0.000225",
    "gpu-a40-small": "0.000575",
    "gpu-a40-large": "0.000725",
    "gpu-l40s": "0.000975",
    "gpu-a100-large": "0.001400",
    "gpu-h100": "0.001525",
}
HARDWARE_NAMES: Mapping[str, str] = {
    "cpu": "CPU",
    "gpu-t4": "Nvidia T4 GPU",
    "gpu-a40-small": "Nvidia A40 GPU",
    "gpu-a40-large": "Nvidia A40 (Large) GPU",
    "gpu-l40s": "Nvidia L40S GPU",
    "gpu-a100-large": "Nvidia A100 (80GB) GPU",
    "gpu-h100": "Nvidia H100 GPU",
}


@dataclass(frozen=True, slots=True)
class Field:
    """One input of a trainer."""

    kind: str
    """`string`, `integer`, `number` or `boolean`."""
    required: bool = False
    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Trainer:
    """A public model that can be trained."""

    owner: str
    name: str
    hardware: str
    job_name: str
    """What its progress bars are called."""
    fields: Mapping[str, Field] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        return f"{self.owner}/{self.name}"

    @property
    def version(self) -> str:
        """The id of its latest version."""
        return hashlib.sha256(self.full_name.encode()).hexdigest()

    @property
    def schema(self) -> dict[str, Any]:
        """Its version's description, as far as trainings are concerned."""
        properties = {
            name: {
                "type": one.kind,
                **({"minimum": one.minimum} if one.minimum is not None else {}),
                **({"maximum": one.maximum} if one.maximum is not None else {}),
            }
            for name, one in self.fields.items()
        }
        required = [name for name, one in self.fields.items() if one.required]
        training_input = {"type": "object", "title": "TrainingInput", "properties": properties, "required": required}
        return {
            "openapi": "3.0.2",
            "info": {"title": "Cog", "version": "0.1.0"},
            "components": {"schemas": {"TrainingInput": training_input}},
        }


TRAINERS = (
    Trainer(
        "ostris",
        "flux-dev-lora-trainer",
        "gpu-h100",
        "flux_train_replicate",
        {
            "input_images": Field("string", required=True),
            "trigger_word": Field("string"),
            "steps": Field("integer", minimum=3, maximum=6000),
            "lora_rank": Field("integer", minimum=1, maximum=128),
            "learning_rate": Field("number"),
            "batch_size": Field("integer", minimum=1),
            "resolution": Field("string"),
            "autocaption": Field("boolean"),
        },
    ),
    Trainer(
        "stability-ai",
        "sdxl",
        "gpu-a40-large",
        "# PTI",
        {
            "input_images": Field("string", required=True),
            "use_face_detection_instead": Field("boolean"),
            "max_train_steps": Field("integer", minimum=1),
        },
    ),
    Trainer("zsxkib", "text-classifier-trainer", "gpu-l40s", "training", {"train_data": Field("string")}),
)


def cost_micros(hardware: str, seconds: float) -> int:
    """What so many seconds of work cost, in millionths of a dollar."""
    return round(Decimal(str(seconds)) * Decimal(DOLLARS_PER_SECOND[hardware]) * 1_000_000)


def micros_per_hour(hardware: str) -> int:
    return int(Decimal(DOLLARS_PER_SECOND[hardware]) * 3_600 * 1_000_000)


def wrong_fields(trainer: Trainer, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """What of an input the trainer's description does not allow; inputs that it does not name are let through."""
    wrong = []
    for name, one in trainer.fields.items():
        value = given.get(name)
        if value is None:
            if one.required:
                wrong.append({"type": "required", "field": "input", "description": f"{name} is required"})
        elif not _is(one.kind, value):
            words = f"Invalid type. Expected: {one.kind}, given: {_KINDS.get(type(value), 'object')}"
            wrong.append({"type": "invalid_type", "field": f"input.{name}", "description": words})
        elif one.minimum is not None and value < one.minimum:
            words = f"Must be greater than or equal to {one.minimum}"
            wrong.append({"type": "number_gte", "field": f"input.{name}", "description": words})
        elif one.maximum is not None and value > one.maximum:
            words = f"Must be less than or equal to {one.maximum}"
            wrong.append({"type": "number_lte", "field": f"input.{name}", "description": words})
    return wrong


_KINDS: Mapping[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array"}


def _is(kind: str, value: object) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "number":
        return isinstance(value, int | float)
    return isinstance(value, str if kind == "string" else int) and kind in ("string", "integer")
