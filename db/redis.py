"""Connections to Redis. Redis may be away: every call has a short limit, and nobody needs it to be true."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

COMMAND_SECONDS = 2


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
