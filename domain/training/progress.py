"""How far a run is, in percent of the whole: preparation is the first 10, saving and deploying the last 5."""

from domain.training.status import RunStage

TRAINING_BEGINS = 10.0
TRAINING_ENDS = 95.0
ESTIMATE_ENDS = 90.0
ESTIMATE_PER_MINUTE = 2.0
ANNOUNCED_STEP = 0.1
"""Points of progress worth an event."""
ANNOUNCED_SECONDS = 0.5
"""At most one progress event in this time, per run."""

_REACHED = {
    RunStage.WAITING: 0.0,
    RunStage.GENERATING_CODE: 1.0,
    RunStage.CREATING_SANDBOX: 2.0,
    RunStage.WRITING_FILES: 4.0,
    RunStage.INSTALLING: 5.0,
    RunStage.DOWNLOADING_DATA: 7.0,
    RunStage.TRAINING: TRAINING_BEGINS,
    RunStage.SAVING: TRAINING_ENDS,
    RunStage.DEPLOYING: 96.0,
    RunStage.STOPPING: 0.0,
    RunStage.DONE: 0.0,
}


def overall(percent: float) -> float:
    """The run's progress when the trainer says that it has done so much: 31 → 36.35, 150 of 1000 → 22.75."""
    inside = min(100.0, max(0.0, percent))
    return round(TRAINING_BEGINS + 0.85 * inside, 2)


def reached(stage: RunStage) -> float:
    """What a run in this stage has behind it at least."""
    return _REACHED[stage]


def estimated(seconds_in_training: float, eta_total_seconds: float | None = None) -> float:
    """Progress without any word of the trainer: linear to the provider's ETA, else two points a minute, at most 90."""
    if eta_total_seconds:
        span = ESTIMATE_ENDS - TRAINING_BEGINS
        grown = TRAINING_BEGINS + span * min(1.0, seconds_in_training / eta_total_seconds)
    else:
        grown = TRAINING_BEGINS + ESTIMATE_PER_MINUTE * seconds_in_training / 60
    return round(min(ESTIMATE_ENDS, grown), 2)
