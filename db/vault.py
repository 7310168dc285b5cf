"""Secrets that must be read again, such as users' keys at providers: encrypted where they are stored.

    version 1 │ id of the key │ nonce    │ AES-256-GCM of the text, and its tag
      1 byte  │    8 bytes    │ 12 bytes │

Each configured key gives, by HKDF-SHA256, a key for encryption and an id that tells nothing about it. The first key
writes and all read, so that keys can be changed: put the new one before the old, and take the old one away once
nothing is sealed with it. What is sealed is bound to its row: moved to another one, it does not open.
"""

import secrets
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.integration.errors import EncryptionNotSetUp
from domain.secret import Secret

VERSION = b"\x01"
KEY_ID_BYTES = 8
NONCE_BYTES = 12
"""What AES-GCM takes; random, which is safe for far more than the billions of messages that one key will ever write."""
TAG_BYTES = 16
_HEAD_BYTES = len(VERSION) + KEY_ID_BYTES


class VaultClosed(Exception):
    """None of the configured keys opens it: the key is gone, or the bytes were changed or moved to another row."""

    def __init__(self) -> None:
        super().__init__("A stored credential cannot be opened with the configured ENCRYPTION_KEYS.")


class Vault:
    """Seals with the first key and opens with all. Without keys it seals nothing."""

    def __init__(self, keys: Sequence[str]) -> None:
        derived = [(_derived(key, b"id", KEY_ID_BYTES), AESGCM(_derived(key, b"encryption", 32))) for key in keys]
        self._first = derived[0] if derived else None
        self._by_id = dict(reversed(derived))

    @property
    def can_seal(self) -> bool:
        """Whether there is a key to write with."""
        return self._first is not None

    def seal(self, text: Secret, *, bound_to: bytes) -> bytes:
        """The text, encrypted for the row that `bound_to` names. Raises `EncryptionNotSetUp`."""
        if self._first is None:
            raise EncryptionNotSetUp
        key_id, cipher = self._first
        head = VERSION + key_id
        nonce = secrets.token_bytes(NONCE_BYTES)
        return head + nonce + cipher.encrypt(nonce, text.reveal().encode(), head + bound_to)

    def open(self, sealed: bytes, *, bound_to: bytes) -> Secret:
        """The text again. Raises `VaultClosed`."""
        head, nonce = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES : _HEAD_BYTES + NONCE_BYTES]
        cipher = self._by_id.get(head[len(VERSION) :])
        if head[: len(VERSION)] != VERSION or cipher is None or len(sealed) < _HEAD_BYTES + NONCE_BYTES + TAG_BYTES:
            raise VaultClosed
        try:
            return Secret(cipher.decrypt(nonce, sealed[_HEAD_BYTES + NONCE_BYTES :], head + bound_to).decode())
        except InvalidTag:
            raise VaultClosed from None

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the key that writes today; else it should be sealed anew before that key goes."""
        return self._first is not None and sealed[:_HEAD_BYTES] == VERSION + self._first[0]

    def __repr__(self) -> str:
        return f"Vault({len(self._by_id)} keys)"


def _derived(key: str, purpose: bytes, length: int) -> bytes:
    return HKDF(SHA256(), length, salt=None, info=b"runwire vault 1 " + purpose).derive(key.encode())
