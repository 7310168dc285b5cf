"""A training's whole life, as whoever follows it sees it, written down so that each promise can be held against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import anyio

from domain.training.report import LogText, Outcome, Report
from domain.training.status import ReportSource
from jobs.providers.base import FinishedModel, Position, RemoteTrainer, Started, Trainer, TrainingOrder
from jobs.simulators.kit import Truth
from tests.conformance.driver import Driver, Play, Wrote

LIMIT_SECONDS = 40.0
"""How long a life may take on a busy machine; most take two seconds."""
LOOKS_AFTER_THE_END = 3
SOMETIME = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """Two looks from the same place, one right after the other."""

    position: Position
    first: Report
    second: Report


@dataclass(frozen=True, slots=True)
class Alive:
    """What the provider says lives, and what did just before and after it was asked; all of it reference → tag."""

    said: Mapping[str, str]
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass
class Life:
    """What was seen."""

    driver: Driver
    trainer: Trainer
    order: TrainingOrder
    started: Started
    found: list[Started | None] = field(default_factory=list)
    """By its tag: at once, by another worker, and when it had ended."""
    steps: list[Step] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    """All that is to be written down, in order."""
    again: list[Step] = field(default_factory=list)
    """From earlier places, when it had ended."""
    after: list[Report] = field(default_factory=list)
    """From the last place, when it had ended."""
    alive: list[Alive] = field(default_factory=list)
    """While it went on, when it had ended, and when it was stopped."""
    wrote: Wrote = field(default_factory=lambda: Wrote(0, []))
    stops: list[bool] = field(default_factory=list)
    models: list[bool] = field(default_factory=list)
    """Whether the model was there: at its end, and when it was stopped."""
    finished: FinishedModel | None = None
    truth: list[Truth] = field(default_factory=list)
    """At the very end."""

    @property
    def outcome(self) -> Outcome:
        outcome = self.end.outcome
        assert outcome is not None
        return outcome

    @property
    def end(self) -> Report:
        """The report with the outcome."""
        return self.reports[-1]


async def lived(driver: Driver, play: Play) -> Life:
    """Start a training, follow it to its end, look again, and stop what is left."""
    with anyio.fail_after(LIMIT_SECONDS):
        trainer = driver.trainer(driver.scenario_of(play))
        order = driver.order(play)
        life = Life(driver, trainer, order, await trainer.start(order))
        reference = life.started.reference
        another = driver.trainer(driver.scenario_of(play))
        life.found += [await trainer.find(order.tag), await another.find(order.tag)]
        position = beginning(driver, order, life.started)
        position = await _follow(life, position)
        life.wrote = await driver.wrote(order, reference)
        for _ in range(LOOKS_AFTER_THE_END):
            life.after.append(await another.report(reference, position, driver.now))
            await driver.pass_time()
        if driver.tells_its_end:
            places = {step.position.offset: step.position for step in life.steps}.values()
            for place in list(places)[:: max(1, len(places) // 3)]:
                life.again.append(await _twice(driver, another, reference, place))
        life.found.append(await trainer.find(order.tag))
        await _note_alive(life)
        succeeded = life.outcome.succeeded
        if succeeded:
            life.models.append(await driver.has_model(order, another, life.end))
            if life.models[0] and life.end.hosted is not None and isinstance(trainer, RemoteTrainer):
                life.finished = await trainer.finished(life.end.hosted.version)
        life.stops += await stopped(driver, trainer, reference)
        life.stops.append(await another.stop(reference))
        await _note_alive(life)
        if succeeded:
            life.models.append(await driver.has_model(order, another, life.end))
        life.truth = await driver.truths()
        return life


async def _follow(life: Life, position: Position) -> Position:
    """Until a report has an outcome; gives where that led."""
    driver, order, reference = life.driver, life.order, life.started.reference
    await _note_alive(life)
    while True:
        while (told := await driver.heard(order, position)) is not None:
            life.reports.append(told)
            position = moved(position, told)
            if told.outcome is not None:
                return position
        step = await _twice(driver, life.trainer, reference, position)
        life.steps.append(step)
        life.reports.append(step.first)
        assert not step.first.vanished, "It is gone without a word."
        position = moved(position, step.first)
        if step.first.outcome is not None:
            return position
        await _note_alive(life)
        await driver.pass_time()


async def _twice(driver: Driver, trainer: Trainer, reference: str, position: Position) -> Step:
    now = driver.now
    first = await trainer.report(reference, position, now)
    return Step(position, first, await trainer.report(reference, position, now))


async def _note_alive(life: Life) -> None:
    trainer = life.trainer
    if isinstance(trainer, RemoteTrainer):
        before = await living(life.driver)
        said = await trainer.alive()
        life.alive.append(Alive(said, before, await living(life.driver)))


async def living(driver: Driver) -> dict[str, str]:
    """What is really alive: reference → tag."""
    return {one.reference: one.tag for one in await driver.truths() if one.is_alive}


async def stopped(driver: Driver, trainer: Trainer, reference: str) -> list[bool]:
    """Ask for the end until it is confirmed; every answer on the way."""
    answers: list[bool] = []
    with anyio.fail_after(LIMIT_SECONDS):
        while True not in answers:
            answers.append(await trainer.stop(reference))
            await driver.pass_time()
    return answers


def beginning(driver: Driver, order: TrainingOrder, started: Started) -> Position:
    return Position(
        offset=0,
        attempt=order.attempt,
        tag=order.tag,
        hyperparameters=order.hyperparameters,
        begun_at=driver.now,
        price_micros_per_hour=started.price_micros_per_hour,
    )


def moved(position: Position, report: Report) -> Position:
    """Where the follower stands once the report is written down."""
    if report.log is not None:
        position = replace(position, offset=report.log.end, log_state=report.log.state)
    if report.source is ReportSource.POD:
        position = replace(position, heard_at=report.at)
    return replace(position, known_cost_micros=max(position.known_cost_micros, report.cost_micros or 0))


def timeless(report: Report, driver: Driver) -> Report:
    """The same without the times at which it was read, and what it cost until just then."""
    log = report.log
    if log is not None:
        log = replace(log, lines=tuple(LogText(line.text, SOMETIME, line.level) for line in log.lines), state={})
    readings = tuple(replace(reading, at=SOMETIME) for reading in report.readings)
    cost = None if driver.goes_by_itself else report.cost_micros  # by a clock that cannot be held
    return replace(report, at=SOMETIME, log=log, readings=readings, cost_micros=cost)
