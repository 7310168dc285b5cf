"""What a run's trainer wrote, measured and left behind, stored together with the events that tell it."""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from domain.base import new_id
from domain.events import time_text
from domain.journal.service import append_run_event
from domain.training import queries
from domain.training.model import Artifact, LogLine, MetricPoint, TrainingRun
from domain.training.report import LogChunk, LogText, Reading, StoredArtifact
from domain.training.status import LogLevel
from domain.work import UnitOfWork

READINGS_AT_ONCE = 2_000
"""One statement may have 32,767 parameters, and a reading has seven."""
READINGS_TOLD = 250
"""In one event, so that the bus carries it whole."""
LONGEST_LOG = 80 * 1024**2
"""Of an attempt's log, in the units of its offsets, so much is kept; sandboxes here end theirs a little before."""
LOG_IS_FULL = "The log reached its limit; further lines are not kept."
LARGEST_LOG_EVENT_BYTES = 30 * 1024
"""A batch of lines that the bus still carries whole."""


async def keep_log(work: UnitOfWork, run: TrainingRun, chunk: LogChunk) -> None:
    """Store the chunk's lines and move the attempt's offset, together. A chunk that does not begin there is old."""
    attempt = await queries.attempt_of(work.session, run.id, run.attempt)
    if attempt is None or attempt.log_offset != chunk.start or chunk.end <= chunk.start:
        return
    attempt.log_offset = chunk.end
    if chunk.state:
        attempt.log_state = dict(chunk.state)
    lines = chunk.lines if chunk.start < LONGEST_LOG else ()
    if chunk.start < LONGEST_LOG <= chunk.end:
        lines = (*lines, LogText(LOG_IS_FULL, work.now, LogLevel.WARNING))
    if not lines:
        return
    rows = [
        {
            "run_id": run.id,
            "line": run.log_lines + number,
            "user_id": run.user_id,
            "attempt": run.attempt,
            "at": line.at,
            "level": line.level,
            "text": line.text.replace("\x00", ""),
        }
        for number, line in enumerate(lines, start=1)
    ]
    await work.session.exec(insert(LogLine), params=rows)
    run.log_lines += len(rows)
    for batch in _batches(rows):
        data = {"fromLine": batch[0]["line"], "toLine": batch[-1]["line"], "lines": batch}
        await append_run_event(work, run, "run.logged", data)


def _batches(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines as events carry them, in batches that the bus carries whole."""
    batches: list[list[dict[str, Any]]] = []
    size = LARGEST_LOG_EVENT_BYTES
    for row in rows:
        line = {"line": row["line"], "at": time_text(row["at"]), "level": row["level"].value, "text": row["text"]}
        weight = len(orjson.dumps(line)) + 1
        if size + weight > LARGEST_LOG_EVENT_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(line)
        size += weight
    return batches


async def keep_readings(work: UnitOfWork, run: TrainingRun, readings: Sequence[Reading]) -> None:
    """Store those that are new, and tell them: each name and step of an attempt once."""
    unique = list({(reading.name, reading.step): reading for reading in readings}.values())
    told: list[dict[str, Any]] = []
    for start in range(0, len(unique), READINGS_AT_ONCE):
        told.extend(await _new_readings(work, run, unique[start : start + READINGS_AT_ONCE]))
    for start in range(0, len(told), READINGS_TOLD):
        await append_run_event(work, run, "run.measured", {"readings": told[start : start + READINGS_TOLD]})


async def _new_readings(work: UnitOfWork, run: TrainingRun, readings: Sequence[Reading]) -> list[dict[str, Any]]:
    statement = (
        insert(MetricPoint)
        .values(
            [
                {
                    "run_id": run.id,
                    "name": reading.name,
                    "attempt": run.attempt,
                    "step": reading.step,
                    "user_id": run.user_id,
                    "value": reading.value,
                    "at": reading.at,
                }
                for reading in readings
            ]
        )
        .on_conflict_do_nothing()
        .returning(col(MetricPoint.name), col(MetricPoint.step))
    )
    new = {(row.name, row.step) for row in await work.session.exec(statement)}
    return [
        {"name": reading.name, "step": reading.step, "value": reading.value}
        for reading in readings
        if (reading.name, reading.step) in new
    ]


async def keep_artifact(work: UnitOfWork, run: TrainingRun, artifact: StoredArtifact) -> None:
    statement = (
        insert(Artifact)
        .values(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            attempt=run.attempt,
            name=artifact.name,
            location=artifact.location,
            bytes=artifact.bytes,
            sha256=artifact.sha256,
            details=artifact.details,
        )
        .on_conflict_do_nothing()
        .returning(col(Artifact.id))
    )
    if (await work.session.exec(statement)).first() is not None:
        data = {"name": artifact.name, "bytes": artifact.bytes, "sha256": artifact.sha256}
        await append_run_event(work, run, "run.artifact_stored", data)
