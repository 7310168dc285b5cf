"""Numbers and metrics as trainers print them."""

import re
from collections.abc import Mapping

NAME_CHARACTERS = 64
MOST_VALUES = 24
NUMBER = r"[-+]?(?:\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,4})?|\.\d{1,30}|[nN]a[nN]|[iI]nf(?:inity)?)"

_PAIR = re.compile(r"(?<![\w./-])([A-Za-z_][\w./-]{0,63})[ ]?[:=][ ]?(" + NUMBER + r")(?![\w.:/%]|,\d)")
_DURATION = re.compile(r"(?:(\d{1,4}) days?, )?(?:(\d{1,5}):)?(\d{1,4}):(\d{1,2})(?:\.\d+)?")
_NAMES = {
    "lr": "learning_rate",
    "avr_loss": "loss",
    "avg_loss": "loss",
    "train_loss": "loss",
    "train_loss_step": "loss",
    "train/loss": "loss",
    "training_loss": "loss",
    "gnorm": "grad_norm",
    "norm": "grad_norm",
}
_NO_METRICS = frozenset({"v_num", "epoch", "epochs", "step", "steps", "iter", "eta", "time", "it", "dt"})


def number_of(text: str) -> float | None:
    """The number, nan and inf too; None where it is none. `1.2k` and the like are thousands."""
    text = text.strip()
    factor = 1.0
    if text and text[-1] in "kKMGT":
        factor = {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}[text[-1]]
        text = text[:-1]
    try:
        return float(text) * factor
    except ValueError:
        return None


def seconds_of(text: str) -> float | None:
    """`06:42`, `1:48:24`, `2 days, 1:00:00` in seconds; None for `?`."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def name_of(name: str) -> str | None:
    """A metric's name in our words: validation's begin with `val_`. None for what is no metric."""
    name = name.strip().lower()
    if name in _NO_METRICS or not 0 < len(name) <= NAME_CHARACTERS or not name.isprintable():
        return None
    for beginning in ("eval_", "validation_", "valid_", "eval/", "val/"):
        if name.startswith(beginning):
            return "val_" + name.removeprefix(beginning)
    return _NAMES.get(name, name)


def pairs(text: str) -> dict[str, float]:
    """Every `name=value` and `name: value` of the text, under our names; the first of a name counts."""
    found: dict[str, float] = {}
    for match in _PAIR.finditer(text):
        name, value = name_of(match[1]), number_of(match[2])
        if name is not None and value is not None and len(found) < MOST_VALUES:
            found.setdefault(name, value)
    return found


def has_loss(values: Mapping[str, float]) -> bool:
    """Whether a loss is among them."""
    return any(name.endswith("loss") for name in values)
