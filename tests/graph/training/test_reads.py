"""Providers are read as often as a user needs, and no more: the operator's quota there is everybody's."""

from typing import Any

import pytest
from limits import RateLimitItemPerHour, RateLimitItemPerMinute

from domain.training.status import RunStatus
from domain.viewer import Viewer
from graph import limiter
from graph.ids import global_id
from tests.factories import make_model, make_run
from tests.graph.served import Served
from tests.graph.training.test_elsewhere import COMMAND, QUOTE, SYNC_MODEL, key_of_test_mode
from tests.graph.training.wishes import SYNC, id_of

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "READS", (RateLimitItemPerMinute(6), RateLimitItemPerHour(60)))


async def test_asking_again_and_again_is_refused_for_a_while(served: Served, ada: Viewer, eve: Viewer) -> None:
    run = await make_run(served.database, ada, status=RunStatus.TRAINING)
    model = await make_model(served.database, ada)
    token = served.token_of(ada)
    asked: list[tuple[str, dict[str, Any]]] = [(SYNC, {"id": id_of(run)})] * 3
    asked += [(SYNC_MODEL, {"id": global_id("AIModel", model.id)})] * 3
    for document, variables in asked:
        assert "code" not in (await served.data(document, token, **variables))["answer"]
    for document, variables in (asked[0], asked[-1]):
        answer = (await served.data(document, token, **variables))["answer"]
        assert (answer["code"], answer["retryAfterSeconds"] > 0) == ("TOO_MANY_ATTEMPTS", True)
    theirs = await make_run(served.database, eve, status=RunStatus.TRAINING)
    assert "code" not in (await served.data(SYNC, served.token_of(eve), id=id_of(theirs)))["answer"]


async def test_a_quote_counts_each_of_its_places(served: Served, ada: Viewer) -> None:
    token = await key_of_test_mode(served, ada)
    wish = {**COMMAND, "gpuTypes": ["NVIDIA A40", "NVIDIA L4"], "fallbacks": [{"provider": "E2B"}]}
    for _ in range(2):
        assert len((await served.data(QUOTE, token, input=wish))["answer"]["options"]) == 3
    assert (await served.data(QUOTE, token, input=wish))["answer"]["code"] == "TOO_MANY_ATTEMPTS"
