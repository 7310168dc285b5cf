"""What clients are told of errors. Refusals of the domain are told in the viewer's language, mistakes in a request as
they are; everything else is masked, and its cause logged once under the id that the client is given."""

import logging
import re
import secrets
from collections.abc import Sequence
from typing import Any

import orjson
from graphql import GraphQLError

from domain.errors import DomainError, Unavailable
from domain.viewer import Locale
from graph.live.connections import CloseSocket
from graph.transport import UnavailableCheck
from graph.wording import without_given

logger = logging.getLogger("runwire.graph")

INTERNAL = "INTERNAL"
BAD_INPUT = "BAD_USER_INPUT"
_SUGGESTION = re.compile(r" Did you mean .*\?$", re.DOTALL)
_INTERNAL_TEXT = {
    Locale.EN: "Internal error; quote the id {error_id} when you ask us about it.",
    Locale.PT_BR: "Erro interno; informe o identificador {error_id} ao falar conosco.",
}


class Faults:
    """Turns exceptions into entries of `errors`."""

    def __init__(self, *, is_unavailable: UnavailableCheck, masking: bool = True, suggestions: bool = True) -> None:
        self.is_unavailable = is_unavailable
        self.masking = masking
        self.suggestions = suggestions

    def of_result(self, errors: Sequence[GraphQLError], locale: Locale, request_id: str) -> list[dict[str, Any]]:
        """The entries for what an execution collected. Raises `CloseSocket` if that is what a source asked for."""
        return [self._of_graphql(error, locale, request_id) for error in errors]

    def of_exception(self, error: BaseException, locale: Locale, request_id: str) -> dict[str, Any]:
        """The entry for one exception that no resolver raised."""
        if isinstance(error, DomainError):
            return _refusal(error, locale)
        if self.is_unavailable(error):
            logger.warning("A dependency does not answer", exc_info=error, extra={"request_id": request_id})
            return _refusal(Unavailable(), locale)
        return self._masked(error, locale, request_id)

    def _of_graphql(self, error: GraphQLError, locale: Locale, request_id: str) -> dict[str, Any]:
        cause = _cause(error)
        if isinstance(cause, CloseSocket):
            raise cause
        place = {name: value for name, value in error.formatted.items() if name in ("locations", "path")}
        if cause is not None:
            return {**self.of_exception(cause, locale, request_id), **place}
        message = without_given(error.message)
        message = message if self.suggestions else _SUGGESTION.sub("", message)
        return {"message": message, **place, "extensions": {"code": BAD_INPUT, **(error.extensions or {})}}

    def _masked(self, error: BaseException, locale: Locale, request_id: str) -> dict[str, Any]:
        error_id = secrets.token_hex(8)
        logger.error(
            "An unexpected error was masked", exc_info=error, extra={"error_id": error_id, "request_id": request_id}
        )
        message = _INTERNAL_TEXT[locale].format(error_id=error_id)
        if not self.masking:
            message = f"{message} {type(error).__name__}: {error}"
        return {"message": message, "extensions": {"code": INTERNAL, "errorId": error_id}}


def is_unavailable_entry(entry: dict[str, Any]) -> bool:
    """Whether this entry says that something we depend on does not answer."""
    return bool(entry.get("extensions", {}).get("code") == Unavailable.code)


def _cause(error: GraphQLError) -> Exception | None:
    """What a resolver raised, or None where the error is GraphQL's own or was meant for the client as it is."""
    cause: Exception | None = error
    while isinstance(cause, GraphQLError):
        if cause.path is None and cause.nodes and isinstance(cause.original_error, ValueError):
            return None  # a scalar refused a value of the request: the message says which and why
        cause = cause.original_error
    return cause


def _refusal(error: DomainError, locale: Locale) -> dict[str, Any]:
    extensions: dict[str, Any] = {"code": error.code}
    if error.params:
        extensions["params"] = {name: _plain(value) for name, value in error.params.items()}
    if error.field:
        extensions["field"] = list(error.field)
    if error.retry_after_seconds is not None:
        extensions["retryAfterSeconds"] = error.retry_after_seconds
    return {"message": error.message(locale), "extensions": extensions}


def _plain(value: Any) -> Any:
    try:
        orjson.dumps(value)
    except TypeError:
        return str(value)
    return value
