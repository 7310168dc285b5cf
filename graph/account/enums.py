"""The enums of accounts, named and described for those who read the schema. Types and inputs take them from here, so
that they are registered before anything refers to them."""

import strawberry

from domain.viewer import Locale, Scope, ViewerKind

strawberry.enum(
    Scope,
    name="Scope",
    description="A right of a credential: reading or writing one kind of thing. A signed-in user has all of them.",
)
strawberry.enum(Locale, name="Locale", description="A language that texts for people exist in.")
strawberry.enum(
    ViewerKind,
    name="ViewerKind",
    description="The kind of credential: a signed-in USER, an API_KEY, a STREAM token, a training POD, or NOBODY.",
)

__all__ = ["Locale", "Scope", "ViewerKind"]
