"""Models: the public trainers, and those that accounts made as destinations."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobs.simulators.replicate.catalog import DOLLARS_PER_SECOND, Trainer
from jobs.simulators.replicate.problems import Refusal, invalid, not_found
from jobs.simulators.replicate.training import SimulatedTraining

MOST_PER_ACCOUNT = 1_000
_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
_NEEDED = ("owner", "name", "visibility", "hardware")
_ALLOWED = (*_NEEDED, "description", "github_url", "paper_url", "license_url", "cover_image_url")


@dataclass(slots=True)
class OwnModel:
    """A model that somebody made."""

    owner: str
    name: str
    visibility: str
    hardware: str
    description: str | None = None
    github_url: str | None = None
    paper_url: str | None = None
    license_url: str | None = None
    cover_image_url: str | None = None


class ModelShelf:
    """All models; each account sees the public ones and its own."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers: Mapping[str, Trainer] = {trainer.full_name: trainer for trainer in trainers}
        self.own: dict[str, OwnModel] = {}

    def make(self, account: str, given: Mapping[str, Any]) -> OwnModel:
        """What `POST /models` does. Raises 409 for a name that is taken."""
        wrong = [
            {"type": "required", "field": name, "description": f"{name} is required"}
            for name in _NEEDED
            if not given.get(name)
        ]
        wrong += [
            {"type": "additional_property_not_allowed", "field": name, "description": f"{name} is not allowed"}
            for name in given
            if name not in _ALLOWED
        ]
        wrong += [
            {"type": "invalid_type", "field": name, "description": "Invalid type. Expected: string"}
            for name in _ALLOWED
            if given.get(name) is not None and not isinstance(given[name], str)
        ]
        if not wrong:
            if given["visibility"] not in ("public", "private"):
                wrong.append({"type": "enum", "field": "visibility", "description": "must be public or private"})
            if given["hardware"] not in DOLLARS_PER_SECOND:
                wrong.append({"type": "enum", "field": "hardware", "description": "no such hardware"})
            if not _NAME.fullmatch(given["name"]):
                wrong.append({"type": "pattern", "field": "name", "description": "is no name for a model"})
        if wrong:
            raise invalid(wrong)
        if given["owner"] != account:
            raise Refusal(403, "You do not have permission to perform this action.")
        full_name = f"{given['owner']}/{given['name']}"
        if full_name in self.own:
            raise Refusal(409, "A model with that name and owner already exists", "Conflict")
        if sum(model.owner == account for model in self.own.values()) >= MOST_PER_ACCOUNT:
            raise Refusal(403, f"You have reached the limit of {MOST_PER_ACCOUNT} models.")
        self.own[full_name] = OwnModel(**given)
        return self.own[full_name]

    def shown(
        self, account: str, full_name: str, trainings: Sequence[SimulatedTraining], now: datetime
    ) -> dict[str, Any]:
        """The model as its reader may see it; 404 for others' private ones too."""
        trainer = self.trainers.get(full_name)
        if trainer is not None:
            model = OwnModel(trainer.owner, trainer.name, "public", trainer.hardware, "A trainer")
        elif full_name in self.own:
            model = self.own[full_name]
            if model.visibility == "private" and model.owner != account:
                raise not_found()
        else:
            raise not_found()
        versions = self.versions(account, full_name, trainings, now)
        return {
            "url": f"https://replicate.com/{full_name}",
            "owner": model.owner,
            "name": model.name,
            "description": model.description,
            "visibility": model.visibility,
            "github_url": model.github_url,
            "paper_url": model.paper_url,
            "license_url": model.license_url,
            "run_count": 0,
            "cover_image_url": model.cover_image_url,
            "default_example": None,
            "latest_version": versions[0] if versions else None,
        }

    def versions(
        self, account: str, full_name: str, trainings: Sequence[SimulatedTraining], now: datetime
    ) -> list[dict[str, Any]]:
        """Newest first."""
        trainer = self.trainers.get(full_name)
        if trainer is not None:
            return [_version(trainer.version, datetime(2025, 1, 6, 12, tzinfo=UTC), trainer.schema)]
        if full_name not in self.own or self.own[full_name].owner != account:
            raise not_found()
        made = []
        for training in trainings:
            look = training.look(now)
            if training.destination == full_name and look.status == "succeeded" and look.completed_at is not None:
                schema = {"openapi": "3.0.2", "info": {"title": "Cog", "version": "0.1.0"}}
                made.append(_version(training.new_version, look.completed_at, schema))
        return sorted(made, key=lambda version: str(version["created_at"]), reverse=True)


def new_version_id(training_id: str) -> str:
    return hashlib.sha256(training_id.encode()).hexdigest()


def _version(version_id: str, at: datetime, schema: Mapping[str, Any]) -> dict[str, Any]:
    made = f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
    return {"id": version_id, "created_at": made, "cog_version": "0.14.1", "openapi_schema": dict(schema)}
