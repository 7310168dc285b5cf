"""The doorbell: commands travel through arq to a worker, and nothing breaks when they do not."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import anyio
import pytest
from arq import Worker
from arq.worker import func
from redis.asyncio import Redis
from redis.exceptions import RedisError

from db.settings import Settings
from db.unit_of_work import Database
from domain.base import new_id
from domain.commands import CheckDeployment, CheckRun, RemoveDatasetFile
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.queue import EXPIRES_MS, QUEUE_NAME, ArqQueue, arq_pool, deserialize, serialize
from jobs.worker import close_doorbell, doorbell_functions
from tests.factories import make_user
from tests.fakes import Told

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:Call to deprecated close:DeprecationWarning"),  # arq's, of redis
]

NOWHERE = "unix:///nowhere/redis.sock"


class Rung:
    """Stands where the runner does."""

    def __init__(self) -> None:
        self.runs: list[UUID] = []

    async def ring(self, run_id: UUID) -> None:
        self.runs.append(run_id)


async def listen_once(context: JobContext, rung: Rung, redis_url: str) -> int:
    """A worker that does what waits and ends; gives how many jobs it did."""
    worker = Worker(
        functions=doorbell_functions(context, rung),  # type: ignore[arg-type]  # only `ring` is used of it
        redis_pool=arq_pool(redis_url),
        queue_name=QUEUE_NAME,
        handle_signals=False,
        burst=True,
        poll_delay=0.01,
        keep_result=0,
        log_results=False,
        job_serializer=serialize,
        job_deserializer=deserialize,
    )
    try:
        await worker.async_run()
        return worker.jobs_complete + worker.jobs_failed
    finally:
        await worker.close()


@pytest.fixture
async def queue(redis_url: str) -> AsyncIterator[ArqQueue]:
    queue = ArqQueue(redis_url)
    yield queue
    await queue.close()


async def test_a_command_comes_to_its_function(worker: JobContext, queue: ArqQueue, redis_url: str) -> None:
    runs, rung = [new_id(), new_id()], Rung()
    await queue.enqueue([CheckRun(run) for run in runs])
    assert await listen_once(worker, rung, redis_url) == 2
    assert sorted(rung.runs) == runs


async def test_every_command_is_understood(worker: JobContext, queue: ArqQueue, redis_url: str) -> None:
    """Of things that are not there: each function returns quietly, since the work is moot."""
    await queue.enqueue([CheckRun(new_id()), CheckDeployment(new_id()), RemoveDatasetFile(new_id())])
    assert await listen_once(worker, Rung(), redis_url) == 3


async def test_the_same_command_may_ring_again_at_once(worker: JobContext, queue: ArqQueue, redis_url: str) -> None:
    """Ids of jobs are never used twice: a kept one would swallow the next ring."""
    run, rung = new_id(), Rung()
    for times in (1, 2):
        await queue.enqueue([CheckRun(run)])
        await listen_once(worker, rung, redis_url)
        assert rung.runs == [run] * times


async def test_it_waits_in_redis_as_plain_json_and_not_for_ever(queue: ArqQueue, redis: Redis) -> None:
    run = new_id()
    await queue.enqueue([CheckRun(run)])
    (key,) = await redis.keys("arq:job:*")
    job = deserialize(await redis.get(key))
    assert (job["f"], job["k"]) == ("training.check_run", {"run_id": str(run)})
    assert 0 < await redis.pttl(key) <= EXPIRES_MS + 1000


async def test_without_redis_a_ring_fails_soon() -> None:
    queue = ArqQueue(NOWHERE)
    with anyio.fail_after(5), pytest.raises((RedisError, OSError)):
        await queue.enqueue([CheckRun(new_id())])
    await queue.close()


async def test_without_redis_what_was_written_stays_written(settings: Settings, database: Database, told: Told) -> None:
    """The unit of work swallows a lost ring; the sweep finds the row."""
    queue = ArqQueue(NOWHERE)
    deaf = Database(database.engine, bus=told, queue=queue, clock=database.clock)
    ada: Viewer = await make_user(deaf)
    async with deaf.begin(ada) as work:
        work.enqueue(CheckRun(new_id()))
    assert told.commands == []
    await queue.close()


async def test_a_job_that_is_cut_off_ends_nobody_else(redis_url: str) -> None:
    """As when Redis dies while a job waits for it: arq cancels its jobs, and the rest of the worker goes on."""
    pool = arq_pool(redis_url)
    worker = Worker(functions=[func(_nothing, name="nothing")], redis_pool=pool, handle_signals=False)
    worker.tasks["job"] = asyncio.ensure_future(anyio.sleep_forever())
    goes_on = False
    async with anyio.create_task_group() as group:
        group.start_soon(close_doorbell, worker, pool)
        await anyio.sleep(0.2)
        goes_on = True
    assert goes_on
    assert worker.tasks["job"].cancelled()


async def _nothing(ctx: object) -> None: ...
