"""Datasets through GraphQL."""

from typing import Any

import pytest

from db.unit_of_work import Database
from domain.base import new_id
from domain.commands import RemoveDatasetFile
from domain.dataset.model import Dataset, DatasetStatus
from domain.events import time_text
from domain.training.status import RunStatus
from domain.viewer import Scope, Viewer
from graph.context import Context
from graph.ids import global_id
from tests.factories import make_dataset, make_run, make_user
from tests.fakes import Told
from tests.graph.dataset.conftest import CONTENT, SHA256, Room

pytestmark = pytest.mark.anyio

CREATE = """
mutation ($name: String!, $format: DatasetFormat! = CSV) { createDataset(input: {name: $name, format: $format}) {
  __typename ... on Dataset { id name format status bytes sha256 rowCount columns { name } uploadUrl uploadedAt }
  ... on Problem { code field params } } }
"""
DELETE = """
mutation ($id: ID!) { deleteDataset(id: $id) {
  __typename ... on Dataset { id deletedAt } ... on Problem { code message params } } }
"""
ONE = "query ($id: ID!) { dataset(id: $id) { id name } }"
MANY = "query ($first: Int!, $after: String) { datasets(first: $first, after: $after) { nodes { name } pageInfo { hasNextPage endCursor } } }"  # noqa: E501


@pytest.fixture
async def viewer(database: Database) -> Viewer:
    return await make_user(database)


async def test_a_dataset_is_made_empty_with_an_address_to_fill_it(room: Room, viewer: Viewer) -> None:
    made = (await room.run(CREATE, viewer, name="digits", format="ZIP"))["createDataset"]
    [row] = (await room.run("{ datasets { nodes { id } } }", viewer))["datasets"]["nodes"]
    assert made["uploadUrl"].startswith("http://runwire.test/datasets/")
    assert made | {"uploadUrl": ""} == {
        "__typename": "Dataset",
        "id": row["id"],
        "name": "digits",
        "format": "ZIP",
        "status": "EMPTY",
        "bytes": 0,
        "sha256": None,
        "rowCount": None,
        "columns": [],
        "uploadUrl": "",
        "uploadedAt": None,
    }
    async with room.client() as client:
        answer = await client.put(made["uploadUrl"], content=b"no zip", headers=room.bearer(viewer))
    assert answer.json()["code"] == "BROKEN_ZIP"


async def test_a_bad_name_is_refused(room: Room, viewer: Viewer) -> None:
    refused = (await room.run(CREATE, viewer, name="../../etc/passwd"))["createDataset"]
    assert (refused["__typename"], refused["code"], refused["field"]) == ("Invalid", "BAD_DATASET_NAME", ["name"])
    assert (await room.run("{ datasets { nodes { id } } }", viewer))["datasets"]["nodes"] == []


@pytest.mark.parametrize(
    ("scopes", "code"), [(None, "NOT_SIGNED_IN"), (frozenset({Scope.DATASETS_READ}), "SCOPE_MISSING")]
)
async def test_changing_needs_the_scope(
    room: Room, database: Database, viewer: Viewer, scopes: frozenset[Scope] | None, code: str
) -> None:
    weak = Viewer.nobody() if scopes is None else await make_user(database, scopes=scopes)
    for document, variables in ((CREATE, {"name": "x"}), (DELETE, {"id": global_id("Dataset", new_id())})):
        [refused] = (await room.run(document, weak, **variables)).values()
        assert (refused["__typename"], refused["code"]) == ("Forbidden", code)


@pytest.mark.parametrize("document", ["{ datasets { nodes { id } } }", '{ dataset(id: "x") { id } }'])
async def test_reading_needs_the_scope(room: Room, database: Database, document: str) -> None:
    weak = await make_user(database, scopes=frozenset({Scope.RUNS_READ}))
    for viewer in (weak, Viewer.nobody()):
        result = await room.schema.execute(document, context_value=Context(services=room.services, viewer=viewer))
        assert result.errors is not None


async def test_foreign_unknown_and_malformed_ids_are_the_same(
    room: Room, database: Database, viewer: Viewer, told: Told
) -> None:
    foreign = await make_dataset(database, await make_user(database))
    told.forget()
    ids = [global_id("Dataset", foreign.id), global_id("Dataset", new_id()), global_id("AIModel", foreign.id), "x"]
    for id in ids:
        assert await room.run(ONE, viewer, id=id) == {"dataset": None}
        refused = (await room.run(DELETE, viewer, id=id))["deleteDataset"]
        assert refused == {
            "__typename": "NotFound",
            "code": "NOT_FOUND",
            "message": "There is no such Dataset, or it is not yours.",
            "params": {"what": "Dataset"},
        }
    assert (await room.row(foreign.id)).deleted_at is None
    assert (told.events, told.commands) == ([], [])


async def test_lists_are_pages_of_ones_own_newest_first(room: Room, database: Database, viewer: Viewer) -> None:
    for name in ("a", "b", "c"):
        await make_dataset(database, viewer, name=name)
    await make_dataset(database, await make_user(database), name="foreign")
    first = (await room.run(MANY, viewer, first=2))["datasets"]
    assert (first["nodes"], first["pageInfo"]["hasNextPage"]) == ([{"name": "c"}, {"name": "b"}], True)
    last = (await room.run(MANY, viewer, first=2, after=first["pageInfo"]["endCursor"]))["datasets"]
    assert (last["nodes"], last["pageInfo"]["hasNextPage"]) == ([{"name": "a"}], False)


async def test_one_in_use_is_not_deleted(room: Room, database: Database, viewer: Viewer, told: Told) -> None:
    dataset = await make_dataset(database, viewer)
    for _ in range(2):
        await make_run(database, viewer, dataset=dataset, status=RunStatus.TRAINING)
    told.forget()
    refused = (await room.run(DELETE, viewer, id=global_id("Dataset", dataset.id)))["deleteDataset"]
    assert (refused["__typename"], refused["code"], refused["params"]) == ("Conflict", "DATASET_IN_USE", {"runs": 2})
    assert (await room.row(dataset.id)).deleted_at is None
    assert told.commands == []


async def test_a_deleted_one_is_gone(room: Room, database: Database, viewer: Viewer, told: Told) -> None:
    dataset = await make_dataset(database, viewer)
    id = global_id("Dataset", dataset.id)
    deleted = (await room.run(DELETE, viewer, id=id))["deleteDataset"]
    assert deleted == {"__typename": "Dataset", "id": id, "deletedAt": time_text(dataset.created_at)}
    assert told.commands == [RemoveDatasetFile(dataset.id)]
    assert await room.run(ONE, viewer, id=id) == {"dataset": None}


async def test_users_see_who_fetched_what(room: Room, database: Database, viewer: Viewer) -> None:
    dataset = await room.stored_dataset(viewer)
    run = await make_run(database, viewer, dataset=dataset, status=RunStatus.PREPARING)
    token = await room.granted(run)
    async with room.client() as client:
        for range in ("bytes=0-99", "bytes=100-"):
            await client.get("/datasets/download", headers={"Authorization": f"Bearer {token}", "Range": range})
    document = """query ($id: ID!) { dataset(id: $id) { status sha256 columns { name kind missing
      distinct isDistinctExact minimum maximum mean examples } grants { runId attempt usedAt downloadCount
      bytesSent revokedAt receipts { rangeStart bytesSent isComplete sha256 startedAt endedAt } } } }"""
    found: dict[str, Any] = (await room.run(document, viewer, id=global_id("Dataset", dataset.id)))["dataset"]
    now = time_text(dataset.created_at)
    receipt = {"isComplete": True, "sha256": SHA256, "startedAt": now, "endedAt": now}
    assert found["grants"] == [
        {
            "runId": global_id("TrainingRun", run.id),
            "attempt": 1,
            "usedAt": now,
            "downloadCount": 2,
            "bytesSent": len(CONTENT),
            "revokedAt": None,
            "receipts": [
                {"rangeStart": 100, "bytesSent": len(CONTENT) - 100, **receipt},
                {"rangeStart": 0, "bytesSent": 100, **receipt},
            ],
        }
    ]
    assert found["columns"][0]["kind"] == "NUMBER"
    assert token[4:] not in str(found)


async def test_an_empty_dataset_shows_as_such(room: Room, database: Database, viewer: Viewer) -> None:
    dataset: Dataset = await make_dataset(database, viewer, status=DatasetStatus.EMPTY)
    document = "query ($id: ID!) { dataset(id: $id) { status rowCount sha256 columns { name } grants { id } } }"
    assert (await room.run(document, viewer, id=global_id("Dataset", dataset.id)))["dataset"] == {
        "status": "EMPTY",
        "rowCount": None,
        "sha256": None,
        "columns": [],
        "grants": [],
    }
