"""kohya sd-scripts and musubi-tuner: one bar `steps` over all epochs, whose number they announce.

`steps:  38%|███▊      | 36/96 [13:09<21:55, 21.93s/it, avr_loss=0.0796]`, `epoch 1/16`,
`  total optimization steps / 学習ステップ数: 1600`
"""

import re
from dataclasses import replace

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.formats import tqdm
from jobs.trainer_logs.sign import Claim, Known, Sign

NAME = "kohya"
_EPOCH = re.compile(r"epoch (\d{1,6})/(\d{1,6})$")
_STEPS = re.compile(r"total optimization steps(?: / 学習ステップ数)?: (\d{1,9})$")


def read(piece: Bar | str, known: Known) -> Sign | None:
    """The bar, the beginning of an epoch, the announcement."""
    if isinstance(piece, Bar):
        if piece.description != "steps":
            return None
        sign = tqdm.sign_of(piece, known)
        return replace(sign, format=NAME, claim=max(sign.claim, Claim.LIKELY))
    text = piece.strip()
    if found := _EPOCH.match(text):
        epoch, epochs = int(found[1]), int(found[2])
        if 1 <= epoch <= epochs:
            return Sign(NAME, Claim.GUESS, "epochs", epoch=epoch - 1, begins_epoch=True, epochs=epochs)
    if found := _STEPS.search(text):
        return Sign(NAME, steps=int(found[1]))
    return None
