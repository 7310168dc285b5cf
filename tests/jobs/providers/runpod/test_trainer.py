"""The adapter against the simulator, each scenario; and the SDK where it serves."""

from datetime import timedelta
from typing import Any

import anyio
import httpx2
import pytest

from domain.secret import Secret
from domain.training.fold import LOST_AFTER_SECONDS
from domain.training.report import Outcome, Report
from domain.training.status import EndReason, Provider, ReportSource, RunStage, RunStatus
from jobs.providers.base import (
    Account,
    CredentialRefused,
    DatasetOrder,
    NoCapacity,
    ProviderBusy,
    ProviderRefused,
    RemoteTrainer,
)
from jobs.providers.runpod import pods
from jobs.providers.runpod.trainer import IMAGE, RunPodTrainer
from jobs.simulators.kit import SimulatorClock
from jobs.simulators.runpod import RunPodSimulator
from tests.jobs.providers.runpod.conftest import GPU, RUN, TAG, TOKEN, account_of, order_of, position_of

pytestmark = pytest.mark.anyio
GRANT = "rwg_" + "g" * 43
DATA = DatasetOrder("http://127.0.0.1:9/datasets/download", Secret(GRANT), "CSV", 7, "ab" * 32)


@pytest.fixture(params=["http", "sdk"])
def way(request: pytest.FixtureRequest, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Reads are sent by ourselves, or by the vendor's SDK where it would ask the same address."""
    monkeypatch.delenv(pods.SDK_ADDRESS, raising=False)
    if request.param == "sdk":
        monkeypatch.setenv(pods.SDK_ADDRESS, url)
    assert pods.sdk_serves(url) is (request.param == "sdk")
    return str(request.param)


def with_scenario(url: str, http: httpx2.AsyncClient, scenario: str, **options: Any) -> RunPodTrainer:
    return RunPodTrainer(account_of(url, scenario), http, list_seconds=0.0, **options)


class TestStart:
    async def test_the_pod_is_what_was_ordered(
        self, trainer: RunPodTrainer, simulator: RunPodSimulator, clock: SimulatorClock
    ) -> None:
        wished = {"diskGb": 80, "cloud": "COMMUNITY"}
        started = await trainer.start(order_of("https://home.example", DATA, hyperparameters=wished, keep_seconds=60))

        (heard,) = simulator.journal.of("POST", "/v2/pods")
        (truth,) = simulator.truths()
        assert (started.reference, started.price_micros_per_hour, started.url) == (truth.reference, 340_000, None)
        assert (truth.tag, truth.account, heard.status) == (TAG, "acme", 201)
        pod = simulator.state("acme").pods[started.reference].json(clock.now())
        assert (pod["gpu"], pod["image"], pod["disk"], pod["cloud"]) == (
            {"id": GPU, "count": 1},
            IMAGE,
            80,
            "COMMUNITY",
        )
        assert pod["args"].startswith("bash -c '")
        packed = {"RUNWIRE_SCRIPT", "RUNWIRE_REPORTER", "RUNWIRE_CARRIER"}
        assert {name: value for name, value in pod["env"].items() if name not in packed} == {
            "RUNWIRE_URL": "https://home.example",
            "RUNWIRE_TOKEN": TOKEN,
            "RUNWIRE_RUN_ID": str(RUN),
            "RUNWIRE_ATTEMPT": "1",
            "RUNWIRE_TIME_LIMIT_SECONDS": "600",
            "RUNWIRE_KEEP_SECONDS": "60",
            "RUNWIRE_PATIENCE_SECONDS": "60",
            "RUNWIRE_DATASET_URL": DATA.url,
            "RUNWIRE_DATASET_TOKEN": GRANT,
            "RUNWIRE_DATASET_BYTES": "7",
            "RUNWIRE_DATASET_SHA256": "ab" * 32,
            "RUNWIRE_DATASET_FORMAT": "CSV",
        }
        assert all(len(pod["env"][name]) < 32_768 for name in packed)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"gpu_type": None}, "A pod needs a GPU type"),
            ({"home": None}, "there is no address"),
            ({"hyperparameters": {"diskGb": 0}}, "diskGb is a whole number"),
            ({"hyperparameters": {"cloud": "MINE"}}, "cloud is SECURE or COMMUNITY"),
            ({"gpu_type": "NVIDIA Abacus"}, "RunPod answered 400: unknown GPU type NVIDIA Abacus"),
        ],
    )
    async def test_orders_that_cannot_be_met(
        self, trainer: RunPodTrainer, simulator: RunPodSimulator, change: dict[str, Any], words: str
    ) -> None:
        with pytest.raises(ProviderRefused, match=words):
            await trainer.start(order_of(**change))
        assert simulator.truths() == []

    @pytest.mark.parametrize(
        ("scenario", "error", "words"),
        [
            ("no_capacity", NoCapacity, "RunPod has no free machine of this kind: There are no longer any instances"),
            ("no_capacity_500", NoCapacity, "does not have the resources to deploy your pod"),
            ("unauthorized", CredentialRefused, "RunPod refused the key."),
            ("no_access", CredentialRefused, "The key may not do this at RunPod: access denied"),
            ("no_money", CredentialRefused, "The balance at RunPod is too low: insufficient balance"),
            ("unprocessable", ProviderRefused, "Request validation failed.; \\$.image: image"),
            ("throttled", ProviderBusy, "RunPod takes no more requests for now."),
            ("unstable", ProviderBusy, "RunPod answered 500: internal server error"),
        ],
    )
    async def test_refusals(
        self, url: str, http: httpx2.AsyncClient, scenario: str, error: type[Exception], words: str
    ) -> None:
        with pytest.raises(error, match=words) as refused:
            await with_scenario(url, http, scenario).start(order_of())
        assert type(refused.value) is error or scenario == "unstable"
        assert (scenario == "no_capacity") <= isinstance(refused.value, ProviderBusy)

    async def test_capacity_that_comes_back(self, url: str, http: httpx2.AsyncClient) -> None:
        trainer = with_scenario(url, http, "no_capacity_twice")
        for _ in range(2):
            with pytest.raises(NoCapacity):
                await trainer.start(order_of())
        assert (await trainer.start(order_of())).price_micros_per_hour == 690_000

    async def test_a_lost_answer_is_found_by_its_tag(
        self, url: str, http: httpx2.AsyncClient, simulator: RunPodSimulator
    ) -> None:
        trainer = with_scenario(url, http, "reply_lost")
        assert await trainer.find(TAG) is None
        with pytest.raises(ProviderBusy, match="the answer was lost"):
            await trainer.start(order_of())
        found = await trainer.find(TAG)
        assert found is not None
        assert (found.reference, found.price_micros_per_hour) == (simulator.truths()[0].reference, 690_000)

    async def test_refusals_show_no_secret(self, url: str, http: httpx2.AsyncClient) -> None:
        with pytest.raises(ProviderRefused) as refused:
            await RunPodTrainer(account_of(url), http).start(order_of(gpu_type=f"x{TOKEN}y"))
        assert TOKEN not in str(refused.value) and "•••" in str(refused.value)

    async def test_nobody_there(self, http: httpx2.AsyncClient) -> None:
        trainer = RunPodTrainer(account_of("http://127.0.0.1:9"), http)
        with pytest.raises(ProviderBusy, match="ConnectError"):
            await trainer.start(order_of())


class TestReport:
    async def test_a_pod_that_comes_up(self, trainer: RunPodTrainer, clock: SimulatorClock) -> None:
        pod = await trainer.start(order_of())
        for seconds in (0, 10, 20, 60):
            clock.advance(seconds)
            report = await trainer.report(pod.reference, position_of(), clock.now())
            assert (report.status, report.stage) == (RunStatus.PREPARING, RunStage.CREATING_SANDBOX)
            assert (report.outcome, report.suspicion) == (None, None)
        assert report.cost_micros == round(690_000 * 90 / 3600)

    async def test_a_pod_that_was_heard(self, trainer: RunPodTrainer, clock: SimulatorClock) -> None:
        pod = await trainer.start(order_of())
        clock.advance(3_600)
        heard = clock.now() - timedelta(seconds=20)
        report = await trainer.report(pod.reference, position_of(heard_at=heard, known_cost_micros=1), clock.now())
        assert report == Report(source=ReportSource.POLL, attempt=1, at=clock.now(), cost_micros=690_000)
        assert report.says_nothing

    async def test_silence_is_suspected(self, trainer: RunPodTrainer, clock: SimulatorClock) -> None:
        pod = await trainer.start(order_of())
        clock.advance(600)
        heard = clock.now() - timedelta(seconds=91)
        report = await trainer.report(pod.reference, position_of(heard_at=heard), clock.now())
        assert (report.suspicion, report.outcome) == ("No heartbeat for 91 s", None)
        assert LOST_AFTER_SECONDS == 90

    async def test_a_script_that_never_begins(self, url: str, http: httpx2.AsyncClient, clock: SimulatorClock) -> None:
        trainer = with_scenario(url, http, "no_runtime")
        pod = await trainer.start(order_of())
        clock.advance(890)
        assert (await trainer.report(pod.reference, position_of(), clock.now())).outcome is None
        clock.advance(20)
        report = await trainer.report(pod.reference, position_of(), clock.now())
        words = "The pod's script never began: nothing was heard of it for 15 minutes (the pod is RUNNING)."
        assert report.outcome == Outcome(EndReason.PROVIDER_ERROR, words)
        assert report.cost_micros is not None
        assert 170_000 < report.cost_micros < 500_000

    @pytest.mark.parametrize("gpu_type", ["NVIDIA H100 80GB HBM3", "NVIDIA B200"])
    async def test_a_dear_machine_gets_less_time(
        self, url: str, http: httpx2.AsyncClient, clock: SimulatorClock, gpu_type: str
    ) -> None:
        trainer = with_scenario(url, http, "stuck_starting")
        pod = await trainer.start(order_of(gpu_type=gpu_type))
        while (report := await trainer.report(pod.reference, position_of(), clock.now())).outcome is None:
            clock.advance(15)
        assert report.outcome.end_reason is EndReason.PROVIDER_ERROR
        assert report.cost_micros is not None
        assert report.cost_micros < 500_000

    @pytest.mark.parametrize(
        ("scenario", "suspicion", "reason"),
        [
            ("exits", "The pod's container exited without a word of its script.", None),
            ("pod_vanished", "RunPod does not know the pod any more.", None),
            ("not_found_later", "RunPod does not know the pod any more.", None),
            ("fails_at_start", None, EndReason.PROVIDER_ERROR),
            ("breaks", None, EndReason.PROVIDER_ERROR),
        ],
    )
    async def test_ends_without_a_word(
        self,
        url: str,
        http: httpx2.AsyncClient,
        clock: SimulatorClock,
        way: str,
        scenario: str,
        suspicion: str | None,
        reason: EndReason | None,
    ) -> None:
        trainer = with_scenario(url, http, scenario)
        pod = await trainer.start(order_of())
        clock.advance(100)
        position = position_of(heard_at=clock.now() - timedelta(seconds=5), known_cost_micros=7_000_000)
        report = await trainer.report(pod.reference, position, clock.now())
        assert report.suspicion == suspicion
        assert (report.outcome.end_reason if report.outcome else None) == reason
        assert report.cost_micros == 7_000_000, "the cost never falls"

    async def test_a_pod_that_is_hidden_at_first(
        self, url: str, http: httpx2.AsyncClient, clock: SimulatorClock, way: str
    ) -> None:
        trainer = with_scenario(url, http, "hidden_at_first")
        pod = await trainer.start(order_of())
        clock.advance(4)
        report = await trainer.report(pod.reference, position_of(), clock.now())
        assert (report.suspicion, report.outcome) == (None, None)
        assert await trainer.stop(pod.reference) is False, "what was never seen is not taken for gone"
        clock.advance(1)
        assert (await trainer.report(pod.reference, position_of(), clock.now())).stage is RunStage.CREATING_SANDBOX
        assert await trainer.stop(pod.reference) is True

    async def test_one_list_serves_many_runs(
        self, url: str, http: httpx2.AsyncClient, simulator: RunPodSimulator, clock: SimulatorClock
    ) -> None:
        trainer = RunPodTrainer(account_of(url), http)
        references = [(await trainer.start(order_of(attempt=number))).reference for number in range(1, 21)]
        reports: list[Report] = []

        async def ask(reference: str) -> None:
            reports.append(await trainer.report(reference, position_of(), clock.now()))

        async with anyio.create_task_group() as group:
            for reference in references:
                group.start_soon(ask, reference)
        assert len(reports) == 20
        assert len(simulator.journal.of("GET", "/v2/pods")) == 1
        assert simulator.journal.of("GET", "/v2/pods/.+") == []


class TestQuota:
    async def test_reads_stop_before_nothing_is_left(
        self, url: str, http: httpx2.AsyncClient, simulator: RunPodSimulator, clock: SimulatorClock
    ) -> None:
        """A list that is some seconds old serves on; ending a pod is what the rest is kept for."""
        simulator.quotas = (20, 3_000, 50_000)
        trainer = RunPodTrainer(account_of(url, key="rpa_sim_busy"), http, list_seconds=0.0)
        pod = await trainer.start(order_of())
        for _ in range(30):
            report = await trainer.report(pod.reference, position_of(), clock.now())
            assert report.stage is RunStage.CREATING_SANDBOX
        assert len(simulator.journal.of("GET", "/v2/pods")) == 17
        with pytest.raises(ProviderBusy) as busy:
            await trainer.find(TAG)
        assert 50 < busy.value.retry_after_seconds <= 60
        assert await trainer.stop(pod.reference) is True
        assert [truth.is_alive for truth in simulator.truths()] == [False]
        assert [heard for heard in simulator.journal.entries if heard.status == 429] == []

    async def test_a_refusal_is_waited_for(
        self, url: str, http: httpx2.AsyncClient, simulator: RunPodSimulator
    ) -> None:
        trainer = with_scenario(url, http, "throttled")
        with pytest.raises(ProviderBusy) as busy:
            await trainer.start(order_of())
        assert busy.value.retry_after_seconds == 1.0
        with pytest.raises(ProviderBusy, match="used up for now"):
            await trainer.start(order_of())
        assert len(simulator.journal.of("POST", "/v2/pods")) == 1


class TestStop:
    async def test_it_is_done_once_a_read_shows_nothing(
        self, trainer: RunPodTrainer, simulator: RunPodSimulator, way: str
    ) -> None:
        pod = await trainer.start(order_of())
        assert await trainer.stop(pod.reference) is True
        assert [truth.is_alive for truth in simulator.truths()] == [False]
        trainer._unseen.clear()
        assert await trainer.stop(pod.reference) is True
        assert await trainer.stop("nothing/../of?ours") is True

    async def test_a_pod_that_lingers(
        self, url: str, http: httpx2.AsyncClient, clock: SimulatorClock, way: str
    ) -> None:
        trainer = with_scenario(url, http, "lingers")
        pod = await trainer.start(order_of())
        assert await trainer.stop(pod.reference) is False
        clock.advance(3)
        assert await trainer.stop(pod.reference) is True

    async def test_a_conflict_is_tried_again(self, url: str, http: httpx2.AsyncClient) -> None:
        trainer = with_scenario(url, http, "conflict")
        pod = await trainer.start(order_of())
        assert await trainer.stop(pod.reference) is False
        assert await trainer.stop(pod.reference) is True

    async def test_a_wrong_key_confirms_nothing(self, url: str, http: httpx2.AsyncClient) -> None:
        with pytest.raises(CredentialRefused):
            await with_scenario(url, http, "unauthorized").stop("x7k2p0qh4m1zsd")


class TestLookingUp:
    async def test_what_is_alive(self, trainer: RunPodTrainer, http: httpx2.AsyncClient, url: str) -> None:
        ours = await trainer.start(order_of())
        ended = await trainer.start(order_of(attempt=2))
        await trainer.stop(ended.reference)
        body = {"name": "somebody's", "image": IMAGE, "gpu": {"id": GPU}}
        headers = {"Authorization": f"Bearer {trainer.account.api_key.reveal()}"}
        assert (await http.post(f"{url}/v2/pods", json=body, headers=headers)).status_code == 201
        assert await trainer.alive() == {ours.reference: TAG}
        assert await RunPodTrainer(account_of(url, key="rpa_sim_other"), http).alive() == {}

    async def test_whose_it_is(self, trainer: RunPodTrainer, url: str, http: httpx2.AsyncClient) -> None:
        await trainer.start(order_of())
        assert await trainer.whose() == "A RunPod account with 1 pod"
        with pytest.raises(CredentialRefused):
            await with_scenario(url, http, "unauthorized").whose()

    async def test_prices_and_stock(self, trainer: RunPodTrainer, simulator: RunPodSimulator, way: str) -> None:
        simulator.sold_out.add("NVIDIA L4")
        wanted = [GPU, "NVIDIA Abacus", "NVIDIA L4"]
        found = [
            (quote.gpu_type, quote.price_micros_per_hour, quote.flat_micros, quote.is_available)
            for quote in await trainer.quotes(wanted, {})
        ]
        assert found == [(GPU, 690_000, None, True), ("NVIDIA L4", 390_000, None, False)]
        (one,) = await trainer.quotes([GPU], {})
        assert (one.gpu_type, one.price_micros_per_hour) == (GPU, 690_000)
        assert await trainer.quotes(["NVIDIA Abacus"], {}) == []
        (community,) = await trainer.quotes([GPU], {"cloud": "COMMUNITY"})
        assert community.price_micros_per_hour == 340_000

    async def test_nothing_is_kept_there(self, trainer: RunPodTrainer) -> None:
        with pytest.raises(ProviderRefused, match="RunPod keeps no models"):
            await trainer.finished("x7k2p0qh4m1zsd")
        assert isinstance(trainer, RemoteTrainer)
        assert trainer.bills_from_creation


class TestTheSdk:
    async def test_it_is_used_for_single_reads_with_the_accounts_own_key(
        self, url: str, http: httpx2.AsyncClient, simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import runpod  # type: ignore[import-untyped]  # the SDK has no types

        monkeypatch.setenv(pods.SDK_ADDRESS, url)
        monkeypatch.setattr(runpod, "api_key", "rpa_sim_somebody-else")
        trainer = RunPodTrainer(account_of(url), http)
        pod = await trainer.start(order_of())
        assert (await trainer.reader.pod(pod.reference)) is not None
        (heard,) = simulator.journal.of("GET", "/v2/pods/.+")
        assert (heard.account, "runpod" in heard.headers["user-agent"].lower()) == ("acme", True)

    async def test_without_a_key_it_is_not_asked(
        self, url: str, http: httpx2.AsyncClient, simulator: RunPodSimulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(pods.SDK_ADDRESS, url)
        trainer = RunPodTrainer(Account(Provider.RUNPOD, Secret(""), url), http)
        with pytest.raises(CredentialRefused):
            await trainer.reader.pod("x7k2p0qh4m1zsd")
        assert simulator.journal.entries == []

    @pytest.mark.parametrize("scenario", ["unauthorized", "no_access"])
    async def test_its_errors_are_ours(
        self, url: str, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch, scenario: str
    ) -> None:
        monkeypatch.setenv(pods.SDK_ADDRESS, url)
        with pytest.raises(CredentialRefused):
            await with_scenario(url, http, scenario).reader.pod("x7k2p0qh4m1zsd")

    async def test_nobody_there(self, http: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(pods.SDK_ADDRESS, "http://127.0.0.1:9")
        trainer = RunPodTrainer(account_of("http://127.0.0.1:9"), http)
        with pytest.raises(ProviderBusy, match="ConnectionError"):
            await trainer.reader.pod("x7k2p0qh4m1zsd")

    def test_the_vendors_own_address_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv(pods.SDK_ADDRESS, raising=False)
        assert pods.sdk_serves("https://api.runpod.io")
        assert not pods.sdk_serves("http://127.0.0.1:8123/runpod")
        monkeypatch.setenv(pods.SDK_ADDRESS, "http://127.0.0.1:8123/runpod/")
        assert not pods.sdk_serves("https://api.runpod.io")
        assert pods.sdk_serves("http://127.0.0.1:8123/runpod")
