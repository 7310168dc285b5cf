"""A model's app over HTTP: what it tells, what it predicts, and how it refuses."""

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.training.recipes import checked_hyperparameters
from jobs.recipes import serve
from jobs.recipes.fitting import fit
from jobs.recipes.tables import read_table
from tests.jobs.recipes.data import as_csv

ROWS = [{"size": n, "colour": "red" if n % 2 else "</script><b>", "label": n % 2} for n in range(60)]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("serve") / "content"
    path.write_bytes(as_csv(ROWS))
    options = checked_hyperparameters("tabular-classification", {"epochs": 10, "hiddenLayers": [16]}, None)
    return fit("tabular-classification", read_table(path, "CSV"), options)


@pytest.fixture
def connection(bundle: dict[str, Any]) -> Iterator[http.client.HTTPConnection]:
    """A kept-alive connection to a served model."""
    page = Path(serve.__file__).with_name("page.html").read_text(encoding="utf-8")

    class Handler(serve.Handler):
        app = serve.App({"runId": "run-1", "artifactSha256": "ab" * 32}, bundle, page)

    with serve.Server(Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        client = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        try:
            yield client
        finally:
            client.close()
            server.shutdown()
            thread.join()


def ask(
    connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None = None, accept: str = "*/*"
) -> tuple[int, str, str]:
    connection.request(method, path, body, {"Accept": accept})
    answer = connection.getresponse()
    return answer.status, answer.headers["Content-Type"], answer.read().decode()


def test_one_connection_carries_many_predictions(connection: http.client.HTTPConnection) -> None:
    for number in range(10):
        body = json.dumps({"rows": [{"size": number, "colour": "red", "more": 1}] * 2}).encode()
        status, kind, text = ask(connection, "POST", "/predict", body)
        answer = json.loads(text)
        assert (status, kind) == (200, "application/json")
        assert set(answer) == {"runId", "artifactSha256", "predictions", "probabilities"}
        assert answer["predictions"] == [1, 1]
        assert set(answer["probabilities"][0]) == {"0", "1"}


def test_it_says_what_it_is(connection: http.client.HTTPConnection) -> None:
    status, kind, text = ask(connection, "GET", "/")
    facts = json.loads(text)

    assert (status, kind) == (200, "application/json")
    assert (facts["runId"], facts["recipe"], facts["classes"]) == ("run-1", "tabular-classification", [0, 1])
    assert [column["name"] for column in facts["columns"]] == ["size", "colour"]
    status, _, text = ask(connection, "POST", "/predict", json.dumps(facts["usage"]["body"]).encode())
    assert status == 200
    assert ask(connection, "GET", "/health")[0] == 200


def test_people_get_a_page_that_no_value_can_break(connection: http.client.HTTPConnection) -> None:
    status, kind, text = ask(connection, "GET", "/", accept="text/html,application/xhtml+xml,*/*;q=0.8")

    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert text.count("</script>") == 2
    assert "<b>" not in text
    assert 'fetch("predict"' in text
    assert "{{" not in text


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "application/json"),
        ("application/json", "application/json"),
        ("application/json, text/html", "application/json"),
        ("text/html;q=0.5, application/json;q=0.9", "application/json"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/html;q=x", "application/json"),
    ],
)
def test_who_gets_which(connection: http.client.HTTPConnection, accept: str, kind: str) -> None:
    assert ask(connection, "GET", "/", accept=accept)[1] == kind


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "NOT_JSON"),
        (b"\xff", 400, "NOT_JSON"),
        (b"[" * 100_000, 400, "NOT_JSON"),
        (b'{"rows": ' + b"1" * 5_000 + b"}", 400, "NOT_JSON"),
        (b"null", 422, "NO_ROWS"),
        (b'{"rows": {}}', 422, "NO_ROWS"),
        (b'{"rows": []}', 422, "ROWS_LIMIT"),
        (json.dumps({"rows": [{}] * 1_001}).encode(), 422, "ROWS_LIMIT"),
        (b'{"rows": [1]}', 422, "NOT_A_ROW"),
        (b'{"rows": [{"size": 1}]}', 422, "MISSING_COLUMN"),
        (b'{"rows": [{"size": "x", "colour": ""}]}', 422, "NOT_A_NUMBER"),
        (b'{"rows": [{"size": 1, "colour": []}]}', 422, "NOT_A_VALUE"),
        (b'{"rows": [{"size": "\\ud800", "colour": "\\ud800"}]}', 422, "NOT_A_NUMBER"),
    ],
)
def test_bad_input_is_refused_and_the_connection_stays(
    connection: http.client.HTTPConnection, body: bytes, status: int, code: str
) -> None:
    got, kind, text = ask(connection, "POST", "/predict", body)

    assert (got, kind, json.loads(text)["error"]["code"]) == (status, "application/json", code)
    assert ask(connection, "GET", "/health")[0] == 200


def test_odd_values_are_no_crash(connection: http.client.HTTPConnection) -> None:
    for size in ("NaN", "Infinity", "1e400", "-1e308", "null", "true", '""', "1" * 400):
        body = f'{{"rows": [{{"size": {size}, "colour": "\\ud800"}}]}}'.encode()
        status, _, text = ask(connection, "POST", "/predict", body)
        assert status in (200, 422), (size, text)
        json.loads(text, parse_constant=pytest.fail)


def test_a_page_without_an_origin_may_ask(connection: http.client.HTTPConnection) -> None:
    body = json.dumps({"rows": [{"size": 1, "colour": "red"}]})
    connection.request("POST", "/predict", body, {"Origin": "null", "Content-Type": "text/plain;charset=UTF-8"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")
    answer.read()
    connection.request("OPTIONS", "/predict", headers={"Origin": "null", "Access-Control-Request-Method": "POST"})
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Access-Control-Allow-Headers"]) == (204, "Content-Type")
    answer.read()


def test_too_large_bodies_and_unknown_paths(connection: http.client.HTTPConnection) -> None:
    assert ask(connection, "GET", "/nothing")[0] == 404
    assert ask(connection, "GET", "/predict")[0] == 405
    assert ask(connection, "POST", "/", b"{}")[0] == 404
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(2 * 1024 * 1024))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Connection"]) == (413, "close")
    answer.read()
    assert ask(connection, "GET", "/health")[0] == 200
