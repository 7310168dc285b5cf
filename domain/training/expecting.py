"""When a run's training is expected to end: kept with the run, and compared with the truth afterwards."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col, select

from domain.base import new_id
from domain.training import eta
from domain.training.model import EtaPrediction, RunAttempt, TrainingRun
from domain.training.report import Report
from domain.training.status import RunStatus
from domain.work import UnitOfWork

CHECKPOINTS = (10, 25, 50, 75, 90)
"""Percent of a training at which what was expected is kept, to be judged by the end."""
HISTORY = 20
"""How many of the user's earlier trainings of the same kind are looked at."""
_HISTORY_KEY = "history"
_SAID_KEY = "said"


async def expect(work: UnitOfWork, run: TrainingRun, attempt: RunAttempt, report: Report, *, ended_well: bool) -> None:
    """Bring the run's ETA up to the report. At a good end, write down how good the earlier ones were."""
    if run.started_at is None:
        return
    elapsed = max(0.0, (report.at - run.started_at).total_seconds())
    if ended_well:
        await _judge(work, run, elapsed)
    if run.status is not RunStatus.TRAINING:
        run.eta_low_seconds = run.eta_high_seconds = run.eta_confidence = None
        return
    state: dict[str, Any] = dict(attempt.eta_state)
    if _HISTORY_KEY not in state:
        state[_HISTORY_KEY] = await _history(work, run)
    if report.percent is not None:
        state |= eta.observe(state, elapsed_seconds=elapsed, percent=report.percent)
        state[_SAID_KEY] = report.percent
    hint = report.eta_seconds
    if hint is None and report.expected_seconds is not None:
        hint = max(0.0, report.expected_seconds - elapsed)
    said: float | None = report.percent if report.percent is not None else state.get(_SAID_KEY)
    found = eta.estimate(
        state, elapsed_seconds=elapsed, percent=said, history_seconds=state[_HISTORY_KEY], hint_seconds=hint
    )
    attempt.eta_state = state
    if found is None:
        return
    run.eta_seconds, run.eta_confidence = found.seconds, found.confidence
    run.eta_low_seconds, run.eta_high_seconds = found.low_seconds, found.high_seconds
    if report.percent is not None:
        await _keep(work, run, attempt, report.percent, elapsed, found)


async def _keep(
    work: UnitOfWork, run: TrainingRun, attempt: RunAttempt, percent: float, elapsed: float, found: eta.EtaRange
) -> None:
    passed = [checkpoint for checkpoint in CHECKPOINTS if percent >= checkpoint]
    kept = attempt.eta_state.get("checkpoint", 0)
    if not passed or passed[-1] <= kept:
        return
    attempt.eta_state = {**attempt.eta_state, "checkpoint": passed[-1]}
    statement = insert(EtaPrediction).values(
        id=new_id(),
        created_at=work.now,
        user_id=run.user_id,
        run_id=run.id,
        attempt=attempt.number,
        provider=attempt.provider,
        checkpoint=passed[-1],
        elapsed_seconds=elapsed,
        predicted_seconds=found.seconds,
        low_seconds=found.low_seconds,
        high_seconds=found.high_seconds,
    )
    await work.session.exec(statement.on_conflict_do_nothing())


async def _judge(work: UnitOfWork, run: TrainingRun, total_seconds: float) -> None:
    statement = (
        sa.update(EtaPrediction)
        .where(
            col(EtaPrediction.run_id) == run.id,
            col(EtaPrediction.attempt) == run.attempt,
            col(EtaPrediction.actual_seconds).is_(None),
        )
        .values(actual_seconds=sa.func.greatest(0.0, total_seconds - col(EtaPrediction.elapsed_seconds)))
    )
    await work.session.exec(statement)


async def _history(work: UnitOfWork, run: TrainingRun) -> list[float]:
    """How long the user's latest trainings of the same recipe took at the same provider, in seconds."""
    statement = (
        select(TrainingRun.started_at, RunAttempt.ended_at)
        .join(
            RunAttempt,
            sa.and_(col(RunAttempt.run_id) == TrainingRun.id, col(RunAttempt.number) == TrainingRun.attempt),
        )
        .where(
            TrainingRun.user_id == run.user_id,
            TrainingRun.provider == run.provider,
            TrainingRun.recipe == run.recipe,
            TrainingRun.status == RunStatus.READY,
            TrainingRun.test_mode == run.test_mode,
            TrainingRun.id != run.id,
        )
        .order_by(col(TrainingRun.id).desc())
        .limit(HISTORY)
    )
    rows = (await work.session.exec(statement)).all()
    return [round((end - begin).total_seconds(), 1) for begin, end in rows if begin and end and end > begin]
