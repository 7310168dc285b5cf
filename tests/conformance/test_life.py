"""From the start of a training to its end, and what is left of it."""

import math
from itertools import pairwise

import pytest

from domain.training.report import LogText, Report
from jobs.providers.base import ProviderLost, ProviderRefused, RemoteTrainer, Started
from tests.conformance.driver import STRANGER, Driver, Leaves
from tests.conformance.life import Life, beginning, timeless

pytestmark = pytest.mark.anyio


class TestFinding:
    async def test_by_its_tag_and_by_any_worker(self, life: Life) -> None:
        at_once, by_another = life.found[:2]
        assert at_once is not None and at_once.reference == life.started.reference and at_once.has_begun
        assert by_another is not None and by_another.reference == life.started.reference and by_another.has_begun

    async def test_it_is_one_training(self, life: Life) -> None:
        assert [(one.reference, one.tag) for one in life.truth] == [(life.started.reference, life.order.tag)]

    async def test_one_that_ended_is_found_as_itself_or_not_at_all(self, life: Life) -> None:
        last = life.found[-1]
        assert last is None or last.reference == life.started.reference

    async def test_a_tag_that_nobody_started(self, driver: Driver) -> None:
        assert await driver.trainer().find(STRANGER) is None

    async def test_a_reference_that_nobody_has(self, driver: Driver) -> None:
        trainer, order = driver.trainer(), driver.order()
        position = beginning(driver, order, Started(driver.stranger))
        if driver.misses:
            with pytest.raises(ProviderLost):
                await trainer.report(driver.stranger, position, driver.now)
        else:
            driver.ground.clock.advance(3_600)  # young pods are not missed
            report = await trainer.report(driver.stranger, position, driver.now)
            assert report.suspicion and report.outcome is None and report.status is None
        assert await driver.truths() == []


class TestReports:
    async def test_two_looks_from_the_same_place_agree(self, life: Life) -> None:
        for step in life.steps:
            first, second = (timeless(look, life.driver) for look in (step.first, step.second))
            if not life.driver.goes_by_itself:
                assert first == second
            else:  # the second may have seen more
                assert _lines([first]) == _lines([second])[: len(_lines([first]))]
                assert first.outcome is None or first == second

    async def test_whoever_looks_again_after_the_end_sees_the_same(self, life: Life) -> None:
        assert bool(life.again) == life.driver.tells_its_end
        for step in life.again:
            assert timeless(step.first, life.driver) == timeless(step.second, life.driver)
            assert step.first.outcome == life.outcome

    async def test_the_log_is_told_whole_and_once(self, life: Life) -> None:
        chunks = [report.log for report in life.reports if report.log is not None]
        if not life.driver.has_log:
            assert chunks == []
            return
        assert chunks[0].start == 0
        assert all(before.end == after.start for before, after in pairwise(chunks))
        assert all(chunk.start < chunk.end for chunk in chunks)
        assert chunks[-1].end == life.wrote.end
        wanted = set(life.wrote.lines)
        assert len(wanted) == len(life.wrote.lines) > 0
        assert [line.text for line in _lines(life.reports) if line.text in wanted] == list(life.wrote.lines)

    async def test_a_chunk_begins_where_it_was_asked_for(self, life: Life) -> None:
        for step in (*life.steps, *life.again):
            for report in (step.first, step.second):
                assert report.log is None or report.log.start == step.position.offset < report.log.end

    async def test_progress_stage_and_cost_never_fall(self, life: Life) -> None:
        percents = [report.percent for report in life.reports if report.percent is not None]
        stages = [report.stage.rank for report in life.reports if report.stage is not None]
        costs = [report.cost_micros for report in (*life.reports, *life.after) if report.cost_micros is not None]
        assert percents == sorted(percents)
        assert all(0 <= percent <= 100 for percent in percents)
        assert stages == sorted(stages) or not life.driver.has_stages_in_order
        assert costs == sorted(costs)
        assert all(cost >= 0 for cost in costs)

    async def test_what_costs_is_told(self, life: Life) -> None:
        told = max((report.cost_micros or 0 for report in life.reports), default=0)
        assert [one.cost_micros > 0 for one in life.truth] == [told > 0]

    async def test_it_is_seen_to_go_on(self, success: Life) -> None:
        """Not only its end: what it is busy with, and how far, where the provider tells that."""
        assert {report.stage for report in success.reports} - {None} != set()
        if success.driver.has_log:
            percents = {report.percent for report in success.reports if report.percent is not None}
            assert len(percents) > 1 and max(percents) == 100

    async def test_every_number_is_finite(self, life: Life) -> None:
        for report in life.reports:
            numbers = [report.percent, report.eta_seconds, report.expected_seconds, report.cost_micros]
            numbers += [reading.value for reading in report.readings]
            assert all(math.isfinite(number) for number in numbers if number is not None)

    async def test_no_secret_is_told(self, life: Life) -> None:
        told = repr([life.started, life.found, life.reports, life.after, life.finished])
        assert [name for name, secret in life.driver.secrets.items() if secret in told] == []


class TestTheEnd:
    async def test_comes_once_and_stays_the_same(self, life: Life) -> None:
        assert [report.outcome for report in life.reports if report.outcome is not None] == [life.outcome]
        later = [report.outcome for report in life.after]
        assert later == [life.outcome if life.driver.tells_its_end else None] * len(later)
        # All of the log came with the end, or before.
        assert [report.log for report in life.after if report.log is not None] == []

    async def test_success_holds_what_was_promised(self, success: Life) -> None:
        end, driver = success.end, success.driver
        assert success.outcome.succeeded
        assert (end.artifact is not None) == (driver.leaves is Leaves.ARTIFACT)
        assert (end.hosted is not None) == (driver.leaves is Leaves.HOSTED)
        if end.artifact is not None:
            assert end.artifact.bytes > 0 and len(end.artifact.sha256) == 64

    async def test_failure_has_a_reason_in_words_and_leaves_nothing(self, failure: Life) -> None:
        assert not failure.outcome.succeeded
        assert failure.outcome.message and failure.outcome.message.strip()
        assert all(report.artifact is None and report.hosted is None for report in failure.reports)

    async def test_stopping_keeps_the_model(self, success: Life) -> None:
        assert success.models == [True, True]

    async def test_stopping_is_confirmed_and_leaves_nothing_alive(self, life: Life) -> None:
        assert life.stops[-2:] == [True, True]
        assert [one.reference for one in life.truth if one.is_alive] == []

    async def test_a_finished_model_is_read_from_the_provider(self, success: Life) -> None:
        trainer, driver = success.trainer, success.driver
        if not isinstance(trainer, RemoteTrainer):
            return
        if driver.leaves is Leaves.HOSTED:
            assert success.finished is not None and success.end.hosted is not None
            assert success.finished.version == success.end.hosted.version
            assert success.finished.reference == success.started.reference
        else:  # nothing is kept there
            with pytest.raises(ProviderRefused):
                await trainer.finished(success.started.reference)


class TestAlive:
    async def test_is_what_lives_and_nothing_else(self, life: Life) -> None:
        if not isinstance(life.trainer, RemoteTrainer):
            assert life.alive == []
            return
        assert life.alive[0].said == {life.started.reference: life.order.tag}
        for look in life.alive:
            assert look.said in (look.before, look.after)
        assert life.alive[-1].said == {}

    async def test_each_account_sees_its_own(self, remote: Driver) -> None:
        assert await remote.remote().alive() == {}


def _lines(reports: list[Report]) -> list[LogText]:
    return [line for report in reports if report.log is not None for line in report.log.lines]
