"""Any tqdm bar that no trainer's own format explains.

` 31%|███       | 311/1000 [03:01<06:42,  1.60it/s, loss=0.35]`
"""

from dataclasses import replace

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.sign import Claim, Known, Sign
from jobs.trainer_logs.values import pairs

NAME = "tqdm"


def read(piece: Bar | str, known: Known) -> Sign | None:
    """Whatever the bar counts; its claim says how sure it is that this is the training. After a line `Epoch 1/10` a bar
    is of that epoch, unless it goes to the steps of the whole."""
    if not isinstance(piece, Bar):
        return None
    sign = sign_of(piece, known)
    if known.is_in_epochs and sign.claim in (Claim.GUESS, Claim.LIKELY):
        return replace(sign, claim=Claim.LIKELY, per_epoch=True)
    return sign


def sign_of(bar: Bar, known: Known) -> Sign:
    """What every bar says, whoever drew it."""
    return Sign(
        format=NAME,
        claim=bar.claim(known),
        counter=f"{bar.description} {bar.total:g}",
        done=bar.done,
        total=bar.total or None,
        remaining_seconds=bar.remaining_seconds,
        elapsed_seconds=bar.elapsed_seconds,
        seconds_per_step=bar.seconds_per_step,
        values=pairs(bar.postfix),
        is_look=True,
    )
