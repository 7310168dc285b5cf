"""What a training at Replicate says about a run."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.secret import masked
from domain.training.report import HostedModel, LogChunk, LogText, Outcome, Reading, Report, Warned
from domain.training.status import EndReason, ReportSource, RunStage
from jobs.providers.base import Position
from jobs.providers.replicate.prices import price_of
from jobs.providers.replicate.seen import Seen
from jobs.trainer_logs import LogReader, Said
from jobs.trainer_logs.text import storable

REPORT_BYTES = 256 * 1024
MESSAGE_CHARACTERS = 2_000
ERROR_CHARACTERS = 1_200
LAST_LINES = 5
LAST_LINE_CHARACTERS = 200
_STAGES: Mapping[str, RunStage] = {"starting": RunStage.CREATING_SANDBOX, "processing": RunStage.TRAINING}


def report_of(
    seen: Seen,
    position: Position,
    *,
    source: ReportSource,
    at: datetime,
    prices: Mapping[str, int],
    starting_limit_seconds: float,
    event_id: str | None = None,
) -> Report:
    """The report; one with an outcome holds the rest of the log, of a very long rest its begin and its end."""
    log = _log_of(seen, position, at)
    stage = _STAGES.get(seen.status)
    outcome = _outcome_of(seen, position.hyperparameters, starting_limit_seconds) if seen.has_ended else None
    succeeded = outcome is not None and outcome.succeeded
    return Report(
        source=source,
        attempt=position.attempt,
        at=at,
        event_id=event_id,
        status=stage.status if stage is not None else None,
        stage=stage,
        percent=100.0 if succeeded else log.percent,
        eta_seconds=None if seen.has_ended else log.eta_seconds,
        log=log.chunk,
        readings=log.readings,
        warnings=log.warnings,
        began_at=seen.started_at,
        # A webhook may come long after what it tells: how long one that goes on has worked is not to be told from it.
        cost_micros=_cost_of(seen, position, at, prices) if seen.has_ended or source is ReportSource.POLL else None,
        hosted=_hosted_of(seen) if succeeded else None,
        outcome=outcome,
    )


@dataclass(frozen=True, slots=True)
class _Log:
    chunk: LogChunk | None = None
    percent: float | None = None
    eta_seconds: float | None = None
    readings: tuple[Reading, ...] = ()
    warnings: tuple[Warned, ...] = ()


def _log_of(seen: Seen, position: Position, at: datetime) -> _Log:
    logs = seen.logs or ""
    rest = logs[position.offset :]
    if len(logs) < position.offset or not (rest or seen.has_ended):
        return _Log()  # a shorter text is old news: a webhook that comes late, or what retention has left
    reader = LogReader(position.log_state, steps=_steps_of(position.hyperparameters))
    taken = _first_bytes(rest, REPORT_BYTES)
    said: list[Said] = []
    if seen.has_ended and len(taken) < len(rest):
        # Whoever waits for the end waits no longer because a log is long.
        half = REPORT_BYTES // 2
        head, tail = _first_bytes(rest, half), _last_bytes(rest, half)
        left_out = len(rest) - len(head) - len(tail)
        said.append(reader.feed(f"{head}\n[{left_out} characters of the log are left out here]\n{tail}", at))
        taken = rest
    else:
        said.append(reader.feed(taken, at))
    if seen.has_ended:
        said.append(reader.finish(at))
    lines: tuple[LogText, ...] = tuple(line for one in said for line in one.lines)
    if not taken and not lines:
        return _Log()
    end = position.offset + len(taken)
    return _Log(
        chunk=LogChunk(position.offset, end, lines, reader.state),
        percent=_last([one.percent for one in said]),
        eta_seconds=_last([one.eta_seconds for one in said]),
        readings=tuple(reading for one in said for reading in one.readings),
        warnings=tuple(warning for one in said for warning in one.warnings),
    )


def _last(values: Sequence[float | None]) -> float | None:
    return next((value for value in reversed(values) if value is not None), None)


def _steps_of(hyperparameters: Mapping[str, object]) -> int | None:
    """The number of steps by which the trainer's own bar is told from others."""
    further = hyperparameters.get("input")
    inputs = further if isinstance(further, Mapping) else {}
    for value in (hyperparameters.get("steps"), inputs.get("steps"), inputs.get("max_train_steps")):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _first_bytes(text: str, most: int) -> str:
    """As much of its begin as fits, in whole characters."""
    text = text[:most]
    coded = text.encode("utf-8", "replace")  # a lone surrogate becomes one character too
    return text if len(coded) <= most else text[: len(coded[:most].decode("utf-8", "ignore"))]


def _last_bytes(text: str, most: int) -> str:
    text = text[-most:]
    coded = text.encode("utf-8", "replace")
    return text if len(coded) <= most else text[-len(coded[-most:].decode("utf-8", "ignore")) :]


def _outcome_of(seen: Seen, hyperparameters: Mapping[str, object], starting_limit_seconds: float) -> Outcome:
    match seen.status:
        case "succeeded":
            if _hosted_of(seen) is None:
                return Outcome(
                    EndReason.PROVIDER_ERROR, "Replicate says that it succeeded, but names no model version."
                )
            return Outcome(EndReason.SUCCEEDED)
        case "failed":
            return _failure(seen, hyperparameters)
        case "canceled":
            if _waited_seconds(seen) >= starting_limit_seconds:
                minutes = round(starting_limit_seconds / 60)
                return Outcome(EndReason.NO_CAPACITY, f"Replicate had no machine for it within {minutes} minutes.")
            return Outcome(EndReason.CANCELED_BY_OPERATOR, "canceled at Replicate")
        case "aborted":
            return Outcome(EndReason.PROVIDER_ERROR, _message("Replicate aborted it before it began", seen))
        case _:
            return Outcome(EndReason.PROVIDER_ERROR, _message(f"Replicate ended it as {seen.status}", seen))


def _failure(seen: Seen, hyperparameters: Mapping[str, object]) -> Outcome:
    """By the data if the error names the input that took it, else by the trainer's program."""
    error = seen.error or ""
    dataset_input = str(hyperparameters.get("datasetInput") or "input_images")
    reason = EndReason.DATA_ERROR if dataset_input in error else EndReason.CODE_ERROR
    message = storable(error.strip())[:ERROR_CHARACTERS] or "Replicate gave no reason."
    lines = _last_lines(seen.logs or "")
    if lines:
        message = f"{message}\nLast lines of the log:\n{lines}"
    return Outcome(reason, masked(message)[:MESSAGE_CHARACTERS])


def _message(sentence: str, seen: Seen) -> str:
    words = f"{sentence}: {seen.error}" if seen.error else f"{sentence}."
    return masked(storable(words))[:MESSAGE_CHARACTERS]


def _last_lines(logs: str) -> str:
    pieces = [piece.strip() for piece in re.split(r"[\r\n]+", storable(logs[-8_000:]))]
    return "\n".join(piece[:LAST_LINE_CHARACTERS] for piece in [one for one in pieces if one][-LAST_LINES:])


def _waited_seconds(seen: Seen) -> float:
    """How long one that was canceled had waited for a machine; 0 for one that had begun."""
    if seen.created_at is None or seen.completed_at is None or (seen.worked_seconds or 0.0) > 0.001:
        return 0.0
    return (seen.completed_at - seen.created_at).total_seconds()


def _hosted_of(seen: Seen) -> HostedModel | None:
    """Trainers that make no version of a model may still leave weights."""
    if seen.output_version is not None:
        return HostedModel(seen.output_version, seen.weights)
    return HostedModel(seen.id, seen.weights) if seen.weights is not None else None


def _cost_of(seen: Seen, position: Position, now: datetime, prices: Mapping[str, int]) -> int | None:
    """Run time × price: by the provider's own figure once there is one, until then by its clock."""
    price = price_of(position.hyperparameters.get("billedHardware"), prices) or position.price_micros_per_hour
    if not price:
        return None
    seconds = 0.0
    if seen.has_ended and seen.worked_seconds is not None:
        seconds = seen.worked_seconds
    elif seen.started_at is not None:
        seconds = max(0.0, ((seen.completed_at or now) - seen.started_at).total_seconds())
    return max(position.known_cost_micros, round(price * seconds / 3_600))
