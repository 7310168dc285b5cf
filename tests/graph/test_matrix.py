"""Every operation of the schema, as its owner, another tenant, nobody, a weak key and a stream token of another run.

Whoever may not gets nothing, changes nothing, causes no event, and cannot tell what exists from what does not.
"""

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from graphql import GraphQLObjectType

from domain.training.status import RunStatus
from graph.ids import global_id
from graph.schema import schema
from tests.factories import make_run
from tests.graph.documents import document_of
from tests.graph.matrix import OPERATIONS, Row, filled, names_something, outcome_of
from tests.graph.served import Served, data_of
from tests.graph.world import World

pytestmark = pytest.mark.anyio

CORE = schema._schema
ROOTS = ("Query", "Mutation", "Subscription")


@asynccontextmanager
async def untouched(world: World) -> AsyncIterator[None]:
    """Nothing of Ada's changes within the block, and nothing is published of hers."""
    before = await world.fingerprint()
    world.served.overheard.events.clear()
    yield
    assert await world.fingerprint() == before
    about_ada = [event for event in world.served.overheard.events if event.stream.id in world.ids.values()]
    assert about_ada == []


async def call(world: World, operation: str, variables: dict[str, Any], token: str | None) -> bytes:
    """The answer as it comes, of a subscription its first message, with request-bound ids taken out."""
    document = document_of(CORE, operation, list(variables))
    if operation.startswith("Subscription."):
        return await first_message(world.served, document, variables, token)
    return (await world.served.respond(document, token, **variables)).content


async def first_message(served: Served, document: str, variables: dict[str, Any], token: str | None) -> bytes:
    async with served.socket(token) as socket:
        await socket.say({"id": "1", "type": "subscribe", "payload": {"query": document, "variables": variables}})
        message = await socket.hear()
    if message["type"] == "error":
        return orjson.dumps({"errors": message["payload"]})
    assert message["type"] == "next"
    return orjson.dumps(message["payload"])


def told_of_ada(answer: bytes, world: World) -> list[str]:
    """What of Ada's the answer tells."""
    text = answer.decode()
    words = ["adas-", world.slug, *(str(id) for id in world.ids.values())]
    found = [word for word in words if word in text]
    for piece in text.replace("\\", '"').split('"'):
        try:
            plain = base64.b64decode(piece + "=" * (-len(piece) % 4)).decode()
        except ValueError:
            continue
        found.extend(str(id) for id in world.ids.values() if str(id) in plain)
    return found


def refusal(operation: str, code: str) -> str:
    return f"refused {code}" if operation.startswith("Mutation.") else f"error {code}"


def sent_by_others(row: Row, world: World) -> dict[str, Any]:
    variables: dict[str, Any] = filled(row.variables if row.foreign is None else row.foreign, world)
    return variables


def test_every_operation_has_a_row() -> None:
    fields = set()
    for root in ROOTS:
        kind = CORE.type_map[root]
        assert isinstance(kind, GraphQLObjectType)
        fields |= {f"{root}.{name}" for name in kind.fields}
    assert set(OPERATIONS) == fields


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_another_tenant_learns_and_changes_nothing(world: World, operation: str) -> None:
    row = OPERATIONS[operation]
    async with untouched(world):
        answer = await call(world, operation, sent_by_others(row, world), world.tokens["other"])
    assert outcome_of(orjson.loads(answer)) == row.other
    if operation != "Mutation.updateViewer":  # which was told the word by Eve herself
        assert told_of_ada(answer, world) == []
    if names_something(row.variables):
        unknown = filled(row.variables, world, unknown=True)
        assert await call(world, operation, unknown, world.tokens["other"]) == answer


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_nobody_gets_in(world: World, operation: str) -> None:
    row = OPERATIONS[operation]
    async with untouched(world):
        answer = await call(world, operation, sent_by_others(row, world), None)
    assert outcome_of(orjson.loads(answer)) == (row.nobody or refusal(operation, "NOT_SIGNED_IN"))
    assert told_of_ada(answer, world) == []
    if names_something(row.variables):
        assert await call(world, operation, filled(row.variables, world, unknown=True), None) == answer


@pytest.mark.parametrize(
    ("operation", "scope"), [(name, scope) for name, row in OPERATIONS.items() for scope in row.scopes]
)
async def test_a_key_that_lacks_a_scope_is_refused(world: World, operation: str, scope: Any) -> None:
    token = await world.weak_token(scope)
    variables = OPERATIONS[operation].variables
    async with untouched(world):
        answer = await call(world, operation, filled(variables, world), token)
    assert outcome_of(orjson.loads(answer)) == refusal(operation, "SCOPE_MISSING")
    assert told_of_ada(answer, world) == []
    if names_something(variables):
        assert await call(world, operation, filled(variables, world, unknown=True), token) == answer


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_stream_token_of_another_run_reads_nothing_else(world: World, operation: str) -> None:
    row = OPERATIONS[operation]
    async with untouched(world):
        answer = await call(world, operation, sent_by_others(row, world), world.tokens["bound"])
    assert outcome_of(orjson.loads(answer)) == (row.bound or refusal(operation, "SCOPE_MISSING"))
    assert told_of_ada(answer, world) in ([], [str(world.ids["viewer"])])
    if names_something(row.variables):
        unknown = filled(row.variables, world, unknown=True)
        assert await call(world, operation, unknown, world.tokens["bound"]) == answer


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_the_owner_gets_all_of_it(world: World, operation: str) -> None:
    row = OPERATIONS[operation]
    answer = await call(world, operation, filled(row.variables, world), world.tokens["owner"])
    assert outcome_of(orjson.loads(answer)) == row.owner, answer


async def test_what_happens_to_one_tenant_reaches_no_other(world: World) -> None:
    """Both listen to their feeds; something happens to Ada's run, then to Eve's: that is the first that Eve hears."""
    served = world.served
    eves_run = await make_run(served.database, world.eve, status=RunStatus.TRAINING)
    async with (
        served.events("/events", world.tokens["other"]) as eves,
        served.events("/events", world.tokens["owner"]) as adas,
    ):
        for reader in (eves, adas):
            assert [(await reader.next())["event"] for _ in range(2)] == ["connected", "snapshot"]
        for run_id in (world.ids["training"], eves_run.id):
            await served.tell(run_id, percent=50.0)
        adas_first, eves_first = data_of(await adas.next()), data_of(await eves.next())
    assert adas_first["run"]["id"] == global_id("TrainingRun", world.ids["training"])
    assert eves_first["run"]["id"] == global_id("TrainingRun", eves_run.id)
