"""Commands as a person or a script meets them: what they print, as words and as JSON, and their exit codes."""

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner, Result

from graph.cli.main import application
from graph.cli.session import LocalSession
from graph.ids import global_id
from tests.graph.cli.fake_api import FakeApi
from tests.graph.cli.scripted import message

RUN_UUID = "01a1fc03-0e50-7329-a181-cddfce277a16"
RUN_ID = global_id("TrainingRun", UUID(RUN_UUID))
RUN = {
    "__typename": "TrainingRun",
    "id": RUN_ID,
    "status": "TRAINING",
    "stage": "TRAINING",
    "progress": 42.5,
    "progressEstimated": False,
    "eta": None,
    "endReason": None,
    "errorMessage": None,
    "provider": "LOCAL",
    "deploymentUrl": None,
    "costMicros": 0,
    "createdAt": "2026-01-31T12:00:00.000000Z",
    "startedAt": None,
    "endedAt": None,
    "durationSeconds": 65.0,
    "model": {"id": "m", "name": "prices", "status": "TRAINING"},
}
URL = "http://localhost:8000/apps/abc/"

Run = Callable[..., Result]


@pytest.fixture
def api() -> Iterator[FakeApi]:
    with FakeApi() as api:
        yield api


@pytest.fixture
def run(api: FakeApi, tmp_path: Path) -> Run:
    """`runwire …` with the fake API's address and a token in the environment."""
    environment = {"RUNWIRE_URL": api.url, "RUNWIRE_TOKEN": "rwk_test", "DATA_DIR": str(tmp_path), "COLUMNS": "200"}

    def run(*arguments: str, **changed: str | None) -> Result:
        return CliRunner().invoke(application(), arguments, env={**environment, **changed})

    return run


def story(status: str, **end: Any) -> list[dict[str, Any]]:
    """A run's messages up to its end."""
    core = {"id": RUN_ID, "endReason": None, "errorMessage": None, "deploymentUrl": None, "model": {"name": "prices"}}
    lines = [{"line": 1, "at": "2026-01-31T12:00:00Z", "level": "INFO", "text": "epoch 1/2 [loss] 0.5"}]
    return [
        message(1, kind="Snapshot", progress=0.0, message="Waiting", run=core),
        message(2, kind="RunLogged", fromLine=1, toLine=1, lines=lines, message="Training", run=core),
        message(3, kind="RunMeasured", readings=[{"name": "loss", "step": 1, "value": 0.5}], run=core),
        message(4, kind="RunStatusChanged", status=status, progress=100.0, run={**core, **end}),
    ]


def refusal(kind: str, code: str, **fields: Any) -> dict[str, Any]:
    return {"__typename": kind, "code": code, "message": "No.", "field": None, "retryAfterSeconds": None, **fields}


def lines_of(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize(("status", "code"), [("READY", 0), ("FAILED", 1), ("CANCELED", 3)])
def test_watch_ends_as_the_run_does(api: FakeApi, run: Run, status: str, code: int) -> None:
    api.stream = story(status, endReason="CODE_ERROR", errorMessage="It [broke].", deploymentUrl=URL)
    result = run("watch", RUN_UUID)
    assert result.exit_code == code
    assert api.asked == [("FollowRun", {"id": RUN_ID, "after": None})]
    assert api.authorizations == {"Bearer rwk_test"}


def test_watch_prints_plain_lines_where_no_terminal_is(api: FakeApi, run: Run) -> None:
    api.stream = story("READY", deploymentUrl=URL)
    assert run("watch", RUN_ID).stdout.splitlines() == [
        "  0.0 %  TRAINING   Waiting  3 s left",
        "  | epoch 1/2 [loss] 0.5",
        " 50.0 %  TRAINING   Training  3 s left",
        " 50.0 %  TRAINING   training  loss 0.5  3 s left",
        "100.0 %  READY      training  loss 0.5",
        f"✓ The run is READY. It answers at {URL}",
    ]


def test_watch_tells_why_a_run_failed(api: FakeApi, run: Run) -> None:
    api.stream = story("FAILED", endReason="CODE_ERROR", errorMessage="It [broke].")
    assert run("watch", RUN_ID).stdout.splitlines()[-1] == "✗ The run is FAILED (CODE_ERROR: It [broke])."


def test_watch_as_json_is_one_event_per_line(api: FakeApi, run: Run) -> None:
    api.stream = story("READY")
    assert lines_of(run("watch", RUN_ID, "--json", "--after", "c0")) == api.stream
    assert api.asked == [("FollowRun", {"id": RUN_ID, "after": "c0"})]


def test_watch_behind_the_last_event_tells_how_it_ended(api: FakeApi, run: Run) -> None:
    api.answers["TrainingRun"] = {"trainingRun": {**RUN, "status": "CANCELED"}}
    assert run("watch", RUN_ID, "--after", "c4").exit_code == 3


@pytest.mark.parametrize(
    ("kind", "code", "exit_code"),
    [
        ("Invalid", "COLUMN_NOT_IN_DATASET", 1),
        ("Conflict", "RUN_ALREADY_ENDED", 1),
        ("NotFound", "NOT_FOUND", 4),
        ("Forbidden", "SCOPE_MISSING", 5),
        ("LimitReached", "TOO_MANY_RUNS", 6),
        ("Unavailable", "UNAVAILABLE", 7),
        ("Unavailable", "PROVIDER_NOT_AVAILABLE", 1),
    ],
)
def test_a_refusal_has_its_exit_code(api: FakeApi, run: Run, kind: str, code: str, exit_code: int) -> None:
    api.answers["CancelTrainingRun"] = {"cancelTrainingRun": refusal(kind, code, field=["input", "id"])}
    words = run("cancel", RUN_ID)
    assert (words.exit_code, words.stdout, words.stderr) == (exit_code, "", "✗ No. (input.id)\n")
    machine = run("cancel", RUN_ID, "--json")
    assert machine.exit_code == exit_code
    assert lines_of(machine) == [
        {"error": {"code": code, "message": "No.", "field": ["input", "id"], "retryAfterSeconds": None}}
    ]


def test_a_credential_that_ended_is_5(api: FakeApi, run: Run) -> None:
    api.answers["TrainingRuns"] = {"errors": [{"message": "It ended.", "extensions": {"code": "UNAUTHENTICATED"}}]}
    assert run("status").exit_code == 5


def test_an_unknown_run_is_4(api: FakeApi, run: Run) -> None:
    api.answers["TrainingRun"] = {"trainingRun": None}
    assert run("status", RUN_UUID).exit_code == 4
    assert api.asked == [("TrainingRun", {"id": RUN_ID})]


def test_where_nobody_is_it_is_7(run: Run) -> None:
    result = run("status", RUNWIRE_URL="http://127.0.0.1:1")
    assert result.exit_code == 7
    assert result.stderr.startswith("✗ Nobody answers at http://127.0.0.1:1 (ConnectError).")


def test_no_address_is_usage(run: Run) -> None:
    assert run("status", RUNWIRE_URL=None).exit_code == 2


def test_an_unknown_option_is_usage(run: Run) -> None:
    assert run("status", "--nonsense").exit_code == 2


def test_no_credential_is_5(run: Run) -> None:
    assert run("status", RUNWIRE_TOKEN=None).exit_code == 5


def test_the_local_key_goes_to_the_local_api_and_to_no_other(api: FakeApi, run: Run, tmp_path: Path) -> None:
    api.answers["TrainingRuns"] = {"trainingRuns": {"edges": []}}
    LocalSession("http://127.0.0.1:1", "rwk_local").write(tmp_path)
    assert run("status", RUNWIRE_TOKEN=None).exit_code == 5
    assert api.authorizations == set()
    LocalSession(api.url, "rwk_local").write(tmp_path)
    assert run("status", RUNWIRE_TOKEN=None, RUNWIRE_URL=None).exit_code == 0
    assert api.authorizations == {"Bearer rwk_local"}
    assert (tmp_path / "session.json").stat().st_mode & 0o777 == 0o600


def test_status_lists_the_latest_runs(api: FakeApi, run: Run) -> None:
    api.answers["TrainingRuns"] = {"trainingRuns": {"edges": [{"node": RUN}]}}
    shown = run("status", "--first", "3").stdout.splitlines()
    assert shown[0].split() == ["Model", "Status", "Progress", "Took", "Begun", "Run"]
    assert shown[1].split()[:3] == ["prices", "TRAINING", "42"]
    assert shown[1].split()[-1] == RUN_ID
    assert api.asked == [("TrainingRuns", {"first": 3})]
    assert lines_of(run("status", "--json")) == [RUN]


@pytest.mark.parametrize(("status", "code"), [("TRAINING", 0), ("READY", 0), ("FAILED", 1), ("CANCELED", 3)])
def test_status_of_one_run_is_its_exit_code(api: FakeApi, run: Run, status: str, code: int) -> None:
    api.answers["TrainingRun"] = {"trainingRun": {**RUN, "status": status}}
    assert run("status", RUN_ID).exit_code == code


def test_train_uploads_starts_and_watches(api: FakeApi, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("rooms,price\n3,100\n")
    dataset = {"__typename": "Dataset", "id": "d1", "name": "houses.csv", "bytes": 18, "rowCount": 1}
    api.answers |= {"CreateDataset": {"createDataset": dataset}, "Dataset": {"dataset": dataset}}
    api.answers["StartTrainingRun"] = {"startTrainingRun": RUN}
    api.stream = story("READY")
    arguments = ["--name", "prices", "--target", "price", "-s", "epochs=5", "-s", "model=linear", "-s", "layers=[4,2]"]
    result = run("train", str(file), *arguments, "--tag", "a")
    assert result.exit_code == 0
    assert api.uploads == {"d1": b"rooms,price\n3,100\n"}
    assert api.asked == [
        ("CreateDataset", {"input": {"name": "houses.csv", "format": "CSV"}}),
        ("Dataset", {"id": "d1"}),
        (
            "StartTrainingRun",
            {
                "input": {
                    "modelName": "prices",
                    "recipe": "tabular-classification",
                    "provider": "LOCAL",
                    "hyperparameters": {"epochs": 5, "model": "linear", "layers": [4, 2], "targetColumn": "price"},
                    "tags": ["a"],
                    "deploy": True,
                    "datasetId": "d1",
                }
            },
        ),
        ("FollowRun", {"id": RUN_ID, "after": None}),
    ]


def test_train_elsewhere_says_where_and_within_which_limits(api: FakeApi, run: Run) -> None:
    api.answers["StartTrainingRun"] = {"startTrainingRun": RUN}
    places = ["--provider", "runpod", "--gpu", "A", "--gpu", "B", "--fallback", "e2b", "--scenario", "stuck"]
    limits = ["--budget", "0.5", "--rule", "nan_loss=stop"]
    assert run("train", "-", "-n", "m", "--recipe", "command", *places, *limits, "--no-watch").exit_code == 0
    ((_, variables),) = api.asked
    assert variables["input"] == {
        "modelName": "m",
        "recipe": "command",
        "provider": "RUNPOD",
        "hyperparameters": {},
        "deploy": True,
        "gpuTypes": ["A", "B"],
        "fallbacks": [{"provider": "E2B"}],
        "budgetMicros": 500_000,
        "rules": [{"warning": "NAN_LOSS", "action": "STOP"}],
        "scenario": "stuck",
        "datasetId": None,
    }


def test_train_can_ask_for_the_price_only(api: FakeApi, run: Run) -> None:
    option = {
        "provider": "RUNPOD",
        "gpuType": "NVIDIA A40",
        "priceMicrosPerHour": 440_000,
        "flatMicros": None,
        "expectedMicros": 12_300,
        "isAvailable": True,
        "isEstimate": False,
        "problem": None,
        "eta": {"seconds": 100.0, "lowSeconds": 80.0, "highSeconds": 130.0, "confidence": 0.5},
    }
    quote = {"__typename": "TrainingQuote", "options": [option], "testMode": True, "budgetMicros": None}
    api.answers["QuoteTrainingRun"] = {"quoteTrainingRun": quote}
    result = run("train", RUN_UUID, "-n", "m", "--provider", "runpod", "--quote")
    assert result.exit_code == 0
    for words in ("NVIDIA A40", "$0.4400/h", "$0.0123", "yes", "Test mode"):
        assert words in result.stdout
    assert [name for name, _ in api.asked] == ["QuoteTrainingRun"]


def test_train_with_a_key_takes_the_first_dataset_of_the_same_file(api: FakeApi, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("rooms,price\n3,100\n")
    same = {"name": "houses.csv", "status": "READY", "sha256": sha256(file.read_bytes()).hexdigest()}
    nodes = [
        {**same, "id": "d4"},
        {**same, "id": "d3"},
        {**same, "id": "d2", "name": "others.csv"},
        {**same, "id": "d1", "sha256": None},
    ]
    page = {"edges": [{"node": node} for node in nodes], "pageInfo": {"hasNextPage": False, "endCursor": "c"}}
    api.answers |= {"Datasets": {"datasets": page}, "StartTrainingRun": {"startTrainingRun": RUN}}
    assert run("train", str(file), "-n", "prices", "--idempotency-key", "k", "--no-watch").exit_code == 0
    assert [name for name, _ in api.asked] == ["Datasets", "StartTrainingRun"]
    assert api.asked[-1][1]["input"]["datasetId"] == "d3"


def test_train_that_is_refused_says_how_to_go_on_without_another_upload(api: FakeApi, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("rooms,price\n3,100\n")
    dataset = {"__typename": "Dataset", "id": "d1", "name": "houses.csv", "bytes": 18, "rowCount": 1}
    api.answers |= {"CreateDataset": {"createDataset": dataset}, "Dataset": {"dataset": dataset}}
    refusal = {"__typename": "Invalid", "code": "COLUMN_NOT_IN_DATASET", "message": "No.", "field": None}
    api.answers["StartTrainingRun"] = {"startTrainingRun": {**refusal, "retryAfterSeconds": None}}
    result = run("train", str(file), "-n", "prices")
    assert result.exit_code == 1
    assert "runwire train d1" in result.stderr


def test_train_without_watching_tells_the_run(api: FakeApi, run: Run) -> None:
    api.answers["StartTrainingRun"] = {"startTrainingRun": RUN}
    assert lines_of(run("train", RUN_UUID, "-n", "prices", "--no-watch", "--json")) == [RUN]
    assert api.asked[0][1]["input"]["datasetId"] == global_id("Dataset", UUID(RUN_UUID))


def test_train_on_a_file_that_is_not_there_is_usage(api: FakeApi, run: Run) -> None:
    assert run("train", "nowhere.csv", "-n", "prices").exit_code == 2
    assert api.asked == []


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (["--rule", "NAN=STOP"], "--rule knows no NAN; there are NAN_LOSS, "),
        (["--rule", "NAN_LOSS=HALT"], "--rule knows no HALT; there are IGNORE, WARN, STOP."),
        (["--provider", "foo"], "--provider knows no foo; there are LOCAL, REPLICATE, RUNPOD, ASTRIA, E2B."),
        (["--fallback", "foo"], "--fallback knows no foo; "),
    ],
)
def test_train_by_a_word_that_does_not_exist_uploads_nothing(
    api: FakeApi, run: Run, tmp_path: Path, wrong: list[str], words: str
) -> None:
    file = tmp_path / "houses.csv"
    file.write_text("a,b\n1,2\n")
    result = run("train", str(file), "-n", "prices", *wrong)
    assert (result.exit_code, api.asked) == (2, [])
    assert words in result.stderr


def test_watch_tells_another_attempt_and_what_looks_wrong(api: FakeApi, run: Run) -> None:
    first, *rest = story("CANCELED", errorMessage="canceled at Replicate")
    core = first["run"]
    again: dict[str, Any] = {"attempt": 2, "provider": "RUNPOD", "gpuType": "NVIDIA A40"}
    silent: dict[str, Any] = {"reason": "SILENCE", "words": "Nothing was heard.", "action": "STOP"}
    api.stream = [
        first,
        message(2, kind="RunAttemptStarted", run=core, **{**again, "attempt": 1}),
        message(3, kind="RunAttemptStarted", run=core, **again),
        message(4, kind="RunWarned", run=core, **silent),
        {**rest[-1], "seq": 5, "firstSeq": 5},
    ]
    shown = run("watch", RUN_ID).stdout.splitlines()
    assert [line for line in shown if "!" in line] == [
        "  ! Attempt 2 at RUNPOD on NVIDIA A40",
        "  ! SILENCE: Nothing was heard. The run is stopped.",
    ]
    assert shown[-1] == "■ The run was canceled (canceled at Replicate)."


def test_a_refused_upload_says_why(api: FakeApi, run: Run, tmp_path: Path) -> None:
    file = tmp_path / "empty.csv"
    file.write_text("")
    api.answers["CreateDataset"] = {"createDataset": {"__typename": "Dataset", "id": "d1", "name": "empty.csv"}}
    api.upload_answer = (422, {"code": "DATASET_EMPTY", "message": "It is empty.", "field": None})
    result = run("upload", str(file))
    assert (result.exit_code, result.stderr) == (1, "✗ It is empty.\n")


def test_logs_read_the_whole_log_page_by_page(api: FakeApi, run: Run) -> None:
    node = {"line": 1, "at": "2026-01-31T12:00:00Z", "level": "INFO", "text": "one"}
    page = {"edges": [{"cursor": "1", "node": node}], "pageInfo": {"hasNextPage": False, "endCursor": "1"}}
    api.answers["Logs"] = {"trainingRun": {"__typename": "TrainingRun", "logs": page}}
    assert run("logs", RUN_ID, "--last", "0").stdout == "one\n"
    assert lines_of(run("logs", RUN_ID, "--level", "info", "--json")) == [node]
    assert api.asked == [
        ("Logs", {"id": RUN_ID, "level": None, "search": None, "first": 500, "after": None}),
        ("Logs", {"id": RUN_ID, "level": "INFO", "search": None, "last": 100}),
    ]


def test_logs_follow_what_is_written_and_repeat_no_line(api: FakeApi, run: Run) -> None:
    def line(number: int) -> dict[str, Any]:
        return {"line": number, "at": "2026-01-31T12:00:00Z", "level": "INFO", "text": f"line {number}"}

    page = {"edges": [{"cursor": "1", "node": line(1)}], "pageInfo": {"hasNextPage": False, "endCursor": "1"}}
    api.answers["Logs"] = {"trainingRun": {"__typename": "TrainingRun", "logs": page}}
    begin, _, _, end = story("READY")
    logged = message(2, kind="RunLogged", first=2, fromLine=1, toLine=3, lines=[line(1), line(2), line(3)])
    api.stream = [begin, logged, message(3), end]
    assert run("logs", RUN_ID, "--follow").stdout == "line 1\nline 2\nline 3\n"


def test_token_makes_a_key_with_the_scopes_asked_for(api: FakeApi, run: Run) -> None:
    api.answers["CreateApiKey"] = {"createApiKey": {"__typename": "CreatedApiKey", "token": "rwk_new"}}
    assert run("token", "--scope", "runs:read", "--name", "board").stdout == "rwk_new\n"
    assert api.asked == [("CreateApiKey", {"input": {"name": "board", "scopes": ["RUNS_READ"]}})]
    assert run("token", "--scope", "everything").exit_code == 2


def test_token_makes_a_key_of_test_mode(api: FakeApi, run: Run) -> None:
    api.answers["CreateApiKey"] = {"createApiKey": {"__typename": "CreatedApiKey", "token": "rwk_test_new"}}
    assert run("token", "--scope", "runs:read", "--test-mode", "--name", "board").stdout == "rwk_test_new\n"
    wanted = {"name": "board", "scopes": ["RUNS_READ"], "testMode": True}
    assert api.asked == [("CreateApiKey", {"input": wanted})]


@pytest.mark.parametrize(
    "arguments", [("operator",), ("check", "ada@example.com"), ("upgrade", "--remove"), ("operator", "--remove")]
)
def test_db_takes_an_address_with_operator_and_only_there(run: Run, arguments: tuple[str, ...]) -> None:
    assert run("db", *arguments).exit_code == 2


def test_token_signs_in_with_a_password_from_the_environment(api: FakeApi, run: Run) -> None:
    session = {
        "__typename": "SignedIn",
        "accessToken": "access",
        "refreshToken": "refresh",
        "expiresAt": "2036-01-31T12:00:00Z",
    }
    api.answers["SignIn"] = {"signIn": session}
    api.answers["CreateApiKey"] = {"createApiKey": {"__typename": "CreatedApiKey", "token": "rwk_new"}}
    result = run("token", "--email", "me@example.com", "--json", RUNWIRE_PASSWORD="a long password")
    assert lines_of(result) == [{"token": "rwk_new", "url": api.url}]
    assert api.asked[0] == ("SignIn", {"input": {"email": "me@example.com", "password": "a long password"}})
    assert api.authorizations == {None, "Bearer access"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--provider", "azure"), "There is no provider azure"),
        (("--prompt", "Create a sentiment model"), "not offered by this version"),
        (("--scenario", "success"), "plays no scenarios"),
    ],
)
def test_demo_says_what_it_cannot_do(run: Run, arguments: tuple[str, str], words: str) -> None:
    result = run("demo", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_simulate_lists_what_can_be_played(run: Run) -> None:
    result = run("simulate", "--list")
    assert result.exit_code == 0
    for provider in ("REPLICATE", "RUNPOD", "ASTRIA", "E2B"):
        assert provider in result.stdout
    assert "webhook_lost" in result.stdout


def test_schema_prints_the_schema(run: Run) -> None:
    result = run("schema")
    assert result.exit_code == 0
    assert "\ntype Subscription {\n" in result.stdout


@pytest.mark.parametrize(
    "name",
    [
        "demo",
        "up",
        "train",
        "watch",
        "logs",
        "cancel",
        "sync",
        "status",
        "upload",
        "token",
        "db",
        "simulate",
        "schema",
        "check",
    ],
)
def test_help_teaches_by_example(run: Run, name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert f"runwire {name}" in result.stdout
