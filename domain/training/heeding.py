"""Warnings: each is told once per attempt, and stops the run where its owner's rule says so."""

from collections.abc import Sequence

from domain.commands import CheckRun
from domain.journal.service import append_run_event
from domain.training.model import TrainingRun
from domain.training.report import Warned
from domain.training.rules import STOPPED_AS, RuleAction, action_for
from domain.training.status import EndReason, RunStatus
from domain.work import UnitOfWork


async def heed(work: UnitOfWork, run: TrainingRun, warnings: Sequence[Warned]) -> None:
    """Do what the run's rules say about these warnings."""
    for warning in warnings:
        action = action_for(run.rules, warning.code)
        if action is RuleAction.IGNORE or warning.code.value in run.warned:
            continue
        run.warned = [*run.warned, warning.code.value]
        data = {"reason": warning.code.value, "message": warning.message[:2000], "action": action.value}
        await append_run_event(work, run, "run.warned", data)
        if action is RuleAction.STOP:
            begin_stopping(work, run, STOPPED_AS[warning.code], warning.message[:2000])


def begin_stopping(work: UnitOfWork, run: TrainingRun, reason: EndReason, message: str | None) -> None:
    """Have the run stopped at its provider; it ends with this reason once that is confirmed. The first reason stays."""
    if run.status.is_final or run.status in (RunStatus.CANCELING, RunStatus.DEPLOYING) or run.stop_reason is not None:
        return
    run.stop_reason, run.stop_message = reason, message
    run.next_check_at = work.now
    work.enqueue(CheckRun(run.id))
