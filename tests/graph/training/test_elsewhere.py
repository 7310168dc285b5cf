"""Runs at remote providers through the served API: whose account, test mode, prices, and models that finished there."""

from dataclasses import replace
from typing import Any

import pytest

from domain.base import new_id
from domain.integration.model import Integration, IntegrationStatus
from domain.secret import Secret
from domain.training import service
from domain.training.errors import CannotServe, CommandsNotPlayed, PublicUrlNeeded
from domain.training.model import RunAttempt, TrainingRun
from domain.training.starting import Offer
from domain.training.status import EndReason, Provider, RunStatus
from domain.training.wish import RunWish
from domain.viewer import Viewer
from graph.ids import global_id, parts_of
from tests.factories import make_api_key, make_model, make_run
from tests.graph.served import Served
from tests.graph.training.wishes import PROBLEM, START, count_runs, make_data, wish_of

pytestmark = pytest.mark.anyio

OFFER = Offer(
    providers=frozenset(),
    active_runs_per_user=50,
    time_limit_seconds=3600,
    longest_time_limit_seconds=86_400,
)
TUNE: dict[str, Any] = {
    "modelName": "Cat",
    "provider": "ASTRIA",
    "recipe": "image-tune",
    "hyperparameters": {"className": "cat", "imageUrls": [f"https://pictures.example/{n}.png" for n in range(4)]},
}
COMMAND: dict[str, Any] = {
    "modelName": "Echo",
    "provider": "RUNPOD",
    "recipe": "command",
    "hyperparameters": {"command": "echo hello"},
}
QUOTE = f"""mutation ($input: StartTrainingRunInput!) {{ answer: quoteTrainingRun(input: $input) {{
  ... on TrainingQuote {{ testMode budgetMicros isWithinBudget options {{
    provider gpuType priceMicrosPerHour flatMicros expectedMicros keepMicros isAvailable problem eta {{ seconds }} }} }}
  {PROBLEM} }} }}"""
SYNC_MODEL = f"""mutation ($id: ID!, $version: String) {{ answer: syncModel(id: $id, providerVersion: $version) {{
  ... on AIModel {{ status provider providerVersion modelUrl }} {PROBLEM} }} }}"""
RETRY = f"""mutation ($id: ID!) {{ answer: retryTrainingRun(id: $id) {{
  ... on TrainingRun {{ id testMode }} {PROBLEM} }} }}"""
SCENARIOS = "query ($provider: Provider) { testScenarios(provider: $provider) { provider name description } }"


async def key_of_test_mode(served: Served, viewer: Viewer) -> str:
    """The text of an API key of test mode."""
    _, token = await make_api_key(served.database, viewer, test_mode=True)
    return token.reveal()


async def start(served: Served, token: str, **wish: Any) -> dict[str, Any]:
    answer: dict[str, Any] = (await served.data(START, token, input=wish))["answer"]
    return answer


async def make_integration(served: Served, viewer: Viewer, **facts: Any) -> Integration:
    assert viewer.user_id is not None
    async with served.database.begin(viewer) as work:
        given: dict[str, Any] = {"provider": Provider.RUNPOD, "name": "mine", "secret": b"sealed"}
        row = Integration(
            created_at=work.now,
            updated_at=work.now,
            tested_at=work.now,
            user_id=viewer.user_id,
            **given | facts,
        )
        work.session.add(row)
    return row


async def row_of(served: Served, answer: dict[str, Any]) -> TrainingRun:
    async with served.worker.begin() as work:
        return await work.session.get_one(TrainingRun, parts_of(answer["id"])[1])


class TestWhoseAccount:
    async def test_without_anybodys_account_nothing_is_started(self, served: Served, ada: Viewer) -> None:
        answer = await start(served, served.token_of(ada), **COMMAND)
        assert (answer["__typename"], answer["code"], answer["field"]) == (
            "Unavailable",
            "PROVIDER_NOT_AVAILABLE",
            ["provider"],
        )
        assert await count_runs(served, ada) == 0

    async def test_the_users_newest_account_does_it(self, served: Served, ada: Viewer) -> None:
        await make_integration(served, ada, name="old")
        newest = await make_integration(served, ada, name="new")
        await make_integration(served, ada, name="refused", status=IntegrationStatus.REFUSED)
        answer = await start(served, served.token_of(ada), **COMMAND)
        assert answer["__typename"] == "TrainingRun"
        row = await row_of(served, answer)
        assert {choice["integrationId"] for choice in row.choices} == {str(newest.id)}

    @pytest.mark.parametrize(
        "facts",
        [{"status": IntegrationStatus.REFUSED}, {"status": IntegrationStatus.DISCONNECTED}, {"provider": Provider.E2B}],
    )
    async def test_one_that_does_not_work_is_refused(self, served: Served, ada: Viewer, facts: dict[str, Any]) -> None:
        row = await make_integration(served, ada, **facts)
        answer = await start(served, served.token_of(ada), **COMMAND, integrationId=global_id("Integration", row.id))
        assert (answer["__typename"], answer["code"]) == ("Invalid", "INTEGRATION_NOT_USABLE")

    async def test_nobody_uses_anothers(self, served: Served, ada: Viewer, eve: Viewer) -> None:
        row = await make_integration(served, eve)
        answer = await start(served, served.token_of(ada), **COMMAND, integrationId=global_id("Integration", row.id))
        assert (answer["__typename"], answer["code"]) == ("Invalid", "INTEGRATION_NOT_USABLE")
        assert await count_runs(served, ada) == 0


class TestReadingBack:
    async def test_a_run_tells_its_wish(self, served: Served, ada: Viewer) -> None:
        integration = await make_integration(served, ada)
        id = global_id("Integration", integration.id)
        wish = {
            **COMMAND,
            "gpuTypes": ["A"],
            "integrationId": id,
            "budgetMicros": 500_000,
            "rules": [{"warning": "NAN_LOSS", "action": "STOP"}],
            "image": "mine:1",
            "keepSeconds": 60,
        }
        answer = await start(served, served.token_of(ada), **wish)
        asked = """query ($id: ID!) { trainingRun(id: $id) {
          budgetMicros image keepSeconds scenario rules { warning action }
          places { provider gpuType integrationId } } }"""
        found = (await served.data(asked, served.token_of(ada), id=answer["id"]))["trainingRun"]
        assert found == {
            "budgetMicros": 500_000,
            "image": "mine:1",
            "keepSeconds": 60,
            "scenario": None,
            "rules": [{"warning": "NAN_LOSS", "action": "STOP"}],
            "places": [{"provider": "RUNPOD", "gpuType": "A", "integrationId": id}],
        }


class TestWhatCannotBe:
    @pytest.mark.parametrize(
        ("changes", "code", "field"),
        [
            ({"recipe": "flux-lora"}, "RECIPE_NOT_ON_PROVIDER", ["recipe"]),
            ({"fallbacks": [{"provider": "ASTRIA"}]}, "RECIPE_NOT_ON_PROVIDER", ["recipe"]),
            ({"provider": "E2B", "gpuTypes": ["A"]}, "NOT_SUPPORTED_BY_PROVIDER", ["gpuTypes"]),
            ({"provider": "E2B", "image": "x"}, "NOT_SUPPORTED_BY_PROVIDER", ["image"]),
            ({"provider": "E2B", "keepSeconds": 60}, "NOT_SUPPORTED_BY_PROVIDER", ["keepSeconds"]),
            ({"keepSeconds": 3601}, "BAD_RUN_INPUT", ["keepSeconds"]),
            ({"gpuTypes": [str(n) for n in range(21)]}, "BAD_RUN_INPUT", ["fallbacks"]),
            ({"hyperparameters": {}}, "HYPERPARAMETER_NEEDED", ["hyperparameters", "command"]),
            ({"hyperparameters": {"command": "x", "files": 3}}, "HYPERPARAMETER_TYPE", ["hyperparameters", "files"]),
            ({"scenario": "success"}, "SCENARIO_NEEDS_TEST_MODE", ["scenario"]),
            ({"scenario": "Not a name"}, "BAD_RUN_INPUT", ["scenario"]),
        ],
    )
    async def test_is_refused_with_the_field(
        self, served: Served, ada: Viewer, changes: dict[str, Any], code: str, field: list[str]
    ) -> None:
        await make_integration(served, ada)
        await make_integration(served, ada, name="e2b", provider=Provider.E2B)
        answer = await start(served, served.token_of(ada), **{**COMMAND, **changes})
        assert (answer["__typename"], answer["code"], answer["field"]) == ("Invalid", code, field)
        assert await count_runs(served, ada) == 0

    async def test_pictures_are_no_table(self, served: Served, ada: Viewer) -> None:
        data = await make_data(served, ada, columns=[], row_count=12)
        answer = await start(served, served.token_of(ada), **wish_of(data))
        assert (answer["__typename"], answer["code"], answer["field"]) == ("Invalid", "NOT_A_TABLE", ["datasetId"])


class TestTestMode:
    async def test_a_test_keys_runs_are_played(self, served: Served, ada: Viewer) -> None:
        answer = await start(served, await key_of_test_mode(served, ada), **TUNE, scenario="webhook_lost")
        assert answer["__typename"] == "TrainingRun"
        row = await row_of(served, answer)
        assert (row.test_mode, row.scenario, row.choices[0]["integrationId"]) == (True, "webhook_lost", None)

    async def test_what_is_not_played_is_refused(self, served: Served, ada: Viewer) -> None:
        answer = await start(served, await key_of_test_mode(served, ada), **TUNE, scenario="earthquake")
        assert (answer["__typename"], answer["code"]) == ("Invalid", "UNKNOWN_SCENARIO")

    async def test_trying_it_again_stays_a_test(self, served: Served, ada: Viewer) -> None:
        """A signed-in user retries a run of test mode: nothing is done for real."""
        first = await start(served, await key_of_test_mode(served, ada), **TUNE, scenario="fails_at_start")
        async with served.worker.begin() as work:
            row = await work.session.get_one(TrainingRun, parts_of(first["id"])[1])
            row.status, row.end_reason = RunStatus.FAILED, EndReason.PROVIDER_ERROR
        again = (await served.data(RETRY, served.token_of(ada), id=first["id"]))["answer"]
        assert again["testMode"] is True
        assert (await row_of(served, again)).scenario == "fails_at_start"

    async def test_a_key_word_is_not_shared_with_real_runs(self, served: Served, ada: Viewer) -> None:
        await make_integration(served, ada)
        token = await key_of_test_mode(served, ada)
        assert (await start(served, token, **COMMAND, idempotencyKey="k"))["__typename"] == "TrainingRun"
        answer = await start(served, served.token_of(ada), **COMMAND, idempotencyKey="k")
        assert (answer["__typename"], answer["code"]) == ("Conflict", "IDEMPOTENCY_KEY_REUSED")

    async def test_what_can_be_played_is_listed(self, served: Served, ada: Viewer) -> None:
        found = (await served.data(SCENARIOS, served.token_of(ada), provider="E2B"))["testScenarios"]
        assert {one["provider"] for one in found} == {"E2B"}
        assert {"success", "no_capacity", "stuck"} <= {one["name"] for one in found}
        assert all(one["description"].endswith(".") for one in found)


class TestQuotes:
    async def test_each_place_is_told_in_order_with_its_price(self, served: Served, ada: Viewer) -> None:
        wish = {**COMMAND, "gpuTypes": ["NVIDIA A40", "NVIDIA GeForce RTX 4090"], "fallbacks": [{"provider": "E2B"}]}
        token = await key_of_test_mode(served, ada)
        quote = (await served.data(QUOTE, token, input={**wish, "keepSeconds": 3600}))["answer"]
        assert [(one["provider"], one["gpuType"]) for one in quote["options"]] == [
            ("RUNPOD", "NVIDIA A40"),
            ("RUNPOD", "NVIDIA GeForce RTX 4090"),
            ("E2B", None),
        ]
        assert all(one["priceMicrosPerHour"] > 0 and one["problem"] is None for one in quote["options"])
        assert quote["options"][0]["keepMicros"] == quote["options"][0]["priceMicrosPerHour"]
        assert quote["testMode"] is True
        assert await count_runs(served, ada) == 0

    async def test_a_flat_price_is_compared_with_the_budget(self, served: Served, ada: Viewer) -> None:
        token = await key_of_test_mode(served, ada)
        for budget, fits in ((2_000_000, True), (1_000_000, False)):
            quote = (await served.data(QUOTE, token, input={**TUNE, "budgetMicros": budget}))["answer"]
            assert quote["options"][0]["flatMicros"] == quote["options"][0]["expectedMicros"] == 1_500_000
            assert quote["isWithinBudget"] is fits

    async def test_what_cannot_be_started_has_no_price(self, served: Served, ada: Viewer) -> None:
        answer = (await served.data(QUOTE, served.token_of(ada), input=COMMAND))["answer"]
        assert answer["code"] == "PROVIDER_NOT_AVAILABLE"


class TestAttaching:
    async def ended(self, served: Served, viewer: Viewer, *, reference: str, **facts: Any) -> TrainingRun:
        """A run at Astria that we think was lost."""
        model = await make_model(served.database, viewer, name=f"Cat {new_id()}")
        run = await make_run(
            served.database,
            viewer,
            model=model,
            status=RunStatus.FAILED,
            provider=Provider.ASTRIA,
            recipe="image-tune",
            end_reason=EndReason.LOST,
            test_mode=True,
            attempts=0,
            **facts,
        )
        async with served.database.begin(viewer) as work:
            work.session.add(
                RunAttempt(
                    created_at=work.now,
                    user_id=run.user_id,
                    run_id=run.id,
                    number=1,
                    provider=Provider.ASTRIA,
                    tag=f"run-{run.id.hex}-1",
                    reference=reference,
                )
            )
        return run

    async def tune(self, served: Served, viewer: Viewer, scenario: str = "immediate") -> str:
        """A tune at the simulator, in the viewer's own test account; gives its id."""
        assert viewer.user_id is not None
        key = Secret(f"sd_sim_u-{viewer.user_id.hex}.{scenario}")
        body = {
            "tune": {
                "title": f"run-{new_id().hex}-1",
                "name": "cat",
                "base_tune_id": 1504944,
                "model_type": "lora",
                "branch": "flux1",
                "image_urls": TUNE["hyperparameters"]["imageUrls"],
            }
        }
        headers = {"Authorization": f"Bearer {key.reveal()}"}
        url = f"{served.api.settings.simulators_url}/astria/tunes"
        response = await served.http.post(url, json=body, headers=headers)
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def test_a_model_that_finished_unseen_is_attached(self, served: Served, ada: Viewer) -> None:
        tune = await self.tune(served, ada)
        run = await self.ended(served, ada, reference=tune)
        found = await self.sync(served, ada, run)
        assert (found["status"], found["provider"], found["providerVersion"]) == ("READY", "ASTRIA", tune)
        again = await self.sync(served, ada, run, version=tune)
        assert again == found

    async def test_one_that_has_not_finished_is_not(self, served: Served, ada: Viewer) -> None:
        tune = await self.tune(served, ada, "stuck")
        run = await self.ended(served, ada, reference=tune)
        found = await self.sync(served, ada, run, version=tune)
        assert found["code"] in ("NOT_FOUND", "VERSION_NOT_SUPPORTED")
        unnamed = await self.sync(served, ada, run)
        assert "code" not in unnamed
        assert unnamed["providerVersion"] is None

    async def test_what_is_not_the_users_is_not_found(self, served: Served, ada: Viewer) -> None:
        """The operator's account holds everybody's models: only trainings of one's own runs are attached."""
        run = await self.ended(served, ada, reference=await self.tune(served, ada))
        foreign = await self.tune(served, ada)
        found = await self.sync(served, ada, run, version=foreign)
        assert (found["__typename"], found["code"]) == ("NotFound", "NOT_FOUND")

    async def sync(
        self, served: Served, viewer: Viewer, run: TrainingRun, version: str | None = None
    ) -> dict[str, Any]:
        id = global_id("AIModel", run.model_id)
        answer: dict[str, Any] = (await served.data(SYNC_MODEL, served.token_of(viewer), id=id, version=version))[
            "answer"
        ]
        return answer


class TestInProduction:
    """What may not run beside the API in production: strangers' programs, and strangers' models."""

    async def test_no_simulator_runs_a_users_command(self, served: Served, ada: Viewer) -> None:
        viewer = replace(ada, test_mode=True)
        offer = replace(OFFER, has_simulators=True, plays_commands=False)
        wish = RunWish("Echo", Provider.E2B, recipe="command", hyperparameters={"command": "id"})
        with pytest.raises(CommandsNotPlayed):
            async with served.database.begin(viewer) as work:
                await service.start_run(work, viewer, wish, offer)
        assert await count_runs(served, ada) == 0

    async def test_no_model_from_elsewhere_is_loaded(self, served: Served, ada: Viewer) -> None:
        await make_integration(served, ada)
        data = await make_data(served, ada)
        wish = RunWish("Iris", Provider.RUNPOD, recipe="tabular-classification", dataset_id=data.id)
        offer = replace(OFFER, serves_remote_models=False)
        with pytest.raises(CannotServe):
            async with served.database.begin(ada) as work:
                await service.start_run(work, ada, wish, offer)
        async with served.database.begin(ada) as work:
            run = await service.start_run(work, ada, replace(wish, deploy=False), offer)
        assert run.deploy is False

    async def test_nothing_is_started_at_who_cannot_reach_us(self, served: Served, ada: Viewer) -> None:
        await make_integration(served, ada)
        offer = replace(OFFER, unreachable=frozenset({Provider.RUNPOD}), public_url="http://127.0.0.1:8000")
        wish = RunWish("Echo", Provider.RUNPOD, recipe="command", hyperparameters={"command": "id"})
        with pytest.raises(PublicUrlNeeded) as refused:
            async with served.database.begin(ada) as work:
                await service.start_run(work, ada, wish, offer)
        assert "http://127.0.0.1:8000" in refused.value.message()
