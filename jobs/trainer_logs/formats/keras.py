"""Keras 2 and 3: a line `Epoch 1/2`, then a bar per epoch, or with `verbose=2` one line at its end.

Keras 3 `1/3 ━━━━━━━━━━━━━━━━━━━━ 0s 418ms/step - loss: 0.5045 - mae: 0.64` (colours, backspaces; the first time is what
remains, and at the end what it took), Keras 2 `1000/1000 [=====] - 251s 251ms/step - loss: 0.43 - val_loss: 0.51` and
` 3/10 [=>....] - ETA: 1s - loss: 0.5`. `evaluate` and `predict` draw the same bars outside an epoch.
"""

import re

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.values import pairs

NAME = "keras"
_EPOCH = re.compile(r"Epoch (\d{1,6})/(\d{1,6})$")
_BAR = re.compile(
    r"[ ]{0,8}(\d{1,9})/(\d{1,9})[ ](?:[━╺╸]{1,200}|\[[=>.]{1,200}\]|-(?= \d+[mun]?s))[ -]{0,3}(?:(ETA: )|\d)"
)
_PER_STEP = re.compile(r"(\d{1,9})(s|ms|us)/(?:step|epoch|sample)")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}


def read(piece: Bar | str, known: Known) -> Sign | None:
    """The beginning of an epoch, and its bar."""
    if isinstance(piece, Bar):
        return None
    text = piece.strip()
    if found := _EPOCH.match(text):
        number, epochs = int(found[1]), int(found[2])
        first = known.first_epoch_by(number, epochs)
        if first <= number < first + epochs:
            before = number - first
            return Sign(NAME, Claim.GUESS, "epochs", epoch=before, begins_epoch=True, first_epoch=first, epochs=epochs)
    found = _BAR.match(text)
    if found is None or int(found[2]) == 0:
        return None
    done, total = int(found[1]), int(found[2])
    if done > total:
        return None
    per_step = _PER_STEP.search(text, found.end() - 1)
    seconds = int(per_step[1]) * _SECONDS[per_step[2]] if per_step else None
    return Sign(
        NAME,
        Claim.LIKELY if known.epoch is not None else Claim.OTHER,
        "keras",
        done=done,
        total=total,
        per_epoch=True,
        remaining_seconds=seconds * (total - done) if seconds is not None else None,
        seconds_per_step=seconds,
        values=pairs(text[found.end() :]),
        is_look=True,
    )
