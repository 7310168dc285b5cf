"""Scripts in the manner of nanoGPT and nanochat: a line per step.

`step 00050/01000 (5.0%) | loss: 3.21 | lrm: 1.00 | dt: 120.00ms | eta: 12.0m`, `iter 100: loss 2.5, time 30.00ms`
"""

import re

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.values import NUMBER, name_of, number_of, pairs

NAME = "nanogpt"
_STEP = re.compile(r"step[ ](\d{1,12})/(\d{1,12})(?: \(([\d.]{1,12})%\))?[ ]?[|:]", re.IGNORECASE)
_ITER = re.compile(r"(?:iter|step)[ ](\d{1,12}):", re.IGNORECASE)
_SPACED = re.compile(r"\b((?:train |val )?loss) (" + NUMBER + r")")
_ETA = re.compile(r"\beta: ([\d.]{1,12})(s|m|h)\b")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def read(piece: Bar | str, known: Known) -> Sign | None:
    """A line per step, with or without how many there are."""
    if isinstance(piece, Bar):
        return None
    text = piece.strip()
    if found := _STEP.match(text):
        done, total = int(found[1]), int(found[2])
        if total == 0 or done > total:
            return None
        eta = _ETA.search(text)
        remaining = number_of(eta[1]) if eta else None
        return Sign(
            NAME,
            Claim.STEPS if known.steps == total else Claim.LIKELY,
            f"step {total}",
            done=done,
            total=total,
            step=done,
            remaining_seconds=remaining * _UNITS[eta[2]] if eta and remaining is not None else None,
            values=pairs(text[found.end() :]),
        )
    if found := _ITER.match(text):
        values = {
            name: value
            for match in _SPACED.finditer(text, found.end())
            if (name := name_of(match[1].replace(" ", "_"))) is not None and (value := number_of(match[2])) is not None
        }
        if values:
            return Sign(NAME, Claim.LIKELY, "iter", done=int(found[1]), step=int(found[1]), values=values)
    return None
