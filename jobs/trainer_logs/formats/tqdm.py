"""Any tqdm bar that no trainer's own format explains.

` 31%|███       | 311/1000 [03:01<06:42,  1.60it/s, loss=0.35]`
"""

from dataclasses import replace

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.sign import Known, Sign
from jobs.trainer_logs.values import pairs

NAME = "tqdm"


def read(piece: Bar | str, known: Known) -> Sign | None:
    """Whatever the bar counts; its claim says how sure it is that this is the training."""
    return sign_of(piece, known) if isinstance(piece, Bar) else None


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


def named(sign: Sign, name: str) -> Sign:
    """The same, of another format."""
    return replace(sign, format=name)
