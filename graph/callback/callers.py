"""Who calls from a machine elsewhere: by the token of one attempt, which is worth nothing once that attempt is over."""

import re
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from domain.callback import errors, queries
from domain.callback.queries import FoundToken
from domain.dataset.errors import BadContentDigest, DiskFull, EncodedUpload, UploadStalled
from domain.errors import DomainError, NotFound
from domain.training.model import PodTokenKind
from domain.training.tokens import POD_TOKEN_PREFIX
from domain.viewer import Viewer, ViewerKind
from graph.context import Services
from graph.ids import uuid_of_either
from graph.routes.problems import locale_of_request, problem_response, status_of

STATUS: Final[dict[type[DomainError], int]] = {
    errors.BadCallback: 400,
    errors.EncodedCallback: 415,
    errors.AttemptOver: 410,
    errors.ArtifactsTooLarge: 413,
    BadContentDigest: 400,
    EncodedUpload: 415,
    UploadStalled: 408,
    DiskFull: 507,
}

_TOKEN = re.compile(POD_TOKEN_PREFIX + r"[A-Za-z0-9_-]{43}", re.ASCII)
_BEARER = re.compile(r"bearer +(\S+) *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PodCaller:
    """A script of an attempt that is still wanted."""

    token: str
    found: FoundToken

    @property
    def viewer(self) -> Viewer:
        """Sees what the run's owner does; the doors show it nothing but its own run."""
        return Viewer(kind=ViewerKind.POD, user_id=self.found.user_id, run_id=self.found.run_id)


def token_of(request: Request) -> str:
    """The token that a script shows. Raises `PodTokenRefused`."""
    shown = request.headers.getlist("authorization")
    found = [match[1] for value in shown if (match := _BEARER.fullmatch(value)) is not None]
    if len(shown) != 1 or len(found) != 1 or not is_token(found[0]):
        raise errors.PodTokenRefused
    return found[0]


def is_token(text: str) -> bool:
    """Whether it has the form of an attempt's token, so that it is worth asking the database."""
    return _TOKEN.fullmatch(text) is not None


async def pod_of(services: Services, request: Request) -> PodCaller:
    """The script that calls, if its attempt of the run in the path still goes on.

    Raises `PodTokenRefused`, `AttemptOver`, `Unavailable`."""
    token = token_of(request)
    async with services.database.begin() as work:
        found = await queries.find_pod_token(work.session, token)
    if found is None or found.kind is not PodTokenKind.POD or not _is_of(request, found):
        raise errors.PodTokenRefused
    if found.is_over:
        raise errors.AttemptOver
    if not found.is_alive(work.now):
        raise errors.PodTokenRefused
    return PodCaller(token, found)


def refused(error: DomainError, request: Request) -> Response:
    """The refusal as a problem, with the status that tells a script what to do."""
    status = STATUS.get(type(error), status_of(error))
    return problem_response(error, locale_of_request(request), status=status)


def check_plain(request: Request) -> None:
    """Raises `EncodedCallback` for a body that would have to be unpacked: nobody knows how large it would be."""
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
        raise errors.EncodedCallback


def _is_of(request: Request, found: FoundToken) -> bool:
    try:
        return uuid_of_either(request.path_params["id"], "TrainingRun") == found.run_id
    except NotFound:
        return False
