"""What one piece of a log says, in the words that all formats share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Claim(IntEnum):
    """How sure it is that a counter counts the training itself."""

    OTHER = 0
    """Another piece of work: captions, caches, validation."""
    GUESS = 1
    """A counter without a word about what it counts."""
    LIKELY = 2
    """It names training, or shows a loss."""
    STEPS = 3
    """It goes to exactly the number of steps that was asked for."""
    JOB = 4
    """It carries the job's name."""
    OWN = 5
    """Our own program's structured word; no trainer's sign has it."""


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier pieces and the order taught, for whoever reads the next piece."""

    steps: int | None = None
    epochs: int | None = None
    job: str | None = None
    epoch: int | None = None
    """Whole epochs before the one that runs."""
    first_epoch: int | None = None
    """The number that the log gives to the first epoch: 0 or 1."""

    @property
    def is_in_epochs(self) -> bool:
        """Whether an epoch of several runs: a counter that does not say otherwise counts within it."""
        return self.epoch is not None and (self.epochs or 0) > 1

    def first_epoch_by(self, number: int, epochs: int | None) -> int:
        """The number of the first epoch, when this number is met. People count from 1, Lightning from 0; a log is read
        from its beginning, so the first number that is met decides."""
        if self.first_epoch is not None:
            return self.first_epoch
        return 0 if number == 0 or (epochs is None and number > 1) else 1


@dataclass(frozen=True, slots=True)
class Sign:
    """What one piece says; what it does not say is None or empty."""

    format: str
    claim: Claim = Claim.OTHER
    counter: str = ""
    """Tells counters of the same claim apart."""
    done: float | None = None
    total: float | None = None
    percent: float | None = None
    """The trainer's own percentage, where that is to be taken as it stands."""
    per_epoch: bool = False
    """Whether `done` and `total` count within an epoch."""
    epoch: float | None = None
    """Epochs that are over; a part of one too, where the trainer says so."""
    begins_epoch: bool = False
    """Whether it tells which epoch runs: `epoch` is then the number of those before it."""
    first_epoch: int | None = None
    """The number by which the log calls the first epoch."""
    epochs: int | None = None
    steps: int | None = None
    """The steps of the whole training, where the piece announces them."""
    step: int | None = None
    """The step that the values belong to."""
    remaining_seconds: float | None = None
    """Until the counter is at its end."""
    elapsed_seconds: float | None = None
    """Since the counter began."""
    seconds_per_step: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    """Metrics under our names; nan and infinite ones too."""
    is_look: bool = False
    """One of many looks of the same bar, whose values it repeats until there are new ones."""

    @property
    def is_complete(self) -> bool:
        return self.total is not None and self.done is not None and self.done >= self.total
