"""What callers give to sign up, to sign in, and to make keys."""

from datetime import datetime

import strawberry

from graph.account.enums import Locale, Scope


@strawberry.input(description="Who signs up.")
class SignUpInput:
    email: str = strawberry.field(description="Your e-mail address; capital letters do not matter.")
    password: str = strawberry.field(description="10 to 200 characters; a sentence of a few words is a good one.")
    name: str = strawberry.field(default="", description="What you would like to be called.")
    locale: Locale | None = strawberry.field(
        default=None, description="The language to tell you things in; that of the request where left out."
    )


@strawberry.input(description="Who signs in.")
class SignInInput:
    email: str = strawberry.field(description="The e-mail address you signed up with.")
    password: str = strawberry.field(description="Your password.")


@strawberry.input(description="A key to be made.")
class CreateApiKeyInput:
    name: str = strawberry.field(description="What it is for, in up to 200 characters, for you to recognise it.")
    scopes: list[Scope] = strawberry.field(description="What it may do; no more than the credential that makes it.")
    expires_at: datetime | None = strawberry.field(
        default=None, description="When it ends by itself; never where left out."
    )
    test_mode: bool = strawberry.field(
        default=False,
        description="Whether the runs that it starts are played by simulators of the providers, free of charge. Keys"
        " that such a key makes are always of test mode.",
    )


@strawberry.input(description="What to change about yourself; what is left out stays.")
class UpdateViewerInput:
    name: str | None = strawberry.field(default=None, description="What you would like to be called.")
    locale: Locale | None = strawberry.field(default=None, description="The language to tell you things in.")
