"""Where a run's work may be done, in the user's order. Attempts go through them while there is no free machine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from domain.training.status import Provider

RUNPOD_GPUS = ("NVIDIA GeForce RTX 4090", "NVIDIA RTX A5000", "NVIDIA L4", "NVIDIA A40")
"""For runs that name no GPU type: 24 GB and more, in the order of price and of how often they are free."""
MOST_CHOICES = 20


@dataclass(frozen=True, slots=True)
class ProviderChoice:
    """A provider that may do the work, with its GPU types, the best first, and the user's credential to do it with."""

    provider: Provider
    gpu_types: tuple[str, ...] = ()
    integration_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """One place to try."""

    provider: Provider
    gpu_type: str | None = None
    integration_id: UUID | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "provider": self.provider.value,
            "gpuType": self.gpu_type,
            "integrationId": str(self.integration_id) if self.integration_id else None,
        }

    @classmethod
    def of_json(cls, facts: dict[str, Any]) -> Self:
        integration = facts.get("integrationId")
        return cls(Provider(facts["provider"]), facts.get("gpuType"), UUID(integration) if integration else None)


def choices_of(wanted: Iterable[ProviderChoice]) -> list[Choice]:
    """All places, one after the other; the same place is tried once."""
    found: dict[Choice, None] = {}
    for choice in wanted:
        for gpu_type in _gpu_types(choice):
            found[Choice(choice.provider, gpu_type, choice.integration_id)] = None
    return list(found)


def choice_of(choices: Sequence[dict[str, Any]], number: int, provider: Provider) -> Choice:
    """The choice of that number; runs from before there were any have their provider alone."""
    return Choice.of_json(choices[number]) if number < len(choices) else Choice(provider)


def _gpu_types(choice: ProviderChoice) -> Sequence[str | None]:
    if choice.provider is Provider.RUNPOD:
        return choice.gpu_types or RUNPOD_GPUS
    return (None,)
