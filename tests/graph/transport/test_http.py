"""GraphQL over HTTP: what is answered to which request, with which status and media type."""

import asyncio
from typing import Any

import httpx2
import pytest

from graph.transport import TransportSettings
from tests.graph.transport.toy import Toy, serving, until

pytestmark = pytest.mark.anyio

GRAPHQL_JSON = "application/graphql-response+json"
NEW = {"accept": GRAPHQL_JSON}
HELLO = {"query": "{ hello }"}


def code_of(answer: httpx2.Response) -> Any:
    assert answer.headers["content-type"].startswith(("application/json", GRAPHQL_JSON))
    body = answer.json()
    assert "data" not in body
    assert len(body["errors"]) >= 1
    return body["errors"][0]["extensions"]["code"]


async def test_a_query_is_answered(toy: Toy) -> None:
    answer = await toy.post({"query": "query A($n: String!) { hello(name: $n) }", "variables": {"n": "Ana"}}, NEW)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{GRAPHQL_JSON}; charset=utf-8"
    assert answer.json() == {"data": {"hello": "hello Ana"}}


async def test_a_mutation_is_answered(toy: Toy) -> None:
    answer = await toy.post({"query": "mutation { touch }"})
    assert answer.json() == {"data": {"touch": 1}}


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("application/json", "application/json"),
        (GRAPHQL_JSON, GRAPHQL_JSON),
        (f"{GRAPHQL_JSON}; charset=utf-8, application/json;q=0.9", GRAPHQL_JSON),
        (f"application/json, {GRAPHQL_JSON}", GRAPHQL_JSON),
        (f"{GRAPHQL_JSON};q=0.5, application/json", "application/json"),
        (f"{GRAPHQL_JSON};q=0, */*", "application/json"),
        (f"APPLICATION/JSON;q=0.1, {GRAPHQL_JSON.upper()};q=0.2", GRAPHQL_JSON),
        (
            f"{GRAPHQL_JSON}, application/graphql+json, application/json, text/event-stream, multipart/mixed",
            GRAPHQL_JSON,
        ),
    ],
)
async def test_the_media_type_is_negotiated(toy: Toy, accept: str | None, media_type: str) -> None:
    async with httpx2.AsyncClient() as client:
        client.headers.clear()
        headers = {"content-type": "application/json"} | ({"accept": accept} if accept else {})
        answer = await client.post(toy.url, content=b'{"query":"{ hello }"}', headers=headers)
    assert answer.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert answer.json() == {"data": {"hello": "hello you"}}


@pytest.mark.parametrize("accept", ["image/png", "text/html", "application/json;q=0", "application/xml"])
async def test_nothing_acceptable_is_406(toy: Toy, accept: str) -> None:
    answer = await toy.post(HELLO, {"accept": accept})
    assert (answer.status_code, code_of(answer)) == (406, "NOT_ACCEPTABLE")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"query": "{ hello"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": ""}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { hello } query B { hello }"}, "OPERATION_RESOLUTION_FAILURE"),
        ({"query": "query A { hello } query B { hello }", "operationName": "C"}, "OPERATION_RESOLUTION_FAILURE"),
        ({"query": "fragment F on Query { hello }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A($n: Int!) { double(number: $n) }"}, "BAD_USER_INPUT"),
        ({"query": "query A($n: Int!) { double(number: $n) }", "variables": {"n": "x"}}, "BAD_USER_INPUT"),
        ({"query": "query A($n: Int!) { double(number: $n) }", "variables": {"n": 2**40}}, "BAD_USER_INPUT"),
    ],
)
async def test_request_errors_have_no_data(toy: Toy, request_: dict[str, Any], code: str) -> None:
    new = await toy.post(request_, NEW)
    old = await toy.post(request_, {"accept": "application/json"})
    assert (new.status_code, code_of(new)) == (400, code)
    assert (old.status_code, code_of(old)) == (200, code)
    assert new.json() == old.json()


async def test_the_named_operation_is_run(toy: Toy) -> None:
    query = "query A { hello } query B { double(number: 4) }"
    assert (await toy.post({"query": query, "operationName": "B"})).json() == {"data": {"double": 8}}


@pytest.mark.parametrize("name", ["variables", "extensions", "operationName"])
async def test_null_parameters_are_as_absent(toy: Toy, name: str) -> None:
    assert (await toy.post({**HELLO, name: None}, NEW)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"true",
        b"7",
        b'"{ hello }"',
        b"[]",
        b'[{"query":"{ hello }"}]',
        b"{",
        b"{}",
        b'{"query":null}',
        b'{"query":7}',
        b'{"query":["{ hello }"]}',
        b'{"query":"{ hello }","variables":[]}',
        b'{"query":"{ hello }","variables":"{}"}',
        b'{"query":"{ hello }","variables":7}',
        b'{"query":"{ hello }","extensions":[]}',
        b'{"query":"{ hello }","extensions":"x"}',
        b'{"query":"{ hello }","operationName":7}',
        b'{"query":"{ hello }","operationName":{}}',
        b'{"query":"\xff"}',
        '{"query":"{ hello }"}'.encode("utf-16"),
        b'\xef\xbb\xbf{"query":"{ hello }"}',
        b'{"query":"{ hello }","variables":{"a":NaN}}',
        b'{"query":"{ hello }","variables":{"a":1e999}}',
        b'{"query":"{ hello }","variables":{"a":' + b"1" * 40 + b"}}",
        b'{"query":"{ hello }","variables":{"a":' + b"1" * 10_000 + b"}}",
        b'{"query":"{ hello }","variables":{"a":"\\ud800"}}',
        b'{"query":"{ hello }","variables":' + b'{"a":' * 200 + b"1" + b"}" * 200 + b"}",
        b"[" * 100_000,
        b'{"query":"{ hello }","variables":{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
    ],
    ids=lambda body: repr(body[:48]),
)
async def test_malformed_bodies_are_400(toy: Toy, body: bytes) -> None:
    for accept in (GRAPHQL_JSON, "application/json"):
        answer = await toy.post(body, {"accept": accept})
        assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "text/plain",
        "text/plain application/json",
        "text/plain;application/json",
        "application/jsonp",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/json; charset=utf-16",
    ],
)
async def test_other_content_types_are_415(toy: Toy, content_type: str | None) -> None:
    async with httpx2.AsyncClient() as client:
        headers = {"content-type": content_type} if content_type else {}
        answer = await client.post(toy.url, content=b'{"query":"mutation { touch }"}', headers=headers)
    assert (answer.status_code, code_of(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json;a=b"]
)
async def test_the_essence_of_the_content_type_counts(toy: Toy, content_type: str) -> None:
    assert (await toy.post(HELLO, {"content-type": content_type})).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_encoded_bodies_are_415(toy: Toy, encoding: str) -> None:
    answer = await toy.post(HELLO, {"content-encoding": encoding})
    assert (answer.status_code, code_of(answer)) == (415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "TRACE"])
async def test_other_methods_are_405_and_told_which_is_allowed(toy: Toy, method: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.request(method, toy.url + "?query={hello}")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    if method != "HEAD":
        assert code_of(answer) == "METHOD_NOT_ALLOWED"


async def test_a_subscription_needs_a_stream(toy: Toy) -> None:
    answer = await toy.post({"query": "subscription { count }"}, NEW)
    assert (answer.status_code, code_of(answer)) == (406, "NOT_ACCEPTABLE")


async def test_who_asks_is_told_by_the_credential(toy: Toy) -> None:
    answer = await toy.post({"query": "{ who }"}, {"authorization": "Bearer alice"})
    assert answer.json() == {"data": {"who": "0192a000-0000-7000-8000-00000000000a"}}


async def test_a_refused_credential_is_401(toy: Toy) -> None:
    answer = await toy.post(HELLO, {"authorization": "Bearer stolen"})
    assert (answer.status_code, code_of(answer)) == (401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["errors"][0]["message"] == "This access token is not valid."


async def test_two_credentials_are_none(toy: Toy) -> None:
    async with httpx2.AsyncClient() as client:
        headers = [
            ("authorization", "Bearer alice"),
            ("authorization", "Bearer bob"),
            ("content-type", "application/json"),
        ]
        answer = await client.post(toy.url, content=b'{"query":"{ who }"}', headers=headers)
    assert (answer.status_code, code_of(answer)) == (400, "BAD_REQUEST")


async def test_too_many_tries_are_429(toy: Toy) -> None:
    answer = await toy.post(HELLO, {"authorization": "Bearer limited"})
    assert (answer.status_code, code_of(answer), answer.headers["retry-after"]) == (429, "LIMIT_REACHED", "9")


async def test_a_lost_database_is_503_before_execution(toy: Toy) -> None:
    answer = await toy.post(HELLO, {"authorization": "Bearer down"})
    assert (answer.status_code, code_of(answer), answer.headers["retry-after"]) == (503, "UNAVAILABLE", "5")
    assert "secret" not in answer.text


async def test_a_lost_database_is_503_when_no_data_is_left(toy: Toy) -> None:
    answer = await toy.post({"query": "{ downRequired }"}, NEW)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["data"] is None
    assert answer.json()["errors"][0]["extensions"] == {"code": "UNAVAILABLE"}
    assert "secret" not in answer.text


async def test_a_lost_database_beside_data_is_200(toy: Toy) -> None:
    answer = await toy.post({"query": "{ down hello }"}, NEW)
    assert answer.status_code == 200
    assert answer.json()["data"] == {"down": None, "hello": "hello you"}


async def test_unexpected_errors_are_masked_and_logged_under_their_id(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await toy.post({"query": "{ boom hello }"}, NEW)
    (error,) = answer.json()["errors"]
    error_id = error["extensions"]["errorId"]
    assert answer.status_code == 200
    assert answer.json()["data"] == {"boom": None, "hello": "hello you"}
    assert error["extensions"]["code"] == "INTERNAL"
    assert error["path"] == ["boom"]
    assert error["message"] == f"Internal error; quote the id {error_id} when you ask us about it."
    assert "hunter2" not in answer.text
    logged = [record for record in caplog.records if record.__dict__.get("error_id") == error_id]
    assert len(logged) == 1
    assert logged[0].__dict__["request_id"] == answer.headers["x-request-id"]
    assert logged[0].exc_info is not None
    assert len([record for record in caplog.records if record.exc_info]) == 1


async def test_refusals_are_told_in_the_readers_language(toy: Toy) -> None:
    english = await toy.post({"query": "{ refused }"}, NEW)
    portuguese = await toy.post(
        {"query": "{ refused language }"}, {**NEW, "accept-language": "pt-BR,pt;q=0.9,en;q=0.8"}
    )
    assert english.json()["errors"] == [
        {
            "message": "Give a number.",
            "locations": [{"line": 1, "column": 3}],
            "path": ["refused"],
            "extensions": {
                "code": "INVALID",
                "params": {"reason": "Give a number.", "reason_pt": "Informe um número.", "least": 1},
                "field": ["input", "number"],
            },
        }
    ]
    assert portuguese.json()["errors"][0]["message"] == "Informe um número."
    assert portuguese.json()["data"]["language"] == "pt-BR"


async def test_a_refusal_may_say_when_to_come_back(toy: Toy) -> None:
    answer = await toy.post({"query": "{ limited private }"}, NEW)
    assert answer.status_code == 200
    codes = [error["extensions"] for error in answer.json()["errors"]]
    assert codes == [{"code": "LIMIT_REACHED", "retryAfterSeconds": 7}, {"code": "NOT_SIGNED_IN"}]


async def test_the_execution_deadline_is_503() -> None:
    async with serving(TransportSettings(execution_seconds=0.05)) as toy:
        answer = await toy.post({"query": "{ hang }"}, NEW)
        unknown = await toy.post(HELLO, {"authorization": "Bearer hang"})
    assert (answer.status_code, code_of(answer)) == (503, "UNAVAILABLE")
    assert (unknown.status_code, code_of(unknown), unknown.headers["retry-after"]) == (503, "UNAVAILABLE", "5")


async def test_suggestions_and_introspection_can_be_off() -> None:
    async with serving(TransportSettings(suggestions=False, introspection=False)) as toy:
        for query in ("{ helo }", "{ hello(nam: 1) }", "query A($x: Strin) { hello }"):
            answer = await toy.post({"query": query})
            assert code_of(answer) == "GRAPHQL_VALIDATION_FAILED"
            assert "Did you mean" not in answer.text
        assert code_of(await toy.post({"query": "{ __schema { types { name } } }"})) == "GRAPHQL_VALIDATION_FAILED"
        assert (await toy.post({"query": "{ __typename }"})).json() == {"data": {"__typename": "Query"}}


async def test_a_client_that_leaves_does_not_stop_the_server() -> None:
    async with serving(TransportSettings(execution_seconds=0.2)) as toy:
        asking = asyncio.create_task(toy.post({"query": "{ hang }"}))
        await toy.trace.hanging.wait()
        asking.cancel()
        assert (await toy.post(HELLO)).status_code == 200
        await until(asking.done)
