"""Every plain HTTP door, as its owner, another tenant, nobody, a weak key and a stream token of another run."""

from dataclasses import dataclass
from typing import Any

import pytest
from starlette.routing import Mount, Route

from domain.base import new_id
from domain.training.model import TrainingRun
from domain.viewer import Scope
from graph.ids import global_id
from tests.domain.callback.support import make_token
from tests.graph.matrix import Id, filled
from tests.graph.served import bearer
from tests.graph.world import World

pytestmark = pytest.mark.anyio

OPEN = {
    "/", "/healthz", "/readyz", "/playground", "/playground/examples.json", "/playground/assets", "/graphql",
    "/webhooks/replicate", "/webhooks/astria/{token}", "/webhooks/e2b",
}  # fmt: skip
"""Doors that ask nobody who they are. GraphQL asks in each field, and its socket in `connection_init`; see
`test_matrix.py`. Served models have rules of their own: see `test_apps.py`. Webhooks are kept, and believed later or
never: see `test_callbacks.py`."""


@dataclass(frozen=True)
class Door:
    """One method of one path: what is asked of it, and what becomes of it."""

    path: str
    id: Id | None
    scopes: tuple[Scope, ...]
    method: str = "GET"
    body: bytes | None = None
    other: tuple[int, str] = (404, "NOT_FOUND")
    nobody: tuple[int, str] = (401, "NOT_SIGNED_IN")
    bound: tuple[int, str] = (403, "SCOPE_MISSING")
    owner: int = 200
    is_stream: bool = False

    def address(self, world: World, *, unknown: bool = False) -> str:
        path = self.path.replace("{name}", "model.joblib")
        return path.replace("{id}", filled(self.id, world, unknown=unknown) if self.id else "")


RUN, PLAIN_RUN = Id("TrainingRun", "training"), Id("TrainingRun", "training", plain=True)
NOT_FOUND, NO_GRANT = (404, "NOT_FOUND"), (404, "DOWNLOAD_NOT_FOUND")
GRANT: dict[str, Any] = {"scopes": (), "other": NO_GRANT, "nobody": NO_GRANT, "bound": NO_GRANT, "owner": 404}
"""A download takes a grant and nothing else: the owner's own access token is refused like everybody's."""
NO_POD = (401, "POD_TOKEN_REFUSED")
POD: dict[str, Any] = {"scopes": (), "other": NO_POD, "nobody": NO_POD, "bound": NO_POD, "owner": 401}
"""A script comes with the token of one attempt; the run's owner is nobody there. Who has one: see `test_pods.py`."""
DOORS = (
    Door("/runs/{id}/status", RUN, (Scope.RUNS_READ,), bound=NOT_FOUND),
    Door("/runs/{id}/status", PLAIN_RUN, (Scope.RUNS_READ,), bound=NOT_FOUND),
    Door("/models/{id}/status", Id("AIModel", "model"), (Scope.MODELS_READ,)),
    Door("/runs/{id}/events", RUN, (Scope.RUNS_READ,), bound=NOT_FOUND, is_stream=True),
    Door("/events", None, (Scope.RUNS_READ,), other=(200, ""), bound=(403, "BOUND_TO_A_RUN"), is_stream=True),
    Door("/datasets/{id}/content", Id("Dataset", "dataset"), (Scope.DATASETS_WRITE,), "PUT", b"a,b\n1,2\n", owner=409),
    Door("/datasets/download", None, **GRANT),
    Door("/datasets/download/renewal", None, method="POST", **GRANT),
    Door("/runs/{id}/reports", RUN, method="POST", body=b'{"sequence": 1}', **POD),
    Door("/runs/{id}/reports", PLAIN_RUN, method="POST", body=b'{"sequence": 1}', **POD),
    Door("/runs/{id}/artifacts/{name}", RUN, method="PUT", body=b"weights", **POD),
    Door("/runs/{id}/program", RUN, **POD),
)


def name_of(door: Door) -> str:
    return f"{door.method} {door.path}" + (" by UUID" if door.id is not None and door.id.plain else "")


async def knock(
    world: World, door: Door, token: str | None, *, unknown: bool = False, **headers: str
) -> tuple[int, str, bytes]:
    """Status, code and body of the answer; of a stream that was let in, its status."""
    request = world.served.http.build_request(
        door.method,
        door.address(world, unknown=unknown),
        content=door.body,
        headers={**bearer(token), **headers},
    )
    response = await world.served.http.send(request, stream=True)
    try:
        if door.is_stream and response.status_code == 200:
            return 200, "", b""
        body = await response.aread()
        is_problem = response.status_code >= 400 and response.headers["content-type"].startswith("application/json")
        return response.status_code, response.json()["code"] if is_problem else "", body
    finally:
        await response.aclose()


async def test_every_door_has_a_row_or_is_open_to_all(world: World) -> None:
    found: set[tuple[str, str]] = set()
    for route in world.served.api._routes():
        if isinstance(route, Mount):
            found.add(("GET", route.path))
        elif isinstance(route, Route):
            found |= {(method, route.path) for method in route.methods or {"GET"} if method not in ("HEAD", "OPTIONS")}
    assert {path for _, path in found if path in OPEN} == OPEN
    assert {(method, path) for method, path in found if path not in OPEN} == {(one.method, one.path) for one in DOORS}


@pytest.mark.parametrize("door", DOORS, ids=name_of)
async def test_another_tenant_learns_and_changes_nothing(world: World, door: Door) -> None:
    before = await world.fingerprint()
    *answer, body = await knock(world, door, world.tokens["other"])
    assert tuple(answer) == door.other
    assert await world.fingerprint() == before
    if door.id is not None:
        assert (await knock(world, door, world.tokens["other"], unknown=True))[2] == body


@pytest.mark.parametrize("door", DOORS, ids=name_of)
async def test_nobody_gets_in(world: World, door: Door) -> None:
    before = await world.fingerprint()
    *answer, body = await knock(world, door, None)
    assert tuple(answer) == door.nobody
    assert await world.fingerprint() == before
    if door.id is not None:
        assert (await knock(world, door, None, unknown=True))[2] == body


@pytest.mark.parametrize(("door", "scope"), [(door, scope) for door in DOORS for scope in door.scopes])
async def test_a_key_that_lacks_a_scope_is_refused(world: World, door: Door, scope: Scope) -> None:
    token = await world.weak_token(scope)
    *answer, body = await knock(world, door, token)
    assert tuple(answer) == (403, "SCOPE_MISSING")
    if door.id is not None:
        assert (await knock(world, door, token, unknown=True))[2] == body


@pytest.mark.parametrize("door", DOORS, ids=name_of)
async def test_a_stream_token_of_another_run_opens_nothing_else(world: World, door: Door) -> None:
    status, code, _ = await knock(world, door, world.tokens["bound"])
    assert (status, code) == door.bound


@pytest.mark.parametrize("door", DOORS, ids=name_of)
async def test_the_owner_gets_in(world: World, door: Door) -> None:
    status, _, body = await knock(world, door, world.tokens["owner"])
    assert status == door.owner, body


@pytest.mark.parametrize("door", DOORS, ids=name_of)
@pytest.mark.parametrize("shown", ["Bearer forged", "Basic YWRhOmFkYQ==", "Bearer", "rwk_" + "A" * 43])
async def test_a_forged_credential_opens_nothing(world: World, door: Door, shown: str) -> None:
    status, code, _ = await knock(world, door, None, authorization=shown)
    if door.scopes:
        assert status == 401 and code in ("TOKEN_INVALID", "CREDENTIAL_MALFORMED")
    else:
        assert (status, code) == door.nobody


@pytest.mark.parametrize("door", [door for door in DOORS if door.nobody != NO_POD], ids=name_of)
async def test_a_scripts_token_opens_nothing_of_its_owners(world: World, door: Door) -> None:
    async with world.served.worker.begin() as work:
        run = await work.session.get_one(TrainingRun, world.ids["training"])
    token = await make_token(world.served.worker, run)
    status, code, _ = await knock(world, door, token)
    assert (status, code) == ((401, "TOKEN_INVALID") if door.scopes else door.nobody)


async def test_ids_that_are_none_are_not_found(world: World) -> None:
    for id in ("x", "%2e%2e", global_id("Dataset", new_id()), "0" * 40):
        response = await world.served.get(f"/runs/{id}/status", world.tokens["owner"])
        assert (response.status_code, response.json()["code"]) == NOT_FOUND
