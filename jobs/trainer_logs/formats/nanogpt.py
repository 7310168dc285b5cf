"""Scripts in the manner of nanoGPT and nanochat: a line per step, some with `\\r` in place of `\\n`.

`step 00050/01000 (5.0%) | loss: 3.21 | lrm: 1.00 | dt: 120.00ms | eta: 12.0m`, `iter 100: loss 2.5, time 30.00ms`,
`step 00042 (14.0%) | loss: 4.12 | remaining: 246s`, `step   3| loss: 9.8 | lr: 2.4e-04 | norm: 8.2`,
`step 250: train loss 2.0145, val loss 2.1033`
"""

import re

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.values import NUMBER, has_loss, name_of, number_of, pairs

NAME = "nanogpt"
_STEP = re.compile(
    r"(?:step|iter)[ ]{1,8}(\d{1,12})(?:/(\d{1,12}))?(?: \(([\d.]{1,12})%\))?[ ]{0,4}[|:,]", re.IGNORECASE
)
_SPACED = re.compile(r"\b((?:train |val )?loss) (" + NUMBER + r")")
_LEFT = re.compile(r"\b(?:eta|remaining): ([\d.]{1,12})(s|m|h)\b")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def read(piece: Bar | str, known: Known) -> Sign | None:
    """A line per step, with or without how many there are."""
    if isinstance(piece, Bar):
        return None
    text = piece.strip()
    found = _STEP.match(text)
    if found is None:
        return None
    done, total = int(found[1]), int(found[2]) if found[2] else None
    if total is not None and (total == 0 or done > total):
        return None
    values = pairs(text[found.end() :]) | _spaced(text)
    percent = number_of(found[3]) if found[3] and total is None else None
    if not has_loss(values) and total is None and percent is None:
        return None
    return Sign(
        NAME,
        Claim.STEPS if total is not None and known.steps == total else Claim.LIKELY,
        "step",
        done=done,
        total=total,
        percent=min(100.0, percent) if percent is not None else None,
        step=done,
        remaining_seconds=_left(text),
        values=values,
    )


def _spaced(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for match in _SPACED.finditer(text):
        name, value = name_of(match[1].replace(" ", "_")), number_of(match[2])
        if name is not None and value is not None:
            found.setdefault(name, value)
    return found


def _left(text: str) -> float | None:
    found = _LEFT.search(text)
    number = number_of(found[1]) if found else None
    return number * _UNITS[found[2]] if found and number is not None else None
