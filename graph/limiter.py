"""Counts what may be done so often only: attempts to sign up, sign in and refresh; the calls of scripts and providers.

Each execution of a field is an attempt: aliases and batches buy nothing. The counts are in Redis, over all processes;
where it does not answer, each process counts for itself. Keys hold hashes, since a counter is no place for e-mail
addresses and tokens.
"""

import logging
import math
import time
from enum import StrEnum
from typing import Final
from uuid import UUID

import anyio
from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.redis import redis_of
from domain.account.errors import TooManyAttempts
from domain.callback.errors import TooManyCalls
from domain.secret import digest_of

logger = logging.getLogger("runwire.graph")

REDIS_SECONDS = 0.5
"""How long a count may take; signing in does not wait for a Redis that hangs."""
REDIS_AGAIN_SECONDS: Final = 5.0
"""How long a Redis that did not answer is left alone."""
NAMESPACE: Final = "runwire"
MIB: Final = 1024**2
REPORT_UNIT_BYTES: Final = 64 * 1024


class Attempt(StrEnum):
    """What is counted, each on its own."""

    SIGN_UP = "sign-up"
    SIGN_IN = "sign-in"
    REFRESH = "refresh"
    PROVIDER_KEY = "provider-key"
    PROVIDER_READ = "provider-read"


READS: Final[tuple[RateLimitItem, ...]] = (
    RateLimitItemPerMinute(60, namespace=NAMESPACE),
    RateLimitItemPerHour(600, namespace=NAMESPACE),
)
"""How often one user may have providers read: their quotas are per account, and the operator's is everybody's."""


class Windows:
    """Moving windows: so much in any so long a time."""

    def __init__(self, redis_url: str, *, prefix: str) -> None:
        self._redis: Redis = redis_of(redis_url)
        storage = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix=prefix,
            connection_pool=self._redis.connection_pool,  # type: ignore[arg-type]  # its options are typed too narrowly
        )
        self._shared = MovingWindowRateLimiter(storage)
        self._own = MovingWindowRateLimiter(MemoryStorage())
        self._redis_again_at = 0.0

    async def hit(self, limit: RateLimitItem, key: str, *, cost: int = 1) -> float | None:
        """None if it is within the limit, and counted; else the seconds until the next one may be."""
        if time.monotonic() >= self._redis_again_at:
            try:
                with anyio.fail_after(REDIS_SECONDS):
                    return await self._hit_in(self._shared, limit, key, cost)
            except (RedisError, OSError) as error:  # TimeoutError is an OSError
                self._redis_again_at = time.monotonic() + REDIS_AGAIN_SECONDS
                logger.warning(
                    "Attempts are counted per process until Redis answers again.", extra={"error": type(error).__name__}
                )
        return await self._hit_in(self._own, limit, key, cost)

    async def close(self) -> None:
        await self._redis.aclose()

    async def _hit_in(
        self, windows: MovingWindowRateLimiter, limit: RateLimitItem, key: str, cost: int
    ) -> float | None:
        if await windows.hit(limit, key, cost=cost):
            return None
        stats = await windows.get_window_stats(limit, key)
        return stats.reset_time - time.time()


class AttemptLimiter:
    """Allows so many attempts a minute, in a moving window."""

    def __init__(self, redis_url: str, *, per_minute: int) -> None:
        self._limit: RateLimitItem = RateLimitItemPerMinute(per_minute, namespace=NAMESPACE)
        self._windows = Windows(redis_url, prefix="runwire:attempts")

    async def check(self, attempt: Attempt, *, address: str, subject: str = "") -> None:
        """Count an attempt from this address and, where given, on this subject: an e-mail in its normal form, or a
        token. Raises `TooManyAttempts`."""
        keys = [_key(attempt, "address", address)]
        if subject:
            keys.append(_key(attempt, "subject", subject))
        for key in keys:
            wait_seconds = await self._windows.hit(self._limit, key)
            if wait_seconds is not None:
                raise TooManyAttempts(retry_after_seconds=max(1, math.ceil(wait_seconds)))

    async def check_reads(self, user_id: UUID, *, cost: int = 1) -> None:
        """Count reads of providers that this user asks for. Raises `TooManyAttempts`."""
        for limit in READS if cost else ():
            wait_seconds = await self._windows.hit(
                limit, _key(Attempt.PROVIDER_READ, "subject", str(user_id)), cost=cost
            )
            if wait_seconds is not None:
                raise TooManyAttempts(retry_after_seconds=max(1, math.ceil(wait_seconds)))

    async def close(self) -> None:
        await self._windows.close()


class CallKind(StrEnum):
    """What scripts and providers call."""

    REPORT = "report"
    REPORT_BYTES = "report-bytes"
    ARTIFACT = "artifact"
    PROGRAM = "program"
    WEBHOOK = "webhook"
    WEBHOOK_BYTES = "webhook-bytes"
    WEBHOOK_ADDRESS = "webhook-address"


CALLS: Final[dict[CallKind, RateLimitItem]] = {
    # One a second over any time, of which ten may come at once.
    CallKind.REPORT: RateLimitItemPerSecond(10, 10, namespace=NAMESPACE),
    # Small ones are not counted. Of a log no more than a third of this is kept in all.
    CallKind.REPORT_BYTES: RateLimitItemPerHour(4096, namespace=NAMESPACE),
    CallKind.ARTIFACT: RateLimitItemPerMinute(60, namespace=NAMESPACE),
    CallKind.PROGRAM: RateLimitItemPerMinute(20, namespace=NAMESPACE),
    # Replicate sends two a second for one training at most. What is refused is not lost: its last one comes again, and
    # the provider is read in any case.
    CallKind.WEBHOOK: RateLimitItemPerMinute(120, namespace=NAMESPACE),
    CallKind.WEBHOOK_BYTES: RateLimitItemPerHour(512, namespace=NAMESPACE),
    # Of those who name no training in their address: a few per training, from few addresses.
    CallKind.WEBHOOK_ADDRESS: RateLimitItemPerMinute(600, namespace=NAMESPACE),
}
"""How often, for one subject: a token, a training, an address. Bytes are counted in MiB, those of reports in
`REPORT_UNIT_BYTES`."""


class CallLimiter:
    """Allows scripts and providers as many calls as they need."""

    def __init__(self, redis_url: str) -> None:
        self._windows = Windows(redis_url, prefix="runwire:calls")

    async def check(self, kind: CallKind, subject: str, *, cost: int = 1) -> None:
        """Count a call of this subject. Raises `TooManyCalls`."""
        wait_seconds = await self._windows.hit(CALLS[kind], _key(kind, "subject", subject), cost=cost)
        if wait_seconds is not None:
            raise TooManyCalls(retry_after_seconds=max(1, math.ceil(wait_seconds)))

    async def close(self) -> None:
        await self._windows.close()


def _key(attempt: StrEnum, kind: str, value: str) -> str:
    return f"{attempt}:{kind}:{digest_of(value).hex()[:32]}"
