"""Webhooks, from the simulated Replicate through a door to what the adapter makes of them."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from domain.training.report import Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStatus
from jobs.providers.base import CallbackBody, CallbackForged, CallbackUnreadable, Started
from jobs.providers.replicate.trainer import ReplicateTrainer
from jobs.simulators.replicate import ReplicateSimulator
from tests.jobs.providers.replicate.stage import Stage
from tests.jobs.providers.replicate.support import Bench, after, bench_of, position_of

pytestmark = pytest.mark.anyio

SECRET_ASKED = ("GET", "/v1/webhooks/default/secret")


async def ended(bench: Bench, scenario: str) -> tuple[ReplicateTrainer, Started]:
    """A training whose webhooks have all come."""
    trainer = bench.trainer(scenario)
    started = await trainer.start(bench.order(calls_back=True))
    await bench.walk(10)
    await bench.until(lambda: any(b'"status":"succeeded"' in one.body for one in bench.door.got), "the end")
    return trainer, started


def signed(
    bench: Bench, body: bytes, *, webhook_id: str = "msg_1", age_seconds: float = 0, **more: str
) -> CallbackBody:
    """A webhook that Replicate itself could have sent for this account."""
    at = bench.simulator.wall()
    stamp = str(int(at.timestamp() - age_seconds))
    key = base64.b64decode(bench.simulator.secrets_of("acme").current.removeprefix("whsec_"))
    made = hmac.new(key, f"{webhook_id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(made).decode()
    headers = {"webhook-id": webhook_id, "webhook-timestamp": stamp, "webhook-signature": signature, **more}
    return CallbackBody(headers, body, at)


async def test_each_says_what_a_read_would_have_said(bench: Bench) -> None:
    trainer, started = await ended(bench, "success")
    position, reports = position_of(), list[Report]()

    for callback in bench.door.got:
        report = await trainer.heard(callback, started.reference, position)
        assert report is not None
        reports.append(report)
        position = after(position, report)

    assert {report.source for report in reports} == {ReportSource.WEBHOOK}
    assert [report.event_id for report in reports] == [one.headers["webhook-id"] for one in bench.door.got]
    assert [report.status for report in reports] == [RunStatus.TRAINING] * (len(reports) - 1) + [None]
    polled = await bench.report(trainer, started)
    assert reports[-1].outcome == polled.outcome == Outcome(EndReason.SUCCEEDED)
    assert (reports[-1].hosted, reports[-1].cost_micros) == (polled.hosted, polled.cost_micros)
    assert polled.log is not None and reports[-1].log is not None
    assert reports[-1].log.end == polled.log.end
    assert bench.asked(*SECRET_ASKED) == 1


async def test_forged_ones_are_refused_and_do_not_make_us_ask_each_time(bench: Bench) -> None:
    trainer, started = await ended(bench, "webhook_forged")

    told = []
    for callback in bench.door.got:
        try:
            report = await trainer.heard(callback, started.reference, position_of())
        except CallbackForged:
            told.append("forged")
        else:
            assert report is not None
            told.append("ended" if report.outcome is not None else "going")
            if report.hosted is not None:
                assert report.hosted.version.startswith("acme/")

    assert told == ["forged", "forged", *["going"] * (len(told) - 3), "ended"]
    for _ in range(5):
        with pytest.raises(CallbackForged):
            await trainer.heard(bench.door.got[0], started.reference, position_of())
    assert bench.asked(*SECRET_ASKED) == 2


async def test_old_news_change_nothing(bench: Bench) -> None:
    trainer, started = await ended(bench, "webhook_reordered")
    await bench.until(lambda: len(bench.door.got) > 3, "the older ones")
    first = await trainer.heard(bench.door.got[0], started.reference, position_of())
    assert first is not None and first.outcome is not None
    position = after(position_of(), first)

    older = [await trainer.heard(callback, started.reference, position) for callback in bench.door.got[1:]]

    assert [report.log for report in older if report is not None] == [None] * (len(bench.door.got) - 1)
    assert all(report is not None and report.outcome is None for report in older)
    assert all(report is not None and report.cost_micros is None for report in older)


async def test_the_same_one_twice_has_the_same_id(bench: Bench) -> None:
    trainer, started = await ended(bench, "webhook_doubled")
    await bench.until(lambda: len(bench.door.got) % 2 == 0, "the second of the last")

    pair = [await trainer.heard(callback, started.reference, position_of()) for callback in bench.door.got[-2:]]

    assert pair[0] is not None and pair[1] is not None
    assert pair[0].event_id == pair[1].event_id
    assert pair[0].log is not None and pair[1].log is not None
    assert (pair[0].log.end, pair[0].outcome) == (pair[1].log.end, pair[1].outcome)


async def test_large_ones_are_read(stage: Stage) -> None:
    async with bench_of(stage, ReplicateSimulator(oversized_characters=6_000_000)) as bench:
        trainer, started = await ended(bench, "webhook_oversized")
        assert len(bench.door.got[-1].body) > 6_000_000

        report = await trainer.heard(bench.door.got[-1], started.reference, position_of())

    assert report is not None
    assert report.outcome == Outcome(EndReason.SUCCEEDED)


async def test_one_that_comes_before_the_creation_is_answered(bench: Bench) -> None:
    trainer = bench.trainer("webhook_early")

    started = await trainer.start(bench.order(calls_back=True))

    report = await trainer.heard(bench.door.got[0], started.reference, position_of())
    assert report is not None
    assert report.status is RunStatus.TRAINING


async def test_a_changed_secret_is_asked_for_once(bench: Bench) -> None:
    trainer, started = await ended(bench, "success")
    await trainer.heard(bench.door.got[-1], started.reference, position_of())

    bench.simulator.secrets_of("acme").rotate(older_signs=False)

    assert await trainer.heard(signed(bench, bench.door.got[-1].body), started.reference, position_of()) is not None
    assert bench.asked(*SECRET_ASKED) == 2


async def test_another_training_of_the_account_is_not_taken_for_this_one(bench: Bench) -> None:
    trainer, started = await ended(bench, "success")

    with pytest.raises(CallbackForged, match="about another training"):
        await trainer.heard(bench.door.got[-1], started.reference[::-1], position_of())


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "JSON with a training"),
        (b"{", "JSON with a training"),
        (b"\xff\xfe", "JSON with a training"),
        (b"[" * 100_000, "JSON with a training"),
        (b"[]", "An object with a training"),
        (b'{"id":"../../etc","status":"succeeded"}', "no id"),
        (b'{"id":"k3v9t1w0d5rm80cq7xz2b6n4ja"}', "no status"),
    ],
)
async def test_authentic_ones_that_nobody_understands(bench: Bench, body: bytes, words: str) -> None:
    with pytest.raises(CallbackUnreadable, match=words):
        await bench.trainer().heard(signed(bench, body), "k3v9t1w0d5rm80cq7xz2b6n4ja", position_of())


BODY = b'{"id":"k3v9t1w0d5rm80cq7xz2b6n4ja","status":"processing"}'


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": ""},
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": ""},
        {"webhook-timestamp": "yesterday"},
        {"webhook-timestamp": "１７"},
        {"webhook-timestamp": "9" * 40},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v2,abc v1"},
    ],
)
async def test_a_part_that_is_wrong_makes_it_forged(bench: Bench, change: Mapping[str, str]) -> None:
    callback = signed(bench, BODY)
    with pytest.raises(CallbackForged):
        await bench.trainer().heard(
            CallbackBody({**callback.headers, **change}, callback.body, callback.received_at),
            "k3v9t1w0d5rm80cq7xz2b6n4ja",
            position_of(),
        )


@pytest.mark.parametrize(("age_seconds", "fine"), [(290, True), (310, False), (-290, True), (-310, False)])
async def test_the_time_may_be_five_minutes_off(bench: Bench, age_seconds: float, fine: bool) -> None:
    callback = signed(bench, BODY, age_seconds=age_seconds)
    trainer = bench.trainer()
    if fine:
        assert await trainer.heard(callback, "k3v9t1w0d5rm80cq7xz2b6n4ja", position_of()) is not None
    else:
        with pytest.raises(CallbackForged, match="too far from ours"):
            await trainer.heard(callback, "k3v9t1w0d5rm80cq7xz2b6n4ja", position_of())


async def test_one_good_signature_among_several_is_enough_and_a_changed_body_is_not(bench: Bench) -> None:
    callback = signed(bench, BODY)
    several: dict[str, Any] = {**callback.headers}
    several["webhook-signature"] = f"v1a,xyz v1,AAAA {callback.headers['webhook-signature']}"
    trainer = bench.trainer()
    reference = "k3v9t1w0d5rm80cq7xz2b6n4ja"

    assert await trainer.heard(replace(callback, headers=several), reference, position_of()) is not None
    with pytest.raises(CallbackForged):
        await trainer.heard(replace(callback, body=BODY + b" "), reference, position_of())
    with pytest.raises(CallbackForged):
        later = callback.received_at + timedelta(seconds=400)
        await trainer.heard(replace(callback, received_at=later), reference, position_of())
