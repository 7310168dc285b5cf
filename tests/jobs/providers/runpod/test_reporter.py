"""The pod's reporter by itself: how a log is cut, how an end is judged, what a machine tells of itself."""

import json
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from jobs.providers.runpod import reporter
from jobs.providers.runpod.reporter import NOBODY_WANTS, Reporter


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def pod(home: Path) -> Reporter:
    return Reporter(str(home), "http://127.0.0.1:9/runs/1", "rwp_token")


class TestChunks:
    def test_end_at_a_line_end(self, pod: Reporter, home: Path) -> None:
        (home / "log").write_bytes(b"one\ntwo\nthr")
        assert pod.next_chunk(everything=False) == {"start": 0, "end": 8, "text": "one\ntwo\n"}
        pod.offset = 8
        assert pod.next_chunk(everything=False) is None
        assert pod.next_chunk(everything=True) == {"start": 8, "end": 11, "text": "thr"}

    def test_a_bars_return_is_a_line_end_too(self, pod: Reporter, home: Path) -> None:
        (home / "log").write_bytes(b"\r 1%|\r 2%|")
        assert pod.next_chunk(everything=False) == {"start": 0, "end": 6, "text": "\r 1%|\r"}

    def test_are_bounded(self, pod: Reporter, home: Path) -> None:
        content = b"".join(b"line %06d\n" % number for number in range(50_000))
        (home / "log").write_bytes(content)
        text, ends = "", []
        while (chunk := pod.next_chunk(everything=True)) is not None:
            assert chunk["start"] == pod.offset
            assert chunk["end"] - chunk["start"] <= reporter.CHUNK_BYTES
            text += chunk["text"]
            pod.offset = chunk["end"]
            ends.append(chunk["text"][-1])
        assert text.encode() == content
        assert set(ends) == {"\n"}

    def test_of_a_line_without_end_go_on_at_whole_characters(self, pod: Reporter, home: Path) -> None:
        content = "é" * 150_000 + "x"
        (home / "log").write_text(content)
        text = ""
        while (chunk := pod.next_chunk(everything=True)) is not None:
            text += chunk["text"]
            pod.offset = chunk["end"]
        assert text == content

    def test_grow_not_too_large_as_json(self, pod: Reporter, home: Path) -> None:
        (home / "log").write_bytes(b"\x01" * 400_000 + b"\n")
        while (chunk := pod.next_chunk(everything=True)) is not None:
            assert len(json.dumps(chunk, ensure_ascii=False).encode()) < 1024 * 1024
            pod.offset = chunk["end"]
        assert pod.offset == 400_001

    def test_hold_no_sign_that_cannot_be_stored(self, pod: Reporter, home: Path) -> None:
        (home / "log").write_bytes(b"a\0b\xffc\n")
        chunk = pod.next_chunk(everything=False)
        assert chunk == {"start": 0, "end": 6, "text": "a\ufffdb\ufffdc\n"}


class TestReports:
    def test_what_is_new_is_told_once_a_second_and_a_heartbeat_else(self, pod: Reporter, home: Path) -> None:
        (home / "stage").write_text("TRAINING")
        first = pod.next_report()
        assert first is not None
        assert (first["sequence"], first["stage"], first["log"], first["end"]) == (1, "TRAINING", None, None)
        pod.told_stage, pod.last_sent = "TRAINING", time.monotonic()
        (home / "log").write_text("line\n")
        assert pod.next_report() is None, "not twice a second"
        pod.last_sent -= 1.1
        second = pod.next_report()
        assert second is not None and second["log"] is not None
        pod.offset = 5
        assert pod.next_report() is None
        pod.last_sent -= 15
        heartbeat = pod.next_report()
        assert heartbeat is not None and heartbeat["log"] is None

    def test_the_end_waits_for_the_log_and_for_nothing_else(self, pod: Reporter, home: Path) -> None:
        (home / "log").write_bytes(b"x\n" * 150_000)
        assert reporter.main(["end", str(home), "CODE_ERROR", "m" * 5_000, "1", "7"]) == 0
        first = pod.next_report()
        assert first is not None and first["end"] is None
        pod.offset, pod.last_sent = first["log"]["end"], time.monotonic()
        last = pod.next_report()
        assert last is not None
        assert last["end"] == {"reason": "CODE_ERROR", "message": "m" * 2_000, "exitCode": 1, "line": 7}

    def test_the_end_does_not_wait_for_ever(self, pod: Reporter, home: Path) -> None:
        (home / "log").write_bytes(b"x\n" * 150_000)
        reporter.main(["end", str(home), "SUCCEEDED", "", "0", ""])
        pod.ends_since = time.monotonic() - 21
        report = pod.next_report()
        assert report is not None and report["end"] is not None

    def test_go_on_where_another_reporter_ended(self, home: Path) -> None:
        state = {"sequence": 7, "offset": 3, "pointsOffset": 0}
        (home / "state.json").write_text(json.dumps(state))
        (home / "log").write_bytes(b"ab\ncd\n")
        pod = Reporter(str(home), "http://127.0.0.1:9/runs/1", "rwp_token")
        report = pod.next_report()
        assert report is not None
        assert (report["sequence"], report["log"]["start"]) == (8, 3)

    @pytest.mark.parametrize(
        ("statuses", "code"), [((403, 404, 409, 200), None), ((404, 410), NOBODY_WANTS), ((401,), NOBODY_WANTS)]
    )
    def test_only_our_own_word_ends_the_work(
        self, pod: Reporter, monkeypatch: pytest.MonkeyPatch, statuses: tuple[int, ...], code: int | None
    ) -> None:
        """A proxy that knows nothing of us for a moment does not."""
        answers = iter(statuses)
        sent: list[dict[str, Any]] = []

        def post(report: dict[str, Any], pause: float) -> tuple[int, dict[str, Any], float]:
            sent.append(dict(report))
            return next(answers), {}, 0.0

        monkeypatch.setattr(pod, "post", post)
        report = {"sequence": 1, "stage": "TRAINING", "log": {"start": 0, "end": 2, "text": "a\n"}, "end": None}
        assert pod.deliver({**report, "": {"pointsEnd": 0}}) == code
        assert sent == [report] * len(statuses)

    def test_points_are_taken_as_far_as_they_are_some(self, pod: Reporter, home: Path) -> None:
        lines = [
            '{"name": "loss", "step": 1, "value": 0.5, "at": "2026-11-20T10:00:00Z"}',
            '{"name": "loss", "step": "x", "value": 0.5}',
            "[]",
            '{"name": "loss", "step": 2, "value": -Infinity, "at": "2026-11-20T10:00:01Z"}',
        ]
        (home / "metrics.jsonl").write_text("\n".join(lines) + '\n{"name": "half')
        points, end = pod.next_points()
        assert [(point["step"], point["value"]) for point in points] == [(1, 0.5), (2, "-Infinity")]
        assert end == len("\n".join(lines)) + 1
        (home / "metrics.jsonl").write_text('{"name": "a", "step": 1, "value": 1}\n' * 250)
        pod.points_offset, counts = 0, []
        while (found := pod.next_points())[0]:
            counts.append(len(found[0]))
            pod.points_offset = found[1]
        assert counts == [100, 100, 50]


class TestJudging:
    @pytest.mark.parametrize(
        ("log", "code", "line", "reason", "message"),
        [
            ("fine\n", 0, "", "SUCCEEDED", ""),
            ('::runwire {"end": {"reason": "SUCCEEDED", "message": null}}\n', 0, "", "SUCCEEDED", ""),
            ('::runwire {"end": {"reason": "DATA_ERROR", "message": "No rows."}}\n', 2, "1", "DATA_ERROR", "No rows."),
            ('::runwire {"end": {"reason": "DIVERGED", "message": "NaN"}}\n', 0, "", "DIVERGED", "NaN"),
            (
                '::runwire {"end": {"reason": "SUCCEEDED"}}\nboom\n',
                *(1, "3", "CODE_ERROR", "boom (The training ended with exit code 1 in line 3)"),
            ),
            ('::runwire {"end": {"reason": "OUT_OF_BUDGET"}}\n', 0, "", "SUCCEEDED", ""),
            ("::runwire {nonsense\n::runwire []\n", 0, "", "SUCCEEDED", ""),
            ("", 4, "", "CODE_ERROR", "The training ended with exit code 4."),
            (
                "Traceback:\ntorch.cuda.OutOfMemoryError: CUDA out of memory\n100%|####|\rdone\n",
                *(1, "", "CODE_ERROR", "torch.cuda.OutOfMemoryError: CUDA out of memory"),
            ),
            ("epoch 1\n", 137, "1", "MEMORY_LIMIT", "The program was killed"),
        ],
    )
    def test_by_the_last_word_then_by_the_exit_code(
        self, home: Path, log: str, code: int, line: str, reason: str, message: str
    ) -> None:
        (home / "log").write_text(log)
        found = reporter.judged(str(home), "training", code, line)
        assert found[0] == reason
        assert found[1].startswith(message) and bool(found[1]) is bool(message)

    def test_time_that_was_up_comes_first(self, home: Path) -> None:
        (home / "log").write_text("KeyboardInterrupt\n")
        (home / "timed_out").touch()
        reason, message = reporter.judged(str(home), "preparation", 143, "1")
        assert (reason, message) == ("TIMED_OUT", "The preparation was ended because its time was up.")

    def test_is_printed_in_two_lines(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (home / "log").write_text("ValueError: a\rb\n")
        reporter.main(["judge", str(home), "training", "1", ""])
        assert capsys.readouterr().out.count("\n") == 2


class TestTheMachine:
    @pytest.mark.parametrize(
        ("told", "found"),
        [
            ("90, 6000, 24000\n", {"gpuPercent": 90.0, "gpuMemoryPercent": 25.0}),
            ("90, 6000, 24000\n10, 18000, 24000\n", {"gpuPercent": 50.0, "gpuMemoryPercent": 50.0}),
            ("[Not Supported], 1, 2\n", {}),
            ("", {}),
        ],
    )
    def test_gpus_where_it_has_some(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, told: str, found: dict[str, float]
    ) -> None:
        tool = home / "nvidia-smi"
        (home / "told").write_text(told)
        tool.write_text(f"#!/bin/sh\ncat {home}/told\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
        assert reporter.gpu_use() == found

    def test_memory_and_disk(self, pod: Reporter) -> None:
        told = pod.system()
        assert 0 < told["memoryPercent"] <= 100
        assert 0 < told["diskPercent"] <= 100
