"""Plain counters: `150/1000`, `Step 150 of 1000`, `Epoch [2/10], Step [100/600], Loss: 0.53`."""

import re
from dataclasses import replace

from jobs.trainer_logs.bars import Bar, is_other
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.values import has_loss, pairs

NAME = "counters"
SMALLEST_BARE_TOTAL = 20
"""`3/4` alone is more often a part of something than a step of a training."""
_COUNTER = re.compile(
    r"(?:(?P<word>training|train|steps?|iter(?:ation)?s?|batch|progress)[ :]{0,2})?"
    r"[\[(]?(?P<done>\d{1,9})(?:[ ]?/[ ]?| of )(?P<total>\d{1,9})(?![\d./])[\])]?",
    re.IGNORECASE,
)
_EPOCH = re.compile(r"epoch[ :]{0,2}\[?(\d{1,6})(?:/| of )(\d{1,6})\]?(?![\d.])", re.IGNORECASE)


def read(piece: Bar | str, known: Known) -> Sign | None:
    """The counter at the beginning of a line."""
    if isinstance(piece, Bar):
        return None
    text = piece.strip()
    if found := _EPOCH.match(text):
        return _epoch(text[found.end() :], int(found[1]), int(found[2]), known)
    found = _COUNTER.match(text)
    if found is None:
        return None
    done, total = int(found["done"]), int(found["total"])
    if total == 0 or done > total:
        return None
    values = pairs(text[found.end() :])
    if known.steps == total and not is_other(text):
        claim = Claim.STEPS
    elif is_other(text):
        claim = Claim.OTHER
    elif has_loss(values):
        claim = Claim.LIKELY
    elif found["word"] or total >= SMALLEST_BARE_TOTAL:
        claim = Claim.GUESS
    else:
        return None
    if known.is_in_epochs and claim in (Claim.GUESS, Claim.LIKELY):
        return Sign(NAME, Claim.LIKELY, f"{total}", done=done, total=total, per_epoch=True, values=values)
    return Sign(NAME, claim, f"{total}", done=done, total=total, step=done, values=values)


def _epoch(rest: str, number: int, epochs: int, known: Known) -> Sign | None:
    """A line that names its epoch: with a step in it, with the epoch's result, or alone at its beginning."""
    first = known.first_epoch_by(number, epochs)
    before = number - first
    if not 0 <= before < epochs:
        return None
    values = pairs(rest)
    sign = Sign(
        NAME,
        Claim.LIKELY if values else Claim.GUESS,
        "epoch",
        epoch=before + 1 if has_loss(values) else before,
        begins_epoch=True,
        first_epoch=first,
        epochs=epochs,
        values=values,
    )
    inner = _COUNTER.match(rest.lstrip(" ,:;|-"))
    if inner is None or not 0 < int(inner["total"]) >= int(inner["done"]):
        return sign
    return replace(
        sign,
        claim=Claim.LIKELY,
        done=int(inner["done"]),
        total=int(inner["total"]),
        per_epoch=True,
        epoch=before,
    )
