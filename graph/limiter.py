"""Counts attempts to sign up, sign in and refresh, per address and per e-mail, over all processes.

Each execution of a field is an attempt: aliases and batches buy nothing. The counts are in Redis; where it does not
answer, each process counts for itself. Keys hold hashes, since a counter is no place for e-mail addresses.
"""

import logging
import math
import time
from enum import StrEnum
from typing import Final

import anyio
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.redis import redis_of
from domain.account.errors import TooManyAttempts
from domain.secret import digest_of

logger = logging.getLogger("runwire.graph")

REDIS_SECONDS = 0.5
"""How long a count may take; signing in does not wait for a Redis that hangs."""
REDIS_AGAIN_SECONDS: Final = 5.0
"""How long a Redis that did not answer is left alone."""


class Attempt(StrEnum):
    """What is counted, each on its own."""

    SIGN_UP = "sign-up"
    SIGN_IN = "sign-in"
    REFRESH = "refresh"


class AttemptLimiter:
    """Allows so many attempts a minute, in a moving window."""

    def __init__(self, redis_url: str, *, per_minute: int) -> None:
        self._limit: RateLimitItem = RateLimitItemPerMinute(per_minute, namespace="runwire")
        self._redis: Redis = redis_of(redis_url)
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="runwire:attempts",
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # its options are typed too narrowly
        )
        self._shared = MovingWindowRateLimiter(storage)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._redis_again_at = 0.0

    async def check(self, attempt: Attempt, *, address: str, subject: str = "") -> None:
        """Count an attempt from this address and, where given, on this subject: an e-mail in its normal form, or a
        token. Raises `TooManyAttempts`."""
        keys = [_key(attempt, "address", address)]
        if subject:
            keys.append(_key(attempt, "subject", subject))
        for key in keys:
            wait_seconds = await self._hit(key)
            if wait_seconds is not None:
                raise TooManyAttempts(retry_after_seconds=max(1, math.ceil(wait_seconds)))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _hit(self, key: str) -> float | None:
        """None if the attempt is within the limit, else the seconds until the next one is."""
        if time.monotonic() >= self._redis_again_at:
            try:
                with anyio.fail_after(REDIS_SECONDS):
                    return await self._hit_in(self._shared, key)
            except (RedisError, OSError) as error:  # TimeoutError is an OSError
                self._redis_again_at = time.monotonic() + REDIS_AGAIN_SECONDS
                logger.warning(
                    "Attempts are counted per process until Redis answers again.", extra={"error": type(error).__name__}
                )
        return await self._hit_in(self._own, key)

    async def _hit_in(self, limiter: MovingWindowRateLimiter, key: str) -> float | None:
        if await limiter.hit(self._limit, key):
            return None
        stats = await limiter.get_window_stats(self._limit, key)
        return stats.reset_time - time.time()


def _key(attempt: Attempt, kind: str, value: str) -> str:
    return f"{attempt}:{kind}:{digest_of(value).hex()[:32]}"
