"""Attempts are counted over all processes, and go on being counted while Redis is away."""

import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from domain.account.errors import TooManyAttempts
from graph.limiter import Attempt, AttemptLimiter

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def limiter_of(redis_url: str, per_minute: int = 3) -> AsyncIterator[AttemptLimiter]:
    limiter = AttemptLimiter(redis_url, per_minute=per_minute)
    yield limiter
    await limiter.close()


@pytest.fixture
def silent_redis(tmp_path: Path) -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield f"unix://{path}?db=0"


async def attempt(limiter: AttemptLimiter, address: str = "192.0.2.7", subject: str = "") -> int | None:
    """None if it was allowed, else the seconds to wait."""
    try:
        await limiter.check(Attempt.SIGN_IN, address=address, subject=subject)
    except TooManyAttempts as refusal:
        return refusal.retry_after_seconds
    return None


async def test_an_address_has_so_many_attempts_a_minute(redis_url: str) -> None:
    async with limiter_of(redis_url) as limiter:
        assert [await attempt(limiter) for _ in range(3)] == [None] * 3
        wait_seconds = await attempt(limiter)
        assert wait_seconds is not None
        assert 1 <= wait_seconds <= 60
        assert await attempt(limiter, address="192.0.2.8") is None


async def test_an_email_has_so_many_attempts_from_wherever_they_come(redis_url: str) -> None:
    async with limiter_of(redis_url) as limiter:
        from_everywhere = [await attempt(limiter, f"192.0.2.{n}", "ada@example.com") for n in range(4)]
        assert from_everywhere[:3] == [None] * 3
        assert from_everywhere[3] is not None
        assert await attempt(limiter, "192.0.2.9", "eve@example.com") is None


async def test_what_is_attempted_is_counted_on_its_own(redis_url: str) -> None:
    async with limiter_of(redis_url, per_minute=1) as limiter:
        for kind in Attempt:
            await limiter.check(kind, address="192.0.2.7")


async def test_processes_count_together(redis_url: str) -> None:
    async with limiter_of(redis_url) as one, limiter_of(redis_url) as other:
        assert [await attempt(limiter) for limiter in (one, other, one)] == [None] * 3
        assert await attempt(other) is not None


async def test_redis_is_told_no_address_and_no_email(redis_url: str, redis: Redis) -> None:
    async with limiter_of(redis_url) as limiter:
        await attempt(limiter, "192.0.2.7", "ada@example.com")
    keys = [key.decode() async for key in redis.scan_iter("*")]
    assert len(keys) == 2
    assert not any("ada" in key or "192.0.2" in key for key in keys)


@pytest.mark.parametrize("state", ["gone", "silent"])
async def test_without_redis_each_process_counts_for_itself(silent_redis: str, tmp_path: Path, state: str) -> None:
    address = silent_redis if state == "silent" else f"unix://{tmp_path}/nothing.sock?db=0"
    async with limiter_of(address) as one, limiter_of(address) as other:
        assert [await attempt(one) for _ in range(3)] == [None] * 3
        assert await attempt(one) is not None
        assert await attempt(other) is None
