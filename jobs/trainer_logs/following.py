"""Which of a log's counters is the training, and how far it is: never backwards, never whole.

A log has many counters: captions, caches, validation, one per epoch. The surest one so far is followed (`Claim`). A
less sure one is never gone back to, and one that is as sure only takes over when the followed one is at its end.
"""

import zlib
from dataclasses import dataclass

from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.state import MOST, Kept

MOST_PERCENT = 99.9
"""What a trainer's own log can say at most: that it is over, the provider says."""
LEAST_GUESSED_TOTAL = 20
LEAST_GUESSED_SECONDS = 10.0
"""A bar without a word about what it counts is believed if it is long, or has taken long."""


@dataclass(slots=True)
class Following(Kept):
    """What the log has taught so far about its counters."""

    percent: float = 0.0
    claim: int = 0
    counter: int = 0
    """A checksum of the followed counter's name."""
    complete: bool = False
    """Whether the followed counter was at its end."""
    steps: int = 0
    """Of the whole training; 0 while nobody said."""
    epochs: int = 0
    job: str = ""
    ordered: bool = False
    """Whether the order itself told the steps or the job, so that guesses are not needed."""
    epoch: int = -1
    """Whole epochs before the running one; -1 before the first."""
    first_epoch: int = -1
    """By which number the log calls its first epoch: 0 or 1; -1 before one was met."""
    batches: int = 0
    """Steps of an epoch, where a bar counts those."""
    over: bool = False
    """Whether the running epoch's bar was at its end: what comes before the next epoch is evaluation."""
    step: int = 0
    elsewhere: bool = False
    """Whether the last words announced other work than training, and no bar has ended since."""

    @property
    def known(self) -> Known:
        return Known(
            steps=self.steps or None,
            epochs=self.epochs or None,
            job=self.job or None,
            epoch=self.epoch if self.epoch >= 0 else None,
            first_epoch=self.first_epoch if self.first_epoch in (0, 1) else None,
        )

    def learn(self, sign: Sign) -> None:
        """Take what the sign announces, whatever it counts."""
        if sign.steps and not self.steps:
            self.steps = min(sign.steps, MOST)
        if sign.epochs:
            self.epochs = min(sign.epochs, MOST)
        if sign.first_epoch is not None and self.first_epoch < 0:
            self.first_epoch = sign.first_epoch
        if sign.epoch is not None and sign.begins_epoch:
            epoch = min(int(sign.epoch), MOST)
            if epoch != self.epoch:
                self.epoch, self.over = epoch, False

    def follow(self, sign: Sign) -> bool:
        """Whether the sign is of the counter to go by; then it has moved that."""
        share = self._share(sign)
        if sign.claim is Claim.OTHER or not self._is_followed(sign, share):
            return False
        if share is not None:
            self.percent = max(self.percent, min(MOST_PERCENT, round(100 * share, 3)))
        self._count(sign)
        return True

    def own_word(self, percent: float) -> float:
        """Our own program says how far it is: from now on nobody else is asked. Gives what is true now."""
        self.claim = int(Claim.OWN)
        self.percent = max(self.percent, percent)
        return self.percent

    def eta_seconds(self, sign: Sign) -> float | None:
        """Seconds until the training's end, as the followed counter itself reckons."""
        if not sign.per_epoch or sign.remaining_seconds is None:
            return sign.remaining_seconds
        if not sign.total or not self.epochs:
            return None
        if sign.seconds_per_step is not None:
            epoch_seconds = sign.total * sign.seconds_per_step
        elif sign.elapsed_seconds is not None:
            epoch_seconds = sign.elapsed_seconds + sign.remaining_seconds
        else:
            return None
        return sign.remaining_seconds + max(0, self.epochs - max(self.epoch, 0) - 1) * epoch_seconds

    def _is_followed(self, sign: Sign, share: float | None) -> bool:
        counter = zlib.crc32(sign.counter.encode())
        if counter == self.counter and self.claim != Claim.OWN:
            self.claim = max(self.claim, int(sign.claim))
            return not (sign.per_epoch and self.over and sign.done != self.batches)
        if sign.claim < self.claim or (sign.claim == self.claim and not self.complete):
            return False
        if sign.claim is Claim.GUESS and not self._is_believed(sign, share):
            return False
        self.claim, self.counter, self.complete, self.over = int(sign.claim), counter, False, False
        return True

    def _is_believed(self, sign: Sign, share: float | None) -> bool:
        if share is None:
            return False
        if sign.total is None:
            return True  # epochs, or a percentage in words
        if self.ordered or self.elsewhere:
            return False
        is_long = sign.total >= LEAST_GUESSED_TOTAL or (sign.elapsed_seconds or 0) >= LEAST_GUESSED_SECONDS
        return is_long or not sign.is_look

    def _share(self, sign: Sign) -> float | None:
        """The part of the training that is done, 0 to 1."""
        if sign.percent is not None:
            return sign.percent / 100
        if sign.per_epoch and sign.done is not None and sign.total:
            before = max(self.epoch, 0)
            if self.epochs:
                return (before + min(1.0, sign.done / sign.total)) / self.epochs
            return (before * sign.total + sign.done) / self.steps if self.steps else None
        if sign.done is not None:
            total = sign.total or self.steps
            return sign.done / total if total else None
        return sign.epoch / self.epochs if sign.epoch is not None and self.epochs else None

    def _count(self, sign: Sign) -> None:
        if sign.done is None:
            return
        done = min(int(sign.done), MOST)
        if sign.per_epoch and sign.total:
            self.batches = min(int(sign.total), MOST)
            self.over = sign.is_complete
            done = min(max(self.epoch, 0) * self.batches + done, MOST)
        else:
            self.complete = sign.is_complete
        self.step = max(self.step, done)
