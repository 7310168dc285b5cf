"""The right of one attempt's script, or of its provider, to speak to us: a random token, stored as a hash."""

from datetime import timedelta
from typing import Final

from domain.base import new_id
from domain.secret import Secret, digest_of, new_token
from domain.training.model import PodToken, PodTokenKind, TrainingRun
from domain.work import UnitOfWork

POD_TOKEN_PREFIX: Final = "rwp_"
MARGIN: Final = timedelta(hours=12)
"""Beyond the run's time limit: a machine is waited for, an image pulled and a result uploaded outside of that limit.
The end of the attempt ends its tokens anyway."""


async def issue_pod_token(work: UnitOfWork, run: TrainingRun, attempt: int, kind: PodTokenKind) -> Secret:
    """Another token of this attempt of the run.

    Older ones of the same attempt stay valid: the training may have been started with one of them before the worker
    that asked for it died."""
    token = new_token(POD_TOKEN_PREFIX)
    work.session.add(
        PodToken(
            id=new_id(),
            created_at=work.now,
            user_id=run.user_id,
            run_id=run.id,
            attempt=attempt,
            kind=kind,
            hash=digest_of(token.reveal()),
            expires_at=work.now + timedelta(seconds=run.time_limit_seconds) + MARGIN,
        )
    )
    await work.session.flush()
    return token
