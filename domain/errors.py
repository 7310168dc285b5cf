"""What the domain refuses, and in which words.

    DomainError
    ├── NotFound        no such thing, or not yours: nobody can tell which
    ├── Invalid         what you sent cannot be; `field` says where
    ├── Conflict        it can be, but not now
    ├── Forbidden       you are known, and may not
    │   └── NotSignedIn you are not known
    ├── LimitReached    too much or too often; `retry_after_seconds` may say when again
    └── Unavailable     something that we need does not answer; try again

A room's error is a subclass with a stable `code` and one sentence in each language. Its constructor takes facts;
the sentence is made from them when somebody reads it.
"""

from typing import Any, ClassVar


class DomainError(Exception):
    """A refusal that somebody will read. `code` is stable; the words may change."""

    code: ClassVar[str]
    en: ClassVar[str]
    pt: ClassVar[str]

    def __init__(
        self, *, field: tuple[str, ...] | None = None, retry_after_seconds: int | None = None, **params: Any
    ) -> None:
        self.field = field
        self.retry_after_seconds = retry_after_seconds
        self.params = params
        super().__init__(self.message())

    def message(self, locale: str = "en") -> str:
        """The sentence for a reader of that language (`en` or `pt-BR`)."""
        template = self.pt if locale == "pt-BR" else self.en
        return template.format(**self.params)


class NotFound(DomainError):
    """Missing and foreign things are the same."""

    code = "NOT_FOUND"
    en = "There is no such {what}, or it is not yours."
    pt = "Não existe {what} com esse identificador, ou não é seu."

    def __init__(self, what: str, **params: Any) -> None:
        super().__init__(what=what, **params)


class Invalid(DomainError):
    """What was sent cannot be."""

    code = "INVALID"
    en = "{reason}"
    pt = "{reason_pt}"

    def __init__(
        self, reason: str = "", reason_pt: str = "", *, field: tuple[str, ...] | None = None, **params: Any
    ) -> None:
        if reason:
            params |= {"reason": reason, "reason_pt": reason_pt or reason}
        super().__init__(field=field, **params)


class Conflict(DomainError):
    """It could be, but not as things stand."""

    code = "CONFLICT"
    en = "This is not possible as things stand."
    pt = "Isto não é possível no estado atual."


class Forbidden(DomainError):
    """The viewer is known and may not."""

    code = "FORBIDDEN"
    en = "You may not do this."
    pt = "Você não tem permissão para fazer isto."


class NotSignedIn(Forbidden):
    """Nobody asks."""

    code = "NOT_SIGNED_IN"
    en = "Sign in first: send an access token or an API key as 'Authorization: Bearer …'."
    pt = "Entre primeiro: envie um token de acesso ou uma chave de API em 'Authorization: Bearer …'."


class LimitReached(DomainError):
    """Too much or too often."""

    code = "LIMIT_REACHED"
    en = "A limit was reached; try again later."
    pt = "Um limite foi atingido; tente mais tarde."


class Unavailable(DomainError):
    """Something we depend on does not answer."""

    code = "UNAVAILABLE"
    en = "The service cannot answer at the moment; try again in a few seconds."
    pt = "O serviço não pode responder agora; tente de novo em alguns segundos."


def error_codes() -> list[str]:
    """Every code that a refusal of an imported room can carry, sorted."""
    return sorted(words_of_codes())


def words_of_codes() -> dict[str, str]:
    """What each code says in English, with its facts in braces; for one that is nothing but a fact, what it means."""
    found: dict[str, str] = {}
    waiting: list[type[DomainError]] = [DomainError]
    while waiting:
        kind = waiting.pop()
        waiting.extend(kind.__subclasses__())
        if "code" in vars(kind) and kind.__module__.startswith("domain."):
            found[kind.code] = kind.en if not kind.en.startswith("{") else (kind.__doc__ or kind.en)
    return found
