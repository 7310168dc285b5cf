"""Hugging Face's Trainer, and what is built on it (axolotl, TRL): a row of values now and then, beside a bare bar.

Up to 4.x `{'loss': 1.2569, 'grad_norm': 0.11, 'learning_rate': 5.4e-06, 'epoch': 0.9}`; from 5.x on the numbers are
quoted: `{'loss': '1.257', …}` (transformers 5.23 `trainer_callback.py`). `eval_…` rows are validation;
`{'train_runtime': …}` is the summary at the end. Rows of JSON with a `step` are read too.
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
        return _row(text)
    if found := _STEPS.search(text):
        return Sign(NAME, steps=int(found[1].replace(",", "") or 0))
    if found := _EPOCHS.search(text):
        return Sign(NAME, epochs=int(found[1].replace(",", "") or 0))
    return None


def _row(text: str) -> Sign | None:
    items: dict[str, float] = {}
    for found in _ITEM.finditer(text):
        value = number_of(found[3])
        if value is not None and len(items) < MOST_VALUES:
            items[found[1]] = value
    epoch, step = items.pop("epoch", None), items.pop("step", None)
    is_summary = "train_runtime" in items
    values = {} if is_summary else _metrics(items)
    is_counted = step is not None and 0 <= step < 2**31
    if not (is_counted or (epoch is not None and 0 <= epoch < 2**31)) or not (values or is_summary):
        return None
    done = int(step) if step is not None and is_counted else None
    return Sign(NAME, Claim.GUESS, "rows", done=done, step=done, epoch=epoch, values=values)


def _metrics(items: dict[str, float]) -> dict[str, float]:
    named = ((name_of(key), value) for key, value in items.items() if not key.endswith(_NO_METRICS))
    return {name: value for name, value in named if name is not None}
