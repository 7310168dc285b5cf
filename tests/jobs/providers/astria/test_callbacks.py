"""AstriaTrainer: a callback is a hint at most, and is understood in every form that is in use."""

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from domain.training.report import Outcome
from domain.training.status import EndReason
from jobs.providers.base import CallbackBody, CallbackUnreadable
from jobs.simulators.kit import serving
from tests.jobs.providers.astria import bodies
from tests.jobs.providers.astria.support import NOW, TAG, Bench, order, position, told

pytestmark = pytest.mark.anyio


class Door:
    """Where the vendor calls; keeps what came."""

    def __init__(self) -> None:
        self.came: list[CallbackBody] = []
        self.address = ""

    async def hear(self, request: Request) -> Response:
        self.came.append(CallbackBody(dict(request.headers), await request.body(), NOW))
        return Response()

    async def wait_for(self, count: int) -> list[CallbackBody]:
        with anyio.fail_after(5):
            while len(self.came) < count:
                await anyio.sleep(0.01)
        return self.came


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    async with serving(Starlette(routes=[Route("/webhooks/astria/{token}", door.hear, methods=["POST"])])) as address:
        door.address = f"{address}/webhooks/astria/token"
        yield door


def said(body: object) -> CallbackBody:
    return CallbackBody({}, json.dumps(body).encode(), NOW)


class TestForms:
    @pytest.mark.parametrize(
        ("body", "reference"),
        [
            ({"tune": bodies.TUNE}, "3401603"),
            (bodies.TUNE, "3401603"),
            ({"tune": bodies.FINISHED}, "1"),
            (bodies.FINISHED, "1"),
            ({"prompt": bodies.PROMPT}, "1"),
            (bodies.PROMPT, "1"),
            ({"tune": {"id": "3401603"}}, "3401603"),
        ],
    )
    async def test_every_form_in_use_is_a_hint(self, body: object, reference: str) -> None:
        assert await told([]).heard(said(body), reference, position()) is None

    @pytest.mark.parametrize(
        "body",
        [
            {"tune": bodies.TUNE},
            bodies.TUNE,
            {"prompt": bodies.PROMPT | {"tune_id": 8}},
            bodies.PROMPT | {"id": 7, "tune_id": 8},
            {"prompt": bodies.PROMPT | {"id": 7, "tune_id": None}},
        ],
    )
    async def test_what_is_about_another_tune_is_not_read(self, body: object) -> None:
        with pytest.raises(CallbackUnreadable, match="about another tune"):
            await told([]).heard(said(body), "7", position())

    @pytest.mark.parametrize("body", [[], "tune", 5, None, {}, {"tune": []}, {"tune": {"id": True}}, {"id": -1}])
    async def test_what_has_no_form_is_not_read(self, body: object) -> None:
        with pytest.raises(CallbackUnreadable):
            await told([]).heard(said(body), "7", position())

    @pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"id=7", b'{"id": 7}' + b" " * 2**20])
    async def test_what_is_no_json_or_too_much_is_not_read(self, body: bytes) -> None:
        with pytest.raises(CallbackUnreadable):
            await told([]).heard(CallbackBody({}, body, NOW), "7", position())

    async def test_before_the_reference_is_known_the_title_counts(self) -> None:
        tune = bodies.TUNE | {"title": TAG}
        assert await told([]).heard(said({"tune": tune}), "", position()) is None
        for wrong in ({"tune": bodies.TUNE}, {"prompt": bodies.PROMPT}, {"tune": {"id": 7}}):
            with pytest.raises(CallbackUnreadable, match="just asked for"):
                await told([]).heard(said(wrong), "", position())


class TestDelivered:
    @pytest.mark.parametrize(
        "scenario",
        ["success", "webhook_bare", "webhook_wrapped", "webhook_late", "webhook_doubled", "webhook_reordered"],
    )
    async def test_the_truth_is_read_whatever_came(self, bench: Bench, door: Door, scenario: str) -> None:
        trainer = bench.trainer(scenario)
        started = await trainer.start(order(callback=door.address))
        bench.simulator.clock.advance(9)
        bench.simulator.clock.advance(20)
        count = 2 if scenario in ("webhook_doubled", "webhook_reordered") else 1
        for callback in await door.wait_for(count):
            assert await trainer.heard(callback, started.reference, position()) is None
            report = await bench.report(trainer, started.reference)
            assert report.outcome == Outcome(EndReason.SUCCEEDED)

    async def test_a_lie_changes_nothing(self, bench: Bench, door: Door) -> None:
        trainer = bench.trainer("webhook_forged")
        started = await trainer.start(order(callback=door.address))
        bench.simulator.clock.advance(5)
        lie, other = await door.wait_for(2)
        assert json.loads(lie.body)["tune"]["trained_at"] is not None
        assert await trainer.heard(lie, started.reference, position()) is None
        assert (await bench.report(trainer, started.reference)).outcome is None
        with pytest.raises(CallbackUnreadable):
            await trainer.heard(other, started.reference, position())

    async def test_one_before_the_answer(self, bench: Bench, door: Door) -> None:
        trainer = bench.trainer("webhook_early")
        started = await trainer.start(order(callback=door.address))
        [callback] = door.came
        assert await trainer.heard(callback, "", position()) is None
        assert await trainer.heard(callback, started.reference, position()) is None

    async def test_an_oversized_one(self, bench: Bench, door: Door) -> None:
        trainer = bench.trainer("webhook_oversized")
        started = await trainer.start(order(callback=door.address))
        bench.simulator.clock.advance(9)
        [callback] = await door.wait_for(1)
        with pytest.raises(CallbackUnreadable, match="at most 1 MiB"):
            await trainer.heard(callback, started.reference, position())
        assert (await bench.report(trainer, started.reference)).outcome == Outcome(EndReason.SUCCEEDED)

    async def test_a_lost_one_is_made_up_for_by_looking(self, bench: Bench, door: Door) -> None:
        trainer = bench.trainer("webhook_lost")
        started = await trainer.start(order(callback=door.address))
        bench.simulator.clock.advance(9)
        report: Any = await bench.report(trainer, started.reference)
        assert report.outcome == Outcome(EndReason.SUCCEEDED)
        assert door.came == []
