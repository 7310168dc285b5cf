"""Signed tokens: what we sign we take, and nothing else, however it is dressed up."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from domain.account.tokens import BadToken, Claims, ExpiredToken, Tokens, TokenType, key_id
from domain.clock import FixedClock

NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
KEY = "the first signing key of the tests, long enough"
OTHER_KEY = "another signing key of the tests, long enough"
USER = UUID("01900000-0000-7000-8000-000000000001")
SESSION = UUID("01900000-0000-7000-8000-000000000002")
RUN = UUID("01900000-0000-7000-8000-000000000003")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW)


@pytest.fixture
def tokens(clock: FixedClock) -> Tokens:
    return Tokens([KEY], clock)


def access_token(tokens: Tokens) -> str:
    return tokens.sign(
        TokenType.ACCESS, user_id=USER, credential_id=SESSION, expires_at=NOW + timedelta(minutes=15)
    ).reveal()


def claims_with(**changes: Any) -> dict[str, Any]:
    """The claims of a good access token with changes; None takes a claim away."""
    claims = {
        "iss": "runwire",
        "aud": "runwire",
        "sub": str(USER),
        "sid": str(SESSION),
        "typ": "access",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 900,
        "jti": "1",
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def signed(claims: dict[str, Any], key: str = KEY, **headers: Any) -> str:
    return jwt.encode(claims, key, algorithm="HS256", headers=headers or None)


def by_hand(header: Any, claims: Any, key: bytes | None, digest: Any = hashlib.sha256) -> str:
    """A token that no library would make."""
    parts = [_base64(json.dumps(part).encode()) for part in (header, claims)]
    signature = b"" if key is None else hmac.new(key, ".".join(parts).encode(), digest).digest()
    return ".".join([*parts, _base64(signature)])


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def test_what_was_signed_is_read_again(tokens: Tokens) -> None:
    assert tokens.verify(access_token(tokens), TokenType.ACCESS) == Claims(
        type=TokenType.ACCESS, user_id=USER, credential_id=SESSION, expires_at=NOW + timedelta(minutes=15)
    )


def test_a_stream_token_names_its_run(tokens: Tokens) -> None:
    token = tokens.sign(
        TokenType.STREAM, user_id=USER, credential_id=SESSION, expires_at=NOW + timedelta(minutes=5), run_id=RUN
    )
    assert tokens.verify(token.reveal(), TokenType.STREAM).run_id == RUN


def test_a_token_carries_all_claims_and_the_short_name_of_its_key(tokens: Tokens) -> None:
    token = access_token(tokens)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": key_id(KEY)}
    claims = jwt.decode(token, options={"verify_signature": False})
    assert set(claims) == {"iss", "aud", "sub", "sid", "typ", "iat", "exp", "jti"}


def test_two_tokens_of_the_same_moment_differ(tokens: Tokens) -> None:
    assert access_token(tokens) != access_token(tokens)


def test_the_claims_by_hand_are_good_unless_they_are_changed(tokens: Tokens) -> None:
    """Else the refusals below would prove nothing."""
    assert tokens.verify(signed(claims_with()), TokenType.ACCESS).user_id == USER
    assert tokens.verify(by_hand({"alg": "HS256"}, claims_with(), KEY.encode()), TokenType.ACCESS).user_id == USER


class TestKeys:
    def test_a_new_key_signs_and_the_old_one_is_still_taken(self, clock: FixedClock, tokens: Tokens) -> None:
        old = access_token(tokens)
        changed = Tokens([OTHER_KEY, KEY], clock)
        assert changed.verify(old, TokenType.ACCESS).user_id == USER
        new = access_token(changed)
        assert jwt.get_unverified_header(new)["kid"] == key_id(OTHER_KEY)
        with pytest.raises(BadToken):
            tokens.verify(new, TokenType.ACCESS)

    def test_a_dropped_key_is_refused(self, clock: FixedClock, tokens: Tokens) -> None:
        with pytest.raises(BadToken):
            Tokens([OTHER_KEY], clock).verify(access_token(tokens), TokenType.ACCESS)

    def test_without_a_key_nothing_starts(self, clock: FixedClock) -> None:
        with pytest.raises(ValueError, match="signing key"):
            Tokens([], clock)

    def test_a_wrong_key_id_changes_nothing(self, tokens: Tokens) -> None:
        token = signed(claims_with(), kid="../../dev/null")
        assert tokens.verify(token, TokenType.ACCESS).user_id == USER


class TestForgeries:
    @pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", ""])
    def test_no_signature(self, tokens: Tokens, algorithm: str) -> None:
        self.refused(tokens, by_hand({"alg": algorithm, "typ": "JWT"}, claims_with(), None))

    def test_a_signature_cut_off(self, tokens: Tokens) -> None:
        self.refused(tokens, access_token(tokens).rpartition(".")[0] + ".")

    def test_another_key(self, tokens: Tokens) -> None:
        self.refused(tokens, signed(claims_with(), OTHER_KEY))

    def test_the_empty_key(self, tokens: Tokens) -> None:
        self.refused(tokens, by_hand({"alg": "HS256"}, claims_with(), b""))

    def test_changed_claims_under_an_old_signature(self, tokens: Tokens) -> None:
        header, _, signature = access_token(tokens).split(".")
        payload = _base64(json.dumps(claims_with(sub=str(RUN))).encode())
        self.refused(tokens, f"{header}.{payload}.{signature}")

    @pytest.mark.parametrize(("algorithm", "digest"), [("HS384", hashlib.sha384), ("HS512", hashlib.sha512)])
    def test_another_algorithm_with_our_key(self, tokens: Tokens, algorithm: str, digest: Any) -> None:
        self.refused(tokens, by_hand({"alg": algorithm}, claims_with(), KEY.encode(), digest))

    def test_a_key_pair_of_the_forger(self, tokens: Tokens) -> None:
        pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.refused(tokens, jwt.encode(claims_with(), pair, algorithm="RS256"))

    def test_a_public_key_used_as_the_secret(self, clock: FixedClock) -> None:
        """Who is given a public key as signing key by mistake still takes only what it signed by HS256."""
        pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        public = pair.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        tokens = Tokens([KEY], clock)
        self.refused(tokens, by_hand({"alg": "HS256"}, claims_with(), public))
        self.refused(tokens, by_hand({"alg": "RS256"}, claims_with(), public))

    @pytest.mark.parametrize(
        "header",
        [
            {"jku": "https://attacker.example/keys.json"},
            {"x5u": "https://attacker.example/cert.pem"},
            {"x5c": ["MIIB"]},
            {"jwk": {"kty": "oct", "k": "AAAA"}},
            {"crit": ["b64"], "b64": False},
            {"kid": 7},
            {"kid": ["a"]},
        ],
    )
    def test_a_header_that_wants_to_choose_the_key(self, tokens: Tokens, header: dict[str, Any]) -> None:
        self.refused(tokens, by_hand({"alg": "HS256", **header}, claims_with(), KEY.encode()))

    @pytest.mark.parametrize("kid", [key_id(KEY), "", "' OR 1=1 --", "/proc/self/environ"])
    def test_a_key_id_that_names_our_key_over_another(self, tokens: Tokens, kid: str) -> None:
        self.refused(tokens, signed(claims_with(), OTHER_KEY, kid=kid))

    @pytest.mark.parametrize(
        "text",
        ["", ".", "..", "a.b.c", "eyJhbGciOiJIUzI1NiJ9", "é.é.é", "x" * 5000, _base64(b"[" * 2500) + ".e30.e30"],
    )
    def test_what_is_no_token_at_all(self, tokens: Tokens, text: str) -> None:
        self.refused(tokens, text)

    def refused(self, tokens: Tokens, text: str) -> None:
        with pytest.raises(BadToken) as refusal:
            tokens.verify(text, TokenType.ACCESS)
        assert type(refusal.value) is BadToken


class TestClaims:
    @pytest.mark.parametrize("name", ["iss", "aud", "sub", "sid", "typ", "iat", "exp", "jti"])
    def test_none_may_be_missing(self, tokens: Tokens, name: str) -> None:
        with pytest.raises(BadToken):
            tokens.verify(signed(claims_with(**{name: None})), TokenType.ACCESS)

    @pytest.mark.parametrize(
        "changes",
        [
            {"iss": "somebody"},
            {"aud": "another product"},
            {"aud": ["runwire", "another product"]},
            {"sub": "not a uuid"},
            {"sid": "not a uuid"},
            {"typ": "refresh"},
            {"typ": ["access"]},
            {"exp": "tomorrow"},
            {"exp": True},
            {"exp": 10**30},
            {"iat": "now"},
            {"nbf": "now"},
            {"run": "not a uuid"},
            {"run": 7},
        ],
    )
    def test_none_may_be_wrong(self, tokens: Tokens, changes: dict[str, Any]) -> None:
        with pytest.raises(BadToken):
            tokens.verify(signed(claims_with(**changes)), TokenType.ACCESS)

    @pytest.mark.parametrize("type", ["stream", "app"])
    def test_one_type_is_not_taken_for_another(self, tokens: Tokens, type: str) -> None:
        with pytest.raises(BadToken):
            tokens.verify(signed(claims_with(typ=type)), TokenType.ACCESS)


class TestTimes:
    def test_the_last_moment_counts_and_the_next_does_not(self, clock: FixedClock, tokens: Tokens) -> None:
        token = access_token(tokens)
        clock.at = NOW + timedelta(minutes=15) - timedelta(microseconds=1)
        assert tokens.verify(token, TokenType.ACCESS).user_id == USER
        clock.at = NOW + timedelta(minutes=15)
        with pytest.raises(ExpiredToken):
            tokens.verify(token, TokenType.ACCESS)

    @pytest.mark.parametrize("name", ["iat", "nbf"])
    def test_a_signer_whose_clock_is_a_minute_ahead_is_believed(self, tokens: Tokens, name: str) -> None:
        ahead = int(NOW.timestamp()) + 60
        assert tokens.verify(signed(claims_with(**{name: ahead})), TokenType.ACCESS).user_id == USER
        with pytest.raises(BadToken):
            tokens.verify(signed(claims_with(**{name: ahead + 1})), TokenType.ACCESS)

    def test_only_a_good_signature_is_told_that_its_time_is_over(self, tokens: Tokens) -> None:
        past = int(NOW.timestamp()) - 1
        with pytest.raises(ExpiredToken):
            tokens.verify(signed(claims_with(exp=past)), TokenType.ACCESS)
        with pytest.raises(BadToken) as refusal:
            tokens.verify(signed(claims_with(exp=past), OTHER_KEY), TokenType.ACCESS)
        assert type(refusal.value) is BadToken


class TestAppTokens:
    def test_proves_one_app_for_a_minute(self, clock: FixedClock, tokens: Tokens) -> None:
        token = tokens.app_token("k2zt6w3qv5ybmn4d").reveal()
        assert tokens.verify_app_token(token, "k2zt6w3qv5ybmn4d")
        assert not tokens.verify_app_token(token, "another7slug4abc")
        clock.at = NOW + timedelta(seconds=60)
        assert not tokens.verify_app_token(token, "k2zt6w3qv5ybmn4d")

    def test_is_nobodys_credential(self, tokens: Tokens) -> None:
        for slug in ("k2zt6w3qv5ybmn4d", str(USER)):
            with pytest.raises(BadToken):
                tokens.verify(tokens.app_token(slug).reveal(), *TokenType)

    def test_a_users_token_proves_no_app(self, tokens: Tokens) -> None:
        assert not tokens.verify_app_token(access_token(tokens), str(USER))
        assert not tokens.verify_app_token("nonsense", "k2zt6w3qv5ybmn4d")
