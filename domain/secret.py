"""Values that no log, error or repr may show, and how the product hashes the tokens it hands out."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

TOKEN_BYTES = 32
"""Randomness of every token, grant and key the product makes; base64url of it is 43 characters."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A string that shows itself only through `reveal()`."""

    value: str

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return "Secret(•••)"

    __str__ = __repr__


def new_token(prefix: str = "") -> Secret:
    """A fresh unguessable token: the prefix, then 32 random bytes as base64url."""
    return Secret(prefix + secrets.token_urlsafe(TOKEN_BYTES))


def digest_of(token: str) -> bytes:
    """What is stored instead of a token. Tokens are random, so one round of SHA-256 is enough."""
    return hashlib.sha256(token.encode()).digest()


def same(left: str | bytes, right: str | bytes) -> bool:
    """Equality in constant time."""
    return hmac.compare_digest(_bytes(left), _bytes(right))


# Where a word begins: also behind a sign that an address or JSON writes in other ways, such as `%3D` and `\\n`.
_START = r"(?:(?<![A-Za-z0-9_])|(?<=%[0-9A-Fa-f]{2})|(?<=\\[bfnrt]))"
_TOKEN = re.compile(
    r"(?P<keep>(?:[?&]|%3F|%26)(?:token|access_token)(?:=|%3D))[^&\s\"']+"
    # An address that is a secret, whatever somebody put there.
    r"|(?P<hook>/webhooks/astria/|%2Fwebhooks%2Fastria%2F)[^/?#\s\"']+"
    r"|(?P<bearer>[Bb]earer(?:\s+|%20|\+))[A-Za-z0-9._~+/=-]{16,}"
    r"|(?P<kind>rwk_|rwg_|rwp_|rwr_|rws_)[A-Za-z0-9_-]{8,}"
    # Providers' keys, and those of their simulators. Words like `sd_xl_base_1` and `e2b_code_interpreter` are none.
    rf"|{_START}(?P<theirs>r8_|rpa_|sd_|e2b_)(?:sim_[A-Za-z0-9._-]+|[A-Za-z0-9]{{16,}})"
    # RunPod gives each pod a key of its own, in a form that nothing documents.
    rf"|{_START}(?P<pods>rpa_)(?=[A-Za-z_]*[0-9])[A-Za-z0-9_]{{16,}}"
    rf"|{_START}(?P<jwt>eyJ)[A-Za-z0-9_-]{{8,500}}+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+"
)


def masked(text: str) -> str:
    """The text with everything that looks like a token of ours or a provider's key replaced, for logs and trainers'
    output."""
    return _TOKEN.sub(lambda found: next((group for group in found.groups() if group), "") + "•••", text)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
