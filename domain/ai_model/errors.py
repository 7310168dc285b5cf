"""What the ai_model room refuses."""

from domain.errors import Conflict, Invalid, Unavailable
from domain.training.status import Provider


class BadModelName(Invalid):
    """A name that cannot be shown on one line."""

    code = "BAD_MODEL_NAME"
    en = "A model's name must be 1 to {longest} printable characters."
    pt = "O nome de um modelo deve ter de 1 a {longest} caracteres imprimíveis."

    def __init__(self, longest: int) -> None:
        super().__init__(field=("modelName",), longest=longest)


class VersionNotSupported(Invalid):
    """The provider keeps no models, or none of this name that is finished."""

    code = "VERSION_NOT_SUPPORTED"
    en = "{provider} keeps no finished model of this name; leave providerVersion out, or name one that is finished."
    pt = "{provider} não guarda modelo pronto com este nome; omita providerVersion ou informe um que esteja pronto lá."

    def __init__(self, provider: Provider) -> None:
        super().__init__(field=("providerVersion",), provider=provider.value)


class ModelNotTrained(Conflict):
    """There is nothing to serve yet."""

    code = "MODEL_NOT_TRAINED"
    en = "This model has not been trained yet; start a run with startTrainingRun and wait until it is READY."
    pt = "Este modelo ainda não foi treinado; inicie uma execução com startTrainingRun e espere até ficar READY."


class ModelIsDeploying(Conflict):
    """A run of the model is about to put it at its address."""

    code = "MODEL_IS_DEPLOYING"
    en = "A run of this model is deploying it at this moment; wait for its end, then try again if it failed."
    pt = "Uma execução deste modelo está publicando-o neste momento; espere o fim e tente de novo se falhar."

    def __init__(self) -> None:
        super().__init__(retry_after_seconds=5)


class BadVersion(Invalid):
    """Nothing that a provider would call a model."""

    code = "BAD_PROVIDER_VERSION"
    en = "'providerVersion' must be 1 to {most} printable characters: the provider's own name of the model."
    pt = "'providerVersion' deve ter de 1 a {most} caracteres imprimíveis: o nome que o provedor dá ao modelo."

    def __init__(self, most: int) -> None:
        super().__init__(field=("providerVersion",), most=most)


class ProviderNotReadable(Unavailable):
    """The provider did not answer in time."""

    code = "PROVIDER_NOT_READABLE"
    en = "{provider} could not be read just now; try again in a few seconds."
    pt = "Não foi possível ler {provider} agora; tente de novo em alguns segundos."

    def __init__(self, provider: Provider) -> None:
        super().__init__(retry_after_seconds=10, provider=provider.value)
