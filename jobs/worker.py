"""A worker process, put together: the runner, arq's doorbell, the scheduled sweeps and the heartbeat."""

import asyncio
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import anyio
import httpx2
import sqlalchemy as sa
from arq import ArqRedis, Worker
from arq.worker import Function, func
from redis.exceptions import RedisError
from sqlalchemy.dialects.postgresql import insert
from sqlmodel import col

from db.bus import RedisBus
from db.postgres import worker_engine
from db.settings import Settings
from db.unit_of_work import Database
from db.vault import Vault
from domain.base import new_id
from domain.clock import SystemClock
from domain.commands import ApplyCallback, CheckDeployment, CheckRun, Command, RemoveDatasetFile
from domain.errors import Unavailable
from domain.training.model import WorkerProcess
from domain.training.status import Provider
from jobs.accounts import Accounts, loaded_from, provider_http
from jobs.context import JobContext
from jobs.providers.local.app_host import LocalAppHost
from jobs.providers.local.trainer import LocalTrainer
from jobs.queue import QUEUE_NAME, ArqQueue, arq_pool, deserialize, serialize
from jobs.runner import Runner
from jobs.tasks import callback, dataset, deployment, strays, upkeep

logger = logging.getLogger("runwire.jobs")

HEARTBEAT_SECONDS = 5.0
FORGOTTEN_AFTER = timedelta(minutes=5)
DOORBELL_TIMEOUT_SECONDS = 30
"""arq gives the jobs of a killed worker to another one after the longest time-out of all, so it is short."""
DOORBELL_AGAIN_SECONDS = 1.0

Sweep = Callable[[JobContext], Awaitable[object]]

SWEEPS: tuple[tuple[float, Sweep], ...] = (
    (1.0, callback.sweep_callbacks),
    (2.0, deployment.sweep_deployments),
    (5.0, upkeep.end_resources),
    (30.0, strays.end_strays),
    (60.0, dataset.expire_grants),
    (60.0, upkeep.remove_old_sandboxes),
    (300.0, dataset.remove_orphans),
    (300.0, upkeep.remove_old_artifacts),
    (300.0, upkeep.forget_old_events),
    (300.0, upkeep.forget_old_sessions),
    (300.0, callback.forget_old_callbacks),
)
"""What is looked for in rows, and how often in seconds; with or without Redis."""


@asynccontextmanager
async def job_context(settings: Settings) -> AsyncIterator[JobContext]:
    """The pieces of a worker process."""
    bus = RedisBus(settings.bus_urls or (settings.redis_url,))
    queue = ArqQueue(settings.redis_url)
    database = Database(worker_engine(settings), bus=bus, queue=queue)
    vault = Vault(settings.encryption_keys_or_kept())
    async with httpx2.AsyncClient(timeout=httpx2.Timeout(10), trust_env=False) as http, provider_http() as outside:
        accounts = Accounts(settings, outside, vault, loaded_from(database))
        try:
            yield JobContext(
                worker_id=new_id(),
                settings=settings,
                database=database,
                clock=SystemClock(),
                trainers={Provider.LOCAL: LocalTrainer(settings.data_dir)},
                app_hosts={Provider.LOCAL: LocalAppHost(settings.data_dir)},
                http=http,
                accounts=accounts,
            )
        finally:
            await accounts.close()
            await database.close()
            await queue.close()
            await bus.close()


async def work(settings: Settings) -> None:
    """Run a worker until SIGTERM or SIGINT; what it looked after is handed over then."""
    async with job_context(settings) as context:
        runner = Runner(context)
        async with anyio.create_task_group() as group:
            group.start_soon(_stop_on_signal, group.cancel_scope)
            group.start_soon(runner.run)
            group.start_soon(_heartbeat, context)
            group.start_soon(_listen, context, runner)
            for seconds, sweep in SWEEPS:
                group.start_soon(_repeat, context, sweep, seconds)
        logger.info("The worker has handed over and ends.")


async def _stop_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()
            return


async def _repeat(context: JobContext, sweep: Sweep, seconds: float) -> None:
    while True:
        try:
            await sweep(context)
        except Unavailable:
            logger.warning("A sweep could not reach Postgres; it comes again.", extra={"sweep": sweep.__name__})
        except Exception:
            logger.exception("A sweep failed; it comes again.", extra={"sweep": sweep.__name__})
        await anyio.sleep(seconds)


async def _heartbeat(context: JobContext) -> None:
    """Tell the others, through Postgres, that a worker is there."""
    started = context.clock.now()
    try:
        while True:
            try:
                await _be_seen(context, started)
            except Unavailable:
                logger.warning("The heartbeat could not reach Postgres.")
            await anyio.sleep(HEARTBEAT_SECONDS)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(2):
            async with context.begin() as work:
                await work.session.exec(sa.delete(WorkerProcess).where(col(WorkerProcess.id) == context.worker_id))


async def _be_seen(context: JobContext, started: Any) -> None:
    now = context.clock.now()
    async with context.begin() as work:
        statement = insert(WorkerProcess).values(
            id=context.worker_id, host=socket.gethostname(), pid=os.getpid(), started_at=started, seen_at=now
        )
        await work.session.exec(statement.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now}))
        await work.session.exec(sa.delete(WorkerProcess).where(col(WorkerProcess.seen_at) < now - FORGOTTEN_AFTER))


def doorbell_functions(context: JobContext, runner: Runner) -> list[Function]:
    """A function for every command that can be enqueued."""
    return [
        _bell(CheckRun, runner.ring),
        _bell(CheckDeployment, lambda id: deployment.check_deployment(context, id)),
        _bell(RemoveDatasetFile, lambda id: dataset.remove_file(context, id)),
        _bell(ApplyCallback, lambda id: callback.apply_callback(context, id)),
    ]


def _bell(command: type[Command], answer: Callable[[UUID], Awaitable[object]]) -> Function:
    """arq's function for a command, which is a name and one id."""

    async def heard(ctx: dict[Any, Any], *_: Any, **ids: Any) -> None:
        for id in ids.values():
            await answer(UUID(id))

    return func(heard, name=command.name, keep_result=0, max_tries=1, timeout=DOORBELL_TIMEOUT_SECONDS)


async def _listen(context: JobContext, runner: Runner) -> None:
    """arq's worker, started anew whenever Redis was away: arq itself ends then."""
    while True:
        pool = arq_pool(context.settings.redis_url)
        worker = Worker(
            functions=doorbell_functions(context, runner),
            redis_pool=pool,
            queue_name=QUEUE_NAME,
            handle_signals=False,
            poll_delay=0.1,
            max_jobs=20,
            job_timeout=DOORBELL_TIMEOUT_SECONDS,
            keep_result=0,
            health_check_interval=30,
            log_results=False,
            job_serializer=serialize,
            job_deserializer=deserialize,
        )
        try:
            await worker.async_run()
        except Exception as error:
            logger.warning("Redis does not answer; the sweeps go on alone.", extra={"error": type(error).__name__})
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await close_doorbell(worker, pool)
        await anyio.sleep(DOORBELL_AGAIN_SECONDS)


async def close_doorbell(worker: Worker, pool: ArqRedis) -> None:
    """arq cancels its jobs and says good-bye to Redis, and leaves its connections open where one of both fails.

    In a task of its own: arq hands the cancellation of its jobs on to whoever closes it, who would end of it, and with
    them the whole worker."""
    closing = asyncio.ensure_future(worker.close())
    try:
        await asyncio.wait({closing})
    finally:
        closing.cancel()
    if closing.cancelled() or isinstance(closing.exception(), (RedisError, OSError)):
        await pool.aclose(close_connection_pool=True)
    else:
        closing.result()
