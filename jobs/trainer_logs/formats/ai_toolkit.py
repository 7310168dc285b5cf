"""ostris/ai-toolkit (`BaseSDTrainProcess`): a bar under the job's name, with `lr: … loss: …` behind it.

`my_lora:  12%|█▏        | 240/2000 [05:01<36:40,  1.25s/it, lr: 1.0e-04 loss: 3.512e-01]`
"""

from dataclasses import replace

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.formats import tqdm
from jobs.trainer_logs.sign import Claim, Known, Sign

NAME = "ai-toolkit"


def read(piece: Bar | str, known: Known) -> Sign | None:
    """Bars with this postfix, whose values no comma separates."""
    if not isinstance(piece, Bar) or not piece.postfix.strip().startswith("lr: ") or " loss: " not in piece.postfix:
        return None
    sign = tqdm.sign_of(piece, known)
    return replace(sign, format=NAME, claim=max(sign.claim, Claim.LIKELY))
