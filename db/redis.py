"""Connections to Redis. Redis may be away: every call has a short limit, and nobody needs it to be true."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

COMMAND_SECONDS = 2
AGAIN_SECONDS = 1.0
"""How long a Redis that did not answer is left alone."""


class RedisAway(Exception):
    """Redis did not answer a moment ago and is not asked now."""


def redis_of(url: str) -> Redis:
    """A client whose every command ends within two seconds, one way or the other."""
    client: Redis = Redis.from_url(
        url,
        socket_timeout=COMMAND_SECONDS,
        socket_connect_timeout=COMMAND_SECONDS,
        retry=Retry(NoBackoff(), 1),
        health_check_interval=15,
    )
    return client


class Patience:
    """Asks a Redis that did not answer again only after a while, and one caller at a time: the rest goes on without.

    Else each of many callers would wait for the same silence."""

    def __init__(self) -> None:
        self._is_away = False
        self._again_at = 0.0

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Ask within this time. Raises `RedisAway` where that makes no sense yet, `TimeoutError` or Redis' errors."""
        if self._is_away:
            if time.monotonic() < self._again_at:
                raise RedisAway
            self._again_at = time.monotonic() + seconds + AGAIN_SECONDS
        try:
            with anyio.fail_after(seconds):
                yield
        except (RedisError, OSError):
            self._is_away, self._again_at = True, time.monotonic() + AGAIN_SECONDS
            raise
        self._is_away = False
