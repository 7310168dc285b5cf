"""Loaders of models."""

from uuid import UUID

from strawberry.dataloader import DataLoader

from domain.ai_model.model import AIModel
from graph.context import Info
from graph.training.loaders import ai_model_loader


def model_loader(info: Info) -> DataLoader[UUID, AIModel | None]:
    """Models by id, as far as the viewer may see them; the same loader as the runs'."""
    return ai_model_loader(info)
