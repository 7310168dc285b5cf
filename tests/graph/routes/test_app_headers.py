"""Which headers pass between a caller and an app, table by table."""

import pytest

from graph.routes.app_headers import SANDBOX, headers_from_app, headers_to_app, own_headers, query_to_app

TARGET = "127.0.0.1:4000"
PREFIX = "/apps/abcdefghijklmnop"
FORWARDED = [
    (b"host", b"127.0.0.1:4000"),
    (b"x-forwarded-for", b"192.0.2.7"),
    (b"x-forwarded-proto", b"https"),
    (b"x-forwarded-host", b"apps.example.com"),
    (b"x-forwarded-prefix", PREFIX.encode()),
]
PUBLIC = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", SANDBOX),
    (b"access-control-allow-origin", b"*"),
    (b"access-control-expose-headers", b"*"),
]


def to_app(*headers: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return headers_to_app(
        headers, client="192.0.2.7", public_url="https://apps.example.com", prefix=PREFIX, target=TARGET
    )


def from_app(*headers: tuple[bytes, bytes], is_public: bool = True) -> list[tuple[bytes, bytes]]:
    return headers_from_app(headers, prefix=PREFIX, target=TARGET, is_shared_origin=True, is_public=is_public)


@pytest.mark.parametrize(
    "name",
    [
        b"Authorization",
        b"cookie",
        b"X-Api-Key",
        b"X-Runwire-Deployment",
        b"Referer",
        b"Host",
        b"Connection",
        b"Keep-Alive",
        b"Proxy-Authorization",
        b"Proxy-Connection",
        b"TE",
        b"Trailer",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Expect",
        b"Proxy",
        b"Forwarded",
        b"X-Real-IP",
        b"X-Forwarded-For",
        b"X-Forwarded-User",
        b"Sec-WebSocket-Key",
    ],
)
def test_never_reaches_the_app(name: bytes) -> None:
    assert to_app((name, b"secret")) == FORWARDED


@pytest.mark.parametrize("name", [b"accept", b"content-type", b"content-length", b"range", b"x-my-own", b"origin"])
def test_reaches_the_app(name: bytes) -> None:
    assert to_app((name, b"1")) == [(name, b"1"), *FORWARDED]


def test_what_connection_names_stays_here() -> None:
    assert to_app((b"connection", b"close, X-Mine"), (b"x-mine", b"1"), (b"x-other", b"2")) == [
        (b"x-other", b"2"),
        *FORWARDED,
    ]


def test_connection_cannot_take_the_length_of_a_body_away() -> None:
    assert to_app((b"connection", b"content-length"), (b"content-length", b"5")) == [
        (b"content-length", b"5"),
        *FORWARDED,
    ]


def test_a_body_in_chunks_has_no_length_beside() -> None:
    assert to_app((b"transfer-encoding", b"chunked"), (b"content-length", b"5")) == FORWARDED


@pytest.mark.parametrize(
    "name",
    [
        b"Set-Cookie",
        b"Set-Cookie2",
        b"Clear-Site-Data",
        b"Service-Worker-Allowed",
        b"Strict-Transport-Security",
        b"Alt-Svc",
        b"NEL",
        b"Report-To",
        b"WWW-Authenticate",
        b"X-Frame-Options",
        b"Connection",
        b"Transfer-Encoding",
        b"Upgrade",
        b"Server",
        b"Access-Control-Allow-Origin",
        b"Access-Control-Allow-Credentials",
        b"X-Content-Type-Options",
        b"Referrer-Policy",
        b"bad name",
    ],
)
def test_never_reaches_the_caller(name: bytes) -> None:
    assert from_app((name, b"something")) == PUBLIC


@pytest.mark.parametrize(
    "name", [b"content-type", b"content-length", b"content-encoding", b"etag", b"cache-control", b"x-my-own", b"vary"]
)
def test_reaches_the_caller(name: bytes) -> None:
    assert from_app((name, b"1")) == [(name, b"1"), *PUBLIC]


def test_policies_of_the_app_stay_beside_ours() -> None:
    assert from_app((b"Content-Security-Policy", b"default-src 'self'")) == [
        (b"content-security-policy", b"default-src 'self'"),
        *PUBLIC,
    ]


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        (b"/login?next=%2F", b"/apps/abcdefghijklmnop/login?next=%2F"),
        (b"/", b"/apps/abcdefghijklmnop/"),
        (b"predict", b"predict"),
        (b"../up", b"../up"),
        (b"?page=2", b"?page=2"),
        (b"http://127.0.0.1:4000/login", b"/apps/abcdefghijklmnop/login"),
        (b"http://127.0.0.1:4000", b"/apps/abcdefghijklmnop/"),
        (b"//127.0.0.1:4000/x", b"/apps/abcdefghijklmnop/x"),
        (b"http://127.0.0.1:4000//evil.example", b"/apps/abcdefghijklmnop/evil.example"),
        (b"http://127.0.0.1:40001/x", b"http://127.0.0.1:40001/x"),
        (b"https://example.com/x", b"https://example.com/x"),
        (b"//example.com/x", b"//example.com/x"),
    ],
)
def test_location_stays_within_the_app(location: bytes, seen: bytes) -> None:
    assert from_app((b"Location", location))[0] == (b"location", seen)


def test_private_answers_are_kept_by_nobody_and_read_by_no_other_origin() -> None:
    assert from_app((b"Cache-Control", b"public, max-age=600"), is_public=False) == [
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"content-security-policy", SANDBOX),
        (b"cache-control", b"no-store"),
    ]


def test_on_an_origin_of_its_own_a_page_needs_no_sandbox() -> None:
    assert (b"content-security-policy", SANDBOX) not in own_headers(is_shared_origin=False, is_public=True)
    assert b"allow-same-origin" not in SANDBOX


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        (b"", b""),
        (b"a=1&b=2", b"a=1&b=2"),
        (b"access_token=secret", b""),
        (b"a=1&access_token=secret&b=%2F", b"a=1&b=%2F"),
        (b"access%5Ftoken=secret&a=1", b"a=1"),
        (b"Access_Token=secret", b""),
        (b"a=access_token", b"a=access_token"),
        (b"a=1;b=2&&c", b"a=1;b=2&&c"),
    ],
)
def test_query_without_the_token(query: bytes, passed: bytes) -> None:
    assert query_to_app(query) == passed
