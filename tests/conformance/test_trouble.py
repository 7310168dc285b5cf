"""What goes wrong between us and a provider, and what each call makes of it."""

import math
from dataclasses import replace

import anyio
import pytest

from jobs.providers.base import CredentialRefused, ProviderBusy, RemoteTrainer, Started, TrainingOrder
from tests.conformance.driver import Driver
from tests.conformance.ground import nobody_url
from tests.conformance.life import beginning
from tests.conformance.wires import Call, calls_of, refusing

pytestmark = pytest.mark.anyio

CALL_SECONDS = 20.0
"""Nobody needs longer to find that nobody is there."""
MOST_TRIES = 12


class TestALostAnswer:
    async def test_the_training_is_found_and_is_one(self, remote: Driver) -> None:
        order = remote.order()
        with pytest.raises(ProviderBusy):
            await remote.remote("reply_lost").start(order)
        another = remote.remote("reply_lost")
        found = await another.find(order.tag)
        assert found is not None
        if not found.has_begun:  # a place was made; who comes next goes on with it
            assert (await another.start(order)).reference == found.reference
            assert await another.find(order.tag) == replace(found, has_begun=True)
        assert [(one.reference, one.tag) for one in await remote.truths()] == [(found.reference, order.tag)]
        report = await another.report(found.reference, beginning(remote, order, found), remote.now)
        assert not report.vanished and report.suspicion is None


class TestAKeyThatIsRefused:
    @pytest.mark.parametrize("key", ["unauthorized", "of another form", "with signs", "with a line end"])
    async def test_is_said_by_every_call(self, remote: Driver, key: str) -> None:
        text = {
            "unauthorized": remote.key("unauthorized"),
            "of another form": "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c",
            "with signs": f"{remote.prefix}ключ-é-0123456789abcdef",
            "with a line end": f"{remote.prefix}0123456789abcdef\r\nX-Other: 1",
        }[key]
        order = remote.order()
        for name in calls_of(remote, remote.remote(), order):
            with pytest.raises(CredentialRefused) as caught:  # a trainer may not even be made with some
                await calls_of(remote, remote.remote(key=text), order)[name]()
            assert text not in str(caught.value), name
        assert await remote.truths() == []


class TestNobodyListens:
    async def test_every_call_says_so_soon(self, remote: Driver) -> None:
        trainer = remote.remote(base_url=nobody_url())
        for name, call in calls_of(remote, trainer, remote.order()).items():
            with anyio.fail_after(CALL_SECONDS):
                await _is_busy(name, call)


class TestAProviderInTrouble:
    @pytest.mark.parametrize("wait", [None, "3"])
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    async def test_is_only_busy(self, remote: Driver, status: int, wait: str | None) -> None:
        headers = {"retry-after": wait} if wait is not None else {}
        address = remote.ground.places.put(refusing(status, headers))
        for name in calls_of(remote, remote.remote(base_url=address), remote.order()):
            # Each by a worker of its own: one that was told to wait does not even ask.
            trainer = remote.remote(base_url=address)
            with anyio.fail_after(CALL_SECONDS):
                await _is_busy(name, calls_of(remote, trainer, remote.order())[name])

    @pytest.mark.parametrize("scenario", ["throttled", "unstable"])
    async def test_is_got_through_to_in_the_end_and_once(self, remote: Driver, scenario: str) -> None:
        order = remote.order()
        started = await _started_at_last(remote, scenario, order)
        assert [(one.reference, one.tag) for one in await remote.truths()] == [(started.reference, order.tag)]
        position = beginning(remote, order, started)
        for _ in range(MOST_TRIES):
            trainer = remote.remote(scenario)
            try:
                report = await trainer.report(started.reference, position, remote.now)
            except ProviderBusy as busy:
                await _wait(remote, busy)
            else:
                # Waiting has moved the clock, and the training may be over.
                assert report.suspicion is None and (report.outcome is None or report.outcome.succeeded)
                return
        raise AssertionError("No look at it ever succeeded.")


class TestQuotes:
    async def test_are_finite_and_not_negative(self, remote: Driver) -> None:
        quotes = await remote.remote().quotes(remote.gpu_types, remote.order().hyperparameters)
        assert len(quotes) == max(1, len(remote.gpu_types))
        for quote in quotes:
            prices = [quote.price_micros_per_hour, quote.flat_micros]
            assert any(price is not None for price in prices)
            for number in (*prices, quote.expected_seconds):
                assert number is None or (math.isfinite(number) and number >= 0)
        assert [quote.gpu_type for quote in quotes if remote.gpu_types] == list(remote.gpu_types)


class TestWhose:
    async def test_is_said_in_words_without_the_key(self, remote: Driver) -> None:
        words = await remote.remote().whose()
        assert words.strip() and remote.key() not in words


async def _is_busy(name: str, call: Call) -> None:
    with pytest.raises(ProviderBusy) as caught:
        await call()
    wait = caught.value.retry_after_seconds
    assert math.isfinite(wait) and wait > 0, name


async def _started_at_last(driver: Driver, scenario: str, order: TrainingOrder) -> Started:
    """As `jobs.running` does it: whoever may have made it already asks for it first."""
    for _ in range(MOST_TRIES):
        trainer: RemoteTrainer = driver.remote(scenario)
        try:
            found = await trainer.find(order.tag)
            return found if found is not None and found.has_begun else await trainer.start(order)
        except ProviderBusy as busy:
            await _wait(driver, busy)
    raise AssertionError("It could not be started.")


async def _wait(driver: Driver, busy: ProviderBusy) -> None:
    assert math.isfinite(busy.retry_after_seconds) and busy.retry_after_seconds > 0
    driver.ground.clock.advance(min(busy.retry_after_seconds, 60.0))
    await driver.pass_time()
