"""Ending a training that would go on."""

import anyio
import pytest

from domain.training.report import Report
from jobs.providers.base import Position, ProviderLost, RemoteTrainer, Trainer
from tests.conformance.driver import Driver, Play
from tests.conformance.life import beginning, living, moved, stopped

pytestmark = pytest.mark.anyio

BEGIN_SECONDS = 30.0
LOOKS = 3


async def test_a_training_at_work_is_ended_and_stays_so(driver: Driver) -> None:
    trainer = driver.trainer(driver.scenario_of(Play.GOES_ON))
    order = driver.order(Play.GOES_ON)
    started = await trainer.start(order)
    position = beginning(driver, order, started)
    position = await _at_work(driver, trainer, started.reference, position)
    assert list(await living(driver)) == [started.reference]

    answers = await stopped(driver, trainer, started.reference)

    assert answers[-1] is True
    assert await living(driver) == {}
    # Whoever asks again, also another worker, hears the same.
    assert [await one.stop(started.reference) for one in (trainer, driver.trainer(), driver.trainer())] == [True] * 3
    if isinstance(trainer, RemoteTrainer):
        assert await trainer.alive() == {}
    for _ in range(LOOKS):
        _is_over(await _look(driver, trainer, started.reference, position))
        await driver.pass_time()
    assert await living(driver) == {}


async def test_one_that_has_hardly_begun_is_ended_too(driver: Driver) -> None:
    trainer = driver.trainer(driver.scenario_of(Play.GOES_ON))
    started = await trainer.start(driver.order(Play.GOES_ON))
    assert (await stopped(driver, trainer, started.reference))[-1] is True
    for _ in range(LOOKS):
        assert await living(driver) == {}
        await driver.pass_time()


async def test_one_that_was_never_there_is_ended(driver: Driver) -> None:
    assert await driver.trainer().stop(driver.stranger) is True
    assert await driver.truths() == []


async def test_another_one_is_left_alone(driver: Driver) -> None:
    trainer = driver.trainer(driver.scenario_of(Play.GOES_ON))
    first, second = [await trainer.start(driver.order(Play.GOES_ON)) for _ in range(2)]
    assert first.reference != second.reference
    assert (await stopped(driver, trainer, first.reference))[-1] is True
    assert list(await living(driver)) == [second.reference]
    assert (await stopped(driver, trainer, second.reference))[-1] is True
    assert await living(driver) == {}


async def _at_work(driver: Driver, trainer: Trainer, reference: str, position: Position) -> Position:
    """Wait until its program runs, reading what it says."""
    with anyio.fail_after(BEGIN_SECONDS):
        while [one.state for one in await driver.truths()] != ["training"]:
            report = await trainer.report(reference, position, driver.now)
            assert report.outcome is None and not report.vanished
            position = moved(position, report)
            await driver.pass_time()
    return position


async def _look(driver: Driver, trainer: Trainer, reference: str, position: Position) -> Report | None:
    try:
        return await trainer.report(reference, position, driver.now)
    except ProviderLost:
        return None


def _is_over(report: Report | None) -> None:
    """It is gone, or has ended, and not well."""
    if report is None or report.vanished or report.suspicion is not None:
        return
    if report.outcome is not None:
        assert not report.outcome.succeeded
        return
    # A pod that was ended a moment ago may only be late in a list.
    assert report.status is None and report.says_nothing
