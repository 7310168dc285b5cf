"""What the integration room refuses. No sentence of it ever holds a key."""

from domain.errors import Conflict, Forbidden, Invalid, LimitReached, Unavailable
from domain.training.status import Provider


class BadProviderKey(Invalid):
    """Nothing that a provider could have given out."""

    code = "BAD_PROVIDER_KEY"
    en = "A key has 1 to {longest} characters, all of them printable ASCII, without blanks: copy it again."
    pt = "Uma chave tem de 1 a {longest} caracteres, todos ASCII imprimíveis, sem espaços: copie-a de novo."

    def __init__(self, longest: int) -> None:
        super().__init__(field=("apiKey",), longest=longest)


class BadIntegrationName(Invalid):
    """A name that cannot be shown on one line."""

    code = "BAD_INTEGRATION_NAME"
    en = "The name of an account has 1 to {longest} characters, without line breaks or control characters."
    pt = "O nome de uma conta tem de 1 a {longest} caracteres, sem quebras de linha nem caracteres de controle."

    def __init__(self, longest: int) -> None:
        super().__init__(field=("name",), longest=longest)


class NothingToConnect(Invalid):
    """The provider has no accounts."""

    code = "NOTHING_TO_CONNECT"
    en = "The provider {provider} needs no account: start a run there as it is."
    pt = "O provedor {provider} não precisa de conta: inicie uma execução nele diretamente."

    def __init__(self, provider: Provider) -> None:
        super().__init__(field=("provider",), provider=provider.value)


class ProviderKeyRefused(Invalid):
    """The provider does not take the key. `reason` is in the provider's words, without secrets."""

    code = "PROVIDER_KEY_REFUSED"
    en = "{provider} does not accept this key, so nothing was stored: {reason}"
    pt = "{provider} não aceita esta chave, então nada foi guardado: {reason}"

    def __init__(self, provider: Provider, reason: str) -> None:
        super().__init__(field=("apiKey",), provider=provider.value, reason=reason)


class ProviderUnreachable(Unavailable):
    """Nobody could tell whether the key is good."""

    code = "PROVIDER_UNREACHABLE"
    en = "{provider} does not answer at the moment, so the key was not tested; nothing was changed. Try again later."
    pt = "{provider} não responde no momento, então a chave não foi testada; nada mudou. Tente de novo mais tarde."

    def __init__(self, provider: Provider, retry_after_seconds: int) -> None:
        super().__init__(retry_after_seconds=retry_after_seconds, provider=provider.value)


class EncryptionNotSetUp(Unavailable):
    """There is no key to encrypt with, so nothing is stored."""

    code = "ENCRYPTION_NOT_SET_UP"
    en = "Keys of providers cannot be stored here: the operator has to set ENCRYPTION_KEYS first."
    pt = "Chaves de provedores não podem ser guardadas aqui: o operador precisa definir ENCRYPTION_KEYS antes."


class KeyCannotBeRead(Conflict):
    """It was encrypted with a key that the installation has no more."""

    code = "KEY_CANNOT_BE_READ"
    en = "The stored key of '{name}' cannot be read any more: connect the account again."
    pt = "A chave guardada de '{name}' não pode mais ser lida: conecte a conta de novo."

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


class IntegrationDisconnected(Conflict):
    """Its key is gone."""

    code = "INTEGRATION_DISCONNECTED"
    en = "The account '{name}' is disconnected: connect it again with its key."
    pt = "A conta '{name}' está desconectada: conecte-a de novo com a chave."

    def __init__(self, name: str) -> None:
        super().__init__(name=name)


class IntegrationInUse(Conflict):
    """Without its key nothing could end what it pays for."""

    code = "INTEGRATION_IN_USE"
    en = (
        "{alive} of your trainings with the account '{name}' have not ended, and cannot be followed or stopped without"
        " its key: cancel them or wait first."
    )
    pt = (
        "{alive} dos seus treinamentos com a conta '{name}' não terminaram e não podem ser acompanhados nem parados sem"
        " a chave dela: antes cancele-os ou espere."
    )

    def __init__(self, name: str, alive: int) -> None:
        super().__init__(name=name, alive=alive)


class TooManyIntegrations(LimitReached):
    """As many as a user may have."""

    code = "TOO_MANY_INTEGRATIONS"
    en = (
        "You have {most} accounts, the most that is allowed: disconnect one that is not used, or use again the name of"
        " a disconnected one."
    )
    pt = (
        "Você tem {most} contas, o máximo permitido: desconecte uma que não é usada ou use de novo o nome de uma"
        " desconectada."
    )

    def __init__(self, most: int) -> None:
        super().__init__(most=most)


class NotInTestMode(Forbidden):
    """A key of test mode has nothing to do with real accounts."""

    code = "NOT_IN_TEST_MODE"
    en = "An API key of test mode cannot do this: its runs use simulated accounts. Use a key that is not in test mode."
    pt = (
        "Uma chave de API em modo de teste não pode fazer isto: suas execuções usam contas simuladas. Use uma chave que"
        " não esteja em modo de teste."
    )
