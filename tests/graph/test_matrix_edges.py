"""Ways into another tenant's things that no operation names: edges, filters, cursors, nodes of every kind."""

from typing import Any
from uuid import UUID

import pytest
from graphql import GraphQLInterfaceType

from domain.ai_model.model import AIModel
from domain.base import new_id
from domain.dataset.model import Dataset
from domain.events import Stream, StreamKind
from domain.journal.cursor import StreamCursor
from domain.paging import cursor_of
from domain.training.status import RunStatus
from domain.viewer import Scope
from graph.ids import global_id
from graph.schema import schema
from tests.factories import make_api_key, make_dataset, make_run
from tests.graph.matrix import outcome_of
from tests.graph.world import World

pytestmark = pytest.mark.anyio

NODE = "query ($id: ID!) { node(id: $id) { __typename id } }"
NODES: dict[str, tuple[str, tuple[Scope, ...]]] = {
    "AIModel": ("model", (Scope.MODELS_READ,)),
    "ApiKey": ("key", (Scope.ACCOUNT_READ,)),
    "App": ("app", (Scope.MODELS_READ,)),
    "Callback": ("callback", (Scope.ACCOUNT_READ, Scope.RUNS_READ)),
    "Dataset": ("dataset", (Scope.DATASETS_READ,)),
    "Deployment": ("deployment", (Scope.MODELS_READ,)),
    "Integration": ("integration", (Scope.ACCOUNT_READ,)),
    "Resource": ("resource", (Scope.RUNS_READ, Scope.MODELS_READ)),
    "RunAttempt": ("attempt", (Scope.RUNS_READ,)),
    "TrainingConfig": ("config", (Scope.RUNS_READ,)),
    "TrainingRun": ("training", (Scope.RUNS_READ,)),
    "UserSession": ("session", (Scope.ACCOUNT_READ,)),
    "Viewer": ("viewer", ()),
}
"""Each type with an id of its own: what of Ada's it is, and what reading it takes."""
LISTS = (
    "trainingRuns",
    "aiModels",
    "datasets",
    "apps",
    "sessions",
    "apiKeys",
    "integrations",
    "resources",
    "trainingConfigs",
)


async def node(world: World, kind: str, token: str | None, *, unknown: bool = False) -> Any:
    id = new_id() if unknown else world.ids[NODES[kind][0]]
    return await world.served.ask(NODE, token, id=global_id(kind, id))


class TestNode:
    def test_every_kind_has_a_row(self) -> None:
        interface = schema._schema.type_map["Node"]
        assert isinstance(interface, GraphQLInterfaceType)
        assert {kind.name for kind in schema._schema.get_possible_types(interface)} == set(NODES)

    @pytest.mark.parametrize("kind", NODES)
    async def test_its_owner_finds_it(self, world: World, kind: str) -> None:
        id = global_id(kind, world.ids[NODES[kind][0]])
        assert await node(world, kind, world.tokens["owner"]) == {"data": {"node": {"__typename": kind, "id": id}}}

    @pytest.mark.parametrize("kind", NODES)
    async def test_for_another_tenant_it_is_not_there(self, world: World, kind: str) -> None:
        assert await node(world, kind, world.tokens["other"]) == {"data": {"node": None}}
        assert await node(world, kind, world.tokens["other"], unknown=True) == {"data": {"node": None}}

    @pytest.mark.parametrize("kind", NODES)
    async def test_nobody_is_asked_to_sign_in(self, world: World, kind: str) -> None:
        answer = await node(world, kind, None)
        assert outcome_of(answer) == "error NOT_SIGNED_IN"
        assert await node(world, kind, None, unknown=True) == answer

    @pytest.mark.parametrize(
        ("kind", "scope"), [(kind, scope) for kind, (_, needed) in NODES.items() for scope in needed]
    )
    async def test_a_weak_key_is_refused(self, world: World, kind: str, scope: Scope) -> None:
        token = await world.weak_token(scope)
        answer = await node(world, kind, token)
        assert outcome_of(answer) == "error SCOPE_MISSING"
        assert await node(world, kind, token, unknown=True) == answer

    @pytest.mark.parametrize("kind", [kind for kind in NODES if kind != "Viewer"])
    async def test_a_token_of_another_run_finds_nothing(self, world: World, kind: str) -> None:
        answer = await node(world, kind, world.tokens["bound"])
        assert outcome_of(answer) in ("null", "error SCOPE_MISSING", "error BOUND_TO_A_RUN")
        assert await node(world, kind, world.tokens["bound"], unknown=True) == answer

    @pytest.mark.parametrize("id", ["", "x", "VHJhaW5pbmdSdW46", global_id("Query", UUID(int=7))])
    async def test_what_is_no_id_finds_nothing(self, world: World, id: str) -> None:
        assert await world.served.ask(NODE, world.tokens["owner"], id=id) == {"data": {"node": None}}

    async def test_an_id_of_another_kind_finds_nothing(self, world: World) -> None:
        """A run's UUID in the id of a dataset."""
        id = global_id("Dataset", world.ids["training"])
        assert await world.served.ask(NODE, world.tokens["owner"], id=id) == {"data": {"node": None}}


class TestEdges:
    async def test_a_filter_by_a_foreign_model_is_one_by_no_model(self, world: World) -> None:
        document = (
            "query ($id: ID!) { trainingRuns(filter: {modelId: $id}) { edges { cursor } pageInfo { hasNextPage } } }"
        )
        answers = [
            await world.served.ask(document, world.tokens["other"], id=id)
            for id in (global_id("AIModel", world.ids["model"]), global_id("AIModel", new_id()), "x")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert outcome_of(answers[0]) == "empty"

    async def test_a_row_that_names_what_is_not_its_owners_shows_none_of_it(self, world: World) -> None:
        """Nothing writes such rows; if something did, row level security would still hold."""
        async with world.served.worker.begin() as work:
            model = await work.session.get_one(AIModel, world.ids["model"])
            dataset = await work.session.get_one(Dataset, world.ids["dataset"])
        run = await make_run(
            world.served.database, world.eve, model=model, dataset=dataset, retry_of_id=world.ids["failed"]
        )
        document = "query ($id: ID!) { trainingRun(id: $id) { dataset { name } retryOf { id } } }"
        eves = await world.served.data(document, world.tokens["other"], id=global_id("TrainingRun", run.id))
        assert eves == {"trainingRun": {"dataset": None, "retryOf": None}}
        document = "query ($id: ID!) { trainingRun(id: $id) { model { name } } }"
        payload = await world.served.ask(document, world.tokens["other"], id=global_id("TrainingRun", run.id))
        assert "adas-" not in str(payload) and payload["data"] == {"trainingRun": None}

    @pytest.mark.parametrize("name", LISTS)
    async def test_a_foreign_cursor_is_only_a_place(self, world: World, name: str) -> None:
        """Cursors of lists are ids, which are times; they lead nobody to a row that is not theirs."""
        document = f"query ($after: String) {{ {name}(after: $after) {{ edges {{ node {{ id }} }} }} }}"
        for id in (world.ids["training"], world.ids["dataset"]):
            payload = await world.served.data(document, world.tokens["other"], after=cursor_of(id))
            ids = {edge["node"]["id"] for edge in payload[name]["edges"]}
            assert not ids & {global_id(kind, world.ids[what]) for kind, (what, _) in NODES.items()}

    @pytest.mark.parametrize("name", LISTS)
    @pytest.mark.parametrize("cursor", ["", "x", "===", "MS4" + "A" * 30, "é"])
    async def test_what_is_no_cursor_is_refused(self, world: World, name: str, cursor: str) -> None:
        document = f"query ($after: String) {{ {name}(after: $after) {{ edges {{ cursor }} }} }}"
        payload = await world.served.ask(document, world.tokens["owner"], after=cursor)
        assert outcome_of(payload) == "error BAD_CURSOR"

    async def test_a_key_sees_only_the_edges_it_has_the_scopes_for(self, world: World) -> None:
        _, token = await make_api_key(world.served.database, world.ada, scopes=frozenset({Scope.MODELS_READ}))
        document = """query ($id: ID!) {
          aiModel(id: $id) { name currentRun { id } trainedRun { id } }
          runs: aiModel(id: $id) { runs { edges { cursor } } }
        }"""
        payload = await world.served.ask(document, token.reveal(), id=global_id("AIModel", world.ids["model"]))
        assert payload["data"] == {
            "aiModel": {"name": "adas-model", "currentRun": None, "trainedRun": None},
            "runs": None,
        }
        assert [error["extensions"]["code"] for error in payload["errors"]] == ["SCOPE_MISSING"]
        _, token = await make_api_key(world.served.database, world.ada, scopes=frozenset({Scope.RUNS_READ}))
        document = "query ($id: ID!) { trainingRun(id: $id) { tags dataset { id } model { name app { slug } } } }"
        payload = await world.served.data(document, token.reveal(), id=global_id("TrainingRun", world.ids["training"]))
        assert payload == {
            "trainingRun": {"tags": ["adas-tag"], "dataset": None, "model": {"name": "adas-model", "app": None}}
        }


class TestBoundToken:
    async def test_reads_its_own_run_and_nothing_beside_it(self, world: World) -> None:
        token = world.served.stream_token_of(world.ada, world.ids["training"])
        document = """query ($id: ID!) {
          trainingRun(id: $id) { status dataset { id } retryOf { id } model { currentRun { id } trainedRun { id } } }
        }"""
        id = global_id("TrainingRun", world.ids["training"])
        assert await world.served.data(document, token, id=id) == {
            "trainingRun": {
                "status": "TRAINING",
                "dataset": None,
                "retryOf": None,
                "model": {"currentRun": {"id": id}, "trainedRun": None},
            }
        }
        found = await world.served.data(NODE, token, id=id)
        assert found["node"]["id"] == id


class TestCursorsOfStreams:
    @pytest.mark.parametrize("stream", ["another run of hers", "a foreign run", "her feed", "malformed"])
    async def test_a_cursor_of_another_stream_is_refused(self, world: World, stream: str) -> None:
        eves_run = await make_run(world.served.database, world.eve, status=RunStatus.TRAINING)
        cursors = {
            "another run of hers": str(StreamCursor(Stream(StreamKind.RUN, world.ids["ready"]), 1, 0)),
            "a foreign run": str(StreamCursor(Stream(StreamKind.RUN, eves_run.id), 1, 0)),
            "her feed": str(StreamCursor(Stream(StreamKind.USER, world.ids["viewer"]), 1, 0)),
            "malformed": "x",
        }
        document = """subscription ($id: ID!, $after: Cursor) { trainingRun(id: $id, after: $after) { seq } }"""
        variables = {"id": global_id("TrainingRun", world.ids["training"]), "after": cursors[stream]}
        async with world.served.socket(world.tokens["owner"]) as socket:
            await socket.say({"id": "1", "type": "subscribe", "payload": {"query": document, "variables": variables}})
            message = await socket.hear()
        assert message["type"] == "error"
        assert message["payload"][0]["extensions"]["code"] == "BAD_CURSOR"
        response = await world.served.get(
            f"/runs/{world.ids['training']}/events", world.tokens["owner"], last_event_id=cursors[stream]
        )
        assert (response.status_code, response.json()["code"]) == (422, "BAD_CURSOR")

    async def test_a_cursor_of_anothers_feed_is_refused(self, world: World) -> None:
        cursor = str(StreamCursor(Stream(StreamKind.USER, world.ids["viewer"]), 1, 0))
        response = await world.served.get("/events", world.tokens["other"], last_event_id=cursor)
        assert (response.status_code, response.json()["code"]) == (422, "BAD_CURSOR")


async def test_the_same_name_belongs_to_each_tenant(world: World) -> None:
    """What Ada calls her things says nothing to Eve, who may call hers the same."""
    await make_dataset(world.served.database, world.eve, name="adas-data.csv")
    document = "mutation ($input: SaveTrainingConfigInput!) { saveTrainingConfig(input: $input) { __typename } }"
    answer = await world.served.data(document, world.tokens["other"], input={"name": "adas-config"})
    assert answer == {"saveTrainingConfig": {"__typename": "TrainingConfig"}}
