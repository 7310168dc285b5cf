"""Replicate's flux fine-tuner: ai-toolkit under the job name `flux_train_replicate`.

`flux_train_replicate:  31%|███       | 311/1000 [03:01<06:42,  1.60it/s, lr: 4.0e-04 loss: 3.512e-01]`

The percentage is taken as it is printed: a line at 31 % is 31 % of the training, which is 36.35 of the whole run.
"""

from dataclasses import replace

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.formats import tqdm
from jobs.trainer_logs.sign import Claim, Known, Sign

NAME = "flux"
JOB = "flux_train_replicate"


def read(piece: Bar | str, known: Known) -> Sign | None:
    """Only the job's own bar."""
    if not isinstance(piece, Bar) or piece.description != JOB:
        return None
    return replace(tqdm.sign_of(piece, known), format=NAME, claim=Claim.JOB, percent=piece.percent)
