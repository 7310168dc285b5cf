"""Who asks. Every verb takes a `Viewer`, and the API sets it for row level security in each transaction."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from domain.errors import Forbidden, NotSignedIn


class Locale(StrEnum):
    """The languages that texts for readers exist in."""

    EN = "en"
    PT_BR = "pt-BR"


class ViewerKind(StrEnum):
    """What kind of credential somebody showed."""

    NOBODY = "NOBODY"
    USER = "USER"
    API_KEY = "API_KEY"
    STREAM = "STREAM"
    POD = "POD"


class Scope(StrEnum):
    """What a credential may do. A signed-in user has all of them; an API key those it was made with."""

    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    DATASETS_READ = "datasets:read"
    DATASETS_WRITE = "datasets:write"
    MODELS_READ = "models:read"
    MODELS_WRITE = "models:write"
    ACCOUNT_READ = "account:read"
    ACCOUNT_WRITE = "account:write"


ALL_SCOPES = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Viewer:
    """The asker: their user, the credential they showed, what it allows and until when."""

    kind: ViewerKind = ViewerKind.NOBODY
    user_id: UUID | None = None
    credential_id: UUID | None = None
    """The session's or the API key's id: what is revoked."""
    scopes: frozenset[Scope] = frozenset()
    expires_at: datetime | None = None
    """When the shown token ends; a socket is closed then unless it was renewed."""
    locale: Locale = Locale.EN
    run_id: UUID | None = None
    """Set for a stream token or a pod that may see one run only."""
    test_mode: bool = False
    """Whether the runs that they start are played by simulators, as an API key of test mode wants it."""

    @classmethod
    def nobody(cls, locale: Locale = Locale.EN) -> "Viewer":
        return cls(locale=locale)

    @property
    def is_nobody(self) -> bool:
        return self.user_id is None

    def require(self, *scopes: Scope) -> UUID:
        """The viewer's user id, if they are signed in and may do all this.

        Raises `NotSignedIn` or `Forbidden`."""
        if self.user_id is None:
            raise NotSignedIn
        missing = sorted(set(scopes) - self.scopes)
        if missing:
            raise ScopeMissing(missing)
        return self.user_id

    def require_unbound(self, *scopes: Scope) -> UUID:
        """As `require`, for what tells of more than one run. Raises `BoundToARun` too."""
        user_id = self.require(*scopes)
        if self.run_id is not None:
            raise BoundToARun
        return user_id

    def may_watch(self, run_id: UUID) -> bool:
        """Whether this credential is not bound to another run."""
        return self.run_id is None or self.run_id == run_id


class ScopeMissing(Forbidden):
    """The credential lacks a scope."""

    code = "SCOPE_MISSING"
    en = "This credential lacks the scope {scopes}. Create an API key that has it, or sign in."
    pt = "Esta credencial não tem o escopo {scopes}. Crie uma chave de API com ele ou entre na sua conta."

    def __init__(self, scopes: Iterable[Scope]) -> None:
        super().__init__(scopes=", ".join(scopes))


class BoundToARun(Forbidden):
    """The credential is for one run."""

    code = "BOUND_TO_A_RUN"
    en = "This token may read one run only; ask with an access token or an API key."
    pt = "Este token só pode ler uma execução; use um token de acesso ou uma chave de API."
