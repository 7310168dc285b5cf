"""What each caller gets from each operation, called on what is Ada's. The rows are the specification.

Outcomes in a word: `given` (there is something), `empty` (a list without items), `null`, `refused CODE` (a member of
the result) and `error CODE` (an entry in `errors`).
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from domain.base import new_id
from domain.viewer import Scope
from graph.ids import global_id
from tests.graph.world import PASSWORD, World

R, W = (Scope.RUNS_READ,), (Scope.RUNS_READ, Scope.RUNS_WRITE)


@dataclass(frozen=True)
class Id:
    """The id of something of Ada's, or of something that nobody has."""

    kind: str
    name: str
    plain: bool = False

    def of(self, world: World) -> str:
        return self._text(world.ids[self.name])

    def unknown(self, world: World) -> str:
        return self._text(new_id())

    def _text(self, id: UUID) -> str:
        return str(id) if self.plain else global_id(self.kind, id)


@dataclass(frozen=True)
class Slug:
    """The address of Ada's app, or one that nobody has."""

    def of(self, world: World) -> str:
        return world.slug

    def unknown(self, world: World) -> str:
        return "zzzzzzzzzzzzzzzz"


@dataclass(frozen=True)
class RefreshToken:
    """Ada's refresh token, which only she has; nobody else has more than a wrong one."""

    def of(self, world: World) -> str:
        return world.refresh_token

    def unknown(self, world: World) -> str:
        return "rwr_" + "A" * 43


@dataclass(frozen=True)
class Row:
    """One operation: how it is called, and what becomes of it."""

    variables: dict[str, Any] = field(default_factory=dict)
    scopes: tuple[Scope, ...] = ()
    """An API key that lacks any of these is refused."""
    other: str = "null"
    """What another tenant gets; where something of Ada's is named, the same as for what nobody has."""
    nobody: str | None = None
    """What somebody without a credential gets; NOT_SIGNED_IN where nothing is said."""
    bound: str | None = None
    """What Ada's stream token for another run gets; SCOPE_MISSING where nothing is said."""
    owner: str = "given"
    foreign: dict[str, Any] | None = None
    """What others send who cannot send what the owner does."""


def read(kind: str, name: str, *scopes: Scope, bound: str | None = None) -> Row:
    return Row({"id": Id(kind, name)}, scopes, bound=bound)


def change(kind: str, name: str, *scopes: Scope, **more: Any) -> Row:
    return Row({"id": Id(kind, name), **more}, scopes, other="refused NOT_FOUND")


def listing(*scopes: Scope, other: str = "empty", bound: str | None = None) -> Row:
    return Row(scopes=scopes, other=other, bound=bound)


OPERATIONS: dict[str, Row] = {
    "Query.node": read("TrainingRun", "training", *R, bound="null"),
    "Query.viewer": Row(other="given", nobody="null", bound="given"),
    "Query.sessions": listing(Scope.ACCOUNT_READ, other="given"),
    "Query.apiKeys": listing(Scope.ACCOUNT_READ),
    "Query.integrations": listing(Scope.ACCOUNT_READ),
    "Query.trainingRun": read("TrainingRun", "training", *R, bound="null"),
    "Query.trainingRuns": listing(*R, bound="error BOUND_TO_A_RUN"),
    "Query.recipes": Row(other="given", nobody="given", bound="given"),
    "Query.testScenarios": Row(other="given", nobody="given", bound="given"),
    "Query.trainingConfig": read("TrainingConfig", "config", *R, bound="error BOUND_TO_A_RUN"),
    "Query.trainingConfigs": listing(*R, bound="error BOUND_TO_A_RUN"),
    "Query.aiModel": read("AIModel", "model", Scope.MODELS_READ),
    "Query.aiModels": listing(Scope.MODELS_READ),
    "Query.dataset": read("Dataset", "dataset", Scope.DATASETS_READ),
    "Query.datasets": listing(Scope.DATASETS_READ),
    "Query.app": Row({"slug": Slug()}, (Scope.MODELS_READ,)),
    "Query.apps": listing(Scope.MODELS_READ),
    "Query.resources": listing(Scope.RUNS_READ, Scope.MODELS_READ),
    "Query.callbacks": listing(Scope.ACCOUNT_READ, Scope.RUNS_READ, other="error OPERATOR_ONLY"),
    "Query.providerFigures": listing(Scope.ACCOUNT_READ, Scope.RUNS_READ, other="error OPERATOR_ONLY"),
    "Mutation.signUp": Row(
        {"input": {"email": "new@example.com", "password": PASSWORD}},
        other="refused EMAIL_TAKEN",  # an address can be taken once, and whoever may not have it must be told
        nobody="refused EMAIL_TAKEN",
        bound="refused EMAIL_TAKEN",
        foreign={"input": {"email": "ada@adas-house.example", "password": PASSWORD}},
    ),
    "Mutation.signIn": Row(
        {"input": {"email": "ada@adas-house.example", "password": PASSWORD}},
        other="refused WRONG_CREDENTIALS",
        nobody="refused WRONG_CREDENTIALS",
        bound="refused WRONG_CREDENTIALS",
        foreign={"input": {"email": "ada@adas-house.example", "password": "not that one at all"}},
    ),
    "Mutation.refreshSession": Row(
        {"refreshToken": RefreshToken()},
        other="refused REFRESH_TOKEN_INVALID",
        nobody="refused REFRESH_TOKEN_INVALID",
        bound="refused REFRESH_TOKEN_INVALID",
        foreign={"refreshToken": "rwr_" + "B" * 43},
    ),
    "Mutation.revokeSession": change("UserSession", "session", Scope.ACCOUNT_WRITE),
    "Mutation.createApiKey": Row(
        {"input": {"name": "new", "scopes": ["RUNS_READ"]}}, (Scope.ACCOUNT_WRITE,), other="given"
    ),
    "Mutation.revokeApiKey": change("ApiKey", "key", Scope.ACCOUNT_WRITE),
    "Mutation.connectIntegration": Row(
        {"input": {"provider": "REPLICATE", "name": "new", "apiKey": "r8_sim_new"}},
        (Scope.ACCOUNT_WRITE,),
        other="given",
    ),
    "Mutation.testIntegration": change("Integration", "integration", Scope.ACCOUNT_WRITE),
    "Mutation.disconnectIntegration": change("Integration", "spare integration", Scope.ACCOUNT_WRITE),
    "Mutation.renewConnection": Row(  # by POST there is no connection; test_sockets.py renews real ones
        {"accessToken": "rwa"},
        other="refused NOT_ON_A_SOCKET",
        bound="refused NOT_ON_A_SOCKET",
        owner="refused NOT_ON_A_SOCKET",
    ),
    "Mutation.createStreamToken": Row(
        {"runId": Id("TrainingRun", "training")}, R, other="refused NOT_FOUND", bound="refused NOT_FOUND"
    ),
    "Mutation.updateViewer": Row({"input": {"name": "adas-name"}}, (Scope.ACCOUNT_WRITE,), other="given"),
    "Mutation.quoteTrainingRun": Row(
        {
            "input": {
                "modelName": "adas-new-model",
                "provider": "LOCAL",
                "recipe": "tabular-classification",
                "datasetId": Id("Dataset", "dataset"),
                "hyperparameters": {"targetColumn": "adas-label"},
            }
        },
        (Scope.RUNS_WRITE,),
        other="refused NOT_FOUND",
    ),
    "Mutation.startTrainingRun": Row(
        {
            "input": {
                "modelName": "adas-new-model",
                "provider": "LOCAL",
                "recipe": "tabular-classification",
                "datasetId": Id("Dataset", "dataset"),
                "hyperparameters": {"targetColumn": "adas-label"},
            }
        },
        (Scope.RUNS_WRITE,),
        other="refused NOT_FOUND",
    ),
    "Mutation.cancelTrainingRun": change("TrainingRun", "queued", *W),
    "Mutation.retryTrainingRun": change("TrainingRun", "failed", *W),
    "Mutation.syncTrainingRun": change("TrainingRun", "training", *W),
    "Mutation.saveTrainingConfig": Row({"input": {"name": "new"}}, (Scope.RUNS_WRITE,), other="given"),
    "Mutation.deleteTrainingConfig": change("TrainingConfig", "spare config", Scope.RUNS_WRITE),
    "Mutation.deployModel": change("AIModel", "ready model", Scope.MODELS_READ, Scope.MODELS_WRITE),
    "Mutation.syncModel": change("AIModel", "model", Scope.MODELS_READ, Scope.MODELS_WRITE),
    "Mutation.createDataset": Row(
        {"input": {"name": "new.csv", "format": "CSV"}}, (Scope.DATASETS_WRITE,), other="given"
    ),
    "Mutation.deleteDataset": change("Dataset", "spare dataset", Scope.DATASETS_WRITE),
    "Mutation.stopDeployment": change("Deployment", "stopping deployment", Scope.MODELS_READ, Scope.MODELS_WRITE),
    "Mutation.applyCallback": Row(
        {"id": Id("Callback", "rejected callback")},
        (Scope.ACCOUNT_READ, Scope.ACCOUNT_WRITE),
        other="refused OPERATOR_ONLY",
    ),
    "Mutation.setAppAccess": change("App", "app", Scope.MODELS_READ, Scope.MODELS_WRITE, access="PRIVATE"),
    "Subscription.trainingRun": Row(
        {"id": Id("TrainingRun", "training")}, R, other="error NOT_FOUND", bound="error NOT_FOUND"
    ),
    "Subscription.activity": Row(scopes=R, other="given", bound="error BOUND_TO_A_RUN"),
}
"""Every field of Query, Mutation and Subscription; a test fails for one without a row."""


def filled(variables: Any, world: World, *, unknown: bool = False) -> Any:
    """The variables with the ids of what is Ada's, or of what nobody has."""
    if isinstance(variables, Id | Slug | RefreshToken):
        return variables.unknown(world) if unknown else variables.of(world)
    if isinstance(variables, dict):
        return {name: filled(value, world, unknown=unknown) for name, value in variables.items()}
    return variables


def names_something(variables: Any) -> bool:
    """Whether something of Ada's is named, so that another caller could learn that it exists."""
    if isinstance(variables, dict):
        return any(names_something(value) for value in variables.values())
    return isinstance(variables, Id | Slug)


def outcome_of(payload: Any) -> str:
    """A GraphQL response in a word."""
    if errors := payload.get("errors"):
        return f"error {errors[0]['extensions']['code']}"
    (value,) = payload["data"].values()
    if value is None:
        return "null"
    if isinstance(value, dict):
        if "edges" in value and not value["edges"]:
            return "empty"
        if "code" in value and "retryAfterSeconds" in value:
            return f"refused {value['code']}"
    return "given"
