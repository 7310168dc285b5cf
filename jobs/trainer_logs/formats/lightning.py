"""Lightning 2: a bar per epoch, counted from 0; the bars of validation are other work.

`Epoch 80:  67%|██████▋   | 10/15 [02:53<01:18, 15.76s/it, loss=0.429, v_num=3]`, and by others `Epoch 3/10:  40%|…`
"""

import re
from dataclasses import replace

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.formats import tqdm
from jobs.trainer_logs.sign import Claim, Known, Sign

NAME = "lightning"
_EPOCH = re.compile(r"epoch[ :]{0,2}\[?(\d{1,6})(?:/(\d{1,6}))?\]?$", re.IGNORECASE)
_OTHER = ("Validation", "Sanity Checking", "Testing", "Predicting")


def read(piece: Bar | str, known: Known) -> Sign | None:
    """The bar of an epoch. How many there are is known from the order, or from the bar itself."""
    if not isinstance(piece, Bar):
        return None
    if piece.description.startswith(_OTHER):
        return replace(tqdm.sign_of(piece, known), format=NAME, claim=Claim.OTHER)
    found = _EPOCH.match(piece.description)
    if found is None:
        return None
    number, of = int(found[1]), int(found[2]) if found[2] else None
    if of is None:
        from_one = known.counts_from_one or (known.epoch is None and number == 1)
    else:
        from_one = number > 0
    if from_one:
        number = max(0, number - 1)  # people count from 1, and so do scripts that draw such bars themselves
    return replace(
        tqdm.sign_of(piece, known),
        format=NAME,
        claim=Claim.LIKELY,
        counter="epoch",
        per_epoch=True,
        epoch=number,
        begins_epoch=True,
        counts_from_one=from_one and of is None,
        epochs=of,
    )
