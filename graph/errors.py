"""Refusals as GraphQL types. Domain errors become members of a mutation's result once, here."""

from typing import TYPE_CHECKING, Any

import strawberry

from domain import errors
from domain.error_codes import ErrorCode
from graph.enums import expose

if TYPE_CHECKING:
    from strawberry.types.field import StrawberryField

    from graph.context import Info

expose(
    ErrorCode,
    "Why something was refused. Codes are stable; the words beside them are not. In braces stand `params`.",
    errors.words_of_codes(),
)


@strawberry.interface(description="A refusal: something expected that kept the operation from being done.")
class Problem:
    code: ErrorCode = strawberry.field(description="The stable code to switch on.")
    message: str = strawberry.field(description="A sentence for a person, in the viewer's language.")
    field: list[str] | None = strawberry.field(description="The path of the input that is to be changed, if it is one.")
    retry_after_seconds: int | None = strawberry.field(description="When trying again makes sense, in seconds.")
    params: strawberry.scalars.JSON | None = strawberry.field(
        description="The facts that the message is made of, to write your own."
    )

    @classmethod
    def of(cls, error: errors.DomainError, locale: str) -> "Problem":
        return cls(
            code=ErrorCode(error.code),
            message=error.message(locale),
            field=list(error.field) if error.field else None,
            retry_after_seconds=error.retry_after_seconds,
            params=strawberry.scalars.JSON(error.params) if error.params else None,
        )


@strawberry.type(description="What you named does not exist, or is not yours.")
class NotFound(Problem):
    pass


@strawberry.type(description="What you sent cannot be; `field` says where.")
class Invalid(Problem):
    pass


@strawberry.type(description="Possible in itself, but not as things stand.")
class Conflict(Problem):
    pass


@strawberry.type(description="Your credential does not allow this, or you showed none.")
class Forbidden(Problem):
    pass


@strawberry.type(description="Too much or too often.")
class LimitReached(Problem):
    pass


@strawberry.type(description="Something that we depend on does not answer; nothing was changed.")
class Unavailable(Problem):
    pass


def _handler(caught: type[errors.DomainError], told: type[Problem]) -> strawberry.ExceptionHandler[Any]:
    class Handler(strawberry.ExceptionHandler):  # type: ignore[type-arg]  # the types are known at run time only
        exception_type = caught
        error_type = told

        def handle(self, exception: Any, *, field: "StrawberryField", info: "Info") -> Any:
            return told.of(exception, info.context.viewer.locale)

    return Handler()


EXCEPTION_HANDLERS = tuple(
    _handler(caught, told)
    for caught, told in (
        (errors.NotFound, NotFound),
        (errors.Invalid, Invalid),
        (errors.Conflict, Conflict),
        (errors.Forbidden, Forbidden),
        (errors.LimitReached, LimitReached),
        (errors.Unavailable, Unavailable),
    )
)
