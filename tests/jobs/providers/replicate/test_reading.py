"""What a training's JSON means to a run: its log in portions, its cost, its end; and what an order asks for."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.training.report import Outcome, Report
from domain.training.status import EndReason, ReportSource
from jobs.providers.base import Position, ProviderBusy, TrainingOrder
from jobs.providers.replicate.prices import MICROS_PER_HOUR, price_of
from jobs.providers.replicate.quota import Quota
from jobs.providers.replicate.reading import report_of
from jobs.providers.replicate.seen import seen_of, time_of
from jobs.providers.replicate.wish import ModelName, destination_mark, destination_name
from tests.jobs.providers.replicate import bodies
from tests.jobs.providers.replicate.support import FLUX, RUN, TAG, after, position_of, texts

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def report(position: Position | None = None, **changes: Any) -> Report:
    return report_of(
        seen_of({**bodies.TRAINING, **changes}),
        position or position_of(),
        source=ReportSource.POLL,
        at=NOON,
        prices=MICROS_PER_HOUR,
        starting_limit_seconds=600,
    )


def running(logs: str | None, position: Position | None = None) -> Report:
    return report(position, status="processing", completed_at=None, output=None, metrics={}, logs=logs)


def test_a_growing_log_is_read_once_in_any_cut() -> None:
    logs = "one\ntwo\nflux_train_replicate:  10%|█| 100/1000 [00:10<01:30, 10.0it/s]\rthree é 漢字 🙂\nfour"
    whole = report(logs=logs)
    position, parts = position_of(), list[Report]()
    for cut in range(1, len(logs) + 1):
        parts.append(running(logs[:cut], position))
        position = after(position, parts[-1])
    parts.append(report(position, logs=logs))

    assert texts(parts) == texts([whole])
    assert texts([whole])[0] == "one"
    assert texts([whole])[-1] == "four"
    assert position.offset == len(logs)


def test_an_older_or_removed_log_is_ignored() -> None:
    position = after(position_of(), running("one\ntwo\n"))

    assert running("one\n", position).log is None
    assert running(None, position).log is None
    removed = report(position, logs=None)
    assert removed.log is None
    assert removed.outcome == Outcome(EndReason.SUCCEEDED)


def test_a_report_holds_no_more_than_its_bytes() -> None:
    logs = "漢" * 300_000
    first = running(logs)
    assert first.log is not None
    assert first.log.end == 256 * 1024 // 3

    last = report(logs=logs)

    assert last.log is not None
    assert last.log.end == 300_000
    assert sum(len(text.encode()) for text in texts([last])) < 300_000


def test_what_a_database_cannot_hold_and_what_nobody_may_see_is_replaced() -> None:
    logs = "nul \0 half \ud83d end\nGET https://x.example/download?for=a&token=rwg_abcdefgh12345678 200\n"
    said = texts([report(logs=logs)])

    assert not any(sign in text for text in said for sign in ("\0", "\ud83d"))
    assert not any("rwg_abcdefgh" in text for text in said)
    failed = report(status="failed", error=f"bad \0 \ud83d {logs}", logs=logs, output=None)
    assert failed.outcome is not None
    message = failed.outcome.message or ""
    assert "rwg_abcdefgh" not in message
    assert "\0" not in message
    message.encode()


@pytest.mark.parametrize(
    ("error", "hyperparameters", "reason"),
    [
        ("input_images could not be read", FLUX, EndReason.DATA_ERROR),
        ("train_data is empty", {"datasetInput": "train_data"}, EndReason.DATA_ERROR),
        ("train_data is empty", FLUX, EndReason.CODE_ERROR),
        (None, FLUX, EndReason.CODE_ERROR),
        ({"code": 7}, FLUX, EndReason.CODE_ERROR),
    ],
)
def test_failures_have_a_reason(error: object, hyperparameters: Mapping[str, Any], reason: EndReason) -> None:
    position = position_of(hyperparameters=hyperparameters)
    outcome = report(position, status="failed", error=error, output=None, logs="last\n").outcome

    assert outcome is not None
    assert outcome.end_reason is reason
    expected = "Replicate gave no reason." if error is None else '{"code": 7}' if isinstance(error, dict) else error
    assert outcome.message == f"{expected}\nLast lines of the log:\nlast"


def test_a_long_error_is_cut_and_keeps_the_last_lines() -> None:
    outcome = report(status="failed", error="x" * 10_000, logs="\n".join("y" * 999 for _ in range(99))).outcome

    assert outcome is not None
    assert len(outcome.message or "") <= 2_000
    assert "Last lines of the log:" in (outcome.message or "")


def test_unheard_of_ends_and_empty_successes_are_the_providers_errors() -> None:
    odd = report(status="evicted", output=None).outcome
    empty = report(output=None).outcome
    assert (odd, empty) == (
        Outcome(EndReason.PROVIDER_ERROR, "Replicate ended it as evicted."),
        Outcome(EndReason.PROVIDER_ERROR, "Replicate says that it succeeded, but names no model version."),
    )
    weights = report(output={"weights": "https://replicate.delivery/w.tar"}).hosted
    assert weights is not None
    assert (weights.version, weights.url) == (bodies.TRAINING["id"], "https://replicate.delivery/w.tar")


def test_the_cost_is_run_time_times_price_and_never_falls() -> None:
    began: dict[str, Any] = {
        "started_at": "2026-11-20T11:59:00Z",
        "completed_at": None,
        "status": "processing",
        "output": None,
    }
    assert report(**began).cost_micros == 60 * 1_525
    assert report(position_of(known_cost_micros=10**6), **began).cost_micros == 10**6
    assert report(**{**began, "started_at": "2026-11-20T12:09:00Z"}).cost_micros == 0  # their clock goes ahead
    assert report(metrics=None).cost_micros == pytest.approx(622.713879 * 1_525, abs=1)
    assert report(metrics={"predict_time": "long"}).cost_micros == report(metrics=None).cost_micros
    unknown = position_of(hyperparameters={"billedHardware": "gpu-unheard-of"})
    assert report(unknown).cost_micros is None
    assert report(replace(unknown, price_micros_per_hour=3_600)).cost_micros == round(622.7)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2023-08-16T19:33:27.07526337Z", datetime(2023, 8, 16, 19, 33, 27, 75263, UTC)),
        ("2026-11-20T10:00:00.125990893Z", datetime(2026, 11, 20, 10, 0, 0, 125990, UTC)),
        ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00:00.5+02:00", datetime(2026, 11, 20, 8, 0, 0, 500000, UTC)),
        ("2026-11-20 10:00:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-13-20T10:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("yesterday", None),
        (1_700_000_000, None),
        (None, None),
    ],
)
def test_times(text: object, time: datetime | None) -> None:
    assert time_of(text) == time


def test_prices() -> None:
    assert price_of("gpu-h100") == 5_490_000
    assert price_of("cpu") == 360_000
    assert price_of("gpu-a100-large-8x") == 8 * 5_040_000
    assert [price_of(name) for name in ("gpu-h100-3x", "gpu-b200", None, 7)] == [None] * 4
    assert price_of("gpu-h100-2x", {"gpu-h100": 5}) == 10


def test_a_quota_opens_again() -> None:
    now = [100.0]
    quota = Quota(lambda: now[0])
    quota.heard(200, {"ratelimit-remaining": "0", "ratelimit-reset": "5"})
    quota.heard(429, {"retry-after": "9"}, "Your rate limit resets in ~2s.")
    with pytest.raises(ProviderBusy) as busy:
        quota.check()
    assert busy.value.retry_after_seconds == 9

    now[0] += 9

    quota.check()
    assert quota.wait_seconds == 0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("acme/cat", ModelName("acme", "cat")),
        ("acme/cat.v-2_x:9f0c", ModelName("acme", "cat.v-2_x", "9f0c")),
        ("acme", None),
        ("../cat", None),
        ("acme/..", None),
        ("acme/cat/dog", None),
        ("acme/cat?x", None),
        ("acme/cat:a/b", None),
        ("acmé/cat", None),
        (7, None),
    ],
)
def test_model_names(text: object, name: ModelName | None) -> None:
    assert ModelName.of(text) == name


@pytest.mark.parametrize(
    ("model_name", "slug"),
    [("Minha Gata!", "minha-gata"), ("漢字", "model"), ("", "model"), ("a" * 99, "a" * 40), ("--É--", "e")],
)
def test_destinations_are_told_by_run_and_if_need_be_by_attempt(model_name: str, slug: str) -> None:
    order = TrainingOrder(
        tag=TAG,
        run_id=RUN,
        attempt=1,
        recipe="flux-lora",
        hyperparameters={},
        dataset=None,
        time_limit_seconds=1,
        memory_limit_bytes=1,
        disk_limit_bytes=1,
        model_name=model_name,
    )
    first, second = order, replace(order, attempt=2, tag=f"run-{RUN.hex}-2")

    assert destination_name(second, is_marked=True) == f"{slug}-c0ffee01"
    names = [f"acme/{destination_name(each, is_marked=False)}" for each in (first, second)]
    assert names == [f"acme/{slug}-c0ffee01", f"acme/{slug}-c0ffee01-2"]
    marks = [destination_mark(each.tag) for each in (first, second)]
    assert [[bool(mark and mark.fullmatch(name)) for name in names] for mark in marks] == [[True, False], [False, True]]
    assert destination_mark("something else") is None
    other = destination_mark(f"run-{UUID(int=7).hex}-1")
    assert other is not None
    assert not other.fullmatch(names[0])
