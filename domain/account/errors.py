"""What the account room refuses."""

from collections.abc import Iterable

from domain.errors import Conflict, Forbidden, Invalid, LimitReached
from domain.viewer import Scope


class BadEmail(Invalid):
    """Not an address that mail could go to."""

    code = "BAD_EMAIL"
    en = "This is not an e-mail address: write it like ada@example.com, with at most {longest} characters."
    pt = "Isto não é um endereço de e-mail: escreva como ada@example.com, com no máximo {longest} caracteres."

    def __init__(self, longest: int) -> None:
        super().__init__(field=("email",), longest=longest)


class BadPassword(Invalid):
    """Too short to be safe, or too long to be a password."""

    code = "BAD_PASSWORD"
    en = "A password has {shortest} to {longest} characters; a sentence of a few words is a good one."
    pt = "A senha deve ter de {shortest} a {longest} caracteres; uma frase com algumas palavras é uma boa senha."

    def __init__(self, shortest: int, longest: int) -> None:
        super().__init__(field=("password",), shortest=shortest, longest=longest)


class BadName(Invalid):
    """A name that cannot be shown on one line, or is missing where one is needed."""

    code = "BAD_NAME"
    en = "A name has {shortest} to {longest} characters, without line breaks or control characters."
    pt = "O nome deve ter de {shortest} a {longest} caracteres, sem quebras de linha nem caracteres de controle."

    def __init__(self, longest: int, shortest: int = 0) -> None:
        super().__init__(field=("name",), shortest=shortest, longest=longest)


class EmailTaken(Conflict):
    """Somebody has signed up with this address."""

    code = "EMAIL_TAKEN"
    en = "There is an account with this e-mail address already: sign in, or use another address."
    pt = "Já existe uma conta com este endereço de e-mail: entre nela ou use outro endereço."

    def __init__(self) -> None:
        super().__init__(field=("email",))


class WrongCredentials(Forbidden):
    """Unknown address and wrong password are the same."""

    code = "WRONG_CREDENTIALS"
    en = "E-mail address or password is wrong."
    pt = "O endereço de e-mail ou a senha está errado."


class RefreshTokenUnknown(Forbidden):
    """Not a refresh token of ours."""

    code = "REFRESH_TOKEN_INVALID"
    en = "This refresh token is not valid: sign in again."
    pt = "Este token de renovação não é válido: entre de novo."


class RefreshTokenReused(Forbidden):
    """A refresh token was shown twice, so somebody has a copy of it."""

    code = "REFRESH_TOKEN_REUSED"
    en = (
        "This refresh token was used before, which happens when it was copied or kept twice. The session was"
        " ended for safety: sign in again."
    )
    pt = (
        "Este token de renovação já foi usado, o que acontece quando ele é copiado ou guardado duas vezes."
        " A sessão foi encerrada por segurança: entre de novo."
    )


class SessionEnded(Forbidden):
    """The session expired or was revoked."""

    code = "SESSION_ENDED"
    en = "This session has ended: sign in again."
    pt = "Esta sessão terminou: entre de novo."


class TokenRefused(Forbidden):
    """An access token that nobody can come in with."""

    code = "TOKEN_REFUSED"
    en = "This access token is not valid, has expired or was revoked: refresh the session and send the new one."
    pt = "Este token de acesso não é válido, expirou ou foi revogado: renove a sessão e envie o novo."

    def __init__(self) -> None:
        super().__init__(field=("accessToken",))


class TokenOfAnother(Forbidden):
    """An open connection stays its user's."""

    code = "TOKEN_OF_ANOTHER"
    en = "A connection can be renewed by its own user only, with at least the rights it has: open a new connection."
    pt = "Uma conexão só pode ser renovada pelo próprio usuário, com ao menos os direitos que ela tem: abra outra."

    def __init__(self) -> None:
        super().__init__(field=("accessToken",))


class NotForThisCredential(Forbidden):
    """A stream token is the end of a chain: it makes no further tokens."""

    code = "NOT_FOR_THIS_CREDENTIAL"
    en = "A stream token cannot do this: use an access token or an API key."
    pt = "Um token de fluxo não pode fazer isto: use um token de acesso ou uma chave de API."


class NotOnASocket(Conflict):
    """Only an open connection can be renewed."""

    code = "NOT_ON_A_SOCKET"
    en = "There is no connection to renew: send this over the WebSocket that is to stay open."
    pt = "Não há conexão para renovar: envie isto pelo WebSocket que deve continuar aberto."


class TooManyAttempts(LimitReached):
    """Somebody may be guessing passwords."""

    code = "TOO_MANY_ATTEMPTS"
    en = "Too many attempts: try again in {seconds} seconds."
    pt = "Tentativas demais: tente de novo em {seconds} segundos."

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(retry_after_seconds=retry_after_seconds, seconds=retry_after_seconds)


class TooManyApiKeys(LimitReached):
    """As many active keys as a user may have."""

    code = "TOO_MANY_API_KEYS"
    en = "You have {most} active API keys, the most that is allowed: revoke one that is not used."
    pt = "Você tem {most} chaves de API ativas, o máximo permitido: revogue uma que não é usada."

    def __init__(self, most: int) -> None:
        super().__init__(most=most)


class ScopesNeeded(Invalid):
    """A key that may do nothing."""

    code = "SCOPES_NEEDED"
    en = "Give the key at least one scope."
    pt = "Dê pelo menos um escopo à chave."

    def __init__(self) -> None:
        super().__init__(field=("scopes",))


class ScopesNotYours(Forbidden):
    """Nobody gives away what they do not have."""

    code = "SCOPES_NOT_YOURS"
    en = "A key cannot have more rights than the credential that makes it, which lacks {scopes}."
    pt = "Uma chave não pode ter mais direitos do que a credencial que a cria, à qual falta {scopes}."

    def __init__(self, scopes: Iterable[Scope]) -> None:
        super().__init__(field=("scopes",), scopes=", ".join(scopes))


class BadExpiry(Invalid):
    """A key that would be dead when made."""

    code = "BAD_EXPIRY"
    en = "'expiresAt' must be in the future."
    pt = "'expiresAt' deve estar no futuro."

    def __init__(self) -> None:
        super().__init__(field=("expiresAt",))


class ExpiryBeyondYours(Forbidden):
    """A key that ends cannot make one that lives on."""

    code = "EXPIRY_BEYOND_YOURS"
    en = "A key cannot live longer than the key that makes it: give an 'expiresAt' of {latest} or before."
    pt = "Uma chave não pode durar mais do que a chave que a cria: informe 'expiresAt' até {latest}."

    def __init__(self, latest: str) -> None:
        super().__init__(field=("expiresAt",), latest=latest)


class OperatorOnly(Forbidden):
    """What concerns the whole installation is for those who look after it."""

    code = "OPERATOR_ONLY"
    en = "Only an operator of this installation may do this; `python -m db operator` names one."
    pt = "Só um operador desta instalação pode fazer isto; `python -m db operator` nomeia um."
