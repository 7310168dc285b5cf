"""The doorbell: arq carries commands to workers, with nothing that may not be lost.

arq keeps results under a job's id and refuses that id meanwhile, and its abort outlives the job; so ids are never
reused, results never kept, and abort never called. A command that Redis loses is derived again from rows by the sweep.
"""

import dataclasses
from typing import Any
from uuid import UUID

import orjson
from arq.connections import ArqRedis, RedisSettings
from redis.asyncio import Redis

from db.redis import Patience, redis_of
from domain.commands import Command

QUEUE_NAME = "runwire:queue"
ENQUEUE_SECONDS = 1
EXPIRES_MS = 60_000
"""A ring that nobody heard for a minute is moot: the sweep has seen to it."""


def serialize(value: dict[str, Any]) -> bytes:
    return orjson.dumps(value, default=str)


def deserialize(value: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = orjson.loads(value)
    return loaded


def arq_pool(url: str) -> ArqRedis:
    """arq's own client, over a connection whose commands end within two seconds."""
    pool: Redis = redis_of(url)
    return ArqRedis(
        pool_or_conn=pool.connection_pool,
        job_serializer=serialize,
        job_deserializer=deserialize,
        default_queue_name=QUEUE_NAME,
        expires_extra_ms=EXPIRES_MS,
    )


def arq_settings(url: str) -> RedisSettings:
    return RedisSettings.from_dsn(url)


class ArqQueue:
    """The domain's `Queue` over arq."""

    def __init__(self, url: str) -> None:
        self.pool = arq_pool(url)
        self._patience = Patience()

    async def enqueue(self, commands: list[Command]) -> None:
        with self._patience.within(ENQUEUE_SECONDS):
            for command in commands:
                arguments: dict[str, Any] = {key: _plain(value) for key, value in dataclasses.asdict(command).items()}
                await self.pool.enqueue_job(command.name, **arguments)

    async def close(self) -> None:
        await self.pool.aclose(close_connection_pool=True)  # redis leaves a pool open that it was given


def _plain(value: object) -> object:
    return str(value) if isinstance(value, UUID) else value
