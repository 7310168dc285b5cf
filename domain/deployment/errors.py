"""What the deployment room refuses. What keeps a model from being deployed is told by `domain.ai_model.errors`."""

from domain.errors import Conflict, Invalid, LimitReached, Unavailable


class AppWaking(Unavailable):
    """The app is being started, or started again."""

    code = "APP_WAKING"
    en = "This app is waking up; it answers in a few seconds."
    pt = "Este aplicativo está iniciando; ele responde em alguns segundos."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=3)


class AppBusy(Unavailable):
    """More requests at once than one app is given."""

    code = "APP_BUSY"
    en = "This app has too many requests at once; try again in a moment."
    pt = "Este aplicativo tem requisições demais ao mesmo tempo; tente de novo em instantes."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=1)


class AppSilent(Unavailable):
    """The app took the request and gave no whole answer."""

    code = "APP_SILENT"
    en = "This app did not answer as it should; try again."
    pt = "Este aplicativo não respondeu como deveria; tente de novo."


class AppStopped(Conflict):
    """Its owner stopped it."""

    code = "APP_STOPPED"
    en = "This app was stopped by its owner; its owner can start it again with deployModel."
    pt = "Este aplicativo foi parado por quem o criou, que pode iniciá-lo de novo com deployModel."


class AppFailed(Unavailable):
    """It could not be started."""

    code = "APP_FAILED"
    en = "This app could not be started; its owner can try again with deployModel."
    pt = "Este aplicativo não pôde ser iniciado; quem o criou pode tentar de novo com deployModel."


class AppRequestTooLarge(LimitReached):
    """A body over the limit of apps."""

    code = "APP_REQUEST_TOO_LARGE"
    en = "A request to an app may have at most {limit_bytes} bytes."
    pt = "Uma requisição a um aplicativo pode ter no máximo {limit_bytes} bytes."

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes=limit_bytes)


class AppRequestTooSlow(LimitReached):
    """A request's body did not arrive in time."""

    code = "APP_REQUEST_TOO_SLOW"
    en = "The body of this request did not arrive within {seconds:g} seconds; send it without pauses."
    pt = "O corpo desta requisição não chegou em {seconds:g} segundos; envie-o sem pausas."

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds=seconds)


class SocketsNotServed(Invalid):
    """Apps answer plain requests only."""

    code = "APP_HAS_NO_SOCKETS"
    en = "Apps answer plain HTTP requests; WebSockets are not passed on."
    pt = "Aplicativos respondem a requisições HTTP comuns; WebSockets não são repassados."


class WrongOrigin(Invalid):
    """Served models and the API live on different origins here."""

    code = "WRONG_ORIGIN"
    en = "This address is served on another origin: apps at {apps_url}, everything else at {api_url}."
    pt = "Este endereço é servido em outra origem: aplicativos em {apps_url}, o restante em {api_url}."

    def __init__(self, *, apps_url: str, api_url: str) -> None:
        super().__init__(apps_url=apps_url, api_url=api_url)
