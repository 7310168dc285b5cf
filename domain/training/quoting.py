"""What a run would be, before it is: the same checks as at its start, and what the user's earlier runs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import col, select

from domain.training.choices import Choice
from domain.training.expecting import HISTORY
from domain.training.model import RunAttempt, TrainingRun
from domain.training.starting import Offer, checked_wish
from domain.training.status import Provider, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Viewer
from domain.work import UnitOfWork


@dataclass(frozen=True, slots=True)
class Prospect:
    """A wish that could be started now."""

    wish: RunWish
    places: tuple[Choice, ...]
    hyperparameters: Mapping[str, Any]
    history_seconds: Mapping[Provider, tuple[float, ...]]
    """How long the user's latest trainings of this recipe took, by provider."""


async def prospect(work: UnitOfWork, viewer: Viewer, wish: RunWish, offer: Offer) -> Prospect:
    """Check the wish as `start_run` does, and write nothing. Raises what that raises."""
    checked = await checked_wish(work, viewer, wish, offer)
    history: dict[Provider, tuple[float, ...]] = {}
    for provider in {place.provider for place in checked.places}:
        statement = (
            select(RunAttempt.training_began_at, RunAttempt.ended_at)
            .join(TrainingRun, col(TrainingRun.id) == col(RunAttempt.run_id))
            .where(
                TrainingRun.user_id == checked.user_id,
                TrainingRun.recipe == checked.wish.recipe,
                TrainingRun.status == RunStatus.READY,
                TrainingRun.test_mode == viewer.test_mode,
                RunAttempt.provider == provider,
                col(RunAttempt.training_began_at).is_not(None),
                col(RunAttempt.ended_at).is_not(None),
            )
            .order_by(col(RunAttempt.id).desc())
            .limit(HISTORY)
        )
        rows = (await work.session.exec(statement)).all()
        history[provider] = tuple((end - begin).total_seconds() for begin, end in rows if begin and end)
    return Prospect(checked.wish, tuple(checked.places), checked.hyperparameters, history)
