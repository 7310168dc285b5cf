"""Events as they leave the product: every id is one that `node(id)` takes, and no inner word gets out."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from db.settings import Settings
from domain.events import Event, Stream, StreamKind
from graph.ids import global_id
from graph.live.outside import KINDS, outside
from graph.nodes import FINDERS

RUN, MODEL, USER = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.fixture
def there() -> Settings:
    return Settings(public_url="https://api.example.com", apps_url="https://apps.example.com", redis_url="x")


def test_ids_are_global_and_slugs_are_addresses(there: Settings) -> None:
    core = {"id": str(RUN), "userId": str(USER), "modelId": str(MODEL), "datasetId": None, "appSlug": "abc", "seq": 1}
    event = Event(
        type="run.deployment_ready",
        stream=Stream(StreamKind.RUN, RUN),
        seq=9,
        at=datetime(2026, 1, 15, 12, tzinfo=UTC),
        run=core,
        data={"slug": "abc"},
    )
    told = outside(event.as_json(), there)
    assert told["run"] == {
        "id": global_id("TrainingRun", RUN),
        "modelId": global_id("AIModel", MODEL),
        "datasetId": None,
        "deploymentUrl": "https://apps.example.com/apps/abc/",
        "seq": 1,
    }
    assert told["data"] == {"deploymentUrl": "https://apps.example.com/apps/abc/"}
    assert str(USER) not in str(told)


def test_every_id_is_of_a_node() -> None:
    assert set(KINDS.values()) - set(FINDERS) <= {"DownloadGrant"}
