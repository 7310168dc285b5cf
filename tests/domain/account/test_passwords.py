"""Passwords: hashed slowly, verified alike for known and unknown addresses, a few at a time."""

import threading
from typing import Any

import anyio
import pytest
from argon2 import PasswordHasher

from domain.account.passwords import AT_ONCE, Passwords

pytestmark = pytest.mark.anyio

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Watched:
    """A hasher that tells which hashes were verified, and how many at once."""

    def __init__(self) -> None:
        self.verified: list[str] = []
        self.most_at_once = 0
        self._running = 0
        self._lock = threading.Lock()

    def hash(self, password: Any) -> str:
        return CHEAP.hash(password)

    def verify(self, stored: str, password: Any) -> bool:
        with self._lock:
            self.verified.append(stored)
            self._running += 1
            self.most_at_once = max(self.most_at_once, self._running)
        try:
            return CHEAP.verify(stored, password)
        finally:
            with self._lock:
                self._running -= 1


async def test_the_right_password_fits_and_no_other() -> None:
    passwords = Passwords(CHEAP)
    stored = await passwords.hash("correct horse battery")
    assert stored.startswith("$argon2id$")
    assert "correct" not in stored
    assert await passwords.verify(stored, "correct horse battery")
    assert not await passwords.verify(stored, "correct horse batterz")


async def test_the_same_password_has_another_hash_each_time() -> None:
    passwords = Passwords(CHEAP)
    assert await passwords.hash("correct horse battery") != await passwords.hash("correct horse battery")


async def test_an_unknown_address_costs_a_verification_too_and_never_fits() -> None:
    watched: Any = Watched()
    passwords = Passwords(watched)
    assert not await passwords.verify(None, "correct horse battery")
    assert watched.verified == [passwords.nobodys]


async def test_nobodys_hash_has_the_parameters_of_all_others() -> None:
    passwords = Passwords(CHEAP)
    assert not passwords.is_outdated(passwords.nobodys)
    assert passwords.is_outdated(PasswordHasher(time_cost=2, memory_cost=8, parallelism=1).hash("x"))


async def test_a_stored_text_that_is_no_hash_fits_nothing() -> None:
    assert not await Passwords(CHEAP).verify("not a hash", "correct horse battery")


async def test_no_more_than_two_are_hashed_at_once() -> None:
    watched: Any = Watched()
    passwords = Passwords(watched)
    stored = await passwords.hash("correct horse battery")
    async with anyio.create_task_group() as tasks:
        for _ in range(12):
            tasks.start_soon(passwords.verify, stored, "correct horse battery")
    assert len(watched.verified) == 12
    assert watched.most_at_once <= AT_ONCE
