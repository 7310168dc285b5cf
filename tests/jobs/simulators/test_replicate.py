"""The Replicate simulator, spoken to by Replicate's own SDK, and by plain HTTP where the SDK cannot see or say it."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

import httpx
import httpx2
import pytest
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.webhook import InvalidSignatureError, Webhooks, WebhookSigningSecret
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from jobs.simulators.kit import serving
from jobs.simulators.replicate import ReplicateSimulator
from jobs.simulators.replicate.catalog import TRAINERS
from tests.jobs.providers.replicate.stage import Stage, stage_of

pytestmark = pytest.mark.anyio

TRAINER = "ostris/flux-dev-lora-trainer"
VERSION = TRAINERS[0].version
IMAGES = "https://files.example/set.zip"


@dataclass
class Bench:
    """A simulator that answers, and its accounts' clients."""

    simulator: ReplicateSimulator
    base_url: str
    stack: AsyncExitStack
    http: httpx2.AsyncClient

    async def sdk(self, key: str = "r8_sim_acme") -> Client:
        """The vendor's client with that key; the account has a destination named `lora`."""
        transport = httpx.AsyncHTTPTransport()
        self.stack.push_async_callback(transport.aclose)
        client = Client(api_token=key, base_url=self.base_url, transport=transport)
        owner = key.removeprefix("r8_sim_").partition(".")[0]
        if f"{owner}/lora" not in self.simulator._models.own and owner != key:
            body = {"owner": owner, "name": "lora", "visibility": "private", "hardware": "gpu-t4"}
            await self.raw("POST", "/v1/models", key=f"r8_sim_{owner}", json=body)
        return client

    async def raw(self, method: str, path: str, key: str = "r8_sim_acme", **more: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return await self.http.request(
            method, self.base_url + path, headers={**headers, **more.pop("headers", {})}, **more
        )

    async def shown(self, training_id: str) -> dict[str, Any]:
        response = await self.raw("GET", f"/v1/trainings/{training_id}")
        assert response.status_code == 200
        shown: dict[str, Any] = response.json()
        return shown


@asynccontextmanager
async def bench_of(stage: Stage, simulator: ReplicateSimulator) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        base_url = await stack.enter_async_context(stage.shows(simulator.app, simulator.run))
        http = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False, timeout=10))
        yield Bench(simulator, base_url, stack, http)


@pytest.fixture(scope="module")
async def stage() -> AsyncIterator[Stage]:
    async with stage_of() as stage:
        yield stage


@pytest.fixture
async def bench(stage: Stage) -> AsyncIterator[Bench]:
    async with bench_of(stage, ReplicateSimulator(seed=7, late_reply_seconds=0.1)) as bench:
        yield bench


async def create(client: Client, destination: str = "acme/lora", **more: Any) -> Any:
    given = {"input_images": IMAGES, "trigger_word": "TOK", "steps": 1000, **more.pop("input", {})}
    return await client.trainings.async_create(TRAINER, VERSION, given, destination=destination, **more)


async def test_a_training_boots_works_and_succeeds(bench: Bench) -> None:
    client = await bench.sdk()

    training = await create(client)

    assert (training.status, training.logs, training.error) == ("starting", "", None)
    assert len(training.id) == 26
    assert training.model == TRAINER
    assert training.version == VERSION
    assert (await bench.shown(training.id))["logs"] is None
    bench.simulator.clock.advance(5)
    await training.async_reload()
    assert training.status == "processing"
    part = training.logs
    assert "\rflux_train_replicate:  " in part
    assert "Captioning images: 100%|" in part
    assert (await bench.shown(training.id))["metrics"] == {}
    bench.simulator.clock.advance(5)
    await training.async_reload()
    assert training.status == "succeeded"
    assert training.logs.startswith(part)
    assert "flux_train_replicate: 100%|██████████| 1000/1000" in training.logs
    assert training.destination == "acme/lora"
    model = await client.models.async_get("acme/lora")
    assert model.latest_version is not None
    assert training.output["version"] == f"acme/lora:{model.latest_version.id}"
    shown = await bench.shown(training.id)
    began, ended = datetime.fromisoformat(shown["started_at"]), datetime.fromisoformat(shown["completed_at"])
    assert shown["metrics"]["predict_time"] == pytest.approx((ended - began).total_seconds()) == pytest.approx(7.0)
    assert shown["metrics"]["total_time"] == pytest.approx(8.5)
    weights = await bench.http.get(training.output["weights"], headers={"authorization": "Bearer r8_sim_acme"})
    assert weights.status_code == 200
    assert b"lora.safetensors" in weights.content


async def test_the_answer_to_a_creation_leads_to_predictions_where_nothing_is(bench: Bench) -> None:
    training = await create(await bench.sdk())

    assert training.urls["get"] == f"{bench.base_url}/v1/predictions/{training.id}"
    assert (await bench.raw("GET", f"/v1/predictions/{training.id}")).status_code == 404
    assert (await bench.shown(training.id))["urls"]["get"] == f"{bench.base_url}/v1/trainings/{training.id}"


async def test_lists_are_pages_newest_first_without_logs(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(page_size=2)) as bench:
        client = await bench.sdk()
        made = [(await create(client)).id for _ in range(5)]
        bench.simulator.clock.advance(20)

        pages = [await client.trainings.async_list()]
        while pages[-1].next:
            pages.append(await client.trainings.async_list(pages[-1].next))

        assert [[one.id for one in page] for page in pages] == [made[:2:-1], made[2:0:-1], made[:1]]
        first = (await bench.raw("GET", "/v1/trainings")).json()["results"][0]
        assert "logs" not in first
        assert first["status"] == "succeeded"
        assert (await bench.raw("GET", "/v1/trainings?cursor=nonsense")).status_code == 400


async def test_aborted_breaks_the_sdk_and_not_the_json(bench: Bench) -> None:
    client = await bench.sdk("r8_sim_acme.aborted")
    training = await create(client)
    bench.simulator.clock.advance(2)

    with pytest.raises(ValueError, match="unexpected value"):
        await client.trainings.async_get(training.id)
    with pytest.raises(ValueError, match="unexpected value"):
        await client.trainings.async_list()

    shown = await bench.shown(training.id)
    assert (shown["status"], shown["started_at"], shown["logs"]) == ("aborted", None, None)
    assert shown["completed_at"] is not None


async def test_canceled_while_starting_it_worked_for_three_microseconds(bench: Bench) -> None:
    client = await bench.sdk()
    training = await create(client)

    await training.async_cancel()

    assert training.status == "canceled"
    assert training.urls["get"].endswith(f"/v1/predictions/{training.id}")
    shown = await bench.shown(training.id)
    assert shown["metrics"]["predict_time"] == 3e-06
    bench.simulator.clock.advance(60)
    again = await client.trainings.async_cancel(training.id)
    assert (again.status, again.completed_at) == ("canceled", training.completed_at)


async def test_canceled_while_it_works_it_keeps_the_log_it_had(bench: Bench) -> None:
    client = await bench.sdk()
    training = await create(client)
    bench.simulator.clock.advance(5)

    await training.async_cancel()

    bench.simulator.clock.advance(60)
    await training.async_reload()
    assert training.status == "canceled"
    assert "1000/1000" not in training.logs
    (truth,) = bench.simulator.truths()
    assert (truth.state, truth.is_alive) == ("canceled", False)
    assert 3.5 <= truth.billed_seconds <= 4.5


@pytest.mark.parametrize(
    ("scenario", "after", "status", "error", "log"),
    [
        ("fails_at_start", 3, "failed", "Director: unexpected error", ""),
        ("fails_while_training", 12, "failed", "CUDA error", "Traceback (most recent call last)"),
        ("bad_data", 12, "failed", "input_images: the archive holds no images", "Extracted 0 files"),
        ("canceled_elsewhere", 12, "canceled", None, "flux_train_replicate"),
        ("stuck", 10_000, "processing", None, "400/1000"),
        ("frozen_at_99", 10_000, "processing", None, "990/1000"),
        ("no_capacity", 10_000, "starting", None, ""),
        ("slow_start", 50, "starting", None, ""),
        ("nine_digits", 12, "succeeded", None, "1000/1000"),
    ],
)
async def test_scenarios(bench: Bench, scenario: str, after: float, status: str, error: str | None, log: str) -> None:
    training = await create(await bench.sdk(f"r8_sim_acme.{scenario}"))
    bench.simulator.clock.advance(after)

    await training.async_reload()

    assert training.status == status
    assert (training.error or "").startswith(error or "")
    assert (error is None) == (training.error is None)
    assert log in (training.logs or "")
    if scenario == "nine_digits":
        assert len(training.completed_at.partition(".")[2]) == len("123456789Z")
    if status == "processing":
        assert "1000/1000" not in training.logs


async def test_one_vanishes(bench: Bench) -> None:
    client = await bench.sdk("r8_sim_acme.not_found_later")
    training = await create(client)
    bench.simulator.clock.advance(2)
    assert (await client.trainings.async_get(training.id)).status == "processing"
    bench.simulator.clock.advance(2)

    with pytest.raises(ReplicateError) as refused:
        await client.trainings.async_get(training.id)

    assert (refused.value.status, refused.value.detail) == (404, "The requested resource could not be found.")
    assert len(await client.trainings.async_list()) == 0
    assert [(truth.state, truth.is_alive) for truth in bench.simulator.truths()] == [("gone", False)]


@pytest.mark.parametrize(
    ("key", "destination", "more", "status", "title", "detail"),
    [
        ("r8_sim_acme.unauthorized", "acme/lora", {}, 401, "Unauthenticated", "You did not pass a valid"),
        ("r8_real_looking", "acme/lora", {}, 401, "Unauthenticated", "You did not pass a valid"),
        ("r8_sim_acme.no_money", "acme/lora", {}, 402, "Billing required", "You need to set up billing"),
        ("r8_sim_acme.unprocessable", "acme/lora", {}, 422, "Invalid version or not permitted", "The specified"),
        ("r8_sim_acme.throttled", "acme/lora", {}, 429, "Request was throttled", "Request was throttled. Your rate"),
        ("r8_sim_acme.unstable", "acme/lora", {}, 503, None, "Service unavailable"),
        ("r8_sim_acme.created_504", "acme/lora", {}, 504, None, "Gateway timeout"),
        ("r8_sim_acme", "acme/nothing", {}, 404, None, "The specified training destination does not exist"),
        ("r8_sim_acme", "<invalid>", {}, 404, None, "The specified training destination does not exist"),
        ("r8_sim_acme", "other/lora", {}, 404, None, "The specified training destination does not exist"),
        ("r8_sim_acme", "acme/lora", {"input": {"steps": 2}}, 422, "Input validation failed", "- input.steps: Must"),
        ("r8_sim_acme", "acme/lora", {"input": {"input_images": None}}, 422, "Input validation failed", "- input: inp"),
        ("r8_sim_acme", "acme/lora", {"webhook": "http://a.example/"}, 422, "Input validation failed", "- webhook:"),
        ("r8_sim_acme", "acme/lora", {"webhook_events_filter": ["end"]}, 422, "Input validation failed", "- webhook_"),
    ],
)
async def test_refusals_reach_the_sdk(
    bench: Bench, key: str, destination: str, more: dict[str, Any], status: int, title: str | None, detail: str
) -> None:
    await bench.sdk("r8_sim_other")
    client = await bench.sdk(key)

    with pytest.raises(ReplicateError) as refused:
        await create(client, destination, **more)

    assert (refused.value.status, refused.value.title) == (status, title)
    assert (refused.value.detail or "").startswith(detail)
    assert len(bench.simulator.truths()) == (1 if status == 504 else 0)


async def test_what_is_throttled_or_unstable_succeeds_in_the_end(bench: Bench) -> None:
    for scenario in ("throttled", "unstable"):
        client = await bench.sdk(f"r8_sim_acme.{scenario}")
        for _ in range(2):
            with pytest.raises(ReplicateError):
                await create(client)
        training = await create(client)
        statuses = [(await bench.raw("GET", f"/v1/trainings/{training.id}")).status_code for _ in range(3)]
        assert statuses == [*((429, 429) if scenario == "throttled" else (502, 500)), 200]
        throttled = await bench.raw("POST", f"/v1/models/{TRAINER}/versions/{VERSION}/trainings", json={})
        assert throttled.headers["ratelimit-reset"]


async def test_a_script_gives_scenarios_to_the_next_creations(bench: Bench) -> None:
    bench.simulator.script("acme", ["stuck", "no_money", "aborted"])
    client = await bench.sdk()

    await create(client)
    with pytest.raises(ReplicateError, match="Billing required"):
        await create(client)
    await create(client)
    await create(client)

    assert [truth.scenario for truth in bench.simulator.truths()] == ["stuck", "aborted", "success"]
    with pytest.raises(ValueError, match="no scenario named wonder"):
        bench.simulator.script("acme", ["wonder"])


async def test_accounts_see_only_their_own(bench: Bench) -> None:
    acme, other = await bench.sdk(), await bench.sdk("r8_sim_other")
    training = await create(acme)

    assert (await acme.accounts.async_current()).username == "acme"
    assert len(await other.trainings.async_list()) == 0
    for call in (other.trainings.async_get, other.trainings.async_cancel):
        with pytest.raises(ReplicateError, match="could not be found"):
            await call(training.id)
    with pytest.raises(ReplicateError, match="could not be found"):
        await other.models.async_get("acme/lora")
    assert (await acme.webhooks.default.async_secret()).key != (await other.webhooks.default.async_secret()).key


async def test_a_destination_is_made_once(bench: Bench) -> None:
    client = await bench.sdk()
    with pytest.raises(ReplicateError) as missing:
        await client.models.async_get("acme/cat")
    assert missing.value.status == 404

    model = await client.models.async_create("acme", "cat", visibility="private", hardware="gpu-t4")

    assert (model.owner, model.name, model.visibility, model.latest_version) == ("acme", "cat", "private", None)
    with pytest.raises(ReplicateError) as taken:
        await client.models.async_create("acme", "cat", visibility="private", hardware="gpu-t4")
    assert taken.value.status == 409
    assert "already exists" in (taken.value.detail or "")
    with pytest.raises(ReplicateError) as foreign:
        await client.models.async_create("other", "cat", visibility="private", hardware="gpu-t4")
    assert foreign.value.status == 403


async def test_a_destination_that_somebody_makes_meanwhile_is_a_conflict(bench: Bench) -> None:
    client = await bench.sdk("r8_sim_acme.conflict")
    with pytest.raises(ReplicateError, match="already exists"):
        await client.models.async_create("acme", "race", visibility="private", hardware="gpu-t4")

    training = await create(client, "acme/race")

    assert training.status == "starting"


async def test_the_trainer_tells_its_latest_version_and_hardware_its_names(bench: Bench) -> None:
    client = await bench.sdk()
    model = await client.models.async_get(TRAINER)
    assert model.latest_version is not None
    assert model.latest_version.id == VERSION
    version = await model.versions.async_get(VERSION)
    assert "input_images" in version.openapi_schema["components"]["schemas"]["TrainingInput"]["required"]
    assert "gpu-h100" in [one.sku for one in await client.hardware.async_list()]
    assert (await bench.raw("GET", f"/v1/models/{TRAINER}/versions/{'0' * 64}")).status_code == 404


async def test_files_are_uploaded_before_they_are_used(bench: Bench) -> None:
    client = await bench.sdk()

    training = await create(client, input={"input_images": io.BytesIO(b"PK\x03\x04 images")})

    (stored,) = await client.files.async_list()
    assert stored.size == 11
    assert training.input["input_images"] == stored.urls["get"]
    assert await client.files.async_delete(stored.id)
    assert await client.files.async_list() == []


@pytest.mark.parametrize(
    ("method", "path", "more", "status", "words"),
    [
        ("GET", "/v1/trainings", {"key": ""}, 401, "valid authentication token"),
        ("GET", "/v1/trainings", {"key": "rp_sim_acme"}, 401, "valid authentication token"),
        ("GET", "/v1/trainings", {"key": "r8_sim_acme.wonder"}, 422, "no scenario named wonder"),
        ("GET", "/v1/nothing", {}, 404, "could not be found"),
        ("PUT", "/v1/trainings", {}, 405, 'Method "PUT" not allowed.'),
        ("POST", "/v1/models", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "media type"),
        ("POST", "/v1/models", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "JSON parse"),
        ("POST", "/v1/models", {"json": ["owner"]}, 400, "an object is needed"),
        ("POST", "/v1/models", {"json": {"owner": "acme"}}, 422, "name is required"),
        ("POST", "/v1/models", {"json": {"colour": "red"}}, 422, "colour is not allowed"),
        ("POST", f"/v1/models/{TRAINER}/versions/{VERSION}/trainings", {"json": {"speed": 1}}, 422, "speed is not"),
        ("POST", f"/v1/models/{TRAINER}/versions/{'0' * 64}/trainings", {"json": {}}, 422, "does not exist"),
    ],
)
async def test_it_is_strict(
    bench: Bench, method: str, path: str, more: dict[str, Any], status: int, words: str
) -> None:
    response = await bench.raw(method, path, **more)

    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert words in response.json()["detail"]
    assert response.json()["status"] == status


async def test_the_quota_is_told_and_kept(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(requests_per_minute=2)) as bench:
        first, second, third = [await bench.raw("GET", "/v1/account") for _ in range(3)]
        other = await bench.raw("GET", "/v1/account", key="r8_sim_other")
        bench.simulator.clock.advance(60)
        later = await bench.raw("GET", "/v1/account")

    assert [one.headers["ratelimit-remaining"] for one in (first, second, third, other)] == ["1", "0", "0", "1"]
    assert (third.status_code, later.status_code) == (429, 200)
    assert (
        third.json()["detail"] == f"Request was throttled. Your rate limit resets in ~{third.json()['retry_after']}s."
    )
    assert third.headers["ratelimit-reset"] == str(third.json()["retry_after"])


async def test_a_lost_reply_leaves_a_training_behind(bench: Bench) -> None:
    client = await bench.sdk("r8_sim_acme.reply_lost")

    with pytest.raises(httpx.TransportError):
        await create(client)

    assert len(await client.trainings.async_list()) == 1
    late = await create(await bench.sdk("r8_sim_acme.reply_late"))
    assert late.status == "starting"


async def test_the_truth_is_what_is_billed(bench: Bench) -> None:
    tag = "run-" + "0a" * 16 + "-2"
    await create(await bench.sdk(), input={"input_images": f"{IMAGES}?for={tag}"})
    bench.simulator.clock.advance(100)

    (truth,) = bench.simulator.truths()

    assert truth.tag == tag
    assert (truth.state, truth.is_alive, truth.scenario) == ("succeeded", False, "success")
    assert truth.billed_seconds == pytest.approx(7.0)
    assert truth.cost_micros == pytest.approx(7 * 1_525, abs=1)
    assert truth.price_micros_per_hour == 5_490_000


async def test_serving_it_alone_is_enough_and_so_is_a_prefix() -> None:
    for prefix in ("", "/replicate"):
        simulator = ReplicateSimulator()
        app = Starlette(routes=[Mount(prefix, app=simulator.app)]) if prefix else simulator.app
        async with serving(app) as base_url, httpx2.AsyncClient(trust_env=False) as http:
            bench = Bench(simulator, base_url + prefix, AsyncExitStack(), http)
            async with bench.stack:
                training = await create(await bench.sdk(), webhook=f"{base_url}/nobody")
                address = f"{bench.base_url}/v1/trainings/{training.id}"
                assert (await bench.shown(training.id))["urls"]["get"] == address
                if not prefix:
                    simulator.clock.advance(20)
                    await until(lambda: bool(simulator.webhooks.sent), "a webhook")  # noqa: B023
        assert [heard.status for heard in simulator.journal.of("GET", r"/v1/trainings/\w{26}")] == [200]


# --- Data that is really fetched ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "status", "error"), [("/set.zip", "succeeded", None), ("/gone", "failed", "403")])
async def test_data_on_this_machine_is_fetched(bench: Bench, path: str, status: str, error: str | None) -> None:
    asked = []

    async def answer(request: Request) -> Response:
        asked.append(request.url.path)
        return Response(b"PK\x03\x04", status_code=200 if request.url.path == "/set.zip" else 403)

    async with serving(Starlette(routes=[Route("/{path}", answer)])) as files:
        training = await create(await bench.sdk(), input={"input_images": files + path})
        bench.simulator.clock.advance(100)
        shown = await bench.shown(training.id)

    assert shown["status"] == status
    assert asked == [path]
    if error is not None:
        assert shown["error"] == f"Failed to download input_images: the server answered {error}"


async def test_data_that_cannot_be_fetched_at_all_fails_the_training(bench: Bench) -> None:
    async with serving(Starlette()) as files:
        nobody = files
    training = await create(await bench.sdk(), input={"input_images": f"{nobody}/set.zip"})
    bench.simulator.clock.advance(100)

    shown = await bench.shown(training.id)

    assert shown["status"] == "failed"
    assert shown["error"] == "Failed to download input_images: ConnectError"


# --- Webhooks ----------------------------------------------------------------------------------------------------


@dataclass
class Receiver:
    """Takes webhooks, and answers as it is told."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    got: list[tuple[Mapping[str, str], bytes]] = field(default_factory=list)

    @property
    def statuses(self) -> list[str]:
        return [json.loads(body)["status"] for _, body in self.got]

    async def take(self, request: Request) -> Response:
        self.got.append((dict(request.headers), await request.body()))
        return Response(status_code=self.answers.pop(0) if self.answers else 200)


@pytest.fixture
async def receiver(stage: Stage) -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = Starlette(routes=[Route("/webhooks/replicate", receiver.take, methods=["POST"])])
    async with stage.shows(app) as url:
        receiver.url = f"{url}/webhooks/replicate?run=run-1"
        yield receiver


async def until(holds: Callable[[], bool], what: str) -> None:
    for _ in range(250):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"It was waited in vain for {what}.")


async def walk(bench: Bench, steps: int = 20, seconds: float = 0.55) -> None:
    """Let the clock go in small steps, so that what happens on the way happens."""
    for _ in range(steps):
        bench.simulator.clock.advance(seconds)
        await asyncio.sleep(0.045)


async def followed(bench: Bench, receiver: Receiver, scenario: str = "success") -> Client:
    client = await bench.sdk(f"r8_sim_acme.{scenario}")
    await create(client, webhook=receiver.url, webhook_events_filter=["start", "logs", "completed"])
    return client


def validated(secret: WebhookSigningSecret, headers: Mapping[str, str], body: bytes) -> None:
    Webhooks.validate(headers=dict(headers), body=body.decode(), secret=secret, tolerance=300)


async def test_webhooks_tell_the_start_the_log_and_the_end(bench: Bench, receiver: Receiver) -> None:
    client = await followed(bench, receiver)
    await walk(bench)
    await until(lambda: "succeeded" in receiver.statuses, "the end")

    secret = await client.webhooks.default.async_secret()

    assert receiver.statuses == ["processing"] * (len(receiver.got) - 1) + ["succeeded"]
    assert len(receiver.got) > 8
    for headers, body in receiver.got:
        validated(secret, headers, body)
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got)
    lengths = [len(json.loads(body)["logs"]) for _, body in receiver.got]
    assert lengths == sorted(lengths)
    training_id = json.loads(receiver.got[-1][1])["id"]
    assert json.loads(receiver.got[-1][1]) == await bench.shown(training_id)
    with pytest.raises(InvalidSignatureError):
        validated(secret, receiver.got[0][0], receiver.got[1][1])


async def test_without_a_filter_only_the_end_is_told(bench: Bench, receiver: Receiver) -> None:
    await create(await bench.sdk(), webhook=receiver.url)
    await walk(bench)
    await until(lambda: bool(receiver.got), "the end")

    assert receiver.statuses == ["succeeded"]


async def test_only_the_end_is_repeated_with_the_same_id(bench: Bench, receiver: Receiver) -> None:
    receiver.answers = [500, 404, 503, 500]
    await create(await bench.sdk(), webhook=receiver.url, webhook_events_filter=["start", "completed"])

    await walk(bench, 30)
    await until(lambda: len(receiver.got) == 5, "the repetitions")

    assert receiver.statuses == ["processing", "succeeded", "succeeded", "succeeded", "succeeded"]
    assert len({headers["webhook-id"] for headers, _ in receiver.got[1:]}) == 1
    times = [sent.at for sent in bench.simulator.webhooks.sent][1:]
    waits = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert waits[0] >= 1 and waits[1] >= 2 and waits[2] >= 4


async def test_it_gives_up_about_a_minute_after_the_end(bench: Bench, receiver: Receiver) -> None:
    receiver.answers = [500] * 50
    await create(await bench.sdk(), webhook=receiver.url, webhook_events_filter=["completed"])

    await walk(bench, 30, 5)
    await until(lambda: len(receiver.got) == 7, "all tries")
    await walk(bench, 5, 100)

    assert len(receiver.got) == 7


async def test_a_cancellation_is_told_at_once(bench: Bench, receiver: Receiver) -> None:
    client = await bench.sdk()
    training = await create(client, webhook=receiver.url, webhook_events_filter=["start", "logs", "completed"])

    await training.async_cancel()
    await until(lambda: bool(receiver.got), "the cancellation")

    assert receiver.statuses == ["canceled"]


async def test_lost_webhooks(bench: Bench, receiver: Receiver) -> None:
    await followed(bench, receiver, "webhook_lost")
    await walk(bench)

    assert receiver.got == []
    assert bench.simulator.truths()[0].state == "succeeded"


async def test_late_webhooks(bench: Bench, receiver: Receiver) -> None:
    await followed(bench, receiver, "webhook_late")
    await walk(bench)
    assert receiver.got == []
    assert bench.simulator.truths()[0].state == "succeeded"

    bench.simulator.clock.advance(20)

    await until(lambda: "succeeded" in receiver.statuses, "the late ones")


async def test_doubled_webhooks(bench: Bench, receiver: Receiver) -> None:
    await followed(bench, receiver, "webhook_doubled")
    await walk(bench)
    await until(lambda: receiver.statuses.count("succeeded") == 2, "both ends")

    ids = [headers["webhook-id"] for headers, _ in receiver.got]
    assert ids[::2] == ids[1::2]
    assert len(set(ids)) == len(ids) / 2


async def test_reordered_webhooks(bench: Bench, receiver: Receiver) -> None:
    await followed(bench, receiver, "webhook_reordered")
    await walk(bench, 25)
    await until(lambda: len(receiver.got) > 5, "all of them")

    lengths = [len(json.loads(body)["logs"]) for _, body in receiver.got]
    assert receiver.statuses[0] == "succeeded"
    assert set(receiver.statuses[1:]) == {"processing"}
    assert lengths == sorted(lengths, reverse=True)


async def test_an_early_webhook_comes_before_the_answer(bench: Bench, receiver: Receiver) -> None:
    client = await bench.sdk("r8_sim_acme.webhook_early")

    training = await create(client, webhook=receiver.url, webhook_events_filter=["start", "completed"])

    assert [json.loads(body)["id"] for _, body in receiver.got] == [training.id]


async def test_forged_webhooks_lie_and_are_signed_wrongly_or_are_old(bench: Bench, receiver: Receiver) -> None:
    client = await followed(bench, receiver, "webhook_forged")
    await walk(bench)
    await until(lambda: bench.simulator.truths()[0].state == "succeeded" and len(receiver.got) > 8, "the end")

    secret = await client.webhooks.default.async_secret()

    wrong, old, real = receiver.got[:3]
    assert receiver.statuses[:3] == ["succeeded", "succeeded", "processing"]
    with pytest.raises(InvalidSignatureError):
        validated(secret, *wrong)
    with pytest.raises(ValueError, match="timestamp"):
        validated(secret, *old)
    validated(secret, *real)


async def test_oversized_webhooks(stage: Stage, receiver: Receiver) -> None:
    async with bench_of(stage, ReplicateSimulator(oversized_characters=2_000_000)) as bench:
        await followed(bench, receiver, "webhook_oversized")
        await walk(bench)
        await until(lambda: "succeeded" in receiver.statuses, "the end")

    assert len(receiver.got[-1][1]) > 2_000_000


async def test_while_keys_change_both_sign(bench: Bench, receiver: Receiver) -> None:
    client = await bench.sdk()
    before = await client.webhooks.default.async_secret()
    bench.simulator.secrets_of("acme").rotate(older_signs=True)
    after = await client.webhooks.default.async_secret()
    await create(client, webhook=receiver.url)
    await walk(bench)
    await until(lambda: bool(receiver.got), "the end")

    headers, body = receiver.got[0]

    assert before.key != after.key
    assert len(headers["webhook-signature"].split()) == 2
    for secret in (before, after):
        validated(secret, headers, body)


def test_every_scenario_has_its_sentence() -> None:
    assert all(
        name == name.lower() and sentence.endswith(".") for name, sentence in ReplicateSimulator.scenarios.items()
    )
