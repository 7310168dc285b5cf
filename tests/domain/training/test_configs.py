"""Saved training configs, as verbs and in the schema."""

from typing import Any

import pytest
from sqlmodel import select

from db.settings import Settings
from db.unit_of_work import Database
from domain.clock import FixedClock
from domain.training.model import TrainingConfig
from domain.viewer import Scope, Viewer
from graph.ids import global_id
from tests.factories import make_user
from tests.graph.deployment.asking import Asking

pytestmark = pytest.mark.anyio

SAVE = """mutation ($input: SaveTrainingConfigInput!) { saveTrainingConfig(input: $input) { __typename
  ... on TrainingConfig { id name provider recipe hyperparameters gpuTypes image timeLimitSeconds createdAt updatedAt }
  ... on Problem { code field } } }"""
DELETE = """mutation ($id: ID!) { deleteTrainingConfig(id: $id) { __typename
  ... on TrainingConfig { name } ... on Problem { code } } }"""
READ = "query ($id: ID!) { trainingConfig(id: $id) { name } trainingConfigs { nodes { name } } }"
QUICK = {
    "name": "Quick",
    "provider": "LOCAL",
    "recipe": "tabular-classification",
    "hyperparameters": {"epochs": 3},
    "timeLimitSeconds": 60,
}


@pytest.fixture
def ask(settings: Settings, database: Database) -> Asking:
    return Asking(settings, database)


async def rows(worker_database: Database) -> list[TrainingConfig]:
    async with worker_database.begin() as work:
        return list((await work.session.exec(select(TrainingConfig))).all())


async def save(ask: Asking, viewer: Viewer, **facts: Any) -> Any:
    return (await ask(SAVE, viewer, input={**QUICK, **facts}))["saveTrainingConfig"]


async def test_config_is_saved_and_replaced_by_name(
    ask: Asking, database: Database, worker_database: Database, clock: FixedClock
) -> None:
    viewer = await make_user(database)

    first = await save(ask, viewer, name=" Quick ")
    clock.at = clock.at.replace(hour=13)
    second = await save(ask, viewer, hyperparameters={"epochs": 5}, timeLimitSeconds=None)

    (row,) = await rows(worker_database)
    assert first == {
        "__typename": "TrainingConfig",
        "id": global_id("TrainingConfig", row.id),
        "name": "Quick",
        "provider": "LOCAL",
        "recipe": "tabular-classification",
        "hyperparameters": {"epochs": 3},
        "gpuTypes": [],
        "image": None,
        "timeLimitSeconds": 60,
        "createdAt": "2026-01-15T12:00:00.000000Z",
        "updatedAt": "2026-01-15T12:00:00.000000Z",
    }
    changed = {"hyperparameters": {"epochs": 5}, "timeLimitSeconds": None, "updatedAt": "2026-01-15T13:00:00.000000Z"}
    assert second == {**first, **changed}
    assert (row.hyperparameters, row.time_limit_seconds) == ({"epochs": 5}, None)


async def test_config_may_say_little(ask: Asking, database: Database, worker_database: Database) -> None:
    viewer = await make_user(database)

    answer = (await ask(SAVE, viewer, input={"name": "Bare"}))["saveTrainingConfig"]

    assert (answer["provider"], answer["recipe"], answer["hyperparameters"]) == (None, None, {})
    assert len(await rows(worker_database)) == 1


async def test_impossible_config_is_refused_where_it_is_wrong(
    ask: Asking, database: Database, worker_database: Database
) -> None:
    viewer = await make_user(database)
    for facts, kind, field in (
        ({"name": "  "}, "Invalid", ["name"]),
        ({"name": "a\nb"}, "Invalid", ["name"]),
        ({"name": "x" * 201}, "Invalid", ["name"]),
        ({"recipe": "magic"}, "Invalid", ["recipe"]),
        ({"hyperparameters": {"epochs": -1}}, "Invalid", ["hyperparameters", "epochs"]),
        ({"hyperparameters": {"nonsense": 1}}, "Invalid", ["hyperparameters", "nonsense"]),
        ({"hyperparameters": [1]}, "Invalid", ["hyperparameters"]),
        ({"recipe": None}, "Invalid", ["hyperparameters"]),
        ({"gpuTypes": ["A100"]}, "Invalid", ["gpuTypes"]),
        ({"image": "python:3.11"}, "Invalid", ["image"]),
        ({"provider": "RUNPOD", "gpuTypes": [""]}, "Invalid", ["gpuTypes"]),
        ({"provider": "RUNPOD", "image": "a\x01b"}, "Invalid", ["image"]),
        ({"timeLimitSeconds": 1}, "Invalid", ["timeLimitSeconds"]),
        ({"timeLimitSeconds": 10**9}, "Invalid", ["timeLimitSeconds"]),
    ):
        answer = await save(ask, viewer, **facts)
        assert (answer["__typename"], answer.get("field")) == (kind, field), facts
    assert await rows(worker_database) == []


async def test_two_users_may_use_one_name(ask: Asking, database: Database, worker_database: Database) -> None:
    ada, bob = await make_user(database), await make_user(database)

    await save(ask, ada)
    await save(ask, bob)

    assert len(await rows(worker_database)) == 2
    assert (await ask(READ, ada, id="nonsense")) == {
        "trainingConfig": None,
        "trainingConfigs": {"nodes": [{"name": "Quick"}]},
    }


async def test_deleting(ask: Asking, database: Database, worker_database: Database) -> None:
    ada, bob = await make_user(database), await make_user(database)
    id = (await save(ask, ada))["id"]

    by_bob = (await ask(DELETE, bob, id=id))["deleteTrainingConfig"]
    read_by_bob = await ask(READ, bob, id=id)
    assert by_bob == {"__typename": "NotFound", "code": "NOT_FOUND"}
    assert read_by_bob == {"trainingConfig": None, "trainingConfigs": {"nodes": []}}
    assert len(await rows(worker_database)) == 1

    assert (await ask(DELETE, ada, id=id))["deleteTrainingConfig"] == {"__typename": "TrainingConfig", "name": "Quick"}
    assert await rows(worker_database) == []
    assert (await ask(DELETE, ada, id=id))["deleteTrainingConfig"]["code"] == "NOT_FOUND"


async def test_rights_are_looked_at(ask: Asking, database: Database, worker_database: Database) -> None:
    reader = await make_user(database, scopes=frozenset({Scope.RUNS_READ}))

    assert (await save(ask, reader))["code"] == "SCOPE_MISSING"
    assert (await save(ask, Viewer.nobody()))["code"] == "NOT_SIGNED_IN"
    assert await ask.code("{ trainingConfigs { nodes { id } } }", Viewer.nobody()) == "NOT_SIGNED_IN"
    assert await rows(worker_database) == []
