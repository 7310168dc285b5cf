"""The start script itself, really run by the simulator, against a double of our doors."""

import csv
import io
import json
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from domain.training.recipes import checked_hyperparameters
from jobs.programs import Program, program_of
from jobs.providers.base import DatasetOrder
from jobs.providers.runpod import creation
from tests.jobs.providers.runpod.conftest import TOKEN, order_of
from tests.jobs.providers.runpod.playing import WEB_TOOLS, Case, Played, played

pytestmark = pytest.mark.anyio
SCRIPT = Path(creation.__file__).with_name("pod.sh")
RECIPE = "tabular-classification"
DIES = 'import sys\nprint("step 1/10 loss 0.5")\nraise RuntimeError("the weights are gone")\n'
DIVERGES = 'echo \'::runwire {"end": {"reason": "DIVERGED", "message": "The loss is NaN."}}\'; exit 3'
POINTS = """echo '{"name": "loss", "step": 1, "value": NaN, "at": "2026-11-20T10:00:00Z"}' >> $RUNWIRE_METRICS
echo 'not json' >> $RUNWIRE_METRICS"""
BARS = "for n in $(seq 99); do printf '\\r %s%%|#   |' $n; sleep 0.3; done"
TALKS = "while true; do echo x; sleep 0.2; done"
MAKES = "mkdir artifact; echo w > artifact/w.bin; ln -s w.bin artifact/link; echo '{}' > artifact/artifact.json"
BYTES = bytes(range(256)) * 400
ROWS = b"a,b\n1,2\n"


def writes(command: str, prepare: str = "", **files: str) -> Program:
    return Program({f"{name}.py": text.encode() for name, text in files.items()}, prepare, command)


def table() -> bytes:
    """Sixty rows that can be told apart by one number."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["size", "colour", "label"])
    for number in range(60):
        writer.writerow([number, ("red", "green", "blue")[number % 3], "large" if number >= 30 else "small"])
    return text.getvalue().encode()


def recipe() -> Program:
    wished = checked_hyperparameters(RECIPE, {"targetColumn": "label", "epochs": 5}, None)
    content = table()
    # The recipe finds its data fetched already, and only checks it.
    dataset = DatasetOrder("http://127.0.0.1:9/", order_of().home.token, "CSV", len(content), _sha256(content))  # type: ignore[union-attr]  # it has one
    return program_of(order_of(dataset=dataset, recipe=RECIPE, hyperparameters=wished))


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


async def stopped_while_training(pod: Played) -> None:
    await pod.until(lambda: "TRAINING" in pod.home.stages)
    pod.home.stops = True


async def over_while_training(pod: Played) -> None:
    await pod.until(lambda: "TRAINING" in pod.home.stages)
    pod.home.over = True


async def asked_to_end(pod: Played) -> None:
    await pod.until(lambda: "TRAINING" in pod.home.stages)
    pod.simulator.containers.ask_to_end(pod.pod_id)
    await pod.until(lambda: pod.home.end)
    await pod.trainer.stop(pod.pod_id)


async def terminated_while_training(pod: Played) -> None:
    await pod.until(lambda: "TRAINING" in pod.home.stages)
    assert await to_thread.run_sync(_processes_with, "sleep\0004321") != []
    assert await pod.trainer.stop(pod.pod_id) is True
    assert await to_thread.run_sync(_processes_with, "sleep\0004321") == []


async def shows_a_bar(pod: Played) -> None:
    await pod.until(lambda: "\r 2%|" in pod.home.log)
    pod.home.stops = True


async def ends_soon(pod: Played) -> None:
    await pod.until(lambda: "RuntimeError" in pod.output)
    with anyio.fail_after(10):
        await pod.until(lambda: not pod.truth.is_alive)


CASES: Mapping[str, Case] = {
    "recipe": Case(recipe(), table(), home={"cut_after": 300}),
    **{
        f"{name}-{tools}": case
        for tools in WEB_TOOLS
        for name, case in {
            "resumed": Case(
                *(writes("test -s data/content"), BYTES, tools),
                home={"cut_after": 70_000, "download_status": [200, 503, 200]},
                patience_seconds=20,
            ),
            "checksum": Case(writes("true"), ROWS, tools, change={"sha256": "0" * 64}),
            "refused": Case(writes("true"), ROWS, tools, home={"download_status": [403]}),
            "short": Case(writes("true"), ROWS, tools, change={"bytes": 1_000}),
            "nobody": Case(writes("true"), ROWS, tools, change={"url": "http://127.0.0.1:9/d"}, patience_seconds=0),
            "no-name": Case(writes("true"), ROWS, tools, change={"url": "http://x.invalid/d"}, patience_seconds=0),
        }.items()
    },
    "dies": Case(writes("echo begins\npython3 dies.py\n", dies=DIES), meanwhile=ends_soon),
    "diverges": Case(writes(DIVERGES)),
    "preparation": Case(writes("true", prepare="true\nfalse\n")),
    "no-archive": Case(writes("true"), home={"packed": b"no archive"}),
    "too-long": Case(writes("echo begins; sleep 60"), order={"time_limit_seconds": 3}),
    "stored": Case(writes(MAKES)),
    "not-stored": Case(writes(MAKES), home={"artifact_status": 413}),
    "unreachable": Case(writes("true"), home_url="http://127.0.0.1:9", patience_seconds=0),
    "unwell": Case(writes("true"), home={"healthy": False}, patience_seconds=1),
    "faults": Case(writes("echo one; sleep 1; echo two"), home={"report_statuses": [500, 404, 429]}),
    "unwanted": Case(writes("printf 'a\\0b\\n'; sleep 1"), home={"report_statuses": [422]}),
    "bars": Case(writes(BARS), meanwhile=shows_a_bar),
    "points": Case(writes(POINTS)),
    "secrets": Case(writes("env"), ROWS),
    "stopped": Case(writes(f"sleep 60 & {TALKS}"), meanwhile=stopped_while_training),
    "over": Case(writes(TALKS), meanwhile=over_while_training),
    "asked": Case(writes("sleep 60"), meanwhile=asked_to_end),
    "terminated": Case(writes("setsid sleep 4321 & sleep 60"), meanwhile=terminated_while_training),
    "kept": Case(writes("true"), order={"keep_seconds": 2}),
}


@pytest.fixture(scope="module")
async def pods() -> AsyncIterator[Mapping[str, Played]]:
    async with played(CASES) as pods:
        yield pods


def test_the_script_can_be_read_by_bash() -> None:
    done = subprocess.run(["bash", "-n", SCRIPT], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "set -Eeuo pipefail" in SCRIPT.read_text()


async def test_a_recipe_is_trained_from_its_program_to_its_stored_model(pods: Mapping[str, Played]) -> None:
    """Fetched in two parts, trained for real, stored with the receipt last, told, and ended by the pod itself."""
    pod = pods["recipe"]
    assert pod.end == {"reason": "SUCCEEDED", "message": "", "exitCode": 0, "line": None}, pod.output
    assert pod.downloads == ["download from 0", "download from 300"]
    assert pod.home.stored[-1] == "artifact.json"
    assert pod.home.ended_before == []
    receipt = json.loads(pod.home.artifacts["artifact.json"])
    assert len(pod.home.artifacts[receipt["name"]]) == receipt["bytes"]
    assert [report["sequence"] for report in pod.home.reports] == list(range(1, len(pod.home.reports) + 1))
    assert any(line.startswith('::runwire {"end": {"reason": "SUCCEEDED"') for line in pod.said)
    assert (pod.truth.state, pod.truth.is_alive) == ("succeeded", False)
    assert TOKEN not in pod.output and pod.home.grant not in pod.output
    assert all(re.match(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in pod.output.splitlines())


@pytest.mark.parametrize("tools", WEB_TOOLS)
class TestFetching:
    """The same with wget, else curl, else Python, on machines that have nothing else."""

    async def test_resumed_after_a_cut_and_a_fault(self, pods: Mapping[str, Played], tools: str) -> None:
        pod = pods[f"resumed-{tools}"]
        assert pod.end["reason"] == "SUCCEEDED", pod.story
        assert pod.downloads == ["download from 0", "download from 70000", "download from 70000"]

    async def test_a_wrong_checksum(self, pods: Mapping[str, Played], tools: str) -> None:
        assert pods[f"checksum-{tools}"].end == {
            "reason": "DATA_ERROR",
            "message": "The dataset could not be downloaded: its SHA-256 is not the one that was announced.",
            "exitCode": None,
            "line": None,
        }

    async def test_a_refused_grant(self, pods: Mapping[str, Played], tools: str) -> None:
        pod = pods[f"refused-{tools}"]
        assert pod.end["reason"] == "DATA_ERROR"
        assert pod.end["message"] == (
            "The dataset could not be downloaded: the right to it was refused (403);"
            " it may have expired or been revoked."
        )
        assert pod.downloads == ["download from 0"]

    async def test_too_little_data(self, pods: Mapping[str, Played], tools: str) -> None:
        pod = pods[f"short-{tools}"]
        assert pod.end["reason"] == "DATA_ERROR"
        assert pod.end["message"].startswith("The dataset could not be downloaded: it is too short: 8 of 1000 bytes")

    @pytest.mark.parametrize(
        ("case", "words"),
        [
            ("nobody", "nobody listens at 127.0.0.1:9, the connection was refused"),
            ("no-name", "the name of x.invalid cannot be resolved (DNS)"),
        ],
    )
    async def test_nobody_there(self, pods: Mapping[str, Played], tools: str, case: str, words: str) -> None:
        assert pods[f"{case}-{tools}"].end["message"] == f"The dataset could not be downloaded: {words}."


class TestFailures:
    async def test_of_the_program_are_told_at_once_with_line_and_exit_code(self, pods: Mapping[str, Played]) -> None:
        pod = pods["dies"]
        assert pod.end == {
            "reason": "CODE_ERROR",
            "message": "RuntimeError: the weights are gone (The training ended with exit code 1 in line 2)",
            "exitCode": 1,
            "line": 2,
        }
        assert "step 1/10 loss 0.5" in pod.said
        assert pod.home.stages[-1] == "TRAINING"
        assert pod.truth.state == "failed"

    async def test_the_programs_own_word_counts(self, pods: Mapping[str, Played]) -> None:
        end = {"reason": "DIVERGED", "message": "The loss is NaN.", "exitCode": 3, "line": None}
        assert pods["diverges"].end == end

    async def test_of_the_preparation(self, pods: Mapping[str, Played]) -> None:
        pod = pods["preparation"]
        assert (pod.end["reason"], pod.end["exitCode"], pod.end["line"]) == ("CODE_ERROR", 1, 2)
        assert pod.end["message"] == "The preparation ended with exit code 1 in line 2."
        assert "TRAINING" not in pod.home.stages

    async def test_of_our_own_script(self, pods: Mapping[str, Played]) -> None:
        end = pods["no-archive"].end
        assert end["reason"] == "PROVIDER_ERROR"
        words = f"The pod's start script failed in line {end['line']} with exit code {end['exitCode']}."
        assert (end["message"], end["line"] > 0, end["exitCode"] > 0) == (words, True, True)

    async def test_when_the_time_is_up(self, pods: Mapping[str, Played]) -> None:
        assert pods["too-long"].end["reason"] == "TIMED_OUT"

    async def test_of_an_artifact_that_is_refused(self, pods: Mapping[str, Played]) -> None:
        pod = pods["not-stored"]
        words = "The artifact w.bin could not be stored: the server answered 413 (The artifact is too large.)."
        assert (pod.end["reason"], pod.end["message"]) == ("CODE_ERROR", words)
        assert pod.home.requests.count("artifact w.bin") == 1
        assert "artifact artifact.json" not in pod.home.requests

    async def test_when_we_cannot_be_reached(self, pods: Mapping[str, Played]) -> None:
        pod = pods["unreachable"]
        words = "Runwire cannot be reached: nobody listens at 127.0.0.1:9, the connection was refused."
        assert words in pod.output
        assert (pod.trouble, pod.home.requests, pod.truth.is_alive) == (None, [], False)

    async def test_when_we_are_not_well(self, pods: Mapping[str, Played]) -> None:
        pod = pods["unwell"]
        assert "answered 503" in pod.output
        assert (pod.trouble, pod.truth.is_alive) == (None, False)

    async def test_a_failed_pod_costs_little(self, pods: Mapping[str, Played]) -> None:
        """By the simulator's clock and the list price."""
        failed = [pod for pod in pods.values() if pod.truth.state == "failed"]
        assert len(failed) > 15
        for pod in failed:
            assert pod.truth.price_micros_per_hour == 690_000
            assert 0 < pod.truth.cost_micros < 500_000
        # Real pods are more patient: a minute with us, the program, the data, and the telling, and one to end the pod.
        dearest = 5_990_000
        assert 5 * 60 * dearest / 3600 < 500_000


class TestStoring:
    async def test_the_receipt_comes_last_and_links_not_at_all(self, pods: Mapping[str, Played]) -> None:
        pod = pods["stored"]
        assert pod.end["reason"] == "SUCCEEDED"
        assert pod.home.stored == ["w.bin", "artifact.json"]
        assert pod.home.stages == ["TRAINING", "SAVING"]

    async def test_a_pod_that_is_kept_has_told_its_end_before(self, pods: Mapping[str, Played]) -> None:
        pod = pods["kept"]
        assert pod.end["reason"] == "SUCCEEDED"
        assert "kept for 2 s" in pod.output
        assert pod.truth.state == "succeeded"


class TestReporting:
    async def test_reports_are_sent_again_until_they_are_taken(self, pods: Mapping[str, Played]) -> None:
        pod = pods["faults"]
        assert pod.end["reason"] == "SUCCEEDED"
        assert pod.said == ["one", "two"]

    async def test_what_cannot_be_taken_is_left_out(self, pods: Mapping[str, Played]) -> None:
        """A report that is refused for its content goes again without its log, so that the end is told."""
        pod = pods["unwanted"]
        assert pod.end["reason"] == "SUCCEEDED"
        assert re.fullmatch(r"\(\d+ bytes of the log could not be sent\)", pod.said[0])
        assert len(pod.home.log.splitlines()) > 1

    async def test_bars_are_shown_before_their_line_ends(self, pods: Mapping[str, Played]) -> None:
        pod = pods["bars"]
        assert pod.trouble is None, pod.story
        assert "\r 2%|#   |" in pod.home.log

    async def test_points_of_the_program(self, pods: Mapping[str, Played]) -> None:
        points = [point for report in pods["points"].home.reports for point in report["points"]]
        assert points == [{"name": "loss", "step": 1, "value": "NaN", "at": "2026-11-20T10:00:00Z"}]

    async def test_a_program_sees_none_of_our_secrets(self, pods: Mapping[str, Played]) -> None:
        log = pods["secrets"].home.log
        assert "RUNWIRE_RUN_ID" in log
        for secret in ("RUNWIRE_TOKEN", "RUNWIRE_DATASET_TOKEN", "RUNPOD_API_KEY", TOKEN, pods["secrets"].home.grant):
            assert secret not in log

    @pytest.mark.parametrize("case", ["stopped", "over"])
    async def test_who_is_not_wanted_any_more_ends_everything(self, pods: Mapping[str, Played], case: str) -> None:
        pod = pods[case]
        assert (pod.trouble, pod.home.end) == (None, None)
        assert (pod.truth.state, pod.truth.is_alive) == ("canceled", False)
        assert pod.pod_id not in pod.simulator.containers.running()

    async def test_a_pod_that_is_stopped_from_outside_says_so(self, pods: Mapping[str, Played]) -> None:
        assert pods["asked"].end["message"] == "The pod was stopped from outside."

    async def test_nothing_is_left_of_a_terminated_pod(self, pods: Mapping[str, Played]) -> None:
        pod = pods["terminated"]
        assert pod.trouble is None, pod.story
        assert pod.truth.state == "canceled"


def _processes_with(words: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if words in path.read_text():
                found.append(path.parent.name)
        except OSError:
            continue
    return found
