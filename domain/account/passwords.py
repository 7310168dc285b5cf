"""Passwords: argon2id, in threads, a few at a time, and at the same cost for addresses that nobody has."""

import anyio
import anyio.to_thread
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.account.inputs import normal_password
from domain.secret import new_token

AT_ONCE = 2
"""Each hash takes 64 MiB and a core for tens of milliseconds; the rest wait their turn."""


class Passwords:
    """Hashes and verifies, never more than two at once in a process."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._turns = anyio.CapacityLimiter(AT_ONCE)
        self.nobodys = self._hasher.hash(new_token().reveal())
        """A hash that no password fits, made with the same parameters as all others."""

    async def hash(self, password: str) -> str:
        """What is stored: argon2id with its parameters and salt."""
        return await anyio.to_thread.run_sync(self._hasher.hash, _bytes(password), limiter=self._turns)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether the password fits. Without a stored hash it costs the same, and never does."""
        fits = await anyio.to_thread.run_sync(self._fits, stored or self.nobodys, _bytes(password), limiter=self._turns)
        return fits and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Whether the hash was made with other parameters than today's, and should be made anew."""
        return self._hasher.check_needs_rehash(stored)

    def _fits(self, stored: str, password: bytes) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError):
            return False


def _bytes(password: str) -> bytes:
    return normal_password(password).encode("utf-8", "surrogatepass")
