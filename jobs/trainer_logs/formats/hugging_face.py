"""Hugging Face's Trainer, and what is built on it (axolotl, TRL): a row of values now and then, beside a bare bar.

Up to 4.x `{'loss': 1.2569, 'grad_norm': 0.11, 'learning_rate': 5.4e-06, 'epoch': 0.9}`; from 5.x on the numbers are
quoted: `{'loss': '1.257', …}` (transformers 5.23 `trainer_callback.py`). `eval_…` rows are validation;
`{'train_runtime': …}` is the summary at the end.
"""

import re

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.values import MOST_VALUES, NUMBER, name_of, number_of

NAME = "hugging-face"
_ITEM = re.compile(r"['\"]([\w./ ()-]{1,64})['\"]: ?(['\"]?)(" + NUMBER + r")\2(?=[,}])")
_STEPS = re.compile(r"Total optimization steps = ([\d,]{1,12})$")
_EPOCHS = re.compile(r"Num Epochs = ([\d,]{1,12})$")
_NO_METRICS = ("runtime", "_per_second", "total_flos", "num_tokens", "num_input_tokens_seen")


def read(piece: Bar | str, known: Known) -> Sign | None:
    """Rows, and the announcement before the first step."""
    if isinstance(piece, Bar):
        return None
    text = piece.strip()
    if text.startswith("{") and text.endswith("}"):
        return _row(text, known)
    if found := _STEPS.search(text):
        return Sign(NAME, steps=int(found[1].replace(",", "")))
    if found := _EPOCHS.search(text):
        return Sign(NAME, epochs=int(found[1].replace(",", "")))
    return None


def _row(text: str, known: Known) -> Sign | None:
    items: dict[str, float] = {}
    for found in _ITEM.finditer(text):
        value = number_of(found[3])
        if value is not None and len(items) < MOST_VALUES:
            items[found[1]] = value
    epoch = items.pop("epoch", None)
    if epoch is None or not items:
        return None
    if "train_runtime" in items:
        return Sign(NAME, Claim.LIKELY, "rows", epoch=epoch)
    values = {
        name: value
        for key, value in items.items()
        if not key.endswith(_NO_METRICS) and (name := name_of(key)) is not None
    }
    return Sign(NAME, Claim.LIKELY, "rows", epoch=epoch, values=values)
