"""What the vendor's pages and recordings show: the adapter understands it, the simulator takes and gives it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from domain.secret import Secret
from domain.training.report import HostedModel, Outcome
from domain.training.status import EndReason, Provider, RunStatus
from jobs.providers.base import (
    Account,
    CredentialRefused,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
)
from jobs.providers.replicate.seen import seen_of
from jobs.providers.replicate.trainer import ReplicateTrainer
from jobs.simulators.replicate.catalog import TRAINERS
from tests.jobs.providers.replicate import bodies
from tests.jobs.providers.replicate.stage import Stage
from tests.jobs.providers.replicate.support import Bench, position_of

pytestmark = pytest.mark.anyio


class Vendor:
    """Answers with recorded bodies, whatever it is asked."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, Any]] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.url = ""

    async def answer(self, request: Request) -> Response:
        path = request.url.path.partition("/v1")[2]
        self.asked.append(f"{path}?{request.url.query}")
        status, body = self.answers[f"{request.method} {path}"]
        return JSONResponse(body, status_code=status, headers=self.headers)


@pytest.fixture
async def vendor(stage: Stage) -> AsyncIterator[Vendor]:
    vendor = Vendor()
    app = Starlette(routes=[Route("/{path:path}", vendor.answer, methods=["GET", "POST"])])
    async with stage.shows(app) as url:
        vendor.url = url
        yield vendor


@pytest.fixture
async def trainer(bench: Bench, vendor: Vendor) -> AsyncIterator[ReplicateTrainer]:
    trainer = ReplicateTrainer(Account(Provider.REPLICATE, Secret("r8_sim_acme"), vendor.url), bench.http)
    yield trainer
    await trainer.close()


ID = bodies.TRAINING["id"]
READ = f"GET /trainings/{ID}"


async def test_a_finished_training_is_understood(bench: Bench, vendor: Vendor, trainer: ReplicateTrainer) -> None:
    vendor.answers[READ] = (200, bodies.TRAINING)

    report = await trainer.report(ID, position_of(), bench.simulator.clock.now())

    assert report.outcome == Outcome(EndReason.SUCCEEDED)
    output = bodies.TRAINING["output"]
    assert report.hosted == HostedModel(output["version"], output["weights"])
    assert report.cost_micros == round(622.7 * 1_525)
    assert report.began_at is not None
    assert report.began_at.isoformat() == "2026-11-20T10:00:41.112647+00:00"
    assert report.log is not None
    assert report.log.end == len(bodies.TRAINING["logs"])
    assert [reading.value for reading in report.readings if reading.name == "loss"] == [0.3512]


async def test_recorded_answers_to_creation_and_cancellation_are_understood(
    bench: Bench, vendor: Vendor, trainer: ReplicateTrainer
) -> None:
    version = TRAINERS[0].version
    created = {**bodies.CREATED, "id": ID}
    vendor.answers = {
        "GET /account": (200, bodies.ACCOUNT),
        "GET /models/ostris/flux-dev-lora-trainer": (200, {**bodies.MODEL, "latest_version": {"id": version}}),
        "GET /models/acme/cat-lora": (404, bodies.PROBLEMS[2][1]),
        "POST /models": (201, bodies.MODEL),
        f"POST /models/ostris/flux-dev-lora-trainer/versions/{version}/trainings": (201, created),
        READ: (200, created),
        f"POST /trainings/{ID}/cancel": (200, {**bodies.CANCELED, "id": ID}),
    }

    started = await trainer.start(bench.order(hyperparameters={"destination": "acme/cat-lora"}))

    assert started.reference == ID
    assert await trainer.whose() == "acme"
    waiting = await trainer.report(ID, position_of(), bench.simulator.clock.now())
    assert waiting.status is RunStatus.PREPARING or waiting.outcome is not None
    assert await trainer.stop(ID)
    vendor.answers[READ] = (200, {**bodies.CANCELED, "id": ID})
    ended = await trainer.report(ID, position_of(), bench.simulator.clock.now())
    assert ended.outcome == Outcome(EndReason.CANCELED_BY_OPERATOR, "canceled at Replicate")
    assert ended.cost_micros == 0


KINDS = [CredentialRefused, CredentialRefused, ProviderLost, ProviderLost, ProviderRefused, ProviderBusy, ProviderBusy]


@pytest.mark.parametrize(("problem", "kind"), list(zip(bodies.PROBLEMS, KINDS, strict=True)))
async def test_problems_are_told_apart(
    bench: Bench,
    vendor: Vendor,
    trainer: ReplicateTrainer,
    problem: tuple[int, dict[str, Any]],
    kind: type[ProviderError],
) -> None:
    vendor.answers[READ] = problem

    with pytest.raises(kind) as refused:
        await trainer.report(ID, position_of(), bench.simulator.clock.now())

    assert type(refused.value) is kind
    assert str(problem[1].get("detail", "502")).rstrip(".") in str(refused.value)
    if isinstance(refused.value, ProviderBusy) and problem[0] == 429:
        assert 29 < refused.value.retry_after_seconds <= 30


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"ratelimit-remaining": "2999", "ratelimit-reset": "1"}, 0),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "17"}, 17),
        ({"ratelimit-remaining": "0"}, 1),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "1e9"}, 600),
        ({"ratelimit-remaining": "nan", "ratelimit-reset": "soon"}, 0),
    ],
)
async def test_the_headers_of_each_answer_are_obeyed(
    bench: Bench, vendor: Vendor, trainer: ReplicateTrainer, headers: dict[str, str], seconds: float
) -> None:
    vendor.answers[READ], vendor.headers = (200, bodies.TRAINING), headers
    await trainer.report(ID, position_of(), bench.simulator.clock.now())

    if seconds == 0:
        await trainer.report(ID, position_of(), bench.simulator.clock.now())
    else:
        with pytest.raises(ProviderBusy) as busy:
            await trainer.report(ID, position_of(), bench.simulator.clock.now())
        assert seconds - 1 < busy.value.retry_after_seconds <= seconds


@pytest.mark.parametrize(
    "body", [[], "text", None, {"id": ID}, {"id": "../x", "status": "starting"}, {"results": None}]
)
async def test_nonsense_is_a_busy_provider(
    bench: Bench, vendor: Vendor, trainer: ReplicateTrainer, body: object
) -> None:
    vendor.answers = {READ: (200, body), "GET /trainings": (200, body), "GET /account": (200, body)}

    for call in (
        trainer.report(ID, position_of(), bench.simulator.clock.now()),
        trainer.find("run-1"),
        trainer.whose(),
    ):
        with pytest.raises(ProviderBusy):
            await call


async def test_one_item_that_nobody_understands_does_not_break_a_list(
    vendor: Vendor, trainer: ReplicateTrainer
) -> None:
    tag = "run-" + "ab" * 16 + "-3"
    ours = {**bodies.CREATED, "input": {"deep": [{"images": f"https://files.example/set.zip#{tag}"}]}}
    page = {"next": None, "previous": None, "results": [None, 7, {"status": "new"}, {**ours, "input": None}, ours]}
    vendor.answers["GET /trainings"] = (200, page)

    assert await trainer.alive() == {bodies.CREATED["id"]: tag}
    assert await trainer.find(tag) is not None


async def test_the_key_follows_no_address_that_a_list_names(vendor: Vendor, trainer: ReplicateTrainer) -> None:
    page = {"next": "https://attacker.example/v1/trainings?cursor=abc", "previous": None, "results": [bodies.CREATED]}
    vendor.answers["GET /trainings"] = (200, page)

    assert await trainer.find("run-1") is None

    assert vendor.asked == ["/trainings?", "/trainings?cursor=abc"]  # the vendor, and not again what it was asked


async def test_the_simulator_takes_and_gives_what_the_vendor_does(bench: Bench) -> None:
    headers = {"authorization": "Bearer r8_sim_acme"}
    made = await bench.http.post(f"{bench.base_url}/v1/models", json=bodies.MODEL_CREATION, headers=headers)
    assert (made.status_code, made.json()) == (201, bodies.MODEL)
    account = await bench.http.get(f"{bench.base_url}/v1/account", headers=headers)
    assert account.json() == bodies.ACCOUNT
    path = f"{bench.base_url}/v1/models/ostris/flux-dev-lora-trainer/versions/{TRAINERS[0].version}/trainings"

    created = await bench.http.post(path, json=bodies.CREATION, headers=headers)

    assert created.status_code == 201
    assert set(created.json()) == set(bodies.CREATED)
    training = f"{bench.base_url}/v1/trainings/{created.json()['id']}"
    canceled = await bench.http.post(f"{training}/cancel", headers=headers)
    assert set(canceled.json()) == set(bodies.CANCELED) | {"source"}
    second = await bench.http.post(path, json=bodies.CREATION, headers=headers)
    bench.simulator.clock.advance(60)
    read = (await bench.http.get(f"{bench.base_url}/v1/trainings/{second.json()['id']}", headers=headers)).json()
    assert set(read) == set(bodies.TRAINING) | {"webhook_completed"}
    for name, value in bodies.TRAINING.items():
        assert isinstance(read[name], type(value)), name
    assert set(read["output"]) == set(bodies.TRAINING["output"])
    assert set(read["metrics"]) == set(bodies.TRAINING["metrics"])


@pytest.mark.parametrize("body", [bodies.TRAINING, bodies.CREATED, bodies.CANCELED])
def test_every_shown_training_is_read(body: dict[str, Any]) -> None:
    seen = seen_of(json.loads(json.dumps(body)))

    assert (seen.id, seen.status, seen.model) == (body["id"], body["status"], body["model"])
    assert seen.created_at is not None
    assert seen.created_at.microsecond > 0
    assert seen.has_ended == ("completed_at" in body)
