"""The verbs of connected accounts. None of them asks a provider; whoever calls has tested the key before."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from uuid import UUID

from sqlmodel import select

from domain.account.audit import note
from domain.account.model import User
from domain.base import new_id
from domain.integration import queries
from domain.integration.errors import IntegrationInUse, NotInTestMode, TooManyIntegrations
from domain.integration.model import Integration, IntegrationStatus
from domain.secret import masked
from domain.training.status import Provider
from domain.viewer import Scope, Viewer
from domain.work import UnitOfWork

MOST_CONNECTED = 50
MOST_EVER = 500
"""Rows of one user, with those of disconnected accounts, which stay for the runs that name them."""
LONGEST_ACCOUNT_NAME = 200
LONGEST_MESSAGE = 500
NOTHING: Mapping[str, str] = MappingProxyType({})


def may_change(viewer: Viewer) -> UUID:
    """The viewer's user id, if they may connect, test and disconnect accounts.

    Raises `NotSignedIn`, `Forbidden`, `NotInTestMode`."""
    user_id = viewer.require(Scope.ACCOUNT_WRITE)
    if viewer.test_mode:
        raise NotInTestMode
    return user_id


async def connect(
    work: UnitOfWork,
    viewer: Viewer,
    *,
    provider: Provider,
    name: str,
    seal: Callable[[bytes], bytes],
    account_name: str,
    sees: Mapping[str, str] = NOTHING,
) -> Integration:
    """Keep a key that the provider has just taken; one of the same name at the same provider is replaced, unless
    something was made with it that the new one does not see.

    `seal` gives the encrypted key, bound to the row whose binding it is given; `sees` is what the new key shows alive
    at the provider, reference → tag. Raises `TooManyIntegrations`, `IntegrationInUse`."""
    user_id = may_change(viewer)
    # The user's row stands for their accounts while these are counted: two requests take turns.
    await work.session.exec(select(User.id).where(User.id == user_id).with_for_update(key_share=True))
    row = await queries.integration_named(work.session, user_id, provider, name, lock=True)
    connected, ever = await queries.count_integrations(work.session, user_id)
    is_one_more = row is None or row.status is IntegrationStatus.DISCONNECTED
    if is_one_more and connected >= MOST_CONNECTED:
        raise TooManyIntegrations(MOST_CONNECTED)
    if row is None:
        if ever >= MOST_EVER:
            raise TooManyIntegrations(MOST_EVER)
        row = Integration(
            id=new_id(),
            user_id=user_id,
            created_at=work.now,
            provider=provider,
            name=name,
            tested_at=work.now,
            updated_at=work.now,
        )
        work.session.add(row)
    else:
        await _check_unused(work, row, sees)
    row.secret = seal(row.binding)
    row.account_name = _line(account_name, LONGEST_ACCOUNT_NAME)
    row.status, row.error_message = IntegrationStatus.CONNECTED, None
    row.tested_at = row.updated_at = work.now
    _note(work, viewer, "account.integration_connected", row)
    await work.session.flush()
    return row


async def note_tested(
    work: UnitOfWork,
    user_id: UUID,
    *,
    integration_id: UUID,
    tested: bytes,
    account_name: str | None = None,
    refusal: str | None = None,
    resealed: bytes | None = None,
) -> Integration:
    """Write down what the provider made of the key: CONNECTED, or REFUSED with its words in `refusal`.

    `tested` is the encrypted key as it was read before; one that was replaced or removed meanwhile keeps its state.
    `resealed` is the same key, encrypted with a newer one. Raises `NotFound`."""
    row = await queries.integration_of(work.session, user_id, integration_id, lock=True)
    if row.secret != tested:
        return row
    row.tested_at = work.now
    if refusal is not None:
        row.status, row.error_message = IntegrationStatus.REFUSED, _line(refusal, LONGEST_MESSAGE)
    else:
        row.status, row.error_message = IntegrationStatus.CONNECTED, None
        row.account_name = _line(account_name, LONGEST_ACCOUNT_NAME) if account_name else row.account_name
        row.secret = resealed or row.secret
    await work.session.flush()
    return row


async def disconnect(work: UnitOfWork, viewer: Viewer, *, integration_id: UUID) -> Integration:
    """Forget the key; the row stays for the runs that were done with it. Again is the same.

    Raises `NotFound`, and `IntegrationInUse` while something is alive that only this key can end."""
    user_id = may_change(viewer)
    row = await queries.integration_of(work.session, user_id, integration_id, lock=True)
    if row.status is not IntegrationStatus.DISCONNECTED:
        await _check_unused(work, row)
        row.secret, row.status, row.error_message = None, IntegrationStatus.DISCONNECTED, None
        row.updated_at = work.now
        _note(work, viewer, "account.integration_disconnected", row)
        await work.session.flush()
    return row


async def _check_unused(work: UnitOfWork, row: Integration, sees: Mapping[str, str] = NOTHING) -> None:
    """A key that the provider refuses ends nothing any more, and may go at any time."""
    if row.status is not IntegrationStatus.CONNECTED:
        return
    alive = await queries.alive_with(work.session, row.id)
    left = [one for one in alive if one.reference not in sees and one.tag not in sees.values()]
    if left:
        raise IntegrationInUse(row.name, len(left))


def _note(work: UnitOfWork, viewer: Viewer, action: str, row: Integration) -> None:
    details: dict[str, object] = {"provider": row.provider.value, "name": row.name}
    note(work, row.user_id, action, credential_id=viewer.credential_id, subject_id=row.id, details=details)


def _line(text: str, longest: int) -> str:
    """A provider's words on one line, without anything that looks like a key."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return masked(plain).strip()[:longest]
