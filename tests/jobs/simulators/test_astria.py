"""AstriaSimulator over plain HTTP: the documented bodies, each scenario, each refusal, and the callbacks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from jobs.simulators.astria import AstriaSimulator
from jobs.simulators.kit import serving
from tests.jobs.providers.astria import bodies

pytestmark = pytest.mark.anyio

URLS = [f"https://files.example/{number}.jpg" for number in range(4)]
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 60
WAIT_LIMIT_SECONDS = 5.0


@dataclass
class Ear:
    """Somebody who is called."""

    bodies: list[Any] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200

    async def hear(self, request: Request) -> Response:
        body = await request.body()
        self.sizes.append(len(body))
        self.headers.append(dict(request.headers))
        self.bodies.append(json.loads(body))
        return Response(status_code=self.status, headers={"location": "/elsewhere"} if self.status == 302 else {})

    async def wait_for(self, count: int) -> list[Any]:
        with anyio.fail_after(WAIT_LIMIT_SECONDS):
            while len(self.bodies) < count:
                await anyio.sleep(0.01)
        return self.bodies


@dataclass
class Client:
    """The account `acme`, as seen by somebody with its key."""

    http: httpx2.AsyncClient
    base_url: str

    async def ask(self, method: str, path: str, *, key: str = "sd_sim_acme", **options: Any) -> httpx2.Response:
        headers = {"authorization": f"Bearer {key}", **options.pop("headers", {})}
        return await self.http.request(method, self.base_url + path, headers=headers, **options)

    async def create(self, scenario: str | None = None, *, title: str = "run-1", **fields: Any) -> httpx2.Response:
        key = "sd_sim_acme" + (f".{scenario}" if scenario else "")
        tune = {"title": title, "name": "woman", "branch": "flux1", "model_type": "lora", "image_urls": URLS} | fields
        return await self.ask("POST", "/tunes", key=key, json={"tune": tune})

    async def tune(self, answer: httpx2.Response) -> dict[str, Any]:
        read = await self.ask("GET", f"/tunes/{answer.json()['id']}")
        assert read.status_code == 200, read.text
        found: dict[str, Any] = read.json()
        return found


@pytest.fixture
def simulator() -> AstriaSimulator:
    return AstriaSimulator()


@pytest.fixture
async def wire(simulator: AstriaSimulator) -> AsyncIterator[Client]:
    """Through a real server and a real connection."""
    async with serving(simulator.app) as base_url, httpx2.AsyncClient(trust_env=False, timeout=10) as http:
        yield Client(http, base_url)


@pytest.fixture
async def client(simulator: AstriaSimulator) -> AsyncIterator[Client]:
    """In this process, for what the connection has no part in: starting and ending a server takes its time."""
    transport = httpx2.ASGITransport(app=simulator.app)
    task = asyncio.create_task(simulator.run())
    async with httpx2.AsyncClient(transport=transport, trust_env=False, timeout=10) as http:
        yield Client(http, "http://astria")
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
async def ear() -> AsyncIterator[tuple[Ear, str]]:
    ear = Ear()
    async with serving(Starlette(routes=[Route("/heard", ear.hear, methods=["POST"])])) as address:
        yield ear, f"{address}/heard?run=1"


class TestDocumentedBodies:
    async def test_a_tune_has_every_documented_field_and_no_other(self, wire: Client) -> None:
        answer = await wire.create()
        assert answer.status_code == 201
        assert answer.json().keys() == bodies.TUNE.keys()
        assert (await wire.tune(answer)).keys() == bodies.TUNE.keys()

    async def test_the_documented_creation_is_taken(self, wire: Client) -> None:
        answer = await wire.ask("POST", "/tunes", json=bodies.CREATE)
        assert answer.status_code == 201
        sent, got = bodies.CREATE["tune"], answer.json()
        for name in ("title", "name", "base_tune_id", "model_type", "branch", "callback"):
            assert got[name] == sent[name]
        assert len(got["orig_images"]) == 2
        assert got["url"].endswith(f"/tunes/{got['id']}.json")

    async def test_the_documented_form_with_files_and_a_prompt_is_taken(
        self, wire: Client, simulator: AstriaSimulator
    ) -> None:
        files = [("tune[images][]", (f"{number}.jpg", JPEG, "image/jpeg")) for number in range(4)]
        answer = await wire.ask("POST", "/tunes", data=dict(bodies.CREATE_AS_FORM), files=files)
        assert answer.status_code == 201, answer.text
        got = answer.json()
        assert (got["title"], got["token"], got["branch"], len(got["orig_images"])) == ("my portrait", "sks", "fast", 4)
        simulator.clock.advance(20)
        prompts = (await wire.ask("GET", f"/tunes/{got['id']}/prompts")).json()
        assert [prompt["text"] for prompt in prompts] == ["sks man on space circa 1979 on cover of time magazine"]

    async def test_the_documented_creation_with_prompts_makes_images(
        self, wire: Client, simulator: AstriaSimulator
    ) -> None:
        got = (await wire.ask("POST", "/tunes", json=bodies.CREATE_WITH_PROMPTS)).json()
        prompts = (await wire.ask("GET", f"/tunes/{got['id']}/prompts")).json()
        assert [prompt["images"] for prompt in prompts] == [[], []]
        assert prompts[0].keys() == bodies.PROMPT.keys()
        simulator.clock.advance(20)
        prompt = (await wire.ask("GET", f"/tunes/{got['id']}/prompts/{prompts[0]['id']}")).json()
        assert len(prompt["images"]) == 4
        assert prompt["tune_id"] == got["id"]

    async def test_the_documented_prompt_needs_a_model_in_its_text(self, wire: Client) -> None:
        bare = await wire.ask("POST", "/tunes/1504944/prompts", data=dict(bodies.PROMPT_FORM))
        assert (bare.status_code, list(bare.json())) == (422, ["text"])
        form = dict(bodies.PROMPT_FORM) | {"prompt[text]": "<lora:5:1> a painting"}
        made = await wire.ask("POST", "/tunes/1504944/prompts", data=form)
        assert made.status_code == 201
        assert made.json()["super_resolution"] is True
        assert made.json().keys() == bodies.PROMPT.keys()

    async def test_a_lora_makes_no_images_by_itself(self, wire: Client) -> None:
        answer = await wire.create("immediate")
        refused = await wire.ask("POST", f"/tunes/{answer.json()['id']}/prompts", json={"prompt": {"text": "x"}})
        assert refused.status_code == 422
        assert "model_type=lora is not supported. Use a checkpoint instead" in refused.text

    async def test_it_works_under_a_path(self, simulator: AstriaSimulator) -> None:
        async with (
            serving(Starlette(routes=[Mount("/astria", simulator.app)])) as base_url,
            httpx2.AsyncClient(trust_env=False) as http,
        ):
            answer = await Client(http, f"{base_url}/astria").create()
            assert answer.status_code == 201
            assert answer.json()["url"] == f"{base_url}/astria/tunes/{answer.json()['id']}.json"
        assert [one.path for one in simulator.journal.of("POST", "/tunes")] == ["/tunes"]


class TestRefusals:
    @pytest.mark.parametrize("key", ["sd_sim_", "sd_live_key", "r8_sim_acme", "sd_sim_acme.no_such_scenario"])
    async def test_an_unknown_key_is_401(self, client: Client, key: str) -> None:
        for method, path in (("GET", "/tunes"), ("POST", "/tunes"), ("GET", "/tunes/1"), ("PATCH", "/tunes")):
            answer = await client.ask(method, path, key=key)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")

    @pytest.mark.parametrize(
        ("method", "path"),
        [("PUT", "/tunes"), ("PATCH", "/tunes/1"), ("GET", "/tunes/1"), ("GET", "/tunes/x"), ("POST", "/nothing")],
    )
    async def test_another_method_or_path_is_404(self, client: Client, method: str, path: str) -> None:
        answer = await client.ask(method, path)
        assert (answer.status_code, answer.json()) == (404, {"status": 404, "error": "Not Found"})

    @pytest.mark.parametrize(
        ("fields", "wrong"),
        [
            ({"title": ""}, "title"),
            ({"name": None}, "name"),
            ({"image_urls": []}, "images"),
            ({"image_urls": ["ftp://x/1.jpg"]}, "image_urls"),
            ({"stepps": 5}, "stepps"),
            ({"steps": "many"}, "steps"),
            ({"steps": 0}, "steps"),
            ({"branch": "flux2"}, "branch"),
            ({"preset": "flux"}, "preset"),
            ({"model_type": "dora"}, "model_type"),
            ({"base_tune_id": True}, "base_tune_id"),
            ({"face_crop": "perhaps"}, "face_crop"),
            ({"token": 5}, "token"),
            ({"characteristics": "tall"}, "characteristics"),
            ({"prompts_attributes": [{"text": "x", "colour": 1}]}, "colour"),
            ({"prompts_attributes": [{"text": "x", "num_images": 9}]}, "num_images"),
            ({"prompts_attributes": "x"}, "prompts_attributes"),
        ],
    )
    async def test_a_wrong_field_is_422_with_its_name(
        self, client: Client, simulator: AstriaSimulator, fields: dict[str, Any], wrong: str
    ) -> None:
        answer = await client.create(**fields)
        assert answer.status_code == 422, answer.text
        assert list(answer.json()) == [wrong]
        assert simulator.tunes == {}

    async def test_a_very_long_list_of_prompts_is_an_empty_422(self, client: Client) -> None:
        answer = await client.create(prompts_attributes=[{"text": "x"}] * 101)
        assert (answer.status_code, answer.content) == (422, b"")

    @pytest.mark.parametrize("callback", ["nonsense", "ftp://x/y", "https://", 5])
    async def test_a_callback_that_is_no_address_is_400(self, client: Client, callback: object) -> None:
        assert (await client.create(callback=callback)).status_code == 400

    async def test_a_file_that_is_no_image_is_422(self, client: Client) -> None:
        files = [("tune[images][]", ("1.jpg", b"MZ this is a program", "image/jpeg"))]
        answer = await client.ask("POST", "/tunes", data={"tune[title]": "x", "tune[name]": "man"}, files=files)
        assert (answer.status_code, answer.json()) == (422, {"images": ["is not an image"]})

    @pytest.mark.parametrize(
        "options",
        [
            {"content": b'{"tune": {"title": "x"}}', "headers": {"content-type": "text/plain"}},
            {"content": b"{", "headers": {"content-type": "application/json"}},
            {"json": {"prompt": {}}},
            {"json": []},
            {"content": b""},
        ],
    )
    async def test_another_body_is_400(self, client: Client, options: dict[str, Any]) -> None:
        assert (await client.ask("POST", "/tunes", **options)).status_code == 400

    @pytest.mark.parametrize("query", ["limit=121", "limit=0", "limit=x", "offset=201", "before_id=-1", "page=2"])
    async def test_a_wrong_page_is_400(self, client: Client, query: str) -> None:
        assert (await client.ask("GET", f"/tunes?{query}")).status_code == 400

    async def test_accounts_see_only_their_own(self, client: Client) -> None:
        answer = await client.create()
        path = f"/tunes/{answer.json()['id']}"
        assert (await client.ask("GET", path, key="sd_sim_other")).status_code == 404
        assert (await client.ask("DELETE", path, key="sd_sim_other")).status_code == 404
        assert (await client.ask("GET", "/tunes", key="sd_sim_other")).json() == []
        assert (await client.ask("GET", path, key="sd_sim_acme.stuck")).status_code == 200


class TestLists:
    async def test_pages_are_bare_arrays_newest_first(self, client: Client) -> None:
        ids = [(await client.create(title=f"run-{number}")).json()["id"] for number in range(5)]
        first = (await client.ask("GET", "/tunes?limit=2")).json()
        assert [tune["id"] for tune in first] == [ids[4], ids[3]]
        second = (await client.ask("GET", f"/tunes?limit=2&before_id={ids[3]}")).json()
        assert [tune["id"] for tune in second] == [ids[2], ids[1]]
        assert [tune["id"] for tune in (await client.ask("GET", "/tunes?offset=4")).json()] == [ids[0]]

    async def test_a_deleted_tune_is_gone(self, client: Client, simulator: AstriaSimulator) -> None:
        answer = await client.create()
        path = f"/tunes/{answer.json()['id']}"
        deleted = await client.ask("DELETE", path)
        assert (deleted.status_code, deleted.content) == (200, b"")
        assert (await client.ask("GET", path)).status_code == 404
        assert (await client.ask("DELETE", path)).status_code == 404
        assert (await client.ask("GET", "/tunes")).json() == []
        assert [truth.state for truth in simulator.truths()] == ["canceled"]


class TestTraining:
    async def test_success_goes_from_the_queue_through_training_to_a_model(
        self, client: Client, simulator: AstriaSimulator
    ) -> None:
        answer = await client.create()
        queued = answer.json()
        assert (queued["started_training_at"], queued["trained_at"]) == (None, None)
        assert [(truth.state, truth.cost_micros) for truth in simulator.truths()] == [("queued", 0)]
        simulator.clock.advance(2)
        training = await client.tune(answer)
        assert training["started_training_at"] is not None
        assert training["trained_at"] is None
        assert training["eta"] == queued["eta"]
        assert [(truth.state, truth.is_alive) for truth in simulator.truths()] == [("training", True)]
        simulator.clock.advance(7)
        trained = await client.tune(answer)
        assert trained["trained_at"] == trained["eta"] == queued["eta"]
        assert _at(trained["expires_at"]) - _at(trained["trained_at"]) == timedelta(days=30)
        assert trained["ckpt_url"] is None  # Flux: never handed out
        [truth] = simulator.truths()
        assert (truth.state, truth.is_alive, truth.cost_micros) == ("succeeded", False, 1_500_000)
        assert (truth.reference, truth.tag, truth.account) == (str(queued["id"]), "run-1", "acme")

    async def test_fast_is_free_and_still_trains(self, client: Client, simulator: AstriaSimulator) -> None:
        await client.create(branch="fast", prompts_attributes=[{"text": "x"}])
        simulator.clock.advance(9)
        assert [(truth.state, truth.cost_micros) for truth in simulator.truths()] == [("succeeded", 0)]

    async def test_prompts_cost_too(self, client: Client, simulator: AstriaSimulator) -> None:
        await client.create(prompts_attributes=[{"text": "x"}, {"text": "y"}])
        simulator.clock.advance(9)
        assert [truth.cost_micros for truth in simulator.truths()] == [1_700_000]

    @pytest.mark.parametrize("fields", [{"scenario": "immediate"}, {"model_type": "faceid"}])
    async def test_some_are_trained_at_once(self, client: Client, fields: dict[str, Any]) -> None:
        tune = (await client.create(**fields)).json()
        assert tune["trained_at"] == tune["started_training_at"] == tune["created_at"]

    async def test_sdxl_weights_can_be_fetched(self, client: Client) -> None:
        tune = (await client.create("immediate", branch="sdxl1")).json()
        assert tune["ckpt_urls"] == [tune["ckpt_url"]]
        assert tune["ckpt_url"].startswith("https://")

    @pytest.mark.parametrize(
        ("scenario", "signs", "cost"),
        [
            ("fails_at_start", {"error": True, "status": None, "expires_at": False, "started": False}, 0),
            ("fails_while_training", {"error": True, "status": "failed", "expires_at": False, "started": True}, 1),
            ("fails_by_expiry", {"error": False, "status": None, "expires_at": True, "started": True}, 1),
        ],
    )
    async def test_failures_show_in_the_ways_that_users_saw(
        self, client: Client, simulator: AstriaSimulator, scenario: str, signs: dict[str, Any], cost: int
    ) -> None:
        answer = await client.create(scenario)
        simulator.clock.advance(6)
        tune = await client.tune(answer)
        assert tune["trained_at"] is None
        assert signs == {
            "error": "error" in tune,
            "status": tune.get("status"),
            "expires_at": tune["expires_at"] is not None,
            "started": tune["started_training_at"] is not None,
        }
        [truth] = simulator.truths()
        assert (truth.state, truth.is_alive, truth.cost_micros) == ("failed", False, cost * 1_500_000)

    @pytest.mark.parametrize("scenario", ["stuck", "eta_passes", "frozen_at_99"])
    async def test_some_never_end(self, client: Client, simulator: AstriaSimulator, scenario: str) -> None:
        answer = await client.create(scenario)
        simulator.clock.advance(3_600)
        tune = await client.tune(answer)
        assert (tune["started_training_at"] is None) == (scenario == "stuck")
        assert tune["trained_at"] is None
        assert (_at(tune["eta"]) > simulator.clock.now()) == (scenario == "frozen_at_99")
        assert simulator.truths()[0].is_alive

    @pytest.mark.parametrize(
        ("scenario", "state"), [("not_found_later", "gone"), ("deleted_while_training", "canceled")]
    )
    async def test_some_vanish(self, client: Client, simulator: AstriaSimulator, scenario: str, state: str) -> None:
        answer = await client.create(scenario)
        simulator.clock.advance(3)
        assert (await client.tune(answer))["started_training_at"] is not None
        simulator.clock.advance(3)
        assert (await client.ask("GET", f"/tunes/{answer.json()['id']}")).status_code == 404
        assert (await client.ask("GET", "/tunes")).json() == []
        assert [(truth.state, truth.is_alive) for truth in simulator.truths()] == [(state, False)]


class TestAnswers:
    @pytest.mark.parametrize(
        ("scenario", "status"),
        [
            ("unauthorized", 401),
            ("no_money", 402),
            ("bad_request", 400),
            ("unprocessable", 422),
            ("unprocessable_message", 422),
            ("unprocessable_error", 422),
            ("unprocessable_errors", 422),
            ("unprocessable_empty", 422),
        ],
    )
    async def test_a_creation_is_refused_each_time(
        self, client: Client, simulator: AstriaSimulator, scenario: str, status: int
    ) -> None:
        for _ in range(3):
            assert (await client.create(scenario)).status_code == status
        assert simulator.tunes == {}

    async def test_422_has_each_shape_that_users_saw(self, client: Client) -> None:
        shapes = []
        for name in ("unprocessable", "unprocessable_message", "unprocessable_error", "unprocessable_errors"):
            shapes.append(list((await client.create(name, title=name)).json()))
        assert shapes == [["images", "name"], ["message"], ["error"], ["errors"]]
        assert (await client.create("unprocessable_empty", title="empty")).content == b""

    @pytest.mark.parametrize(
        ("scenario", "status", "hint"),
        [("throttled", 429, None), ("throttled_with_hint", 429, "2"), ("unstable", 500, None)],
    )
    async def test_some_refusals_pass(self, client: Client, scenario: str, status: int, hint: str | None) -> None:
        refused = [await client.create(scenario) for _ in range(2)]
        assert [(answer.status_code, answer.headers.get("retry-after")) for answer in refused] == [(status, hint)] * 2
        made = await client.create(scenario)
        assert made.status_code == 201
        reads = [(await client.ask("GET", f"/tunes/{made.json()['id']}")).status_code for _ in range(3)]
        assert reads == [status, status, 200]

    async def test_a_lost_reply_has_made_a_tune(self, wire: Client) -> None:
        with pytest.raises(httpx2.TransportError):
            await wire.create("reply_lost")
        assert [tune["title"] for tune in (await wire.ask("GET", "/tunes")).json()] == ["run-1"]

    async def test_a_late_reply_comes(self, client: Client, simulator: AstriaSimulator) -> None:
        async with anyio.create_task_group() as tasks:
            answers: list[httpx2.Response] = []

            async def create() -> None:
                answers.append(await client.create("reply_late"))

            tasks.start_soon(create)
            with anyio.fail_after(WAIT_LIMIT_SECONDS):
                while not simulator.tunes:
                    await anyio.sleep(0.01)
            assert answers == []
            simulator.clock.advance(5)
        assert [answer.status_code for answer in answers] == [201]

    @pytest.mark.parametrize(("scenario", "made"), [("gateway_timeout_created", 1), ("gateway_timeout_lost", 0)])
    async def test_504_may_have_made_a_tune(
        self, client: Client, simulator: AstriaSimulator, scenario: str, made: int
    ) -> None:
        answer = await client.create(scenario)
        assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (504, "text/html")
        assert len((await client.ask("GET", "/tunes")).json()) == made
        assert (await client.create(scenario)).status_code == 201
        assert len(simulator.tunes) == made + 1

    async def test_with_idempotent_titles_the_second_creation_is_the_first(self) -> None:
        simulator = AstriaSimulator(idempotent_title=True)
        async with serving(simulator.app) as base_url, httpx2.AsyncClient(trust_env=False) as http:
            client = Client(http, base_url)
            assert (await client.create("gateway_timeout_created")).status_code == 504
            second = await client.create("gateway_timeout_created")
            assert second.status_code == 201
            assert list(simulator.tunes) == [second.json()["id"]]

    async def test_a_script_is_taken_in_order_and_kept_by_title(
        self, client: Client, simulator: AstriaSimulator
    ) -> None:
        simulator.script("acme", ["no_money", "immediate"])
        simulator.script("other", ["stuck"])
        assert (await client.create(title="a")).status_code == 402
        assert (await client.create(title="b")).json()["trained_at"] is not None
        assert (await client.create(title="a")).status_code == 402
        assert (await client.create(title="c")).json()["trained_at"] is None
        assert [truth.scenario for truth in simulator.truths()] == ["immediate", "success"]
        with pytest.raises(ValueError, match="no scenario"):
            simulator.script("acme", ["nonsense"])

    async def test_the_journal_has_no_key(self, client: Client, simulator: AstriaSimulator) -> None:
        await client.create()
        [heard] = simulator.journal.of("POST", "/tunes")
        assert (heard.account, heard.status, "authorization" in heard.headers) == ("acme", 201, False)


class TestCallbacks:
    async def test_the_end_is_told_once_and_unsigned(
        self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]
    ) -> None:
        heard, address = ear
        answer = await client.create(callback=address)
        simulator.clock.advance(7)
        await anyio.sleep(0.1)
        assert heard.bodies == []
        simulator.clock.advance(2)
        [body] = await heard.wait_for(1)
        assert body == {"tune": await client.tune(answer)}
        assert body["tune"]["trained_at"] is not None
        assert not [name for name in heard.headers[0] if "signature" in name or "webhook" in name]
        await anyio.sleep(0.1)
        assert [call.status for call in simulator.calls] == [200]

    @pytest.mark.parametrize("status", [500, 302])
    async def test_a_failed_callback_is_not_tried_again(
        self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str], status: int
    ) -> None:
        heard, address = ear
        heard.status = status
        await client.create(callback=address)
        simulator.clock.advance(9)
        await heard.wait_for(1)
        simulator.clock.advance(3_600)
        await anyio.sleep(0.1)
        assert [call.status for call in simulator.calls] == [status]

    @pytest.mark.parametrize(("scenario", "wrapped"), [("webhook_bare", False), ("webhook_wrapped", True)])
    async def test_it_is_bare_or_wrapped(
        self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str], scenario: str, wrapped: bool
    ) -> None:
        heard, address = ear
        answer = await client.create(scenario, callback=address)
        simulator.clock.advance(9)
        [body] = await heard.wait_for(1)
        assert (body["tune"] if wrapped else body)["id"] == answer.json()["id"]

    @pytest.mark.parametrize(
        "scenario", ["webhook_lost", "fails_while_training", "fails_at_start", "stuck", "deleted_while_training"]
    )
    async def test_it_may_never_come(
        self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str], scenario: str
    ) -> None:
        heard, address = ear
        await client.create(scenario, callback=address)
        simulator.clock.advance(3_600)
        await anyio.sleep(0.1)
        assert heard.bodies == []

    async def test_a_deleted_tune_calls_nobody(
        self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]
    ) -> None:
        heard, address = ear
        answer = await client.create(callback=address)
        await client.ask("DELETE", f"/tunes/{answer.json()['id']}")
        simulator.clock.advance(3_600)
        await anyio.sleep(0.1)
        assert heard.bodies == []

    async def test_late(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        answer = await client.create("webhook_late", callback=address)
        simulator.clock.advance(20)
        assert (await client.tune(answer))["trained_at"] is not None
        await anyio.sleep(0.1)
        assert heard.bodies == []
        simulator.clock.advance(10)
        await heard.wait_for(1)

    async def test_doubled(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        await client.create("webhook_doubled", callback=address)
        simulator.clock.advance(9)
        first, second = await heard.wait_for(2)
        assert first == second

    async def test_reordered(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        await client.create("webhook_reordered", callback=address)
        simulator.clock.advance(9)
        first, second = await heard.wait_for(2)
        assert first["tune"]["trained_at"] is not None
        assert second["tune"]["trained_at"] is None

    async def test_forged(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        answer = await client.create("webhook_forged", callback=address)
        simulator.clock.advance(5)
        lie, other = await heard.wait_for(2)
        assert lie["tune"]["id"] == answer.json()["id"] != other["tune"]["id"]
        assert lie["tune"]["trained_at"] is not None
        assert (await client.tune(answer))["trained_at"] is None

    async def test_oversized(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        await client.create("webhook_oversized", callback=address)
        simulator.clock.advance(9)
        await heard.wait_for(1)
        assert heard.sizes[0] > 2 * 1024 * 1024

    async def test_early(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        answer = await client.create("webhook_early", callback=address)
        assert len(heard.bodies) == 1  # before the answer
        assert answer.json()["id"] == heard.bodies[0]["tune"]["id"]

    async def test_prompts_are_told_too(self, client: Client, simulator: AstriaSimulator, ear: tuple[Ear, str]) -> None:
        heard, address = ear
        answer = await client.create(prompts_attributes=[{"text": "x", "callback": address}])
        simulator.clock.advance(20)
        [body] = await heard.wait_for(1)
        assert body["prompt"]["tune_id"] == answer.json()["id"]
        assert len(body["prompt"]["images"]) == 4

    async def test_an_address_without_https_is_never_called_unless_it_is_of_this_machine(
        self, client: Client, simulator: AstriaSimulator
    ) -> None:
        await client.create(callback="http://app.example/heard")
        simulator.clock.advance(9)
        with anyio.fail_after(WAIT_LIMIT_SECONDS):
            while not simulator.calls:
                await anyio.sleep(0.01)
        assert [call.status for call in simulator.calls] == [None]


class TestScenarios:
    def test_each_has_a_sentence_and_a_small_name(self) -> None:
        for name, sentence in AstriaSimulator.scenarios.items():
            assert name == name.lower()
            assert sentence.endswith(".")

    async def test_each_can_be_asked_for_by_key(self, client: Client) -> None:
        for name in AstriaSimulator.scenarios:
            if name in ("reply_lost", "reply_late"):
                continue
            answer = await client.create(name, title=f"run-{name}")
            assert answer.status_code in (201, 400, 401, 402, 422, 429, 500, 504)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
