"""Which of a log's counters is the training, and how far it is: never backwards, never whole.

A log has many bars: captions, caches, validation, one per epoch. The surest counter so far is followed (`Claim`); a
less sure one is never gone back to, and one that is as sure only takes over when the followed one is at its end.
"""

import math
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

from domain.training.report import Reading, Warned
from domain.training.status import WarningCode
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.structured import MOST_STEPS

MOST_PERCENT = 99.9
"""What a trainer's own log can say at most: that it is over, the provider says."""
READINGS_PER_COUNTER = 1_000
"""Of a bar's many looks so many are kept as readings."""
LEAST_GUESSED_TOTAL = 20
LEAST_GUESSED_SECONDS = 10.0
"""A bar without a word about what it counts is believed if it is long, or has taken long."""
JOB_CHARACTERS = 64


@dataclass(slots=True)
class Following:
    """What the log has taught so far; all of it is kept between readings."""

    percent: float = 0.0
    claim: int = 0
    counter: int = 0
    """A checksum of the followed counter's name."""
    complete: bool = False
    steps: int | None = None
    epochs: int | None = None
    job: str | None = None
    told: bool = False
    """Whether the order itself said the steps or the job, so that guesses are not needed."""
    epoch: int | None = None
    batches: int = 0
    """Steps of an epoch, where a bar counts those."""
    over: bool = False
    """Whether the running epoch's bar was at its end: what comes until the next epoch is evaluation."""
    first_epoch: int | None = None
    step: int = 0
    read_at: int = -1
    """The last step of which a bar's values were kept."""
    row: int = 0
    """The last step of which a row's values were kept."""
    nan: bool = False
    elsewhere: bool = False
    """Whether the last words were about other work than training."""

    @classmethod
    def of(cls, state: object) -> Self:
        """As it was kept; whatever is not of the right kind is as if it was not there."""
        found = cls()
        for name, default in asdict(found).items():
            value = state.get(name) if isinstance(state, Mapping) else None
            setattr(found, name, _of_kind(name, value, default))
        return found

    def kept(self) -> dict[str, Any]:
        """Only what differs from the beginning, so that it stays small."""
        fresh = asdict(type(self)())
        return {name: value for name, value in asdict(self).items() if value != fresh[name]}

    @property
    def known(self) -> Known:
        return Known(steps=self.steps, epochs=self.epochs, job=self.job, epoch=self.epoch)


@dataclass(frozen=True, slots=True)
class Heard:
    """What one sign changed."""

    percent: float | None = None
    eta_seconds: float | None = None
    readings: tuple[Reading, ...] = ()
    warnings: tuple[Warned, ...] = ()


def take(follow: Following, sign: Sign, at: datetime) -> Heard:
    """Learn from one sign."""
    _learn(follow, sign)
    if sign.done is None and sign.epoch is None:
        return Heard()
    has_counter = sign.claim is not Claim.OTHER and _follows(follow, sign)
    percent = eta = None
    if has_counter:
        share = _share(follow, sign)
        if share is not None:
            follow.percent = max(follow.percent, min(MOST_PERCENT, round(100 * share, 3)))
            percent = follow.percent
        eta = _eta(follow, sign)
        _count(follow, sign)
    readings: tuple[Reading, ...] = ()
    warnings: tuple[Warned, ...] = ()
    if sign.values and sign.claim is not Claim.OTHER and (has_counter or not sign.is_refresh):
        step = _step_of_values(follow, sign)
        if step is not None:
            readings = tuple(
                Reading(name, step, value, at) for name, value in sign.values.items() if math.isfinite(value)
            )
        warnings = _warnings(follow, sign)
    return Heard(percent, eta, readings, warnings)


def _learn(follow: Following, sign: Sign) -> None:
    if sign.steps and follow.steps is None:
        follow.steps = min(sign.steps, MOST_STEPS)
    if sign.epochs and (follow.epochs is None or sign.claim > Claim.OTHER):
        follow.epochs = min(sign.epochs, MOST_STEPS)
    if sign.epoch is not None and sign.claim is not Claim.OTHER and sign.counter in ("epochs", "epoch"):
        epoch = min(int(sign.epoch), MOST_STEPS)
        if follow.first_epoch is None:
            follow.first_epoch = epoch
        if epoch != follow.epoch:
            follow.epoch, follow.over = epoch, False


def _follows(follow: Following, sign: Sign) -> bool:
    """Whether this sign's counter is the one to go by; it is, or becomes so, or not."""
    counter = zlib.crc32(sign.counter.encode())
    claim = sign.claim
    if claim == follow.claim and counter == follow.counter:
        return not (sign.per_epoch and follow.over and sign.done != follow.batches)
    if claim < follow.claim or (claim == follow.claim and not follow.complete):
        return False
    if claim is Claim.GUESS and sign.counter != "epochs":
        if follow.told or follow.elsewhere:
            return False
        long = (sign.total or 0) >= LEAST_GUESSED_TOTAL or (sign.elapsed_seconds or 0) >= LEAST_GUESSED_SECONDS
        if sign.is_refresh and not long:
            return False
    follow.claim, follow.counter, follow.complete = int(claim), counter, False
    follow.read_at = -1
    return True


def _share(follow: Following, sign: Sign) -> float | None:
    """The part of the training that is done, 0 to 1."""
    if sign.percent is not None:
        return sign.percent / 100
    if sign.per_epoch and sign.done is not None and sign.total:
        before = follow.epoch or 0
        if follow.epochs:
            return (before + min(1.0, sign.done / sign.total)) / follow.epochs
        if follow.steps:
            return (before * sign.total + sign.done) / follow.steps
        return None
    if sign.done is not None:
        total = sign.total or follow.steps
        return sign.done / total if total else None
    if sign.epoch is not None and follow.epochs:
        return sign.epoch / follow.epochs
    return None


def _eta(follow: Following, sign: Sign) -> float | None:
    """Seconds until the training's end, as the counter itself reckons."""
    if not sign.per_epoch:
        return sign.remaining_seconds
    if sign.done is None or not sign.total or follow.epochs is None or sign.remaining_seconds is None:
        return None
    epoch_seconds = None
    if sign.seconds_per_step is not None:
        epoch_seconds = sign.total * sign.seconds_per_step
    elif sign.elapsed_seconds is not None:
        epoch_seconds = sign.elapsed_seconds + sign.remaining_seconds
    left = follow.epochs - (follow.epoch or 0) - 1
    return sign.remaining_seconds + left * epoch_seconds if epoch_seconds is not None else None


def _count(follow: Following, sign: Sign) -> None:
    if sign.done is None:
        return
    done = min(int(sign.done), MOST_STEPS)
    if sign.per_epoch and sign.total:
        follow.batches = min(int(sign.total), MOST_STEPS)
        follow.over = sign.is_complete
        done = min((follow.epoch or 0) * follow.batches + done, MOST_STEPS)
    else:
        follow.complete = sign.is_complete
    follow.step = max(follow.step, done)


def _step_of_values(follow: Following, sign: Sign) -> int | None:
    """The step that a sign's values belong to; None where enough of a bar's looks were kept."""
    if sign.step is not None and not sign.per_epoch:
        return min(sign.step, MOST_STEPS)
    if sign.is_refresh:
        whole = (sign.total or 0) * ((follow.epochs or 1) if sign.per_epoch else 1)
        apart = max(1, int(whole) // READINGS_PER_COUNTER)
        if follow.step == follow.read_at and not any(name.startswith("val_") for name in sign.values):
            return None
        if follow.step < follow.read_at + apart and not sign.is_complete:
            return None
        follow.read_at = follow.step
        return follow.step
    if sign.per_epoch:
        return follow.step
    if sign.counter == "epochs" and follow.step == 0:
        return min(int(sign.epoch or 0), MOST_STEPS)
    step = follow.step
    if any(name == "loss" for name in sign.values):  # a bar lags behind the rows beside it
        step = max(step, follow.row + 1)
        follow.row = step
    return max(step, follow.row)


def _warnings(follow: Following, sign: Sign) -> tuple[Warned, ...]:
    """Once per log: whoever wants it stopped stops it at the first."""
    for name, value in sign.values.items():
        if name.endswith("loss") and not math.isfinite(value) and not follow.nan:
            follow.nan = True
            return (Warned(WarningCode.NAN_LOSS, f"{name} is {value} at step {follow.step}."),)
    return ()


def _of_kind(name: str, value: object, default: object) -> object:
    if isinstance(default, bool):
        return value if isinstance(value, bool) else default
    if name == "job":
        return value[:JOB_CHARACTERS] if isinstance(value, str) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    if name == "percent":
        return min(100.0, max(0.0, float(value)))
    return max(-1, min(int(value), 2**32))
