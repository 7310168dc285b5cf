"""Users, the devices they are signed in on, and their keys, as GraphQL types."""

from datetime import datetime
from typing import Self
from uuid import UUID

import strawberry

from domain.account.model import ApiKey as ApiKeyRow
from domain.account.model import User
from domain.account.model import UserSession as SessionRow
from domain.account.operators import is_operator
from domain.account.queries import known_scopes
from domain.secret import Secret
from domain.viewer import Viewer as Asker
from graph.account.enums import Locale, Scope, ViewerKind
from graph.context import Info
from graph.ids import global_id
from graph.node import Node


@strawberry.type(description="You: the user behind the credential you showed, and what it allows.")
class Viewer(Node):
    asker: strawberry.Private[Asker]
    email: str | None = strawberry.field(description="Your address. Null where the credential lacks ACCOUNT_READ.")
    name: str | None = strawberry.field(
        description="What you call yourself. Null where the credential lacks ACCOUNT_READ."
    )
    locale: Locale = strawberry.field(
        description="The language that you are told things in, unless a request asks otherwise."
    )
    scopes: list[Scope] = strawberry.field(description="What this credential may do.")
    kind: ViewerKind = strawberry.field(description="The kind of credential you showed.")
    expires_at: datetime | None = strawberry.field(
        description="When this credential ends, and open connections with it unless they are renewed."
    )
    test_mode: bool = strawberry.field(
        description="Whether the runs that this credential starts are played by simulators, free of charge."
    )

    @strawberry.field(
        description="Whether you look after this whole installation. False where the credential lacks ACCOUNT_READ."
    )
    async def is_operator(self, info: Info) -> bool:
        if Scope.ACCOUNT_READ not in self.asker.scopes:
            return False
        async with info.context.services.database.begin(self.asker) as work:
            return await is_operator(work.session)

    @classmethod
    def of(cls, user: User, asker: Asker) -> Self:
        may_read = Scope.ACCOUNT_READ in asker.scopes
        return cls(
            id=strawberry.ID(global_id("Viewer", user.id)),
            asker=asker,
            email=user.email if may_read else None,
            name=user.name if may_read else None,
            locale=user.locale,
            scopes=sorted(asker.scopes),
            kind=asker.kind,
            expires_at=asker.expires_at,
            test_mode=asker.test_mode,
        )


@strawberry.type(description="A device that you are, or were, signed in on.")
class UserSession(Node):
    user_agent: str = strawberry.field(description="What the program called itself when it signed in.")
    address: str = strawberry.field(description="The network address it signed in from.")
    created_at: datetime = strawberry.field(description="When it signed in.")
    last_used_at: datetime = strawberry.field(description="When it last signed in or refreshed.")
    expires_at: datetime = strawberry.field(description="When it ends, unless it is refreshed before.")
    revoked_at: datetime | None = strawberry.field(description="When it was signed out.")
    is_current: bool = strawberry.field(description="Whether it is the one that you ask with.")

    @classmethod
    def of(cls, row: SessionRow, current: UUID | None) -> Self:
        return cls(
            id=strawberry.ID(global_id("UserSession", row.id)),
            user_agent=row.user_agent,
            address=row.address,
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
            is_current=row.id == current,
        )


@strawberry.type(description="A key that a program comes in with, in your name.")
class ApiKey(Node):
    name: str = strawberry.field(description="What you called it.")
    prefix: str = strawberry.field(description="The first characters of its text, to tell your keys apart.")
    scopes: list[Scope] = strawberry.field(description="What it may do.")
    created_at: datetime = strawberry.field(description="When it was made.")
    last_used_at: datetime | None = strawberry.field(
        description="When it was last used, to the minute; null for never."
    )
    test_mode: bool = strawberry.field(
        description="Whether the runs that it starts are played by simulators of the providers, free of charge."
    )
    expires_at: datetime | None = strawberry.field(description="When it ends; null for a key that only you can end.")
    revoked_at: datetime | None = strawberry.field(description="When it was revoked.")

    @classmethod
    def of(cls, row: ApiKeyRow) -> Self:
        return cls(
            id=strawberry.ID(global_id("ApiKey", row.id)),
            name=row.name,
            prefix=row.prefix,
            scopes=sorted(known_scopes(row.scopes)),
            created_at=row.created_at,
            last_used_at=row.last_used_at,
            test_mode=row.test_mode,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )


@strawberry.type(description="You are signed in: the tokens to go on with. They are not shown again.")
class SignedIn:
    viewer: Viewer = strawberry.field(description="You.")
    access_token: str = strawberry.field(description="Send it as 'Authorization: Bearer …'; it lives for minutes.")
    refresh_token: str = strawberry.field(
        description="Gives the next pair of tokens by `refreshSession`, once. Using it twice ends the session."
    )
    expires_at: datetime = strawberry.field(description="When the access token expires: refresh before.")
    session: UserSession = strawberry.field(description="This device.")


@strawberry.type(description="A new key, with its text, which is not shown again.")
class CreatedApiKey:
    api_key: ApiKey = strawberry.field(description="The key.")
    token: str = strawberry.field(
        description="The key's text: send it as 'Authorization: Bearer …', and keep it secret."
    )

    @classmethod
    def of(cls, row: ApiKeyRow, token: Secret) -> Self:
        return cls(api_key=ApiKey.of(row), token=token.reveal())


@strawberry.type(
    description="A token for a while, to watch runs where no header can be sent: it goes into the address."
)
class StreamToken:
    token: str = strawberry.field(description="Give it as `access_token` in the address of an event stream.")
    expires_at: datetime = strawberry.field(description="When it ends, and what was opened with it.")


@strawberry.type(description="The connection goes on with the new token, and so does everything open on it.")
class RenewedConnection:
    expires_at: datetime | None = strawberry.field(description="When it has to be renewed again; null for never.")
