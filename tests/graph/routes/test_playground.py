"""The playground is whole, loads from its own origin only, and is served with headers that guard its tokens."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphql import OperationDefinitionNode, OperationType, parse, validate
from starlette.applications import Starlette
from starlette.testclient import TestClient

from graph.routes.playground import EXAMPLES, FOLDER, STATIC, playground_routes, read_examples
from graph.schema import schema

ASSETS = sorted((STATIC / "assets").iterdir())
CODE = [STATIC / "index.html", *(path for path in ASSETS if path.suffix in {".js", ".css"})]
ELSEWHERE = re.compile(r"unpkg|esm\.sh|jsdelivr|cdnjs|skypack|\bcdn\.|googleapis|gstatic|sourceMappingURL")
LOADED = re.compile(
    r"""(?:import\s*\(\s*|from\s*|importScripts\(\s*|url\(\s*|@import\s+|(?:src|href)=)["'`]?(?:https?:)?//"""
)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(Starlette(routes=playground_routes()), base_url="http://runwire.test:8000") as client:
        yield client


def test_page_is_served_and_never_stored(client: TestClient) -> None:
    response = client.get("/playground")

    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert "<title>Runwire Playground</title>" in response.text


def test_page_may_reach_its_own_origin_only(client: TestClient) -> None:
    header = client.get("/playground").headers["content-security-policy"]

    policy = {name: sources for name, *sources in (part.split() for part in header.split(";"))}
    assert policy == {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "worker-src": ["'self'", "blob:"],
        "style-src": ["'self'", "'unsafe-inline'"],
        "font-src": ["'self'", "data:"],
        "img-src": ["'self'", "data:"],
        "connect-src": ["'self'", "ws://runwire.test:8000", "wss://runwire.test:8000"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
    }


@pytest.mark.parametrize("host", ["evil.test; script-src *", "a b", "é", "x" * 300, "*"])
def test_a_strange_host_adds_nothing_to_the_policy(client: TestClient, host: str) -> None:
    response = client.get("/playground", headers={b"host": host.encode()})

    assert response.headers["content-security-policy"].count("connect-src 'self';") == 1


def test_page_has_no_inline_script(client: TestClient) -> None:
    page = client.get("/playground").text

    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    assert re.findall(r"\son\w+=", page) == []


def test_everything_the_page_names_is_there(client: TestClient) -> None:
    page = client.get("/playground").text

    addresses = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert any(address.endswith(".js") for address in addresses)
    assert {address: client.get(address).status_code for address in addresses} == dict.fromkeys(addresses, 200)


def test_every_part_that_a_part_names_is_there() -> None:
    names = {path.name for path in ASSETS}
    named = re.compile(r"[\w.-]+-[\w-]{8}\.(?:js|css|ttf|svg)\b")

    missing = {
        (path.name, name) for path in CODE for name in named.findall(path.read_text("utf-8")) if name not in names
    }
    assert missing == set()


@pytest.mark.parametrize("path", ASSETS, ids=lambda path: path.name)
def test_assets_are_served_for_good(client: TestClient, path: Path) -> None:
    response = client.get(f"/playground/assets/{path.name}")

    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".ttf": "font/ttf"}
    assert response.status_code == 200
    assert response.content == path.read_bytes()
    assert response.headers["content-type"].split(";")[0] == types[path.suffix]
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert re.search(r"-[\w-]{8}$", path.stem), "the name holds no digest, so the file must not be cached for good"


def test_a_missing_asset_is_not_cached(client: TestClient) -> None:
    response = client.get("/playground/assets/none.js")

    assert response.status_code == 404
    assert "cache-control" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "../index.html",
        "..%2Findex.html",
        "%2e%2e/index.html",
        "%2e%2e%2f%2e%2e%2f%2e%2e%2froutes%2fplayground.py",
        "..%5Cindex.html",
        "....//index.html",
        "%00",
        "/etc/passwd",
        "%2Fetc%2Fpasswd",
        "",
        ".",
    ],
)
def test_nothing_outside_the_assets_is_served(client: TestClient, path: str) -> None:
    response = client.get(f"/playground/assets/{path}")

    assert response.status_code == 404


@pytest.mark.parametrize("path", ["/playground", "/playground/examples.json", f"/playground/assets/{ASSETS[0].name}"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_but_reading_is_allowed(client: TestClient, path: str, method: str) -> None:
    assert client.request(method, path).status_code == 405


@pytest.mark.parametrize("path", ["/playground", "/playground/examples.json", f"/playground/assets/{ASSETS[0].name}"])
def test_head_answers_without_a_body(client: TestClient, path: str) -> None:
    response = client.head(path)

    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.name)
def test_nothing_is_loaded_from_elsewhere(path: Path) -> None:
    text = path.read_text("utf-8")

    assert ELSEWHERE.findall(text) == []
    assert LOADED.findall(text) == []


def test_licences_of_what_is_bundled_ship_with_it() -> None:
    text = (STATIC / "LICENSES.txt").read_text("utf-8")

    assert [name for name in ("graphiql 5.4.", "monaco-editor ", "react ", "graphql ") if f"\n{name}" not in text] == []


def test_build_is_pinned_and_installs_from_any_registry() -> None:
    wanted = json.loads((FOLDER / "source" / "package.json").read_text("utf-8"))
    locked = json.loads((FOLDER / "source" / "package-lock.json").read_text("utf-8"))

    versions = {**wanted["dependencies"], **wanted["devDependencies"]}
    assert versions == {name: locked["packages"][f"node_modules/{name}"]["version"] for name in versions}
    assert [name for name, package in locked["packages"].items() if "resolved" in package] == []


def test_a_slash_at_the_end_leads_to_the_page(client: TestClient) -> None:
    response = client.get("/playground/", follow_redirects=True)

    assert (response.status_code, response.url.path) == (200, "/playground")


def test_examples_are_what_the_page_gets(client: TestClient) -> None:
    response = client.get("/playground/examples.json")

    assert response.json() == read_examples()
    assert response.headers["cache-control"] == "no-store"


def test_examples_show_the_way_from_sign_up_to_cancel() -> None:
    kinds = [(operation.operation, operation.name and operation.name.value) for operation in map(_operation, _names())]

    assert kinds == [
        (OperationType.MUTATION, "SignUp"),
        (OperationType.MUTATION, "SignIn"),
        (OperationType.QUERY, "ListRuns"),
        (OperationType.MUTATION, "StartTrainingRun"),
        (OperationType.SUBSCRIPTION, "FollowRun"),
        (OperationType.SUBSCRIPTION, "Activity"),
        (OperationType.MUTATION, "CancelRun"),
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.graphql")), ids=lambda path: path.name)
def test_an_example_asks_for_what_the_schema_has(path: Path) -> None:
    problems = validate(schema._schema, parse(path.read_text("utf-8")))

    assert [problem.message for problem in problems] == []


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.graphql")), ids=lambda path: path.name)
def test_variables_of_an_example_are_declared_by_it(path: Path) -> None:
    variables = json.loads(path.with_suffix(".variables.json").read_text("utf-8"))

    declared = {node.variable.name.value for node in _operation(path.name).variable_definitions or ()}
    assert set(variables) <= declared


def _names() -> list[str]:
    return sorted(path.name for path in EXAMPLES.glob("*.graphql"))


def _operation(name: str) -> OperationDefinitionNode:
    [operation] = parse((EXAMPLES / name).read_text("utf-8")).definitions
    assert isinstance(operation, OperationDefinitionNode)
    return operation
