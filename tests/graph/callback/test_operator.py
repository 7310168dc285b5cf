"""Operators see every call of providers and scripts, and have those applied again that had no effect."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from db.settings import Settings
from db.unit_of_work import Database
from domain.callback import service
from domain.callback.model import Callback, CallbackSource, CallbackStatus
from domain.clock import FixedClock
from domain.commands import ApplyCallback
from domain.events import time_text
from domain.training.status import RunStatus
from domain.viewer import Viewer
from graph.ids import global_id
from tests.domain.callback.support import callbacks, keep, make_operator
from tests.factories import make_run, make_user
from tests.fakes import Told
from tests.graph.deployment.asking import Asking

pytestmark = pytest.mark.anyio

ALL = """{ callbacks { nodes { id source status error runId attempt sequence tries receivedAt appliedAt nextTryAt
  sha256 bytes headers body } } }"""
SOME = """query ($statuses: [CallbackStatus!], $first: Int!, $after: String) {
  callbacks(statuses: $statuses, first: $first, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"""
APPLY = """mutation ($id: ID!) { applyCallback(id: $id) { __typename
  ... on Callback { id status error nextTryAt } ... on Problem { code } } }"""
NODE = "query ($id: ID!) { node(id: $id) { __typename ... on Callback { sha256 body } } }"


@pytest.fixture
def ask(settings: Settings, database: Database) -> Asking:
    return Asking(settings, database)


@pytest.fixture
async def ada(database: Database, owner_engine: AsyncEngine) -> Viewer:
    viewer = await make_user(database, name="Ada")
    await make_operator(owner_engine, viewer)
    return viewer


@pytest.fixture
async def eve(database: Database) -> Viewer:
    return await make_user(database, name="Eve")


async def marked(worker: Database, id: Any, status: CallbackStatus) -> None:
    async with worker.begin() as work:
        row = await work.session.get_one(Callback, id)
        match status:
            case CallbackStatus.APPLIED:
                service.mark_applied(work, row)
            case CallbackStatus.MOOT:
                service.mark_moot(work, row, "It was over.")
            case CallbackStatus.REJECTED:
                await service.mark_rejected(work, row, "No valid signature.")
            case CallbackStatus.UNREADABLE:
                await service.mark_unreadable(work, row, "An object was expected.")


async def test_a_call_is_shown_as_it_came_without_its_secrets(
    ask: Asking, database: Database, ada: Viewer, eve: Viewer, clock: FixedClock
) -> None:
    run = await make_run(database, eve, status=RunStatus.TRAINING)
    body = b'{"id": "k3v9", "input": {"hf_token": "hf_geheim"}, "logs": "\xff"}'
    id = await keep(
        database, body, event_id="e1", tag=f"runwire-{run.id}-1", headers={"webhook-id": "msg_1"}, sequence=7
    )
    assert id is not None
    assert await callbacks(database) == []  # an API process sees none without an operator
    (shown,) = (await ask(ALL, ada))["callbacks"]["nodes"]
    assert shown == {
        "id": global_id("Callback", id),
        "source": "REPLICATE",
        "status": "RECEIVED",
        "error": None,
        "runId": global_id("TrainingRun", run.id),
        "attempt": 1,
        "sequence": 7,
        "tries": 0,
        "receivedAt": time_text(clock.now()),
        "appliedAt": None,
        "nextTryAt": time_text(clock.now()),
        "sha256": shown["sha256"],
        "bytes": len(body),
        "headers": {"webhook-id": "msg_1"},
        "body": '{"id": "k3v9", "input": {"hf_token": "•••"}, "logs": "\ufffd"}',
    }
    assert len(shown["sha256"]) == 64


async def test_a_large_body_is_shown_in_part(ask: Asking, database: Database, ada: Viewer) -> None:
    await keep(database, b"x" * 10 * 1024**2, event_id="e1")
    (shown,) = (await ask("{ callbacks { nodes { bytes body } } }", ada))["callbacks"]["nodes"]
    assert (shown["bytes"], shown["body"]) == (10 * 1024**2, "x" * 64 * 1024)


async def test_they_are_listed_by_what_became_of_them_page_by_page(
    ask: Asking, database: Database, worker_database: Database, ada: Viewer
) -> None:
    ids: dict[CallbackStatus, list[str]] = {}
    for number, status in enumerate([*CallbackStatus, *CallbackStatus]):
        id = await keep(database, event_id=str(number))
        assert id is not None
        await marked(worker_database, id, status)
        ids.setdefault(status, []).insert(0, global_id("Callback", id))
    wanted = ["REJECTED", "UNREADABLE"]
    first = (await ask(SOME, ada, statuses=wanted, first=3))["callbacks"]
    assert first["pageInfo"]["hasNextPage"]
    second = (await ask(SOME, ada, statuses=wanted, first=3, after=first["pageInfo"]["endCursor"]))["callbacks"]
    found = [node["id"] for node in (*first["nodes"], *second["nodes"])]
    assert sorted(found) == sorted(ids[CallbackStatus.REJECTED] + ids[CallbackStatus.UNREADABLE])
    assert len((await ask(SOME, ada, first=100))["callbacks"]["nodes"]) == 10


async def test_what_had_no_effect_is_applied_again(
    ask: Asking, database: Database, worker_database: Database, ada: Viewer, clock: FixedClock, told: Told
) -> None:
    id = await keep(database, event_id="e1")
    assert id is not None
    await marked(worker_database, id, CallbackStatus.REJECTED)
    clock.at += timedelta(minutes=5)
    told.forget()
    answer = (await ask(APPLY, ada, id=global_id("Callback", id)))["applyCallback"]
    assert answer == {
        "__typename": "Callback",
        "id": global_id("Callback", id),
        "status": "RECEIVED",
        "error": None,
        "nextTryAt": time_text(clock.now()),
    }
    assert [command for command in told.commands if isinstance(command, ApplyCallback)] == [ApplyCallback(id)]


@pytest.mark.parametrize("status", [CallbackStatus.APPLIED, CallbackStatus.MOOT])
async def test_what_had_its_effect_is_not(
    ask: Asking, database: Database, worker_database: Database, ada: Viewer, status: CallbackStatus
) -> None:
    id = await keep(database, event_id="e1")
    assert id is not None
    await marked(worker_database, id, status)
    answer = (await ask(APPLY, ada, id=global_id("Callback", id)))["applyCallback"]
    assert answer == {"__typename": "Conflict", "code": "CALLBACK_NOT_APPLICABLE"}


async def test_node_finds_one_for_operators_alone(ask: Asking, database: Database, ada: Viewer, eve: Viewer) -> None:
    id = await keep(database, b"hello", event_id="e1", source=CallbackSource.E2B)
    assert id is not None
    found = (await ask(NODE, ada, id=global_id("Callback", id)))["node"]
    assert (found["__typename"], found["body"]) == ("Callback", "hello")
    assert (await ask(NODE, eve, id=global_id("Callback", id)))["node"] is None


async def test_nobody_else_sees_or_changes_any(
    ask: Asking, database: Database, worker_database: Database, eve: Viewer, told: Told
) -> None:
    id = await keep(database, event_id="e1")
    assert id is not None
    await marked(worker_database, id, CallbackStatus.REJECTED)
    told.forget()
    assert await ask.code(ALL, eve) == "OPERATOR_ONLY"
    answer = (await ask(APPLY, eve, id=global_id("Callback", id)))["applyCallback"]
    assert answer == {"__typename": "Forbidden", "code": "OPERATOR_ONLY"}
    (row,) = await callbacks(worker_database)
    assert row.status is CallbackStatus.REJECTED and told.commands == []
