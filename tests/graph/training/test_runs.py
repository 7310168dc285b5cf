"""Starting, canceling, retrying and syncing runs through the served API, with every typed refusal."""

from typing import Any

import anyio
import pytest

from domain.base import new_id
from domain.commands import CheckRun
from domain.dataset.model import DatasetStatus
from domain.deployment.model import Resource, ResourceKind
from domain.training.status import Provider, RunStatus
from domain.viewer import Viewer
from graph.ids import global_id, parts_of
from tests.factories import make_run
from tests.graph.served import Served
from tests.graph.training.wishes import (
    CANCEL,
    RETRY,
    START,
    SYNC,
    count_rows,
    count_runs,
    id_of,
    make_data,
    row_of,
    wish_of,
)

pytestmark = pytest.mark.anyio

LANGUAGES = {"en": {}, "pt": {"accept-language": "pt-BR,pt;q=0.9"}}


class TestStart:
    async def test_a_run_begins_as_queued_with_its_settings_complete(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        wish = wish_of(data, tags=[" a ", "b", "a"], metadata={"order": 7}, hyperparameters={"epochs": 3})
        answer = (await served.data(START, served.token_of(ada), input=wish))["answer"]
        assert answer["hyperparameters"]["epochs"] == 3
        assert answer["hyperparameters"]["targetColumn"] == "target"
        assert {name: answer[name] for name in ("__typename", "status", "stage", "attempt", "tags", "metadata")} == {
            "__typename": "TrainingRun",
            "status": "QUEUED",
            "stage": "WAITING",
            "attempt": 1,
            "tags": ["a", "b"],
            "metadata": {"order": 7},
        }

    async def test_it_is_told_and_a_worker_is_rung(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        served.overheard.events.clear()
        answer = (await served.data(START, served.token_of(ada), input=wish_of(data)))["answer"]
        run_id = parts_of(answer["id"])[1]
        told = [event.type for event in served.overheard.events if event.stream.id == run_id]
        assert told == ["run.status_changed", "run.attempt_started"]
        assert CheckRun(run_id) in served.overheard.commands

    async def test_the_same_key_gives_the_same_run(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        answers: list[Any] = []

        async def ask() -> None:
            payload = await served.data(START, served.token_of(ada), input=wish_of(data, idempotencyKey="k1"))
            answers.append(payload["answer"]["id"])

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(ask)
        assert len(set(answers)) == 1
        assert await count_runs(served, ada) == 1

    async def test_a_key_belongs_to_one_user(self, served: Served, ada: Viewer, eve: Viewer) -> None:
        ids = set()
        for viewer in (ada, eve):
            wish = wish_of(await make_data(served, viewer), idempotencyKey="shared")
            ids.add((await served.data(START, served.token_of(viewer), input=wish))["answer"]["id"])
        assert len(ids) == 2


REFUSED: dict[str, tuple[dict[str, Any], str, str, list[str] | None, dict[str, str]]] = {
    "unknown dataset": (
        {"datasetId": global_id("Dataset", new_id())},
        "NotFound",
        "NOT_FOUND",
        None,
        {"en": "There is no such Dataset", "pt": "Não existe Dataset"},
    ),
    "unknown config": (
        {"trainingConfigId": global_id("TrainingConfig", new_id())},
        "NotFound",
        "NOT_FOUND",
        None,
        {"en": "There is no such TrainingConfig", "pt": "Não existe TrainingConfig"},
    ),
    "malformed id": (
        {"datasetId": "x"},
        "NotFound",
        "NOT_FOUND",
        ["datasetId"],
        {"en": "There is no such Dataset", "pt": "Não existe Dataset"},
    ),
    "unknown recipe": (
        {"recipe": "alchemy"},
        "Invalid",
        "UNKNOWN_RECIPE",
        ["recipe"],
        {"en": "alchemy", "pt": "alchemy"},
    ),
    "no recipe": ({"recipe": None}, "Invalid", "RECIPE_NEEDED", ["recipe"], {"en": "Say what", "pt": "Diga o que"}),
    "no dataset": (
        {"datasetId": None},
        "Invalid",
        "DATASET_NEEDED",
        ["datasetId"],
        {"en": "needs a dataset", "pt": "precisa de um conjunto de dados"},
    ),
    "wrong column": (
        {"hyperparameters": {"targetColumn": "height"}},
        "Invalid",
        "COLUMN_NOT_IN_DATASET",
        ["hyperparameters", "targetColumn"],
        {"en": "height", "pt": "height"},
    ),
    "impossible hyperparameter": (
        {"hyperparameters": {"epochs": -1}},
        "Invalid",
        "HYPERPARAMETER_RANGE",
        ["hyperparameters", "epochs"],
        {"en": "epochs", "pt": "epochs"},
    ),
    "hyperparameters in a list": (
        {"hyperparameters": [1]},
        "Invalid",
        "BAD_RUN_INPUT",
        ["hyperparameters"],
        {"en": "must be a JSON object", "pt": "deve ser um objeto JSON"},
    ),
    "no name": (
        {"modelName": "  "},
        "Invalid",
        "BAD_RUN_INPUT",
        ["modelName"],
        {"en": "must be 1 to 200", "pt": "deve ser de 1 a 200"},
    ),
    "too short a time": (
        {"timeLimitSeconds": 1},
        "Invalid",
        "BAD_RUN_INPUT",
        ["timeLimitSeconds"],
        {"en": "must be between 10", "pt": "deve ser entre 10"},
    ),
    "a GPU on this machine": (
        {"gpuTypes": ["H100"]},
        "Invalid",
        "NOT_SUPPORTED_BY_PROVIDER",
        ["gpuTypes"],
        {"en": "leave it out", "pt": "omita"},
    ),
    "generated code": (
        {"fragmentId": "x"},
        "Invalid",
        "NOT_SUPPORTED_BY_PROVIDER",
        ["fragmentId"],
        {"en": "leave it out", "pt": "omita"},
    ),
    "another provider": (
        {"provider": "RUNPOD"},
        "Unavailable",
        "PROVIDER_NOT_AVAILABLE",
        ["provider"],
        {"en": "connectIntegration", "pt": "connectIntegration"},
    ),
}


class TestStartRefused:
    @pytest.mark.parametrize("language", LANGUAGES)
    @pytest.mark.parametrize("case", REFUSED)
    async def test_a_wish_that_cannot_be_changes_nothing(
        self, served: Served, ada: Viewer, case: str, language: str
    ) -> None:
        changes, kind, code, field, words = REFUSED[case]
        data = await make_data(served, ada)
        served.overheard.events.clear()
        payload = await served.ask(
            START, served.token_of(ada), headers=LANGUAGES[language], input=wish_of(data, **changes)
        )
        answer = payload["data"]["answer"]
        assert (answer["__typename"], answer["code"]) == (kind, code)
        assert answer["field"] == field or field is None
        assert words[language] in answer["message"]
        assert [await count_rows(served, table, ada) for table in ("training_runs", "ai_models", "feed_events")] == [
            0
        ] * 3
        assert served.overheard.events == []

    async def test_data_that_was_not_uploaded_yet(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada, status=DatasetStatus.EMPTY)
        answer = (await served.data(START, served.token_of(ada), input=wish_of(data)))["answer"]
        assert (answer["__typename"], answer["code"]) == ("Conflict", "DATASET_NOT_READY")
        assert await count_runs(served, ada) == 0

    async def test_another_wish_with_the_same_key(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        token = served.token_of(ada)
        await served.data(START, token, input=wish_of(data, idempotencyKey="k"))
        answer = (await served.data(START, token, input=wish_of(data, idempotencyKey="k", modelName="Rose")))["answer"]
        assert (answer["__typename"], answer["code"]) == ("Conflict", "IDEMPOTENCY_KEY_REUSED")
        assert await count_runs(served, ada) == 1

    async def test_more_runs_than_a_user_may_have(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        most = served.api.settings.active_runs_per_user
        for _ in range(most):
            await make_run(served.database, ada, dataset=data)
        answer = (await served.data(START, served.token_of(ada), input=wish_of(data)))["answer"]
        assert (answer["__typename"], answer["code"]) == ("LimitReached", "TOO_MANY_RUNS")
        assert answer["retryAfterSeconds"] == 30 and answer["params"] == {"limit": most}
        assert await count_runs(served, ada) == most

    @pytest.mark.parametrize(
        "changes",
        [{"budgetMicros": 2**53}, {"provider": "ACME"}, {"modelName": None}, {"surprise": 1}, {"tags": [None]}],
    )
    async def test_what_is_no_input_is_an_error_of_the_request(
        self, served: Served, ada: Viewer, changes: dict[str, Any]
    ) -> None:
        data = await make_data(served, ada)
        payload = await served.ask(START, served.token_of(ada), input=wish_of(data, **changes))
        assert "data" not in payload
        assert payload["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert await count_runs(served, ada) == 0


class TestCancel:
    async def test_a_run_that_nobody_began_is_canceled_at_once(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, attempts=1)
        answer = (await served.data(CANCEL, served.token_of(ada), id=id_of(run)))["answer"]
        assert (answer["status"], answer["stage"]) == ("CANCELED", "DONE")

    async def test_a_run_with_a_resource_waits_for_the_provider(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        async with served.database.begin(ada) as work:
            work.session.add(
                Resource(
                    created_at=work.now,
                    user_id=run.user_id,
                    run_id=run.id,
                    provider=Provider.LOCAL,
                    kind=ResourceKind.TRAINING,
                    tag=str(run.id),
                )
            )
        for _ in range(2):  # asking twice is asking once
            answer = (await served.data(CANCEL, served.token_of(ada), id=id_of(run)))["answer"]
            assert (answer["status"], answer["stage"]) == ("CANCELING", "STOPPING")
        assert CheckRun(run.id) in served.overheard.commands
        told = [event for event in served.overheard.events if event.stream.id == run.id]
        assert [event.type for event in told] == ["run.stage_changed", "run.status_changed"]

    @pytest.mark.parametrize("language", LANGUAGES)
    @pytest.mark.parametrize("status", [RunStatus.READY, RunStatus.FAILED])
    async def test_a_run_that_ended_stays_as_it_is(
        self, served: Served, ada: Viewer, status: RunStatus, language: str
    ) -> None:
        run = await make_run(served.database, ada, status=status)
        payload = await served.ask(CANCEL, served.token_of(ada), headers=LANGUAGES[language], id=id_of(run))
        answer = payload["data"]["answer"]
        words = {"en": "This run has ended already", "pt": "Esta execução já terminou"}
        assert (answer["__typename"], answer["code"]) == ("Conflict", "RUN_ALREADY_ENDED")
        assert answer["message"].startswith(words[language]) and answer["params"] == {"status": status.value}
        assert (await row_of(served, run)).seq == 0


class TestRetry:
    async def test_the_wish_is_asked_for_again(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada)
        wanted = {"targetColumn": "target", "epochs": 5}
        run = await make_run(
            served.database, ada, dataset=data, status=RunStatus.FAILED, hyperparameters=wanted, tags=["x"]
        )
        answers = [
            (await served.data(RETRY, served.token_of(ada), id=id_of(run), key="again"))["answer"] for _ in range(2)
        ]
        assert answers[0] == answers[1]
        assert answers[0]["id"] != id_of(run) and answers[0]["retryOf"] == {"id": id_of(run)}
        assert (answers[0]["status"], answers[0]["tags"], answers[0]["hyperparameters"]["epochs"]) == (
            "QUEUED",
            ["x"],
            5,
        )
        assert await count_runs(served, ada) == 2
        assert (await row_of(served, run)).status is RunStatus.FAILED

    @pytest.mark.parametrize("language", LANGUAGES)
    async def test_a_run_that_goes_on_is_not_tried_again(self, served: Served, ada: Viewer, language: str) -> None:
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        payload = await served.ask(RETRY, served.token_of(ada), headers=LANGUAGES[language], id=id_of(run))
        answer = payload["data"]["answer"]
        words = {"en": "This run is still going", "pt": "Esta execução ainda está em andamento"}
        assert (answer["__typename"], answer["code"]) == ("Conflict", "RUN_STILL_GOING")
        assert answer["message"].startswith(words[language])
        assert await count_runs(served, ada) == 1


class TestSync:
    async def test_a_worker_is_rung(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.TRAINING)
        answer = (await served.data(SYNC, served.token_of(ada), id=id_of(run)))["answer"]
        assert answer["status"] == "TRAINING"
        assert CheckRun(run.id) in served.overheard.commands

    async def test_of_a_run_that_ended_nobody_is_asked(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.READY)
        answer = (await served.data(SYNC, served.token_of(ada), id=id_of(run)))["answer"]
        assert answer["status"] == "READY"
        assert CheckRun(run.id) not in served.overheard.commands


@pytest.mark.parametrize("document", [CANCEL, RETRY, SYNC], ids=["cancel", "retry", "sync"])
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_run_that_is_not_there(served: Served, ada: Viewer, document: str, language: str) -> None:
    for id in (global_id("TrainingRun", new_id()), global_id("Dataset", new_id()), "x"):
        payload = await served.ask(document, served.token_of(ada), headers=LANGUAGES[language], id=id)
        assert payload["data"]["answer"] == {
            "__typename": "NotFound",
            "code": "NOT_FOUND",
            "message": {
                "en": "There is no such TrainingRun, or it is not yours.",
                "pt": "Não existe TrainingRun com esse identificador, ou não é seu.",
            }[language],
            "field": None,
            "retryAfterSeconds": None,
            "params": {"what": "TrainingRun"},
        }
