"""What the doors for providers and pods refuse."""

from domain.callback.model import CallbackStatus
from domain.errors import Conflict, Invalid, LimitReached, NotSignedIn


class CallbackNotApplicable(Conflict):
    """Only what had no effect can be applied again."""

    code = "CALLBACK_NOT_APPLICABLE"
    en = "Only a callback that is REJECTED or UNREADABLE can be applied again; this one is {status}."
    pt = "Só um callback REJECTED ou UNREADABLE pode ser aplicado de novo; este está {status}."

    def __init__(self, status: CallbackStatus) -> None:
        super().__init__(status=status.value)


class BadCallback(Invalid):
    """A call that lacks what every call of its kind has."""

    code = "BAD_CALLBACK"
    en = "This is no call that is taken here: {what}."
    pt = "Esta não é uma chamada que se aceita aqui: {what_pt}."

    def __init__(self, what: str, what_pt: str) -> None:
        super().__init__(what=what, what_pt=what_pt)


class EncodedCallback(Invalid):
    """Compressed on the way, which nobody undoes."""

    code = "ENCODED_CALLBACK"
    en = "Send the body as it is, without Content-Encoding."
    pt = "Envie o corpo como ele é, sem Content-Encoding."

    def __init__(self) -> None:
        super().__init__(field=("Content-Encoding",))


class PodTokenRefused(NotSignedIn):
    """No token of an attempt was shown, or one that is unknown, has expired or belongs to another run."""

    code = "POD_TOKEN_REFUSED"
    en = "Send the attempt's own token as 'Authorization: Bearer rwp_…'; this one is missing, unknown or has expired."
    pt = "Envie o token da própria tentativa em 'Authorization: Bearer rwp_…'; este falta, é desconhecido ou expirou."


class AttemptOver(Conflict):
    """Nobody listens to an attempt that has ended: its script is to end too."""

    code = "ATTEMPT_OVER"
    en = "The run, or this attempt of it, is over: stop here, nothing is taken from it any more."
    pt = "A execução, ou esta tentativa dela, terminou: pare aqui, nada mais será aceito dela."


class TooManyCalls(LimitReached):
    """A script or provider calls more often than anybody needs."""

    code = "TOO_MANY_CALLS"
    en = "Too many calls: send the next one in {seconds} seconds."
    pt = "Chamadas demais: envie a próxima em {seconds} segundos."

    def __init__(self, retry_after_seconds: int) -> None:
        super().__init__(retry_after_seconds=retry_after_seconds, seconds=retry_after_seconds)


class BadArtifactName(Invalid):
    """A name that could lead out of the store, or hide in it."""

    code = "BAD_ARTIFACT_NAME"
    en = "A file's name has 1 to {longest} letters, digits, '.', '_' and '-', and begins with a letter or digit."
    pt = "O nome de um arquivo tem de 1 a {longest} letras, números, '.', '_' e '-', e começa com letra ou número."

    def __init__(self, longest: int) -> None:
        super().__init__(field=("name",), longest=longest)


class ArtifactsTooLarge(LimitReached):
    """More, or larger files than one attempt may leave behind."""

    code = "ARTIFACTS_TOO_LARGE"
    en = "An attempt may leave {files} files with {limit} bytes together; leave out what nobody needs."
    pt = "Uma tentativa pode deixar {files} arquivos com {limit} bytes no total; deixe de fora o que não é necessário."

    def __init__(self, files: int, limit: int) -> None:
        super().__init__(files=files, limit=limit)


class NoProgram(Conflict):
    """Nothing can be made of the attempt's order."""

    code = "NO_PROGRAM"
    en = "There is no program to run for this attempt: its dataset is gone, or its files have paths that lead out."
    pt = "Não há programa a executar nesta tentativa: o conjunto de dados sumiu ou há arquivos com caminhos inválidos."
