"""ReplicateTrainer against the simulated Replicate: every scenario, from the order to the end."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from domain.training.report import HostedModel, Outcome
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus
from jobs.providers.base import (
    CredentialRefused,
    Position,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
    Quote,
    ReceivesCallbacks,
    RemoteTrainer,
)
from jobs.providers.replicate.trainer import ReplicateTrainer
from jobs.simulators.replicate import ReplicateSimulator
from jobs.simulators.replicate.catalog import TRAINERS
from tests.jobs.providers.replicate.stage import Stage
from tests.jobs.providers.replicate.support import (
    ANY,
    FLUX,
    GRANT,
    RUN,
    TAG,
    Bench,
    after,
    bench_of,
    position_of,
    texts,
)

pytestmark = pytest.mark.anyio

H100 = 5_490_000
"""Millionths of a dollar per hour."""
CREATION = r"/v1/models/[^/]+/[^/]+/versions/[^/]+/trainings"


async def test_it_is_a_remote_trainer_that_is_called_back(bench: Bench) -> None:
    trainer = bench.trainer()
    remote: RemoteTrainer = trainer
    assert remote.pace.first_seconds == 5
    assert not remote.bills_from_creation
    assert isinstance(trainer, ReceivesCallbacks)


async def test_a_training_is_started_followed_and_finished(bench: Bench) -> None:
    trainer = bench.trainer()

    started = await trainer.start(bench.order())

    assert started.url == f"https://replicate.com/p/{started.reference}"
    assert started.price_micros_per_hour == H100
    assert started.version == f"ostris/flux-dev-lora-trainer:{TRAINERS[0].version}"
    (asked,) = bench.simulator.journal.of("POST", CREATION)
    address = f"{bench.files_url}/download?for={TAG}&token={GRANT}"
    assert json.loads(asked.body) == {
        "input": {"input_images": address, "trigger_word": "TOK", "steps": 1000},
        "destination": "acme/minha-gata-e-linda-c0ffee01",
    }
    position = position_of(price_micros_per_hour=started.price_micros_per_hour)
    reports = [await bench.report(trainer, started, position)]
    assert (reports[0].status, reports[0].stage) == (RunStatus.PREPARING, RunStage.CREATING_SANDBOX)
    assert (reports[0].cost_micros, reports[0].log, reports[0].began_at) == (0, None, None)
    for _ in range(12):
        bench.simulator.clock.advance(0.8)
        position = after(position, reports[-1])
        reports.append(await bench.report(trainer, started, position))
    (truth,) = bench.simulator.truths()
    working = [report for report in reports if report.status is RunStatus.TRAINING]
    percents = [report.percent for report in working if report.percent is not None]
    assert len(percents) > 4
    assert percents == sorted(percents)
    assert max(percents) < 100
    assert all(report.source is ReportSource.POLL and report.began_at is not None for report in working)
    assert any(report.eta_seconds for report in working)
    assert {reading.name for report in reports for reading in report.readings} >= {"loss"}
    ended = [report for report in reports if report.outcome is not None]
    last = ended[0]
    assert last.outcome == Outcome(EndReason.SUCCEEDED)
    assert last.percent == 100.0
    assert last.hosted is not None
    assert last.hosted.version.startswith("acme/minha-gata-e-linda-c0ffee01:")
    assert last.hosted.url == f"{bench.base_url}/delivery/{started.reference}/trained_model.tar"
    costs = [report.cost_micros or 0 for report in reports]
    assert costs == sorted(costs)
    assert last.cost_micros == truth.cost_micros
    starts = [report.log.start for report in reports if report.log is not None]
    ends = [report.log.end for report in reports if report.log is not None]
    assert starts == [0, *ends[:-1]]
    said = texts(reports)
    assert "Packing weights into trained_model.tar" in said
    assert said[-1] == "Uploading weights"
    assert (truth.state, truth.tag) == ("succeeded", TAG)


async def test_many_runs_share_one_account(bench: Bench) -> None:
    trainer = bench.trainer()
    orders = [bench.order(attempt=attempt) for attempt in range(1, 13)]

    started = await asyncio.gather(*(trainer.start(order) for order in orders))

    assert len({one.reference for one in started}) == len(bench.simulator.truths()) == 12
    bench.simulator.clock.advance(30)
    reports = await asyncio.gather(*(bench.report(trainer, one) for one in started))
    assert [report.outcome for report in reports] == [Outcome(EndReason.SUCCEEDED)] * 12
    assert len({report.hosted.version for report in reports if report.hosted is not None}) == 12


async def test_the_creation_names_the_webhook_and_its_events(bench: Bench) -> None:
    await bench.trainer().start(bench.order(calls_back=True))

    (asked,) = bench.simulator.journal.of("POST", CREATION)
    assert json.loads(asked.body)["webhook"] == f"{bench.door.url}?run={TAG}"
    assert json.loads(asked.body)["webhook_events_filter"] == ["start", "logs", "completed"]


async def test_what_is_given_decides(bench: Bench) -> None:
    trainer = bench.trainer(prices={"gpu-h100": 7_200_000})
    version = TRAINERS[0].version
    wishes = {
        "trainer": f"ostris/flux-dev-lora-trainer:{version}",
        "destination": "acme/mine",
        "visibility": "public",
        "hardware": "gpu-l40s",
        "billedHardware": "gpu-h100-2x",
        "input": {"lora_rank": 32, "steps": 5},
    }

    for attempt in (1, 2):
        started = await trainer.start(bench.order(attempt=attempt, hyperparameters=wishes))

    assert started.price_micros_per_hour == 14_400_000
    bodies = [json.loads(heard.body) for heard in bench.simulator.journal.of("POST", "/v1/models")]
    assert bodies == [{"owner": "acme", "name": "mine", "visibility": "public", "hardware": "gpu-l40s"}]
    given = json.loads(bench.simulator.journal.of("POST", CREATION)[0].body)
    assert given["destination"] == "acme/mine"
    assert (given["input"]["lora_rank"], given["input"]["steps"]) == (32, 1000)
    assert bench.asked("GET", "/v1/models/ostris/flux-dev-lora-trainer") == 0


async def test_a_destination_that_somebody_makes_meanwhile_is_fine(bench: Bench) -> None:
    started = await bench.trainer("conflict").start(bench.order())

    assert [heard.status for heard in bench.simulator.journal.of("POST", "/v1/models")] == [409]
    assert [truth.reference for truth in bench.simulator.truths()] == [started.reference]


@pytest.mark.parametrize(
    ("hyperparameters", "words"),
    [
        ({"trainer": "nobody/nothing"}, "Replicate has no trainer nobody/nothing."),
        ({"trainer": "../account"}, "must be written as owner/name"),
        ({"trainer": f"ostris/flux-dev-lora-trainer:{'0' * 64}"}, "Invalid version or not permitted"),
        ({"destination": "other/model"}, "You do not have permission"),
        ({"destination": "acme/a/b"}, "must be written as owner/name"),
        ({"steps": 2}, "input.steps: Must be greater than or equal to 3"),
    ],
)
async def test_orders_that_cannot_be_met_are_refused(
    bench: Bench, hyperparameters: dict[str, object], words: str
) -> None:
    with pytest.raises(ProviderRefused, match=words):
        await bench.trainer().start(bench.order(hyperparameters=hyperparameters))

    assert bench.simulator.truths() == []


async def test_flux_needs_pictures(bench: Bench) -> None:
    with pytest.raises(ProviderRefused, match="a dataset in the format ZIP is needed"):
        await bench.trainer().start(bench.order(dataset=None))


@pytest.mark.parametrize(
    ("scenario", "kind", "words"),
    [
        ("unauthorized", CredentialRefused, "Replicate answered 401: Unauthenticated"),
        ("no_money", CredentialRefused, "Replicate answered 402: Billing required"),
        ("unprocessable", ProviderRefused, "Replicate answered 422: Invalid version or not permitted"),
    ],
)
async def test_refusals_say_why(bench: Bench, scenario: str, kind: type[ProviderError], words: str) -> None:
    with pytest.raises(kind, match=words) as refused:
        await bench.trainer(scenario).start(bench.order())

    assert type(refused.value) is kind
    assert "r8_sim" not in str(refused.value)
    assert bench.simulator.truths() == []


@pytest.mark.parametrize("scenario", ["reply_lost", "reply_late", "created_504"])
async def test_what_was_created_with_a_lost_answer_is_found(bench: Bench, scenario: str) -> None:
    trainer = bench.trainer(scenario, create_seconds=0.3)
    assert await trainer.find(TAG) is None

    with pytest.raises(ProviderBusy, match="the answer was lost"):
        await trainer.start(bench.order())

    (truth,) = bench.simulator.truths()
    found = await trainer.find(TAG)
    assert found is not None
    assert (found.reference, found.url) == (truth.reference, f"https://replicate.com/p/{truth.reference}")
    assert found.price_micros_per_hour == truth.price_micros_per_hour == H100
    assert found.version == f"ostris/flux-dev-lora-trainer:{TRAINERS[0].version}"
    assert await bench.trainer(account="other").find(TAG) is None


async def test_a_server_that_is_not_there_is_busy(bench: Bench) -> None:
    bench.base_url = "http://127.0.0.1:9"
    trainer = bench.trainer()
    for call in (trainer.start(bench.order()), trainer.find(TAG), trainer.stop("a" * 26), trainer.whose()):
        with pytest.raises(ProviderBusy, match=r"could not be reached \(Connect") as busy:
            await call
        assert "lost" not in str(busy.value)


async def test_tags_are_found_whole_over_pages_and_past_what_the_sdk_cannot_read(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(page_size=2)) as bench:
        bench.simulator.script("acme", ["success", "aborted", "success", "aborted", "success"])
        trainer = bench.trainer()
        attempts = [12, 1, 11, 2, 3]
        made = {attempt: (await trainer.start(bench.order(attempt=attempt))).reference for attempt in attempts}
        bench.simulator.clock.advance(1.6)

        found = {attempt: await trainer.find(f"run-{RUN.hex}-{attempt}") for attempt in attempts}

        assert {attempt: one.reference for attempt, one in found.items() if one is not None} == made
        assert await trainer.find(f"run-{RUN.hex}-4") is None
        alive = await trainer.alive()
        assert alive == {made[attempt]: f"run-{RUN.hex}-{attempt}" for attempt in (12, 11, 3)}


async def test_the_search_goes_back_so_far_and_no_further(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(page_size=1)) as bench:
        trainer = bench.trainer(look_back_seconds=60)
        for attempt in (1, 2, 3):
            await trainer.start(bench.order(attempt=attempt))
            bench.simulator.clock.advance(50)

        assert await trainer.find(f"run-{RUN.hex}-9") is None

        assert bench.asked("GET", "/v1/trainings") == 3
        bench.simulator.clock.advance(1_000)
        await trainer.start(bench.order(attempt=4))
        assert await trainer.find(f"run-{RUN.hex}-9") is None
        assert bench.asked("GET", "/v1/trainings") == 5


async def test_without_a_dataset_the_tag_is_a_fragment_of_an_address(bench: Bench) -> None:
    trainer = bench.trainer()
    order = bench.order(
        recipe="replicate-trainer",
        dataset=None,
        hyperparameters={"input": {"words": "one", "train_data": "https://files.example/data.jsonl"}},
    )

    started = await trainer.start(order)

    (asked,) = bench.simulator.journal.of("POST", CREATION)
    assert json.loads(asked.body)["input"] == {
        "words": "one",
        "train_data": f"https://files.example/data.jsonl#{TAG}",
    }
    found = await trainer.find(TAG)
    assert found is not None
    assert found.reference == started.reference
    assert started.price_micros_per_hour == 3_510_000


async def test_without_any_address_its_destination_tells(bench: Bench) -> None:
    trainer = bench.trainer()
    orders = [
        bench.order(recipe="replicate-trainer", dataset=None, attempt=attempt, hyperparameters={"input": {"n": 1}})
        for attempt in (1, 2)
    ]
    started = [await trainer.start(order) for order in orders]
    bench.simulator.clock.advance(20)

    found = [await trainer.find(order.tag) for order in orders]

    assert [one.reference for one in found if one is not None] == [one.reference for one in started]
    names = [json.loads(heard.body)["name"] for heard in bench.simulator.journal.of("POST", "/v1/models")]
    assert names == ["minha-gata-e-linda-c0ffee01", "minha-gata-e-linda-c0ffee01-2"]


@pytest.mark.parametrize(
    ("scenario", "reason", "words"),
    [
        ("success", EndReason.SUCCEEDED, ""),
        ("nine_digits", EndReason.SUCCEEDED, ""),
        ("fails_at_start", EndReason.CODE_ERROR, "Director: unexpected error handling prediction (E8765)"),
        ("fails_while_training", EndReason.CODE_ERROR, "CUDA error: an illegal memory access was encountered\nLast"),
        ("bad_data", EndReason.DATA_ERROR, "input_images: the archive holds no images\nLast lines of the log:"),
        ("aborted", EndReason.PROVIDER_ERROR, "Replicate aborted it before it began."),
        ("canceled_elsewhere", EndReason.CANCELED_BY_OPERATOR, "canceled at Replicate"),
    ],
)
async def test_ends(bench: Bench, scenario: str, reason: EndReason, words: str) -> None:
    trainer = bench.trainer(scenario)
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(30)

    report = await bench.report(trainer, started)

    assert report.outcome is not None
    assert report.outcome.end_reason is reason
    assert (report.outcome.message or "").startswith(words)
    assert (report.hosted is not None) == report.outcome.succeeded
    assert (report.status, report.stage) == (None, None)
    assert report.cost_micros == bench.simulator.truths()[0].cost_micros
    if scenario == "fails_while_training":
        assert (report.outcome.message or "").endswith(
            "RuntimeError: CUDA error: an illegal memory access was encountered"
        )
        assert "Traceback (most recent call last):" in texts([report])
    if scenario == "nine_digits":
        assert report.began_at is not None
        assert report.began_at.tzinfo is UTC


@pytest.mark.parametrize(("scenario", "percent"), [("stuck", 40), ("frozen_at_99", 99)])
async def test_what_never_ends_is_told_as_it_is(bench: Bench, scenario: str, percent: float) -> None:
    trainer = bench.trainer(scenario)
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(1.5)
    await bench.report(trainer, started)
    bench.simulator.clock.advance(10_000)

    report = await bench.report(trainer, started)

    assert (report.outcome, report.status) == (None, RunStatus.TRAINING)
    assert report.percent == pytest.approx(percent, abs=1)
    assert not report.vanished
    assert report.cost_micros == pytest.approx(10_000 * 1_525, rel=0.01)
    again = await bench.report(trainer, started, after(position_of(), report))
    assert again.log is None


async def test_data_that_is_refused_is_the_datas_fault(bench: Bench) -> None:
    trainer = bench.trainer()
    started = await trainer.start(bench.order(dataset=bench.dataset(token="expired")))
    bench.simulator.clock.advance(5)

    report = await bench.report(trainer, started)

    assert report.outcome is not None
    assert report.outcome.end_reason is EndReason.DATA_ERROR
    assert (report.outcome.message or "").startswith("Failed to download input_images: the server answered 403")


async def test_whoever_gets_no_machine_in_time_is_canceled(bench: Bench) -> None:
    trainer = bench.trainer("no_capacity", starting_limit_seconds=600)
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(590)
    assert (await bench.report(trainer, started)).outcome is None
    bench.simulator.clock.advance(20)

    report = await bench.report(trainer, started)

    assert report.outcome == Outcome(EndReason.NO_CAPACITY, "Replicate had no machine for it within 10 minutes.")
    assert report.cost_micros == 0
    assert [(truth.state, truth.is_alive) for truth in bench.simulator.truths()] == [("canceled", False)]
    assert (await bench.report(trainer, started)).outcome == report.outcome


async def test_what_vanished_is_lost(bench: Bench) -> None:
    trainer = bench.trainer("not_found_later")
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(10)

    with pytest.raises(ProviderLost, match="could not be found"):
        await bench.report(trainer, started)
    with pytest.raises(ProviderLost):
        await trainer.report("../account", position_of(), datetime(2026, 1, 1, tzinfo=UTC))
    assert await trainer.stop(started.reference)


async def test_a_throttled_account_waits_as_long_as_it_is_told(bench: Bench) -> None:
    trainer = bench.trainer("throttled")
    with pytest.raises(ProviderBusy, match="429: Request was throttled") as busy:
        await trainer.start(bench.order())
    assert 0.5 < busy.value.retry_after_seconds <= 1
    asked = len(bench.simulator.journal.entries)

    with pytest.raises(ProviderBusy, match="rate limit for this account is used up"):
        await trainer.report("a" * 26, position_of(), bench.simulator.clock.now())

    assert len(bench.simulator.journal.entries) == asked


async def test_an_account_stops_before_its_quota_is_passed(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(requests_per_minute=4)) as bench:
        trainer = bench.trainer()
        started = await trainer.start(
            bench.order(hyperparameters={"trainer": f"{FLUX['trainer']}:{TRAINERS[0].version}"})
        )

        with pytest.raises(ProviderBusy) as busy:
            await bench.report(trainer, started)

        assert 50 < busy.value.retry_after_seconds <= 60
        assert len(bench.simulator.journal.entries) == 4
        assert all(heard.status != 429 for heard in bench.simulator.journal.entries)


async def test_an_unstable_server_is_busy_and_then_fine(bench: Bench) -> None:
    trainer = bench.trainer("unstable")
    for status in (503, 500):
        with pytest.raises(ProviderBusy, match=f"Replicate answered {status}"):
            await trainer.start(bench.order())
        assert await trainer.find(TAG) is None
    started = await trainer.start(bench.order())
    for status in (502, 500):
        with pytest.raises(ProviderBusy, match=f"Replicate answered {status}"):
            await bench.report(trainer, started)

    assert (await bench.report(trainer, started)).status is RunStatus.PREPARING


@pytest.mark.parametrize(("after_seconds", "state"), [(0, "canceled"), (4, "canceled"), (30, "succeeded")])
async def test_stopping_is_confirmed_and_can_be_asked_twice(bench: Bench, after_seconds: float, state: str) -> None:
    trainer = bench.trainer()
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(after_seconds)

    assert await trainer.stop(started.reference)
    assert await trainer.stop(started.reference)

    assert [(truth.state, truth.is_alive) for truth in bench.simulator.truths()] == [(state, False)]
    report = await bench.report(trainer, started)
    assert report.outcome is not None
    assert report.cost_micros == bench.simulator.truths()[0].cost_micros


async def test_a_stop_that_takes_its_time_is_not_confirmed_before(bench: Bench) -> None:
    trainer = bench.trainer("cancel_late")
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(3)

    assert not await trainer.stop(started.reference)
    bench.simulator.clock.advance(3)

    assert await trainer.stop(started.reference)


async def test_what_the_sdk_cannot_read_is_stopped_all_the_same(bench: Bench) -> None:
    trainer = bench.trainer("aborted")
    started = await trainer.start(bench.order())
    bench.simulator.clock.advance(3)

    assert await trainer.stop(started.reference)
    assert await trainer.stop("0" * 26)
    with pytest.raises(CredentialRefused):
        await bench.trainer("unauthorized").stop(started.reference)


async def test_finished_models_are_read_by_each_of_their_names(bench: Bench) -> None:
    trainer = bench.trainer()
    started = await trainer.start(bench.order())
    with pytest.raises(ProviderRefused, match="has not succeeded: its status is starting"):
        await trainer.finished(started.reference)
    with pytest.raises(ProviderRefused, match="has no version yet"):
        await trainer.finished("acme/minha-gata-e-linda-c0ffee01")
    bench.simulator.clock.advance(30)

    by_training = await trainer.finished(started.reference)

    assert by_training.reference == started.reference
    assert by_training.url == f"{bench.base_url}/delivery/{started.reference}/trained_model.tar"
    assert by_training.finished_at is not None
    hosted = (await bench.report(trainer, started)).hosted
    assert hosted == HostedModel(by_training.version, by_training.url)
    assert await trainer.finished(by_training.version) == by_training
    assert await trainer.finished("acme/minha-gata-e-linda-c0ffee01") == by_training
    public = await trainer.finished("ostris/flux-dev-lora-trainer")
    assert (public.version, public.reference) == (f"ostris/flux-dev-lora-trainer:{TRAINERS[0].version}", None)
    for missing in (f"acme/nothing:{'0' * 64}", "acme/nothing", "z" * 26):
        with pytest.raises(ProviderLost):
            await trainer.finished(missing)
    with pytest.raises(ProviderRefused, match="is named owner/name"):
        await trainer.finished("../account")


async def test_whose_quotes_and_what_is_alive(bench: Bench) -> None:
    trainer = bench.trainer()
    assert await trainer.whose() == "acme"
    with pytest.raises(CredentialRefused):
        await bench.trainer("unauthorized").whose()
    quote = Quote("gpu-h100", H100, None, None, None)
    assert await trainer.quotes(["NVIDIA L4"], FLUX) == [quote]
    assert await trainer.quotes([], {**ANY, "billedHardware": "gpu-unheard-of"}) == [
        Quote("gpu-unheard-of", None, None, None, None)
    ]
    started = await trainer.start(bench.order())
    assert await trainer.alive() == {started.reference: TAG}
    bench.simulator.clock.advance(30)
    assert await trainer.alive() == {}


async def test_a_long_log_comes_in_portions_and_at_the_end_at_once(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(oversized_characters=2_000_000)) as bench:
        trainer = bench.trainer("webhook_oversized")
        started = await trainer.start(bench.order())
        bench.simulator.clock.advance(6)
        first = await bench.report(trainer, started)
        second = await bench.report(trainer, started, after(position_of(), first))
        bench.simulator.clock.advance(30)
        position: Position = after(position_of(), second)

        last = await bench.report(trainer, started, position)

    for report in (first, second):
        assert report.log is not None
        assert 200_000 < report.log.end - report.log.start <= 256 * 1024
    assert last.outcome == Outcome(EndReason.SUCCEEDED)
    assert last.log is not None
    assert last.log.end > 2_000_000
    said = texts([last])
    assert sum(len(text) for text in said) < 300_000
    assert any("characters of the log are left out here" in text for text in said)
    assert said[-1] == "Uploading weights"


async def test_importing_the_adapter_does_not_import_the_sdk() -> None:
    import subprocess
    import sys

    program = "import sys, jobs.providers.replicate.trainer; sys.exit('replicate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: ASYNC221


async def test_the_key_is_in_no_representation(bench: Bench) -> None:
    trainer: ReplicateTrainer = bench.trainer()
    assert "r8_sim" not in repr(trainer) + repr(trainer.account)
