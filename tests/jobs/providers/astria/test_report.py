"""AstriaTrainer: what a tune's dates say, how it is ended, what it costs, and what happens under pressure."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

from domain.training.report import HostedModel, Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus
from jobs.providers.astria.tune import Tune, time_of
from jobs.providers.base import (
    CredentialRefused,
    FinishedModel,
    Position,
    ProviderBusy,
    ProviderLost,
    ProviderRefused,
    Quote,
)
from tests.jobs.providers.astria import bodies
from tests.jobs.providers.astria.support import NOW, TAG, Bench, order, position, told

pytestmark = pytest.mark.anyio


class TestLife:
    async def test_success(self, bench: Bench) -> None:
        trainer, clock = bench.trainer(), bench.simulator.clock
        started = await trainer.start(order())
        queued = await bench.report(trainer, started.reference)
        assert queued == Report(
            source=ReportSource.POLL, attempt=1, at=queued.at, status=RunStatus.PREPARING, cost_micros=0
        )
        clock.advance(3)
        training = await bench.report(trainer, started.reference)
        assert (training.status, training.stage) == (RunStatus.TRAINING, RunStage.TRAINING)
        assert (training.percent, training.log, training.outcome, training.suspicion) == (None, None, None, None)
        assert training.expected_seconds == pytest.approx(6.5, abs=0.01)
        assert training.eta_seconds is not None
        assert 0 < training.eta_seconds <= 5
        assert training.began_at is not None
        assert training.cost_micros == 1_500_000
        clock.advance(6)
        ready = await bench.report(trainer, started.reference)
        page = f"https://www.astria.ai/tunes/{started.reference}"
        assert ready.outcome == Outcome(EndReason.SUCCEEDED)
        assert ready.hosted == HostedModel(started.reference, page)
        assert (ready.cost_micros, ready.expected_seconds, ready.eta_seconds) == (1_500_000, None, None)
        again = await bench.report(trainer, started.reference)
        assert replace(again, at=ready.at) == ready

    async def test_trained_at_once(self, bench: Bench) -> None:
        trainer = bench.trainer("immediate")
        started = await trainer.start(order())
        report = await bench.report(trainer, started.reference)
        assert report.outcome == Outcome(EndReason.SUCCEEDED)
        assert report.cost_micros == 1_500_000

    @pytest.mark.parametrize(
        ("scenario", "words", "cost"),
        [
            ("fails_at_start", "no face could be found", 0),
            ("fails_while_training", "no face could be found", 1_500_000),
            ("fails_by_expiry", "to expire though it was never trained", 1_500_000),
        ],
    )
    async def test_failures(self, bench: Bench, scenario: str, words: str, cost: int) -> None:
        trainer = bench.trainer(scenario)
        started = await trainer.start(order())
        bench.simulator.clock.advance(6)
        report = await bench.report(trainer, started.reference)
        assert report.outcome is not None
        assert report.outcome.end_reason is EndReason.PROVIDER_ERROR
        assert words in (report.outcome.message or "")
        assert (report.cost_micros, report.hosted) == (cost, None)
        assert [truth.cost_micros for truth in bench.simulator.truths()] == [cost]

    @pytest.mark.parametrize("scenario", ["stuck", "eta_passes"])
    async def test_what_is_long_overdue_is_suspected_and_not_ended(self, bench: Bench, scenario: str) -> None:
        trainer = bench.trainer(scenario)
        started = await trainer.start(order())
        bench.simulator.clock.advance(7_100)
        assert (await bench.report(trainer, started.reference)).suspicion is None
        bench.simulator.clock.advance(200)
        report = await bench.report(trainer, started.reference)
        assert report.suspicion is not None
        assert "should have been there 2.0 hours ago" in report.suspicion
        assert (report.outcome, report.eta_seconds, report.vanished) == (None, None, False)

    async def test_what_is_always_nearly_there_is_not_suspected(self, bench: Bench) -> None:
        trainer = bench.trainer("frozen_at_99")
        started = await trainer.start(order())
        bench.simulator.clock.advance(100_000)
        report = await bench.report(trainer, started.reference)
        assert (report.suspicion, report.outcome) == (None, None)
        assert report.eta_seconds is not None

    @pytest.mark.parametrize("scenario", ["not_found_later", "deleted_while_training"])
    async def test_what_is_gone_is_lost(self, bench: Bench, scenario: str) -> None:
        trainer = bench.trainer(scenario)
        started = await trainer.start(order())
        bench.simulator.clock.advance(3)
        assert (await bench.report(trainer, started.reference)).status is RunStatus.TRAINING
        bench.simulator.clock.advance(3)
        with pytest.raises(ProviderLost):
            await bench.report(trainer, started.reference)
        assert await trainer.stop(started.reference)

    async def test_another_account_knows_nothing_of_it(self, bench: Bench) -> None:
        started = await bench.trainer().start(order())
        with pytest.raises(ProviderLost):
            await bench.report(bench.trainer(account="other"), started.reference)
        assert await bench.trainer(account="other").find(TAG) is None

    @pytest.mark.parametrize("reference", ["", "../packs", "1?x=1", "abc", "0"])
    async def test_a_reference_is_a_number(self, bench: Bench, reference: str) -> None:
        with pytest.raises(ProviderRefused, match="named by its number"):
            await bench.trainer().report(reference, position(), NOW)
        assert bench.simulator.journal.entries == []


class TestDocumentedBodies:
    async def test_a_tune_in_training(self) -> None:
        report = await told([httpx2.Response(200, json=bodies.TUNE)]).report("3401603", position(), NOW)
        assert report == Report(
            source=ReportSource.POLL,
            attempt=1,
            at=NOW,
            status=RunStatus.TRAINING,
            stage=RunStage.TRAINING,
            eta_seconds=21 * 60.0,
            expected_seconds=25 * 60.0 + 48,
            began_at=datetime(2026, 11, 20, 10, 5, 12, tzinfo=UTC),
            cost_micros=1_500_000,
        )

    async def test_the_documentations_sample_of_a_finished_one(self) -> None:
        trainer = told([httpx2.Response(200, json=bodies.FINISHED)] * 2)
        report = await trainer.report("1", position(), NOW)
        assert report.outcome == Outcome(EndReason.SUCCEEDED)
        assert report.hosted == HostedModel("1", "https://www.astria.ai/tunes/1")
        trained = datetime(2023, 10, 2, 14, 32, 40, 363_000, tzinfo=UTC)
        assert await trainer.finished("1") == FinishedModel("1", "https://www.astria.ai/tunes/1", "1", trained)

    async def test_the_barest_of_tunes(self) -> None:
        report = await told([httpx2.Response(200, json={"id": 7})]).report("7", position(), NOW)
        assert (report.status, report.outcome, report.suspicion, report.cost_micros) == (
            RunStatus.PREPARING,
            None,
            None,
            0,
        )

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"error": "out of memory\0"}, "out of memory\ufffd"),
            ({"error": {"message": "no face"}}, "no face"),
            ({"error": ["no face", "no light"]}, "no face; no light"),
            ({"error": ["x" * 3_000] * 3}, "x" * 2_000),
            ({"error": [[[[[[["deep"]]]]]]], "status": "failed"}, "Astria says that the tune is in the status failed."),
            ({"error": "cannot call https://app.example/..."}, "cannot call •••"),
            ({"status": "failed"}, "Astria says that the tune is in the status failed."),
            ({"status": "Error"}, "Astria says that the tune is in the status Error."),
            (
                {"expires_at": "2026-12-20T10:31:00.000Z"},
                "Astria gave up the tune: it is to expire though it was never trained.",
            ),
        ],
    )
    async def test_signs_of_failure_that_users_saw(self, fields: dict[str, Any], message: str) -> None:
        body = bodies.TUNE | fields
        report = await told([httpx2.Response(200, json=body)]).report("3401603", position(), NOW)
        assert report.outcome == Outcome(EndReason.PROVIDER_ERROR, message)
        assert (report.hosted, report.suspicion, report.eta_seconds) == (None, None, None)

    @pytest.mark.parametrize("fields", [{"error": None}, {"error": ""}, {"error": []}, {"status": "processing"}])
    async def test_what_is_no_sign_of_failure(self, fields: dict[str, Any]) -> None:
        body = bodies.TUNE | fields
        report = await told([httpx2.Response(200, json=body)]).report("3401603", position(), NOW)
        assert report.outcome is None

    def test_a_trained_tune_has_not_failed(self) -> None:
        tune = Tune.of(bodies.FINISHED | {"error": "one of the prompts failed"})
        assert tune is not None
        assert tune.failure is None

    async def test_overdue_without_an_eta_counts_from_the_start(self) -> None:
        body = {"id": 7, "started_training_at": "2026-11-20T08:00:00Z"}
        trainer = told([httpx2.Response(200, json=body)] * 2)
        assert (await trainer.report("7", position(), NOW)).suspicion is not None
        earlier = NOW - timedelta(minutes=30)
        assert (await trainer.report("7", position(), earlier)).suspicion is None

    async def test_overdue_without_any_date_counts_from_our_asking(self) -> None:
        asked = Position(offset=0, attempt=1, tag=TAG, begun_at=NOW - timedelta(hours=3))
        report = await told([httpx2.Response(200, json={"id": 7})]).report("7", asked, NOW)
        assert report.suspicion is not None

    @pytest.mark.parametrize("body", [{"id": 8}, [], 5, "tune", {"id": True}])
    async def test_another_tune_is_no_answer(self, body: object) -> None:
        with pytest.raises(ProviderBusy, match="something else"):
            await told([httpx2.Response(200, json=body)]).report("7", position(), NOW)

    @pytest.mark.parametrize(
        ("text", "at"),
        [
            ("2026-11-20T10:31:00.000Z", datetime(2026, 11, 20, 10, 31, tzinfo=UTC)),
            ("2026-11-20T10:31:00.123456789Z", datetime(2026, 11, 20, 10, 31, 0, 123_456, tzinfo=UTC)),
            ("2026-11-20T12:31:00+02:00", datetime(2026, 11, 20, 10, 31, tzinfo=UTC)),
            ("2026-11-20T10:31:00", datetime(2026, 11, 20, 10, 31, tzinfo=UTC)),
            ("0001-01-01T00:00:00+14:00", None),
            ("soon", None),
            ("9" * 100, None),
            (5, None),
            (None, None),
        ],
    )
    def test_times(self, text: object, at: datetime | None) -> None:
        assert time_of(text) == at


class TestStop:
    async def test_an_unfinished_tune_is_deleted(self, bench: Bench) -> None:
        trainer = bench.trainer()
        started = await trainer.start(order())
        assert await trainer.stop(started.reference)
        assert [truth.state for truth in bench.simulator.truths()] == ["canceled"]
        assert await trainer.alive() == {}
        assert await trainer.stop(started.reference)  # and once more

    async def test_a_finished_model_is_kept(self, bench: Bench) -> None:
        trainer = bench.trainer()
        started = await trainer.start(order())
        bench.simulator.clock.advance(9)
        assert await trainer.stop(started.reference)
        assert [truth.state for truth in bench.simulator.truths()] == ["succeeded"]
        assert bench.simulator.journal.of("DELETE", ".*") == []
        assert (await trainer.finished(started.reference)).version == started.reference

    async def test_one_that_goes_between_the_look_and_the_deletion_is_gone(self) -> None:
        answers = [httpx2.Response(200, json=bodies.TUNE), httpx2.Response(404, json={})]
        assert await told(answers).stop("3401603")

    async def test_trouble_is_no_confirmation(self) -> None:
        answers = [httpx2.Response(200, json=bodies.TUNE), httpx2.Response(500)]
        with pytest.raises(ProviderBusy):
            await told(answers).stop("3401603")


class TestInventory:
    async def test_alive_is_what_is_ours_and_unfinished(self, bench: Bench) -> None:
        trainer = bench.trainer()
        finished = await trainer.start(order(f"run-{1:032x}-1"))
        bench.simulator.clock.advance(9)
        waiting = await trainer.start(order(f"run-{2:032x}-1"))
        await bench.trainer("fails_at_start").start(order(f"run-{3:032x}-1"))
        await trainer.start(order("somebody else's portrait"))
        await bench.trainer(account="other").start(order(f"run-{4:032x}-1"))
        bench.simulator.clock.advance(3)
        double = await trainer.start(order(f"run-{2:032x}-1"))
        assert await trainer.alive() == {
            waiting.reference: f"run-{2:032x}-1",
            double.reference: f"run-{2:032x}-1",
        }
        assert finished.reference not in await trainer.alive()

    async def test_finished_needs_a_finished_tune(self, bench: Bench) -> None:
        trainer = bench.trainer()
        started = await trainer.start(order())
        with pytest.raises(ProviderRefused, match="waits or is in training"):
            await trainer.finished(started.reference)
        bench.simulator.clock.advance(9)
        model = await trainer.finished(started.reference)
        assert (model.version, model.reference) == (started.reference, started.reference)
        assert model.finished_at is not None
        with pytest.raises(ProviderLost):
            await trainer.finished("99")
        with pytest.raises(ProviderRefused):
            await trainer.finished("acme/model:version")

    async def test_whose_says_which_key_without_saying_it(self, bench: Bench) -> None:
        name = await bench.trainer().whose()
        assert name.startswith("Astria account with the key of fingerprint ")
        assert "acme" not in name
        assert name != await bench.trainer(account="other").whose()
        with pytest.raises(CredentialRefused):
            await bench.trainer("unauthorized").whose()


class TestCost:
    async def test_quotes_are_flat_and_estimates(self, bench: Bench) -> None:
        trainer = bench.trainer(price_micros=2_000_000)
        extra = {"prompts_attributes": [{"text": "x"}, {"text": "y"}]}
        assert [
            *await trainer.quotes([], {"branch": "flux1"}),
            *await trainer.quotes(["A100", "H100"], {"branch": "flux1", "extra": extra}),
            *await trainer.quotes([], {"branch": "fast", "extra": extra}),
        ] == [Quote(None, None, flat, None, None, is_estimate=True) for flat in (2_000_000, 2_200_000, 0)]
        assert bench.simulator.journal.entries == []

    async def test_cost_is_what_the_simulator_took(self, bench: Bench) -> None:
        extra = {"prompts_attributes": [{"text": "x"}]}
        trainer = bench.trainer()
        for branch, taken in (("flux1", [0, 1_500_000, 1_600_000]), ("fast", [0, 0, 0])):
            started = await trainer.start(order(branch=branch, extra=extra))
            costs: list[int | None] = []
            for seconds in (0, 3, 6):
                bench.simulator.clock.advance(seconds)
                costs.append((await bench.report(trainer, started.reference, branch=branch, extra=extra)).cost_micros)
                truth = next(one for one in bench.simulator.truths() if one.reference == started.reference)
                assert costs[-1] == truth.cost_micros
            assert costs == taken


class TestPressure:
    async def test_after_429_everybody_with_the_key_waits(self, bench: Bench) -> None:
        trainer = bench.trainer("throttled_with_hint")
        assert trainer.pace.first_seconds == 15
        with pytest.raises(ProviderBusy) as refusal:
            await trainer.start(order())
        assert refusal.value.retry_after_seconds == pytest.approx(2, abs=0.2)
        with pytest.raises(ProviderBusy, match="asked for a pause"):
            await trainer.find(TAG)
        assert len(bench.simulator.journal.entries) == 1
        assert trainer.pace.first_seconds == 60

    async def test_429_without_a_hint_is_a_minute(self, bench: Bench) -> None:
        with pytest.raises(ProviderBusy) as refusal:
            await bench.trainer("throttled").start(order())
        assert refusal.value.retry_after_seconds == pytest.approx(60, abs=0.2)

    async def test_what_was_refused_for_a_while_works_then(self, bench: Bench) -> None:
        trainer = bench.trainer("unstable")
        for _ in range(2):
            with pytest.raises(ProviderBusy, match=r"trouble of its own \(500\)") as refusal:
                await trainer.start(order())
            assert refusal.value.retry_after_seconds == 30
        started = await trainer.start(order())
        for _ in range(2):
            with pytest.raises(ProviderBusy):
                await bench.report(trainer, started.reference)
        assert (await bench.report(trainer, started.reference)).outcome is None

    @pytest.mark.parametrize(
        ("given", "seconds"),
        [
            ("7", 7),
            ("0", 1),
            ("99999999", 3_600),
            ("a date in 50 seconds", 50),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 1),
            ("nonsense", 60),
        ],
    )
    async def test_retry_after(self, given: str, seconds: float) -> None:
        if given.startswith("a date"):  # made here: two processes that collect the tests must see the same ones
            given = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        with pytest.raises(ProviderBusy) as refusal:
            await told([httpx2.Response(429, headers={"retry-after": given})]).find(TAG)
        assert refusal.value.retry_after_seconds == pytest.approx(seconds, abs=5)

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"ratelimit-remaining": "0", "ratelimit-reset": "9"}, 9),
            ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "an epoch"}, 40),
            ({"x-ratelimit-remaining": "0"}, 30),
        ],
    )
    async def test_the_last_request_is_not_spent(self, headers: dict[str, str], seconds: float) -> None:
        if headers.get("x-ratelimit-reset") == "an epoch":
            headers = {**headers, "x-ratelimit-reset": str(round(time.time() + seconds))}
        trainer = told([httpx2.Response(200, json=[], headers=headers)])
        assert await trainer.find(TAG) is None
        with pytest.raises(ProviderBusy, match="pause") as refusal:
            await trainer.find(TAG)
        assert refusal.value.retry_after_seconds == pytest.approx(seconds, abs=5)

    async def test_an_endless_answer_is_not_read(self) -> None:
        sent = 0

        async def endless() -> Any:
            nonlocal sent
            while True:
                sent += 1
                yield b" " * 1024 * 1024

        def answer(request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, content=endless())

        with pytest.raises(ProviderBusy, match="larger than 8 MiB"):
            await told(answer).find(TAG)
        assert sent <= 10

    @pytest.mark.parametrize("content", [b"<html>", b"", b"[" * 100_000])
    async def test_what_is_no_json_is_for_later(self, content: bytes) -> None:
        with pytest.raises(ProviderBusy, match="no JSON"):
            await told([httpx2.Response(200, content=content)]).find(TAG)

    async def test_silence_is_for_later(self) -> None:
        def answer(request: httpx2.Request) -> httpx2.Response:
            raise httpx2.ReadTimeout("secret sd_key", request=request)

        with pytest.raises(ProviderBusy) as refusal:
            await told(answer).find(TAG)
        assert str(refusal.value) == "Astria did not answer within 20 seconds."
