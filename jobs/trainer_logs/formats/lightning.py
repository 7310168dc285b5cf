"""Lightning 2: a bar per epoch, counted from 0; the bars of validation are other work.

`Epoch 80:  67%|██████▋   | 10/15 [02:53<01:18, 15.76s/it, loss=0.429, v_num=3]`, and by others `Epoch 3/10:  40%|…`,
`Train Epoch 3 [1/2]: …`, `3/100  2.5G  1.23:  40%|…`
"""

import re
from dataclasses import replace

from jobs.trainer_logs.bars import Bar, is_other
from jobs.trainer_logs.formats import tqdm
from jobs.trainer_logs.sign import Claim, Known, Sign

NAME = "lightning"
_EPOCH = re.compile(
    r"(?:train\w{0,10}[ :]{1,2})?epoch[ :#]{0,3}\[?(\d{1,6})(?:[ ]?(?:/|of)[ ]?(\d{1,6}))?\]?(?![\w.])"
    r"|(\d{1,6})/(\d{1,6})[ ]",
    re.IGNORECASE,
)
LIGHTNINGS_OWN = "v_num="
_OTHER = ("Validation", "Sanity Checking", "Testing", "Predicting")


def read(piece: Bar | str, known: Known) -> Sign | None:
    """The bar of an epoch. How many there are is known from the order, or from the bar itself."""
    if not isinstance(piece, Bar):
        return None
    if piece.description.startswith(_OTHER):
        return replace(tqdm.sign_of(piece, known), format=NAME, claim=Claim.OTHER)
    found = _EPOCH.match(piece.description)
    if found is None or is_other(piece.description):
        return None
    number, of = int(found[1] or found[3]), int(found[2] or found[4] or 0) or None
    first = 0 if LIGHTNINGS_OWN in piece.postfix else known.first_epoch_by(number, of)
    return replace(
        tqdm.sign_of(piece, known),
        format=NAME,
        claim=Claim.LIKELY,
        counter="epoch",
        per_epoch=True,
        epoch=max(0, number - first),
        begins_epoch=True,
        first_epoch=first,
        epochs=of,
    )
