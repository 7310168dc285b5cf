"""Signing up and in, refreshing, signing out, and keys."""

import logging
from datetime import timedelta
from typing import Annotated
from uuid import UUID

import strawberry

from domain import account
from domain.account import queries
from domain.account.errors import (
    NotOnASocket,
    RefreshTokenReused,
    RefreshTokenUnknown,
    TokenOfAnother,
    TokenRefused,
    WrongCredentials,
)
from domain.account.inputs import Device, NewAccount, normal_email
from domain.account.service import OpenedSession, ReuseFound, known_user, newcomer
from domain.secret import digest_of
from domain.training.queries import run_of
from domain.viewer import Scope
from domain.viewer import Viewer as Asker
from graph.account.inputs import CreateApiKeyInput, SignInInput, SignUpInput, UpdateViewerInput
from graph.account.types import (
    ApiKey,
    CreatedApiKey,
    RenewedConnection,
    SignedIn,
    StreamToken,
    UserSession,
    Viewer,
)
from graph.auth import may_renew
from graph.context import Context, Info
from graph.errors import Conflict, Forbidden, Invalid, LimitReached, NotFound, Unavailable
from graph.ids import uuid_of
from graph.limiter import Attempt
from graph.live.connections import ConnectionKind, CredentialRefused

logger = logging.getLogger("runwire.graph")

SignUpResult = Annotated[
    SignedIn | Invalid | Conflict | Forbidden | LimitReached | Unavailable,
    strawberry.union("SignUpResult", description="The tokens of a new user, or why there is none."),
]
SignInResult = Annotated[
    SignedIn | Forbidden | LimitReached | Unavailable,
    strawberry.union("SignInResult", description="The tokens of a new session, or why there is none."),
]
RefreshSessionResult = Annotated[
    SignedIn | Forbidden | LimitReached | Unavailable,
    strawberry.union("RefreshSessionResult", description="The session's next tokens, or why there are none."),
]
RevokeSessionResult = Annotated[
    UserSession | NotFound | Forbidden | Unavailable,
    strawberry.union("RevokeSessionResult", description="The session, signed out, or why it is not."),
]
CreateApiKeyResult = Annotated[
    CreatedApiKey | Invalid | Forbidden | LimitReached | Unavailable,
    strawberry.union("CreateApiKeyResult", description="The key with its text, or why there is none."),
]
RevokeApiKeyResult = Annotated[
    ApiKey | NotFound | Forbidden | Unavailable,
    strawberry.union("RevokeApiKeyResult", description="The key, revoked, or why it is not."),
]
RenewConnectionResult = Annotated[
    RenewedConnection | Conflict | Forbidden | Unavailable,
    strawberry.union(
        "RenewConnectionResult", description="Until when the connection may stay, or why it is not renewed."
    ),
]
CreateStreamTokenResult = Annotated[
    StreamToken | NotFound | Forbidden | Unavailable,
    strawberry.union("CreateStreamTokenResult", description="The token, or why there is none."),
]
UpdateViewerResult = Annotated[
    Viewer | Invalid | Forbidden | Unavailable,
    strawberry.union("UpdateViewerResult", description="You, as you are now, or why nothing was changed."),
]


@strawberry.type
class AccountMutations:
    @strawberry.mutation(description="Make an account, signed in on this device.")
    async def sign_up(
        self, info: Info, input: Annotated[SignUpInput, strawberry.argument(description="Who signs up.")]
    ) -> SignUpResult:
        context = info.context
        await context.services.attempts.check(
            Attempt.SIGN_UP, address=context.client_address, subject=normal_email(input.email)
        )
        wanted = NewAccount.checked(email=input.email, password=input.password, name=input.name)
        password_hash = await context.services.authentication.passwords.hash(wanted.password)
        viewer = newcomer(input.locale or context.viewer.locale)
        async with context.services.database.begin(viewer) as work:
            opened = await account.sign_up(
                work,
                viewer,
                account=wanted,
                password_hash=password_hash,
                device=_device(context),
                lifetime=_lifetime(context),
            )
        return _signed_in(context, viewer, opened)

    @strawberry.mutation(description="Sign in on this device. Devices that are signed in already stay so.")
    async def sign_in(
        self, info: Info, input: Annotated[SignInInput, strawberry.argument(description="Who signs in.")]
    ) -> SignInResult:
        context = info.context
        email = normal_email(input.email)
        await context.services.attempts.check(Attempt.SIGN_IN, address=context.client_address, subject=email)
        async with context.services.database.begin() as work:
            login = await queries.login_of(work.session, email)
        passwords = context.services.authentication.passwords
        fits = await passwords.verify(login.password_hash if login else None, input.password)
        if login is None or not fits:
            raise WrongCredentials
        new_hash = await passwords.hash(input.password) if passwords.is_outdated(login.password_hash) else None
        viewer = known_user(login.user_id, login.locale)
        async with context.services.database.begin(viewer) as work:
            opened = await account.sign_in(
                work, viewer, device=_device(context), lifetime=_lifetime(context), new_hash=new_hash
            )
        return _signed_in(context, viewer, opened)

    @strawberry.mutation(
        description="Give the refresh token for the session's next pair of tokens. A refresh token works once: one that"
        " comes again was copied, and ends the session."
    )
    async def refresh_session(
        self,
        info: Info,
        refresh_token: Annotated[str, strawberry.argument(description="The newest refresh token of the session.")],
    ) -> RefreshSessionResult:
        context = info.context
        await context.services.attempts.check(Attempt.REFRESH, address=context.client_address, subject=refresh_token)
        digest = digest_of(refresh_token)
        async with context.services.database.begin() as work:
            user_id = await queries.owner_of_refresh_token(work.session, digest)
        if user_id is None:
            raise RefreshTokenUnknown
        viewer = known_user(user_id, context.viewer.locale)
        async with context.services.database.begin(viewer) as work:
            opened = await account.refresh_session(work, viewer, digest=digest, lifetime=_lifetime(context))
        if isinstance(opened, ReuseFound):  # committed by now, although the answer is a refusal
            await _tell_ended(context, opened.session_id)
            raise RefreshTokenReused
        return _signed_in(context, viewer, opened)

    @strawberry.mutation(
        description="Sign a device out, the one you are on included. Whatever it has open is closed within seconds."
    )
    async def revoke_session(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The session.")]
    ) -> RevokeSessionResult:
        viewer = info.context.viewer
        viewer.require(Scope.ACCOUNT_WRITE)
        async with info.context.begin() as work:
            session = await account.revoke_session(work, viewer, session_id=uuid_of(id, "UserSession"))
        await _tell_ended(info.context, session.id)
        return UserSession.of(session, viewer.credential_id)

    @strawberry.mutation(description="Make a key for a program. Its text is in the answer, and never shown again.")
    async def create_api_key(
        self, info: Info, input: Annotated[CreateApiKeyInput, strawberry.argument(description="The key to be made.")]
    ) -> CreateApiKeyResult:
        async with info.context.begin() as work:
            key, token = await account.create_api_key(
                work,
                info.context.viewer,
                name=input.name,
                scopes=frozenset(input.scopes),
                expires_at=input.expires_at,
                test_mode=input.test_mode,
            )
        return CreatedApiKey.of(key, token)

    @strawberry.mutation(description="End a key for good. Whatever was opened with it is closed within seconds.")
    async def revoke_api_key(
        self, info: Info, id: Annotated[strawberry.ID, strawberry.argument(description="The key.")]
    ) -> RevokeApiKeyResult:
        viewer = info.context.viewer
        viewer.require(Scope.ACCOUNT_WRITE)
        async with info.context.begin() as work:
            key = await account.revoke_api_key(work, viewer, key_id=uuid_of(id, "ApiKey"))
        await _tell_ended(info.context, key.id)
        return ApiKey.of(key)

    @strawberry.mutation(
        description="Keep this WebSocket, and everything that is open on it, beyond the end of its access token."
    )
    async def renew_connection(
        self,
        info: Info,
        access_token: Annotated[str, strawberry.argument(description="A newer access token of the same user.")],
    ) -> RenewConnectionResult:
        viewer = info.context.viewer
        viewer.require()
        connection = info.context.connection
        if connection is None or connection.kind is not ConnectionKind.SOCKET:
            raise NotOnASocket
        try:
            fresh = await info.context.services.authentication.authenticate(f"Bearer {access_token}")
        except CredentialRefused:
            raise TokenRefused from None
        if not may_renew(connection.viewer, fresh):
            raise TokenOfAnother
        connection.renew(fresh)
        return RenewedConnection(expires_at=fresh.expires_at)

    @strawberry.mutation(
        description="Make a token for the address of an event stream, since a browser's EventSource sends no headers."
        " It reads runs for a few minutes and does nothing else."
    )
    async def create_stream_token(
        self,
        info: Info,
        run_id: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="The only run it may watch; all of yours where left out."),
        ] = None,
    ) -> CreateStreamTokenResult:
        viewer = info.context.viewer
        viewer.require(Scope.RUNS_READ)
        run: UUID | None = None
        if run_id is not None:
            async with info.context.begin() as work:
                run = (await run_of(work.session, viewer, uuid_of(run_id, "TrainingRun"))).id
        token, expires_at = info.context.services.authentication.stream_token(viewer, run)
        return StreamToken(token=token.reveal(), expires_at=expires_at)

    @strawberry.mutation(description="Change your name or your language.")
    async def update_viewer(
        self, info: Info, input: Annotated[UpdateViewerInput, strawberry.argument(description="What to change.")]
    ) -> UpdateViewerResult:
        viewer = info.context.viewer
        async with info.context.begin() as work:
            user = await account.update_user(work, viewer, name=input.name, locale=input.locale)
        if viewer.credential_id is not None:
            info.context.services.authentication.forget(viewer.credential_id)  # it remembers the language
        return Viewer.of(user, viewer)


def _signed_in(context: Context, viewer: Asker, opened: OpenedSession) -> SignedIn:
    token, expires_at = context.services.authentication.access_token(opened.user.id, opened.session.id)
    asker = Asker(
        kind=viewer.kind,
        user_id=opened.user.id,
        credential_id=opened.session.id,
        scopes=viewer.scopes,
        expires_at=expires_at,
        locale=opened.user.locale,
    )
    return SignedIn(
        viewer=Viewer.of(opened.user, asker),
        access_token=token.reveal(),
        refresh_token=opened.refresh_token.reveal(),
        expires_at=expires_at,
        session=UserSession.of(opened.session, opened.session.id),
    )


async def _tell_ended(context: Context, credential_id: UUID) -> None:
    """Close what is open with it, here and elsewhere. Rows are true by now: a lost message costs a few seconds, in
    which the other processes compare their open connections with the database."""
    context.services.authentication.forget(credential_id)
    await context.services.bus.revoke(credential_id)


def _device(context: Context) -> Device:
    return Device.of(context.user_agent, context.client_address)


def _lifetime(context: Context) -> timedelta:
    return timedelta(days=context.settings.refresh_token_days)
