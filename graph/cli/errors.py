"""Why a command did not do what was asked, and the exit code that scripts see.

ClientError          1   the API refused
├── Missing          4   no such thing, or not yours
├── NotAllowed       5   the credential is missing, ended, or does not allow this
├── LimitHit         6   a limit or a budget
├── Unreachable      7   nobody answers, or not now
├── BrokenStream     1   the stream did not keep its promise
└── Usage            2   the command cannot mean anything as it was written
"""

from enum import IntEnum
from typing import Any


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    """Done; or the run is READY."""
    REFUSED = 1
    """Refused; or the run FAILED."""
    USAGE = 2
    CANCELED = 3
    """The run was CANCELED."""
    NOT_FOUND = 4
    NOT_ALLOWED = 5
    LIMIT = 6
    UNREACHABLE = 7
    INTERRUPTED = 130
    """Ctrl-C."""


class ClientError(Exception):
    """A refusal. `code` is the API's stable code; `field` the path of the input that is to be changed."""

    exit_code = Exit.REFUSED

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        field: tuple[str, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        self.message = message
        self.code = code
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.hint = ""
        """What people are told beside it."""
        super().__init__(message)

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints of it."""
        error = {"code": self.code or type(self).__name__.upper(), "message": self.message}
        return {"error": {**error, "field": list(self.field) or None, "retryAfterSeconds": self.retry_after_seconds}}


class Missing(ClientError):
    exit_code = Exit.NOT_FOUND


class NotAllowed(ClientError):
    exit_code = Exit.NOT_ALLOWED


class LimitHit(ClientError):
    exit_code = Exit.LIMIT


class Unreachable(ClientError):
    exit_code = Exit.UNREACHABLE


class BrokenStream(ClientError):
    pass


class Usage(ClientError):
    exit_code = Exit.USAGE


_BY_TYPE = {"NotFound": Missing, "Forbidden": NotAllowed, "LimitReached": LimitHit}
_BY_CODE = {
    "NOT_FOUND": Missing,
    "FORBIDDEN": NotAllowed,
    "NOT_SIGNED_IN": NotAllowed,
    "UNAUTHENTICATED": NotAllowed,
    "SCOPE_MISSING": NotAllowed,
    "LIMIT_REACHED": LimitHit,
    "UNAVAILABLE": Unreachable,
}


def of_problem(problem: dict[str, Any]) -> ClientError:
    """The error for a mutation's refusal: a member of its union that implements `Problem`."""
    kind = _BY_CODE.get(problem["code"]) or _BY_TYPE.get(problem["__typename"], ClientError)
    return kind(
        problem["message"],
        code=problem["code"],
        field=tuple(problem.get("field") or ()),
        retry_after_seconds=problem.get("retryAfterSeconds"),
    )


def of_graphql(errors: list[dict[str, Any]]) -> ClientError:
    """The error for the entries of a GraphQL answer, of which the first decides."""
    entry = errors[0] if errors else {}
    extensions = entry.get("extensions") or {}
    code = str(extensions.get("code", ""))
    return _BY_CODE.get(code, ClientError)(
        str(entry.get("message", "The API answered with an error that it did not explain.")),
        code=code,
        field=tuple(extensions.get("field") or ()),
        retry_after_seconds=extensions.get("retryAfterSeconds"),
    )
