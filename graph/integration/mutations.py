"""Connecting, testing and disconnecting your own accounts at providers. No transaction is open while one is asked."""

import math
from typing import Annotated

import strawberry

from db.vault import VaultClosed
from domain import integration
from domain.integration import queries
from domain.integration.errors import (
    EncryptionNotSetUp,
    IntegrationDisconnected,
    KeyCannotBeRead,
    ProviderKeyRefused,
    ProviderUnreachable,
)
from domain.integration.inputs import NewIntegration
from domain.integration.service import may_change
from domain.secret import Secret
from graph.context import Context, Info
from graph.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import uuid_of
from graph.integration.enums import Provider
from graph.integration.types import Integration
from graph.limiter import Attempt
from jobs.accounts import Opened
from jobs.providers.base import ProviderError, ProviderRefused

BUSY_SECONDS = 30
"""When asking again makes sense where the provider does not say."""

ConnectIntegrationResult = Annotated[
    Integration | Invalid | Conflict | Forbidden | LimitReached | Unavailable,
    strawberry.union("ConnectIntegrationResult", description="The connected account, or why nothing was stored."),
]
TestIntegrationResult = Annotated[
    Integration | NotFound | Conflict | Forbidden | LimitReached | Unavailable,
    strawberry.union(
        "TestIntegrationResult", description="The account as the provider sees it now, or why it was not tested."
    ),
]
DisconnectIntegrationResult = Annotated[
    Integration | NotFound | Conflict | Forbidden | Unavailable,
    strawberry.union("DisconnectIntegrationResult", description="The account without its key, or why it has it yet."),
]


@strawberry.input(description="An account of your own at a provider.")
class ConnectIntegrationInput:
    provider: Provider = strawberry.field(description="Where the account is; LOCAL needs none.")
    name: str = strawberry.field(
        description="What to call it, in up to 100 characters; one of this name at the same provider is replaced."
    )
    api_key: str = strawberry.field(
        description="The key or token that the provider gave you. It is kept encrypted, and never shown again."
    )


@strawberry.type
class IntegrationMutations:
    @strawberry.mutation(
        description="Connect your own account at a provider, for runs that name it as `integrationId`. The provider is"
        " asked first whether it takes the key; unless it does, nothing is stored."
    )
    async def connect_integration(
        self,
        info: Info,
        input: Annotated[ConnectIntegrationInput, strawberry.argument(description="The account to be connected.")],
    ) -> ConnectIntegrationResult:
        context = info.context
        viewer = context.viewer
        user_id = may_change(viewer)
        wanted = NewIntegration.checked(provider=input.provider, name=input.name, key=input.api_key)
        vault = context.accounts.vault
        if not vault.can_seal:
            raise EncryptionNotSetUp
        async with context.begin() as work:
            old = await queries.integration_named(work.session, user_id, wanted.provider, wanted.name)
            is_in_use = old is not None and bool(await queries.alive_with(work.session, old.id))
        try:
            opened = await _opened(context, wanted.provider, wanted.key, with_alive=is_in_use)
        except ProviderRefused as error:
            raise ProviderKeyRefused(wanted.provider, str(error)) from None
        async with context.begin() as work:
            row = await integration.connect(
                work,
                viewer,
                provider=wanted.provider,
                name=wanted.name,
                seal=lambda binding: vault.seal(wanted.key, bound_to=binding),
                account_name=opened.owner,
                sees=opened.alive,
            )
        return Integration.of(row)

    @strawberry.mutation(
        description="Ask the provider whether it still takes the key of an account of yours; what it says is kept."
    )
    async def test_integration(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The account.")]
    ) -> TestIntegrationResult:
        context = info.context
        user_id = may_change(context.viewer)
        async with context.begin() as work:
            row = await queries.integration_of(work.session, user_id, uuid_of(id, "Integration"))
        sealed = row.secret
        if sealed is None:
            raise IntegrationDisconnected(row.name)
        vault = context.accounts.vault
        try:
            key = vault.open(sealed, bound_to=row.binding)
        except VaultClosed:
            raise KeyCannotBeRead(row.name) from None
        account_name = refusal = None
        try:
            account_name = (await _opened(context, row.provider, key)).owner
        except ProviderRefused as error:
            refusal = str(error)
        resealed = None if vault.is_current(sealed) else vault.seal(key, bound_to=row.binding)
        async with context.begin() as work:
            row = await integration.note_tested(
                work,
                user_id,
                integration_id=row.id,
                tested=sealed,
                account_name=account_name,
                refusal=refusal,
                resealed=resealed,
            )
        return Integration.of(row)

    @strawberry.mutation(
        description="Remove the key of an account of yours; refused while trainings with it are alive, which nobody"
        " could end without it."
    )
    async def disconnect_integration(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The account.")]
    ) -> DisconnectIntegrationResult:
        viewer = info.context.viewer
        may_change(viewer)
        async with info.context.begin() as work:
            row = await integration.disconnect(work, viewer, integration_id=uuid_of(id, "Integration"))
        return Integration.of(row)


async def _opened(context: Context, provider: Provider, key: Secret, *, with_alive: bool = False) -> Opened:
    """What the key opens. Raises `TooManyAttempts`, since keys can be guessed here too, `ProviderRefused` as it comes,
    and `ProviderUnreachable`."""
    await context.services.attempts.check(
        Attempt.PROVIDER_KEY, address=context.client_address, subject=str(context.viewer.user_id)
    )
    try:
        return await context.accounts.opened(provider, key, with_alive=with_alive)
    except ProviderRefused:
        raise
    except ProviderError as error:
        seconds = math.ceil(getattr(error, "retry_after_seconds", BUSY_SECONDS))
        raise ProviderUnreachable(provider, max(1, seconds)) from None
