"""The verbs of callbacks: kept as they come, then marked with what became of them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from domain.account import audit
from domain.account.operators import require_operator
from domain.base import new_id
from domain.callback import queries
from domain.callback.errors import CallbackNotApplicable
from domain.callback.model import Callback, CallbackSource, CallbackStatus
from domain.callback.queries import Stored
from domain.commands import ApplyCallback
from domain.errors import NotFound
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

LONGEST_ERROR = 1000
EVIDENCE_BYTES = 4096
"""Of a body that changes nothing, and that nobody applies again, so much is kept to look at."""
MOST_WHOLE = 20
"""Calls about one run that had no effect and are kept whole, to be applied again; anybody may send them."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it came in, before anybody has read its body."""

    source: CallbackSource
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that matter, names in small letters; never a credential."""
    event_id: str | None = None
    """What tells it from every other one of its source; None where it is only a hint."""
    tag: str | None = None
    """Which attempt its address says it is about."""
    token: str | None = None
    """The attempt's token that it came with."""
    sequence: int | None = None
    """A script's own number of it."""


async def store_callback(work: UnitOfWork, call: Call) -> Stored | None:
    """Keep a call and ring a worker. None where the same one was kept before, or where too many came about nothing
    that we know: then there is nothing to be done, and the caller is told the same."""
    stored = await queries.store(
        work.session,
        id=new_id(),
        at=work.now,
        source=call.source,
        event_id=call.event_id,
        tag=call.tag,
        token=call.token,
        sequence=call.sequence,
        headers=dict(call.headers),
        body=call.body,
        sha256=hashlib.sha256(call.body).hexdigest(),
    )
    if stored is not None:
        work.enqueue(ApplyCallback(stored.id))
    return stored


async def apply_again(work: UnitOfWork, viewer: Viewer, *, callback_id: UUID) -> Callback:
    """Have a callback applied anew that was rejected or could not be read. Asking twice is asking once.

    Raises `OperatorOnly`, `NotFound`, and `CallbackNotApplicable` for what had its effect."""
    user_id = await require_operator(work.session, viewer, Scope.ACCOUNT_WRITE)
    callback = await queries.locked(work.session, callback_id)
    if callback is None:
        raise NotFound("Callback")
    if callback.status is CallbackStatus.RECEIVED:
        return callback
    if callback.status not in (CallbackStatus.REJECTED, CallbackStatus.UNREADABLE):
        raise CallbackNotApplicable(callback.status)
    callback.status, callback.error, callback.tries, callback.next_try_at = CallbackStatus.RECEIVED, None, 0, work.now
    audit.note(
        work,
        user_id,
        "callback.applied_again",
        credential_id=viewer.credential_id,
        subject_id=callback.id,
    )
    work.enqueue(ApplyCallback(callback.id))
    return callback


def mark_applied(work: UnitOfWork, callback: Callback) -> None:
    """It had its effect; nobody will apply it again, so that what is shown of it is enough."""
    callback.status, callback.applied_at, callback.error = CallbackStatus.APPLIED, work.now, None
    callback.body = callback.body[: queries.SHOWN_BYTES]


def mark_moot(work: UnitOfWork, callback: Callback, why: str) -> None:
    """It changes nothing any more; nobody will apply it again, so that its beginning is enough."""
    _end(work, callback, CallbackStatus.MOOT, why)
    callback.body = callback.body[:EVIDENCE_BYTES]


async def mark_rejected(work: UnitOfWork, callback: Callback, why: str) -> None:
    """It is not by whom it says, as far as we can tell. Kept whole, unless there are many."""
    await _cut_if_many(work, callback)
    _end(work, callback, CallbackStatus.REJECTED, why)


async def mark_unreadable(work: UnitOfWork, callback: Callback, why: str) -> None:
    """It is kept whole, for whoever operates this to look at and have applied again; unless there are many."""
    await _cut_if_many(work, callback)
    _end(work, callback, CallbackStatus.UNREADABLE, why)


async def mark_applied_in_part(work: UnitOfWork, callback: Callback, why: str) -> None:
    """It had its effect but for what was wrong in it. The first ones of a run are shown as UNREADABLE, for a month;
    whoever sends them without end fills nothing with them."""
    if await queries.without_effect(work.session, callback, most=MOST_WHOLE) < MOST_WHOLE:
        return _end(work, callback, CallbackStatus.UNREADABLE, why)
    mark_applied(work, callback)
    callback.error = _words(why)


async def _cut_if_many(work: UnitOfWork, callback: Callback) -> None:
    if await queries.without_effect(work.session, callback, most=MOST_WHOLE) >= MOST_WHOLE:
        callback.body = callback.body[:EVIDENCE_BYTES]


def try_later(work: UnitOfWork, callback: Callback, seconds: float, why: str) -> None:
    """It could not be applied now; a sweep comes back to it."""
    callback.next_try_at = work.now + timedelta(seconds=seconds)
    callback.error = _words(why)


def _end(work: UnitOfWork, callback: Callback, status: CallbackStatus, why: str) -> None:
    callback.status, callback.applied_at, callback.error = status, work.now, _words(why)


def _words(why: str) -> str:
    return why.replace("\0", "\ufffd")[:LONGEST_ERROR]
