"""Status doors: small, cacheable, and honest about when to come again and when to stop."""

from typing import Any

import pytest

from domain.ai_model.model import AIModelStatus
from domain.base import new_id
from domain.deployment.model import DeploymentStatus
from domain.training.report import Outcome
from domain.training.status import EndReason, RunStage, RunStatus
from domain.viewer import Viewer
from graph.ids import global_id
from tests.domain.deployment.support import SLUG, make_app, make_deployment
from tests.factories import make_model, make_run
from tests.graph.served import Served
from tests.graph.training.wishes import id_of

pytestmark = pytest.mark.anyio


class TestRun:
    async def test_says_where_it_stands(self, served: Served, ada: Viewer) -> None:
        run = await make_run(
            served.database, ada, status=RunStatus.TRAINING, progress=36.349, progress_estimated=False, eta_seconds=12.5
        )
        response = await served.get(f"/runs/{run.id}/status", served.token_of(ada))
        assert response.status_code == 200
        assert response.json() == {
            "id": id_of(run),
            "status": "TRAINING",
            "stage": "TRAINING",
            "progress": 36.35,
            "progressEstimated": False,
            "etaSeconds": 12.5,
            "message": "Training",
            "endReason": None,
            "errorMessage": None,
            "deploymentUrl": None,
            "seq": 0,
            "endedAt": None,
            "done": False,
            "pollAfterSeconds": 2,
        }
        assert response.headers["retry-after"] == "2"
        assert response.headers["cache-control"] == "private, no-cache"
        assert response.headers["vary"].startswith("Authorization, Accept-Language")

    @pytest.mark.parametrize(
        ("status", "seconds"),
        [(RunStatus.QUEUED, 5), (RunStatus.DEPLOYING, 2), (RunStatus.CANCELING, 2), (RunStatus.CANCELED, None)],
    )
    async def test_says_when_to_come_again_or_to_stop(
        self, served: Served, ada: Viewer, status: RunStatus, seconds: int | None
    ) -> None:
        run = await make_run(served.database, ada, status=status)
        response = await served.get(f"/runs/{id_of(run)}/status", served.token_of(ada))
        told = response.json()
        assert (told["done"], told["pollAfterSeconds"]) == (seconds is None, seconds)
        assert response.headers.get("retry-after") == (None if seconds is None else str(seconds))

    async def test_costs_nothing_while_nothing_changed(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, attempts=1)
        path, token = f"/runs/{run.id}/status", served.token_of(ada)
        tag = (await served.get(path, token)).headers["etag"]
        for shown in (tag, f"W/{tag}", f'"other", {tag}'):
            response = await served.get(path, token, if_none_match=shown)
            assert (response.status_code, response.content) == (304, b"")
            assert response.headers["etag"] == tag and response.headers["retry-after"] == "5"
        await served.tell(run.id, stage=RunStage.TRAINING)
        response = await served.get(path, token, if_none_match=tag)
        assert (response.status_code, response.json()["status"]) == (200, "TRAINING")
        assert response.headers["etag"] != tag

    async def test_tells_the_end_and_the_address(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.READY, app_slug=SLUG)
        told = (await served.get(f"/runs/{run.id}/status", served.token_of(ada))).json()
        assert (told["status"], told["progress"], told["done"], told["message"]) == ("READY", 100.0, True, "Ready")
        assert told["deploymentUrl"] == f"http://runwire.test/apps/{SLUG}/"

    async def test_speaks_the_language_that_was_asked_for(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, attempts=1)
        await served.tell(run.id, outcome=Outcome(EndReason.MEMORY_LIMIT, "out of memory"))
        path, token = f"/runs/{run.id}/status", served.token_of(ada)
        told = (await served.get(path, token, accept_language="pt")).json()
        assert (told["endReason"], told["errorMessage"]) == ("MEMORY_LIMIT", "out of memory")
        assert told["message"].startswith("O treinamento precisou de mais memória")
        tags = {(await served.get(path, token, accept_language=tongue)).headers["etag"] for tongue in ("pt", "en")}
        assert len(tags) == 2

    @pytest.mark.parametrize(("language", "words"), [("en", "There is no such"), ("pt-BR", "Não existe")])
    async def test_of_another_or_of_nothing_is_not_found(
        self, served: Served, ada: Viewer, eve: Viewer, language: str, words: str
    ) -> None:
        run = await make_run(served.database, eve)
        answers = [
            await served.get(f"/runs/{id}/status", served.token_of(ada), accept_language=language)
            for id in (run.id, new_id(), id_of(run))
        ]
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
        assert words in answers[0].json()["message"]


class TestModel:
    async def told(self, served: Served, viewer: Viewer, id: Any) -> Any:
        return (await served.get(f"/models/{id}/status", served.token_of(viewer))).json()

    async def test_says_where_it_stands(self, served: Served, ada: Viewer) -> None:
        model = await make_model(served.database, ada, name="Digits", status=AIModelStatus.TRAINING, progress=40.0)
        run = await make_run(served.database, ada, model=model, status=RunStatus.TRAINING)
        async with served.worker.begin() as work:
            (await work.session.get_one(type(model), model.id)).current_run_id = run.id
        assert await self.told(served, ada, global_id("AIModel", model.id)) == {
            "id": global_id("AIModel", model.id),
            "name": "Digits",
            "status": "TRAINING",
            "progress": 40.0,
            "currentRunId": id_of(run),
            "deploymentUrl": None,
            "errorMessage": None,
            "trainedAt": None,
            "done": False,
            "pollAfterSeconds": 2,
        }

    async def test_gives_the_address_where_something_answers(self, served: Served, ada: Viewer) -> None:
        run = await make_run(served.database, ada, status=RunStatus.READY)
        app = await make_app(served.database, ada, run=run)
        assert (await self.told(served, ada, run.model_id))["deploymentUrl"] is None
        await make_deployment(served.database, ada, app, run)
        told = await self.told(served, ada, run.model_id)
        assert (told["deploymentUrl"], told["done"]) == (f"http://runwire.test/apps/{SLUG}/", True)

    @pytest.mark.parametrize("status", [DeploymentStatus.STARTING, DeploymentStatus.STOPPED, DeploymentStatus.FAILED])
    async def test_gives_no_address_where_nothing_answers(
        self, served: Served, ada: Viewer, status: DeploymentStatus
    ) -> None:
        run = await make_run(served.database, ada, status=RunStatus.READY)
        app = await make_app(served.database, ada, run=run, slug=status.value.lower().ljust(16, "a"))
        await make_deployment(served.database, ada, app, run, status=status)
        assert (await self.told(served, ada, run.model_id))["deploymentUrl"] is None

    async def test_costs_nothing_while_nothing_changed(self, served: Served, ada: Viewer) -> None:
        model = await make_model(served.database, ada)
        path, token = f"/models/{model.id}/status", served.token_of(ada)
        tag = (await served.get(path, token)).headers["etag"]
        assert (await served.get(path, token, if_none_match=tag)).status_code == 304
