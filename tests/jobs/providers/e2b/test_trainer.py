"""E2BTrainer: real programs in simulated sandboxes, followed to their ends by whoever is there."""

import hashlib
from datetime import timedelta
from typing import Any

import anyio
import pytest

from domain.training.report import Report
from domain.training.status import EndReason, LogLevel, RunStage, RunStatus
from jobs.providers.base import (
    CredentialRefused,
    NoCapacity,
    Position,
    ProviderBusy,
    ProviderLost,
    ProviderRefused,
    RemoteTrainer,
)
from jobs.providers.e2b import trainer as module
from jobs.providers.e2b.sandboxes import LIFE_SECONDS
from jobs.providers.e2b.trainer import E2BTrainer, _storable
from tests.jobs.providers.e2b.support import (
    WAIT_LIMIT_SECONDS,
    Bench,
    after,
    artifact_of,
    command,
    lines_of,
    recipe,
    texts_of,
)
from tests.jobs.recipes.data import as_csv, digits
from tests.jobs.recipes.serving import DatasetServer, serving

pytestmark = pytest.mark.anyio

PRICE = 108_900


async def ran(bench: Bench, text: str, **options: Any) -> list[Report]:
    """The reports of a program of the user's own."""
    trainer, order = bench.trainer(), command(text, **options)
    started = await trainer.start(order)
    return await bench.followed(trainer, started.reference, order.tag)


class TestTrainings:
    async def test_a_recipe_trains_and_its_model_comes_here(self, bench: Bench) -> None:
        trainer = bench.trainer()
        with serving(DatasetServer(as_csv(digits(120)))) as data:
            order = recipe(data.order(), targetColumn="label")
            started = await trainer.start(order)
            reports = await bench.followed(trainer, started.reference, order.tag)
        assert started.price_micros_per_hour == PRICE
        assert started.url == f"https://e2b.dev/dashboard/inspect/sandbox/{started.reference}"
        last = reports[-1]
        assert last.outcome is not None and last.outcome.succeeded, texts_of(reports)
        assert last.artifact is not None
        with open(last.artifact.location, "rb") as file:  # noqa: ASYNC230 - a small file of the test's own
            assert hashlib.file_digest(file, "sha256").hexdigest() == last.artifact.sha256
        assert last.artifact.details["runId"] == str(order.run_id)
        stages = [report.stage for report in reports if report.stage is not None]
        assert stages == sorted(stages, key=lambda stage: stage.rank)
        assert stages[-1] is RunStage.SAVING
        assert {reading.name for report in reports for reading in report.readings} >= {"loss"}
        assert any("packages already" in text for text in texts_of(reports))
        assert not any(data.token in text for text in texts_of(reports))
        home = bench.record(started.reference).machine.home
        assert data.token not in (home / "training/order.json").read_text()
        assert await trainer.stop(started.reference) is True
        assert [(one.state, one.is_alive) for one in bench.truths()] == [("succeeded", False)]

    async def test_lines_come_within_a_second_and_once(self, bench: Bench) -> None:
        trainer = bench.trainer(hold_seconds=2.0)
        order = command("echo first; while [ ! -e go ]; do sleep 0.02; done; echo second >&2; echo ERROR third")
        started = await trainer.start(order)
        reports: list[Report] = []
        position = Position(0, 1, order.tag)
        with anyio.fail_after(WAIT_LIMIT_SECONDS):
            while "first" not in texts_of(reports):
                reports.append(await trainer.report(started.reference, position, bench.now))
                position = after(position, reports[-1])
        assert reports[-1].status is RunStatus.TRAINING
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with anyio.fail_after(1.5):
                    reports.append(await trainer.report(started.reference, position, bench.now))

            tasks.start_soon(ask)
            await anyio.sleep(0.3)
            (bench.record(started.reference).machine.home / "training/go").touch()
        position = after(position, reports[-1])
        reports += await rest_of(bench, trainer, started.reference, position)
        assert texts_of(reports) == ["first", "second", "ERROR third"]
        assert [line.level for line in lines_of(reports)][-1] is LogLevel.ERROR

    async def test_another_worker_reads_on_where_one_was_lost(self, bench: Bench) -> None:
        first, order = bench.trainer(), command("for i in 1 2 3 4 5 6; do echo line $i; sleep 0.05; done")
        started = await first.start(order)
        reports: list[Report] = []
        position = Position(0, 1, order.tag)
        for _ in range(2):
            reports.append(await first.report(started.reference, position, bench.now))
            position = after(position, reports[-1])
        second = bench.trainer()
        found = await second.find(order.tag)
        assert found == started
        reports += await rest_of(bench, second, started.reference, position)
        assert texts_of(reports) == [f"line {number}" for number in range(1, 7)]
        # Whoever reads all of it again reads the same.
        again = await bench.followed(bench.trainer(), started.reference, order.tag)
        assert texts_of(again) == texts_of(reports)

    async def test_much_output_comes_in_bounded_stretches(self, bench: Bench) -> None:
        reports = await ran(bench, "seq 1 100000; printf 'é%.0s' $(seq 1 200000); echo; echo last")
        chunks = [report.log for report in reports if report.log is not None]
        assert len(chunks) > 3
        assert all(chunk.end - chunk.start <= module.REPORT_BYTES for chunk in chunks)
        texts = texts_of(reports)
        assert texts[:100_000] == [str(number) for number in range(1, 100_001)]
        assert texts[-1] == "last"
        assert "�" not in "".join(texts)

    async def test_untrusted_bytes_are_made_harmless(self, bench: Bench) -> None:
        reports = await ran(bench, "printf 'a\\0b\\377c\\n'; echo 'Authorization: Bearer rwg_0123456789abcdef0123'")
        assert texts_of(reports)[0].startswith("a") and "\0" not in texts_of(reports)[0]
        assert "0123456789abcdef" not in "".join(texts_of(reports))

    async def test_a_progress_bar_is_live_and_quiet(self, bench: Bench) -> None:
        bar = "printf '\\r%3d%%|##| %d/100 [00:01<00:05, 9.0it/s]' $i $i"
        reports = await ran(bench, f"for i in $(seq 5 5 60); do {bar}; sleep 0.08; done")
        percents = [report.percent for report in reports if report.percent is not None]
        assert percents == sorted(percents) and len(percents) >= 3 and percents[-1] == 60
        assert len(texts_of(reports)) <= 12

    async def test_a_command_may_end_well_without_a_model(self, bench: Bench) -> None:
        reports = await ran(bench, "cat order.json | head -c 1; cat data.txt", files={"data.txt": "mine\n"})
        outcome = reports[-1].outcome
        assert outcome is not None and outcome.succeeded and reports[-1].artifact is None
        assert texts_of(reports) == ["{mine"]

    async def test_a_command_s_model_comes_here(self, bench: Bench) -> None:
        reports = await ran(bench, artifact_of("weights"))
        artifact = reports[-1].artifact
        assert artifact is not None
        assert (artifact.name, artifact.bytes, artifact.details) == ("model.bin", 7, {"metrics": {"accuracy": 1.0}})
        assert await anyio.Path(artifact.location).read_text() == "weights"

    async def test_a_command_s_dataset_is_fetched_for_it(self, bench: Bench) -> None:
        with serving(DatasetServer(b"a,b\n1,2\n")) as data:
            order = command("cat data/content; grep -c rw''g_ order.json")
            order = type(order)(**{**{name: getattr(order, name) for name in order.__slots__}, "dataset": data.order()})
            trainer = bench.trainer()
            started = await trainer.start(order)
            reports = await bench.followed(trainer, started.reference, order.tag)
        assert texts_of(reports)[-3:] == ["a,b", "1,2", "0"]
        stages = [report.stage for report in reports if report.stage is not None]
        assert stages[-1] is RunStage.TRAINING

    async def test_a_dataset_that_cannot_be_had(self, bench: Bench) -> None:
        with serving(DatasetServer(b"a,b\n", answers=[404])) as data:
            order = recipe(data.order(), targetColumn="b")
            trainer = bench.trainer()
            started = await trainer.start(order)
            reports = await bench.followed(trainer, started.reference, order.tag)
        outcome = reports[-1].outcome
        assert outcome is not None and outcome.end_reason is EndReason.DATA_ERROR
        assert outcome.message is not None and "404" in outcome.message


async def rest_of(bench: Bench, trainer: E2BTrainer, reference: str, position: Position) -> list[Report]:
    reports: list[Report] = []
    with anyio.fail_after(WAIT_LIMIT_SECONDS):
        while not reports or reports[-1].outcome is None:
            reports.append(await trainer.report(reference, position, bench.now))
            position = after(position, reports[-1])
    return reports


class TestEnds:
    async def test_an_exit_code_and_the_last_complaint(self, bench: Bench) -> None:
        reports = await ran(bench, "echo 'ERROR no such column: price'; exit 7")
        outcome = reports[-1].outcome
        assert outcome is not None
        assert (outcome.end_reason, outcome.message) == (EndReason.CODE_ERROR, "ERROR no such column: price")

    async def test_an_exit_code_alone(self, bench: Bench) -> None:
        outcome = (await ran(bench, "exit 7"))[-1].outcome
        assert outcome is not None
        assert (outcome.end_reason, outcome.message) == (
            EndReason.CODE_ERROR,
            "The program ended with exit code 7.",
        )

    async def test_the_program_s_own_word(self, bench: Bench) -> None:
        word = '::runwire {"end": {"reason": "DIVERGED", "message": "The loss is not a number."}}'
        outcome = (await ran(bench, f"echo '{word}'; sleep 0.4; exit 3"))[-1].outcome
        assert outcome is not None
        assert (outcome.end_reason, outcome.message) == (EndReason.DIVERGED, "The loss is not a number.")

    async def test_a_word_of_success_is_not_believed_against_the_exit_code(self, bench: Bench) -> None:
        word = '::runwire {"end": {"reason": "SUCCEEDED", "message": null}}'
        outcome = (await ran(bench, f"echo '{word}'; exit 3"))[-1].outcome
        assert outcome is not None and outcome.end_reason is EndReason.CODE_ERROR

    async def test_the_time_limit(self, bench: Bench) -> None:
        outcome = (await ran(bench, "sleep 100", limit_seconds=1))[-1].outcome
        assert outcome is not None and outcome.end_reason is EndReason.TIMED_OUT
        assert outcome.message is not None and "its time limit" in outcome.message

    async def test_an_exit_code_like_the_time_limit_s(self, bench: Bench) -> None:
        """Long before the limit it is the program's own."""
        outcome = (await ran(bench, "exit 124"))[-1].outcome
        assert outcome is not None and outcome.end_reason is EndReason.CODE_ERROR

    async def test_a_program_that_was_killed(self, bench: Bench) -> None:
        bench.script("fails_while_training")
        trainer, order = bench.trainer(), command("python3 -c 'import time; time.sleep(100)'")
        started = await trainer.start(order)
        await anyio.sleep(0.5)
        bench.simulator.clock.advance(2)
        outcome = (await bench.followed(trainer, started.reference, order.tag))[-1].outcome
        assert outcome is not None
        assert (outcome.end_reason, outcome.message) == (EndReason.CODE_ERROR, "The program was killed (signal 9).")
        await trainer.stop(started.reference)
        assert [one.state for one in bench.truths()] == ["failed"]

    async def test_a_program_that_stands_still_never_ends_by_itself(self, bench: Bench) -> None:
        bench.script("stuck")
        trainer, order = bench.trainer(), command("python3 -c 'import time; time.sleep(100)'; echo over")
        started = await trainer.start(order)
        await anyio.sleep(0.5)
        bench.simulator.clock.advance(2)
        with anyio.fail_after(10):
            while bench.record(started.reference).accident_at is None:
                await anyio.sleep(0.02)
        report = await trainer.report(started.reference, Position(0, 1, order.tag), bench.now)
        assert report.outcome is None and not report.vanished
        assert await trainer.stop(started.reference) is True

    async def test_a_script_that_was_killed_is_the_attempt_s_end(self, bench: Bench) -> None:
        trainer, order = bench.trainer(), command("echo begun; sleep 100")
        started = await trainer.start(order)
        pid = (bench.record(started.reference).machine.home / "training/.runwire/pid").read_text()
        await trainer.sandboxes.run(started.reference, f"kill -9 {pid}")
        reports = await bench.followed(trainer, started.reference, order.tag)
        assert reports[-1].vanished and reports[-1].outcome is None
        assert texts_of(reports) == ["begun"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (artifact_of("weights", sha256="0" * 64), "SHA-256"),
            (artifact_of("weights", name="-evil"), "name"),
            ("mkdir artifact; echo '{' > artifact/artifact.json", "receipt"),
            ("mkdir artifact; echo '[]' > artifact/artifact.json", "receipt"),
            ('mkdir artifact; echo \'{"name": "x", "sha256": "0"}\' > artifact/artifact.json', "no whole model"),
            (artifact_of("w" * 2000), "2000|1000|allowed"),
        ],
    )
    async def test_a_model_that_is_not_what_it_says(self, bench: Bench, text: str, words: str) -> None:
        trainer, order = bench.trainer(artifact_limit_bytes=1000), command(text)
        started = await trainer.start(order)
        reports = await bench.followed(trainer, started.reference, order.tag)
        outcome = reports[-1].outcome
        assert outcome is not None and outcome.end_reason is EndReason.CODE_ERROR and outcome.message is not None
        assert any(word in outcome.message for word in words.split("|")), outcome.message
        assert reports[-1].artifact is None

    async def test_packages_that_cannot_be_installed(self, bench: Bench) -> None:
        reports = await ran(bench, "echo never", requirements=["surely-not-installed-here==1"])
        outcome = reports[-1].outcome
        assert outcome is not None and outcome.end_reason is EndReason.CODE_ERROR
        assert outcome.message is not None and "surely-not-installed-here" in outcome.message
        assert "never" not in texts_of(reports)
        assert reports[0].stage is RunStage.INSTALLING or reports[-1].stage is RunStage.INSTALLING


class TestStart:
    async def test_twice_is_one_training(self, bench: Bench) -> None:
        trainer, order = bench.trainer(), command("echo once >> /home/user/count; sleep 0.3")
        found: list[str] = []

        async def start(one: E2BTrainer) -> None:
            found.append((await one.start(order)).reference)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(start, bench.trainer())
        found.append((await trainer.start(order)).reference)
        assert len(set(found)) == 1
        reports = await bench.followed(trainer, found[0], order.tag)
        assert reports[-1].outcome is not None
        home = bench.record(found[0]).machine.home
        assert sorted(one.name for one in home.iterdir()) == [".profile", "training"]

    @pytest.mark.parametrize("step", ["create", "info", "look", "write", "hashes", "launch"])
    async def test_whoever_starts_may_die_between_any_two_steps(
        self, bench: Bench, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The step itself was done, its answer never came: then another worker goes on."""
        order = command("echo $RANDOM$RANDOM > id; cat id; echo $PWD | grep -c training")

        class Died(Exception):
            pass

        first = bench.trainer()
        boxes = first.sandboxes
        seen: list[str] = []

        def dying(name: str, method: Any) -> Any:
            async def do(*arguments: Any, **options: Any) -> Any:
                result = await method(*arguments, **options)
                text = str(arguments[1]) if len(arguments) > 1 else ""
                kind = {"run": "hashes" if "sha256sum" in text else "launch" if "INCOMING" in text else "look"}
                seen.append(kind.get(name, name))
                if seen[-1] == step:
                    raise Died
                return result

            return do

        monkeypatch.setattr(boxes, "_create", dying("create", boxes._create))
        monkeypatch.setattr(boxes.control, "info", dying("info", boxes.control.info))
        monkeypatch.setattr(boxes, "run", dying("run", boxes.run))
        monkeypatch.setattr(boxes, "write", dying("write", boxes.write))
        with pytest.raises(Died):
            await first.start(order)
        second = bench.trainer()
        found = await second.find(order.tag)
        assert found is not None and found.has_begun is (step == "launch")
        if not found.has_begun:
            # Should somebody take it for begun nevertheless, it is said to be over at once.
            assert (await second.report(found.reference, Position(0, 1, order.tag), bench.now)).vanished
        started = await second.start(order)
        assert started.reference == found.reference
        reports = await bench.followed(second, started.reference, order.tag)
        texts = texts_of(reports)
        assert len(texts) == 2 and texts[1] == "1"
        assert reports[-1].outcome is not None and reports[-1].outcome.succeeded
        assert len(bench.truths()) == 1

    @pytest.mark.parametrize(
        ("scenario", "kind"),
        [
            ("no_capacity", NoCapacity),
            ("no_node", NoCapacity),
            ("placement_late", NoCapacity),
            ("too_many", NoCapacity),
            ("unauthorized", CredentialRefused),
            ("no_money", CredentialRefused),
            ("unprocessable", ProviderRefused),
            ("conflict", ProviderBusy),
            ("fails_at_start", ProviderBusy),
            ("disk_full", ProviderRefused),
        ],
    )
    async def test_refusals(self, bench: Bench, scenario: str, kind: type[Exception]) -> None:
        with pytest.raises(kind) as caught:
            await bench.trainer(scenario).start(command("true"))
        assert type(caught.value) is kind
        assert str(caught.value) and bench.account not in str(caught.value)

    @pytest.mark.parametrize(
        ("scenario", "refusals"),
        [("no_capacity_twice", 2), ("too_many_once", 1), ("unstable", 2), ("stream_cut", 2), ("reply_lost", 1)],
    )
    async def test_what_succeeds_later(self, bench: Bench, scenario: str, refusals: int) -> None:
        bench.script(scenario)
        trainer, order = bench.trainer(), command("echo here")
        for _ in range(refusals):
            with pytest.raises(ProviderBusy):
                await trainer.start(order)
        if scenario == "reply_lost":
            found = await trainer.find(order.tag)
            assert found is not None and not found.has_begun
        started = await trainer.start(order)
        assert texts_of(await bench.followed(trainer, started.reference, order.tag)) == ["here"]
        assert len(bench.truths()) == 1

    async def test_a_creation_refused_for_its_frequency_says_when_to_ask_again(self, bench: Bench) -> None:
        bench.script("throttled")
        trainer, order = bench.trainer(), command("true")
        with pytest.raises(ProviderBusy) as caught:
            await trainer.start(order)
        assert not isinstance(caught.value, NoCapacity)
        assert caught.value.retry_after_seconds == 1.0
        assert (await trainer.start(order)).reference

    async def test_a_sandbox_that_is_gone_before_it_is_used(self, bench: Bench) -> None:
        """The key of the creation still stands for the one that is gone."""
        trainer, order = bench.trainer(), command("echo here")
        lost = await trainer.sandboxes.create(order.tag, {})
        assert await trainer.sandboxes.kill(lost.id)
        started = await trainer.start(order)
        assert started.reference != lost.id
        assert texts_of(await bench.followed(trainer, started.reference, order.tag)) == ["here"]

    async def test_an_agent_that_answers_nothing(self, bench: Bench) -> None:
        bench.script("hangs")
        trainer, order = bench.trainer(call_seconds=0.3), command("true")
        with pytest.raises(ProviderBusy, match="in time"):
            await trainer.start(order)
        found = await trainer.find(order.tag)
        assert found is not None
        assert await trainer.stop(found.reference) is True

    async def test_a_sandbox_that_cannot_be_looked_at_is_not_taken_for_one_that_trains(self, bench: Bench) -> None:
        bench.script("stream_cut")
        trainer, order = bench.trainer(), command("echo here")
        with pytest.raises(ProviderBusy):
            await trainer.start(order)
        found = await trainer.find(order.tag)
        assert found is not None and not found.has_begun
        assert (await trainer.start(order)).reference == found.reference
        assert texts_of(await bench.followed(trainer, found.reference, order.tag)) == ["here"]

    async def test_what_a_sandbox_is_made_of(self, bench: Bench) -> None:
        import json

        order = command("true", limit_seconds=100)
        await bench.trainer().start(order)
        (made,) = bench.heard("POST", "/v2/sandboxes")
        body = json.loads(made.body)
        assert made.headers["idempotency-key"] == order.tag
        assert body["timeout"] == 100 + module.MARGIN_SECONDS
        assert body["templateID"] == "base"
        assert body["metadata"] == {"run": str(order.run_id), "tag": order.tag, "limit": "100"}
        assert "connect-timeout-ms" not in {
            name for one in bench.heard("POST", "/process.Process/Start") for name in one.headers
        }


class TestLife:
    async def test_it_is_extended_while_there_is_work_and_not_beyond(self, bench: Bench) -> None:
        trainer, order = bench.trainer(hold_seconds=0.0), command("sleep 100", limit_seconds=3000)
        started = await trainer.start(order)
        record = bench.record(started.reference)
        began, position = record.started_at, Position(0, 1, order.tag)
        assert round((record.end_at - began).total_seconds()) == LIFE_SECONDS
        ends = []
        for _ in range(9):
            await trainer.report(started.reference, position, bench.now)
            ends.append(round((record.end_at - began).total_seconds(), -1))
            bench.simulator.clock.advance(390)
        assert ends == [1800, 2190, 2580, 2970, 3360, 3600, 3600, 3600, 3600]
        with pytest.raises(ProviderLost, match="vanished"):
            for _ in range(3):
                bench.simulator.clock.advance(390)
                await trainer.report(started.reference, position, bench.now)

    @pytest.mark.parametrize("scenario", ["not_found_later", "expired"])
    async def test_a_sandbox_that_vanishes(self, bench: Bench, scenario: str) -> None:
        bench.script(scenario)
        trainer, order = bench.trainer(), command("sleep 100")
        started = await trainer.start(order)
        bench.simulator.clock.advance(3)
        with pytest.raises(ProviderLost, match="vanished from E2B before its training had ended"):
            await trainer.report(started.reference, Position(0, 1, order.tag), bench.now)
        assert await trainer.find(order.tag) is None
        assert await trainer.stop(started.reference) is True

    async def test_one_that_vanishes_while_it_is_looked_at(self, bench: Bench) -> None:
        trainer, order = bench.trainer(hold_seconds=5.0), command("sleep 100")
        started = await trainer.start(order)
        position = after(
            Position(0, 1, order.tag),
            await trainer.report(started.reference, Position(0, 1, order.tag), bench.now),
        )
        async with anyio.create_task_group() as tasks:

            async def ask() -> None:
                with pytest.raises((ProviderLost, ProviderBusy)):
                    await trainer.report(started.reference, position, bench.now)

            tasks.start_soon(ask)
            await anyio.sleep(0.3)
            assert await trainer.stop(started.reference)
        with pytest.raises(ProviderLost):
            await trainer.report(started.reference, position, bench.now)

    async def test_one_that_somebody_paused_goes_on(self, bench: Bench) -> None:
        trainer, order = bench.trainer(), command("sleep 0.2; echo over")
        started = await trainer.start(order)
        await trainer.report(started.reference, Position(0, 1, order.tag), bench.now)
        await bench.sandboxes().pause(started.reference)
        with pytest.raises(ProviderBusy, match="does not run just now"):
            await trainer.report(started.reference, Position(0, 1, order.tag), bench.now)
        assert texts_of(await bench.followed(trainer, started.reference, order.tag)) == ["over"]

    async def test_stopping_leaves_nothing_and_can_be_asked_twice(self, bench: Bench) -> None:
        trainer, order = bench.trainer(), command("python3 -c 'import time; time.sleep(100)'")
        started = await trainer.start(order)
        machine = bench.record(started.reference).machine
        assert machine.inhabitants()
        assert await trainer.alive() == {started.reference: order.tag}
        assert await trainer.stop(started.reference) is True
        assert await trainer.stop(started.reference) is True
        assert machine.inhabitants() == []
        assert await trainer.alive() == {}
        assert [one.state for one in bench.truths()] == ["canceled"]

    async def test_a_quiet_training_is_asked_about_seldom(self, bench: Bench) -> None:
        trainer, order = bench.trainer(hold_seconds=1.0), command("echo begun; sleep 100")
        started = await trainer.start(order)
        position = Position(0, 1, order.tag)
        position = after(position, await trainer.report(started.reference, position, bench.now))
        before = len([one for one in bench.simulator.journal.entries if one.account == bench.account])
        began = bench.now
        assert (await trainer.report(started.reference, position, bench.now)).says_nothing
        assert (bench.now - began).total_seconds() >= 1.0
        asked = len([one for one in bench.simulator.journal.entries if one.account == bench.account]) - before
        assert asked == 1  # so with the usual wait and the pause between two looks there are 24 a minute
        assert 60 / (module.HOLD_SECONDS + trainer.pace.seconds_at(1000)) == 24


class TestCost:
    async def test_seconds_times_price_and_never_less(self, bench: Bench) -> None:
        trainer, order = bench.trainer(), command("sleep 100")
        started = await trainer.start(order)
        began = bench.record(started.reference).started_at
        at = began + timedelta(seconds=1000)
        report = await trainer.report(started.reference, Position(0, 1, order.tag), at)
        assert report.cost_micros == pytest.approx((report.at - began).total_seconds() * PRICE / 3600, abs=50)
        known = Position(0, 1, order.tag, known_cost_micros=10**9)
        assert (await trainer.report(started.reference, known, at)).cost_micros == 10**9
        (quote,) = await trainer.quotes(["NVIDIA A100"], {})
        assert (quote.price_micros_per_hour, quote.gpu_type) == (PRICE, None)

    async def test_it_is_what_the_simulator_bills(self, bench: Bench) -> None:
        trainer, order = bench.trainer(), command("true")
        started = await trainer.start(order)
        bench.simulator.clock.advance(500)
        reports = await bench.followed(trainer, started.reference, order.tag)
        await trainer.stop(started.reference)
        (truth,) = bench.truths()
        assert reports[-1].cost_micros == pytest.approx(truth.cost_micros, abs=60)


class TestAccount:
    async def test_it_is_a_remote_trainer(self, bench: Bench) -> None:
        trainer = bench.trainer()
        assert isinstance(trainer, RemoteTrainer) and trainer.bills_from_creation
        assert "E2B" in await trainer.whose()
        with pytest.raises(ProviderRefused, match="keeps no models"):
            await trainer.finished("anything")
        with pytest.raises(CredentialRefused):
            await bench.trainer("unauthorized").whose()
        assert await trainer.find("run-unknown-1") is None

    async def test_its_module_does_not_need_the_package(self) -> None:
        import subprocess
        import sys

        code = "import sys, jobs.providers.e2b.trainer; sys.exit('e2b' in sys.modules)"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: ASYNC221 - a moment


def test_numbers_of_a_receipt_that_no_row_holds_become_texts() -> None:
    """Else the end could not be written down, and the model would be fetched again and again."""
    details = _storable({"rows": 10**30, "classes": [-(10**20), 7, True], "loss": 0.5})
    assert details == {"rows": str(10**30), "classes": [str(-(10**20)), 7, True], "loss": 0.5}
