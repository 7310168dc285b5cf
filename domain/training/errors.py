"""What the training room refuses."""

from domain.errors import Conflict, Invalid, LimitReached, Unavailable
from domain.training.status import Provider, RunStatus


class RunAlreadyEnded(Conflict):
    """A finished run never moves again."""

    code = "RUN_ALREADY_ENDED"
    en = "This run has ended already ({status}); start a new one with retryTrainingRun."
    pt = "Esta execução já terminou ({status}); inicie outra com retryTrainingRun."

    def __init__(self, status: RunStatus) -> None:
        super().__init__(status=status.value)


class RunStillGoing(Conflict):
    """Only a run that has ended can be tried again."""

    code = "RUN_STILL_GOING"
    en = "This run is still going ({status}); cancel it or wait for its end before you try it again."
    pt = "Esta execução ainda está em andamento ({status}); cancele-a ou espere o fim antes de tentar de novo."

    def __init__(self, status: RunStatus) -> None:
        super().__init__(status=status.value)


class IdempotencyKeyReused(Conflict):
    """The same key, another wish."""

    code = "IDEMPOTENCY_KEY_REUSED"
    en = "This idempotency key was used for a different run; use a new key for a new run."
    pt = "Esta chave de idempotência já foi usada para outra execução; use uma chave nova."

    def __init__(self) -> None:
        super().__init__(field=("idempotencyKey",))


class ProviderNotAvailable(Unavailable):
    """Nobody's account to do it with."""

    code = "PROVIDER_NOT_AVAILABLE"
    en = (
        "This installation has no account at {provider}: connect one of your own with connectIntegration, or choose"
        " another provider."
    )
    pt = (
        "Esta instalação não tem conta em {provider}: conecte uma sua com connectIntegration ou escolha outro provedor."
    )

    def __init__(self, provider: Provider) -> None:
        super().__init__(field=("provider",), provider=provider.value)


class RecipeNeeded(Invalid):
    """Nothing says what is to be trained."""

    code = "RECIPE_NEEDED"
    en = "Say what to train: give a recipe, or a trainingConfigId whose config has one."
    pt = "Diga o que treinar: informe uma receita ou um trainingConfigId que tenha uma."

    def __init__(self) -> None:
        super().__init__(field=("recipe",))


class DatasetNeeded(Invalid):
    """A recipe without data."""

    code = "DATASET_NEEDED"
    en = "The recipe {recipe} needs a dataset: give datasetId."
    pt = "A receita {recipe} precisa de um conjunto de dados: informe datasetId."

    def __init__(self, recipe: str) -> None:
        super().__init__(field=("datasetId",), recipe=recipe)


class NotSupportedHere(Invalid):
    """The provider cannot follow this part of the wish."""

    code = "NOT_SUPPORTED_BY_PROVIDER"
    en = "{provider} does not take '{what}'; leave it out."
    pt = "{provider} não aceita '{what}'; omita esse campo."

    def __init__(self, provider: Provider, what: str) -> None:
        super().__init__(field=(what,), provider=provider.value, what=what)


class BadRunInput(Invalid):
    """A plain value out of its bounds."""

    code = "BAD_RUN_INPUT"
    en = "'{what}' must be {rule}."
    pt = "'{what}' deve ser {rule_pt}."

    def __init__(self, what: str, rule: str, rule_pt: str) -> None:
        super().__init__(field=(what,), what=what, rule=rule, rule_pt=rule_pt)


class TooManyRuns(LimitReached):
    """More runs at once than a user may have."""

    code = "TOO_MANY_RUNS"
    en = "You have {limit} runs that have not ended; wait for one or cancel one."
    pt = "Você tem {limit} execuções que não terminaram; espere ou cancele alguma."

    def __init__(self, limit: int) -> None:
        super().__init__(limit=limit, retry_after_seconds=30)


class PublicUrlNeeded(Unavailable):
    """A provider elsewhere cannot reach an address of this machine."""

    code = "PUBLIC_URL_NEEDED"
    en = (
        "{provider} must reach this installation for data, callbacks and metrics, but PUBLIC_URL ({url}) is an address"
        " of this machine only: whoever operates it must set PUBLIC_URL to one that the internet reaches."
    )
    pt = (
        "{provider} precisa alcançar esta instalação para dados, callbacks e métricas, mas PUBLIC_URL ({url}) é um"
        " endereço só desta máquina: quem a opera deve definir PUBLIC_URL com um endereço acessível pela internet."
    )

    def __init__(self, provider: Provider, url: str) -> None:
        super().__init__(field=("provider",), provider=provider.value, url=url)


class SimulatorsNotRunning(Unavailable):
    """Test mode without simulators."""

    code = "SIMULATORS_NOT_RUNNING"
    en = "This installation has no simulators, so that nothing can be started in test mode: set SIMULATORS_URL."
    pt = "Esta instalação não tem simuladores, então nada pode ser iniciado em modo de teste: defina SIMULATORS_URL."


class ScenarioNeedsTestMode(Invalid):
    """Real providers play no scenarios."""

    code = "SCENARIO_NEEDS_TEST_MODE"
    en = "Only an API key of test mode may choose a scenario; leave it out, or use such a key."
    pt = "Só uma chave de API em modo de teste pode escolher um cenário; omita-o ou use uma chave dessas."

    def __init__(self) -> None:
        super().__init__(field=("scenario",))


class UnknownScenario(Invalid):
    """The provider's simulator plays no such thing."""

    code = "UNKNOWN_SCENARIO"
    en = "The simulator of {provider} plays no scenario '{scenario}'; the query testScenarios lists them."
    pt = "O simulador de {provider} não tem o cenário '{scenario}'; a consulta testScenarios os lista."

    def __init__(self, provider: Provider, scenario: str) -> None:
        super().__init__(field=("scenario",), provider=provider.value, scenario=scenario)


class IntegrationNotUsable(Invalid):
    """The credential is for another provider, or does not work any more."""

    code = "INTEGRATION_NOT_USABLE"
    en = "This credential cannot be used for {provider}; connect it again with connectIntegration, or choose another."
    pt = (
        "Esta credencial não pode ser usada para {provider}; conecte-a de novo com connectIntegration ou escolha outra."
    )

    def __init__(self, provider: Provider) -> None:
        super().__init__(field=("integrationId",), provider=provider.value)


class CommandsNotPlayed(Unavailable):
    """Simulators really run commands, on the machine that they are on."""

    code = "COMMANDS_NOT_PLAYED"
    en = (
        "The simulators of this installation run no programs of its users; try another recipe, or use `runwire up` on a"
        " machine of your own."
    )
    pt = (
        "Os simuladores desta instalação não executam programas de usuários; tente outra receita ou use `runwire up` em"
        " uma máquina sua."
    )

    def __init__(self) -> None:
        super().__init__(field=("recipe",))


class CannotServe(Unavailable):
    """Models of this kind would be served by us, and this installation serves none."""

    code = "CANNOT_SERVE"
    en = "This installation puts no models online; start the run with deploy: false."
    pt = "Esta instalação não coloca modelos no ar; inicie a execução com deploy: false."

    def __init__(self) -> None:
        super().__init__(field=("deploy",))
