"""What providers have alive that no run knows of is ended; everything else is left alone."""

from dataclasses import replace
from typing import Any

import pytest

from db.unit_of_work import Database
from domain.deployment.model import Resource, ResourceKind, ResourceStatus
from domain.training.model import TrainingRun
from domain.training.status import Provider, RunStatus
from domain.viewer import Viewer
from jobs.context import JobContext
from jobs.providers.base import ProviderBusy
from jobs.tasks.strays import end_strays
from tests.factories import make_run
from tests.jobs.support import ScriptedTrainer

pytestmark = pytest.mark.anyio


class Account(ScriptedTrainer):
    """An account in which the test puts what it likes."""

    there: dict[str, str]

    async def alive(self) -> dict[str, str]:
        self._check()
        return {reference: tag for reference, tag in self.there.items() if reference not in self.stopped}


@pytest.fixture
def trainer() -> Account:
    account = Account()
    account.there = {}
    return account


@pytest.fixture
def worker(worker: JobContext, trainer: Account) -> JobContext:
    return replace(worker, trainers={Provider.RUNPOD: trainer})


async def make_pod(database: Database, ada: Viewer, run: TrainingRun, **facts: Any) -> str:
    """A pod's row; gives its tag."""
    tag = f"run-{run.id.hex}-1"
    given: dict[str, Any] = {"reference": "pod", "status": ResourceStatus.ALIVE, "tag": tag}
    async with database.begin(ada) as work:
        work.session.add(
            Resource(
                created_at=work.now,
                user_id=run.user_id,
                run_id=run.id,
                provider=Provider.RUNPOD,
                kind=ResourceKind.TRAINING,
                **given | facts,
            )
        )
    return tag


async def test_the_double_of_a_lost_answer_is_ended(
    database: Database, worker: JobContext, trainer: Account, ada: Viewer
) -> None:
    run = await make_run(database, ada, status=RunStatus.TRAINING)
    tag = await make_pod(database, ada, run)
    trainer.there = {"pod": tag, "double": tag}
    assert await end_strays(worker) == 1
    assert trainer.stopped == ["double"]
    assert await end_strays(worker) == 0


async def test_what_was_thought_to_have_ended_is_ended_again(
    database: Database, worker: JobContext, trainer: Account, ada: Viewer
) -> None:
    run = await make_run(database, ada, status=RunStatus.FAILED)
    async with database.begin(ada) as work:
        now = work.now
    tag = await make_pod(database, ada, run, status=ResourceStatus.ENDED, ended_at=now)
    trainer.there = {"pod": tag}
    assert await end_strays(worker) == 1
    assert trainer.stopped == ["pod"]


async def test_what_came_to_be_when_nobody_waited_for_it_any_more_is_ended(
    database: Database, worker: JobContext, trainer: Account, ada: Viewer
) -> None:
    run = await make_run(database, ada, status=RunStatus.CANCELED)
    async with database.begin(ada) as work:
        now = work.now
    tag = await make_pod(database, ada, run, reference=None, status=ResourceStatus.ENDED, ended_at=now)
    trainer.there = {"late": tag}
    assert await end_strays(worker) == 1
    assert trainer.stopped == ["late"]


async def test_what_is_being_started_and_what_is_not_ours_is_left_alone(
    database: Database, worker: JobContext, trainer: Account, ada: Viewer
) -> None:
    run = await make_run(database, ada, status=RunStatus.QUEUED)
    tag = await make_pod(database, ada, run, reference=None, status=ResourceStatus.INTENDED)
    trainer.there = {"young": tag, "theirs": "run-0123456789abcdef0123456789abcdef-1", "mine": "my own pod"}
    assert await end_strays(worker) == 0
    assert trainer.stopped == []


async def test_an_account_that_does_not_answer_is_tried_again(
    database: Database, worker: JobContext, trainer: Account, ada: Viewer
) -> None:
    run = await make_run(database, ada, status=RunStatus.TRAINING)
    tag = await make_pod(database, ada, run)
    trainer.there = {"pod": tag, "double": tag}
    trainer.failing = ProviderBusy("Come back later.")
    assert await end_strays(worker) == 0
    trainer.failing = None
    assert await end_strays(worker) == 1
