"""Tells us how a pod does: a program of its own beside the pod's start script, with nothing but Python's own library.

    python3 reporter.py report HOME PID                          until the end is told, or nobody wants to hear any more
    python3 reporter.py judge HOME STEP EXIT_CODE LINE           prints a reason and a message
    python3 reporter.py end HOME REASON MESSAGE EXIT_CODE LINE   leaves the end for the reporter to tell

Reports have numbers and are sent strictly one after the other; each is sent again until it is taken. A log is read up
to its last line end, be it that of a progress bar. It runs on whatever Python 3.8 or newer an image has.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any

SHORTEST_WAIT_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
LOOK_SECONDS = 0.1
REQUEST_LIMIT_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 15.0
DRAIN_LIMIT_SECONDS = 20.0
"""So long the end waits for the rest of a log."""
END_LIMIT_SECONDS = 900.0
"""So long a success is told again and again; a failure only as long as the start script is patient."""
SHORTEST_END_LIMIT_SECONDS = 10.0
CHUNK_BYTES = 200_000
REPORT_BYTES = 900_000
MOST_POINTS = 100
GPU_EVERY_SECONDS = 5.0
TAIL_BYTES = 128 * 1024
MESSAGE_CHARACTERS = 2_000
OVER = (401, 410)
LATER = (403, 404, 408, 409, 425, 429)
"""The first ones are no answers of ours, but of whatever stands before us for a moment: they end no training."""
TOLD, NOBODY_WANTS, GAVE_UP = 0, 3, 4
"""Exit codes of `report`."""
REASONS = ("SUCCEEDED", "CODE_ERROR", "DATA_ERROR", "DIVERGED")
"""What a program may say of its own end."""


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the token to another host."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class Refused(Exception):
    """The report was understood by nobody; sending it again would change nothing."""


class Reporter:
    """Sends what has changed in the pod's folder since the last report."""

    def __init__(self, home: str, url: str, token: str) -> None:
        self.home = home
        self.url = url
        self.token = token
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), NoRedirect())
        state = read_json(self.path("state.json")) or {}
        self.sequence = int(state.get("sequence", 0))
        self.offset = int(state.get("offset", 0))
        self.points_offset = int(state.get("pointsOffset", 0))
        self.told_stage: str | None = None
        self.last_sent = -math.inf
        self.ends_since: float | None = None
        self.gpu: tuple[float, dict[str, float]] = (-math.inf, {})

    def path(self, name: str) -> str:
        return os.path.join(self.home, name)

    def run(self) -> int:
        """The exit code."""
        while True:
            report = self.next_report()
            if report is None:
                time.sleep(LOOK_SECONDS)
                continue
            answer = self.deliver(report)
            self.last_sent = time.monotonic()
            if answer is not None:
                return answer

    def next_report(self) -> dict[str, Any] | None:
        """What there is to say, if anything, and if it is time."""
        waited = time.monotonic() - self.last_sent
        end = self.read_end()
        if end is None and waited < SHORTEST_WAIT_SECONDS:
            return None
        stage = self.read_stage()
        log = self.next_chunk(everything=end is not None)
        points, points_end = self.next_points()
        if end is not None and log is not None and log["end"] < self.log_size():
            waits_no_longer = time.monotonic() - (self.ends_since or 0.0) > DRAIN_LIMIT_SECONDS
            end = end if waits_no_longer else None
            if end is None and waited < SHORTEST_WAIT_SECONDS:
                return None
        if end is None and log is None and not points and stage == self.told_stage and waited < HEARTBEAT_SECONDS:
            return None
        return {
            "sequence": self.sequence + 1,
            "sentAt": rfc3339(time.time()),
            "stage": stage,
            "percent": None,
            "etaSeconds": None,
            "points": points,
            "log": log,
            "system": self.system(),
            "end": end,
            "": {"pointsEnd": points_end},  # for us; not sent
        }

    def deliver(self, report: dict[str, Any]) -> int | None:
        """Send until it is taken; an exit code once nothing is left to do."""
        facts = report.pop("")
        pause = 1.0
        refused_before = 0
        while True:
            end = self.read_end()
            if end is not None and time.monotonic() - (self.ends_since or 0.0) > end_limit_seconds(end):
                return GAVE_UP
            wait = pause
            try:
                status, answer, wait = self.post(report, pause)
                if status == 200:
                    return self.taken(report, facts, answer)
                if status in OVER:
                    return NOBODY_WANTS
                if status < 500 and status not in LATER:
                    raise Refused(f"the server answered {status}")
                print(f"report {report['sequence']}: the server answered {status}", flush=True)
            except Refused as refused:
                print(f"report {report['sequence']}: {refused}", flush=True)
                wait = LONGEST_PAUSE_SECONDS if refused_before > 1 else SHORTEST_WAIT_SECONDS
                report = without(report, keep_place=refused_before == 0)
                refused_before += 1
            except (OSError, ValueError) as error:
                print(f"report {report['sequence']}: {type(error).__name__}", flush=True)
            time.sleep(wait)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def post(self, report: dict[str, Any], pause: float) -> tuple[int, dict[str, Any], float]:
        body = json.dumps(report, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")
        request = urllib.request.Request(f"{self.url}/reports", data=body, method="POST")
        request.add_header("Authorization", f"Bearer {self.token}")
        request.add_header("Content-Type", "application/json")
        try:
            with self.opener.open(request, timeout=REQUEST_LIMIT_SECONDS) as response:
                content = json.loads(response.read(65_536) or b"{}")
                return response.status, content if isinstance(content, dict) else {}, pause
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, {}, max(pause, min(60.0, seconds_of(error.headers.get("Retry-After"))))

    def taken(self, report: dict[str, Any], facts: dict[str, Any], answer: dict[str, Any]) -> int | None:
        accepted = answer.get("accepted")
        if isinstance(accepted, int) and accepted > report["sequence"]:
            self.sequence = accepted  # its number was used by a reporter before this one: it goes again with a new one
            return None
        self.sequence = report["sequence"]
        self.offset = report["log"]["end"] if report["log"] else self.offset
        self.points_offset = facts["pointsEnd"]
        self.told_stage = report["stage"]
        state = {"sequence": self.sequence, "offset": self.offset, "pointsOffset": self.points_offset}
        write_json(self.path("state.json"), state)
        if report["end"] is not None:
            return TOLD
        return NOBODY_WANTS if answer.get("stop") is True else None

    def read_end(self) -> dict[str, Any] | None:
        end = read_json(self.path("end.json"))
        if end is not None and self.ends_since is None:
            self.ends_since = time.monotonic()
        return end

    def read_stage(self) -> Any:
        try:
            with open(self.path("stage"), encoding="utf-8") as file:
                return file.read().strip() or None
        except OSError:
            return None

    def log_size(self) -> int:
        try:
            return os.stat(self.path("log")).st_size
        except OSError:
            return 0

    def next_chunk(self, everything: bool) -> dict[str, Any] | None:
        """The next stretch of the log up to a line end; its rest too once everything is written."""
        limit = CHUNK_BYTES
        while True:
            try:
                with open(self.path("log"), "rb") as file:
                    file.seek(self.offset)
                    data = file.read(limit)
            except OSError:
                return None
            whole = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if whole == 0 and (len(data) == limit or everything):
                whole = len(data) if everything and len(data) < limit else boundary_of(data)
            elif everything and len(data) < limit:
                whole = len(data)
            if whole == 0:
                return None
            text = data[:whole].decode("utf-8", "replace").replace("\0", "\ufffd")
            if len(json.dumps(text, ensure_ascii=False).encode()) <= REPORT_BYTES:
                return {"start": self.offset, "end": self.offset + whole, "text": text}
            limit //= 2  # control characters grow when they are written as JSON

    def next_points(self) -> tuple[list[dict[str, Any]], int]:
        """What the program has written into RUNWIRE_METRICS, one object a line: name, step, value, and at if known."""
        points: list[dict[str, Any]] = []
        end = self.points_offset
        try:
            with open(self.path("metrics.jsonl"), "rb") as file:
                file.seek(end)
                for line in file:
                    if not line.endswith(b"\n") or len(points) == MOST_POINTS:
                        break
                    end += len(line)
                    point = point_of(line)
                    if point is not None:
                        points.append(point)
        except OSError:
            pass
        return points, end

    def system(self) -> dict[str, Any]:
        looked, gpu = self.gpu
        if time.monotonic() - looked > GPU_EVERY_SECONDS:
            gpu = gpu_use()
            self.gpu = (time.monotonic(), gpu)
        disk = shutil.disk_usage(self.home)
        return {
            "gpuPercent": gpu.get("gpuPercent"),
            "gpuMemoryPercent": gpu.get("gpuMemoryPercent"),
            "memoryPercent": memory_percent(),
            "diskPercent": round(100.0 * disk.used / disk.total, 1) if disk.total else None,
        }


def without(report: dict[str, Any], *, keep_place: bool) -> dict[str, Any]:
    """A refused report without what may be wrong with it; the log's place is kept, so that what follows fits on."""
    log = report["log"]
    if log is not None and keep_place:
        missing = log["end"] - log["start"]
        return {**report, "points": [], "log": {**log, "text": f"({missing} bytes of the log could not be sent)\n"}}
    return {**report, "points": [], "log": None}


def end_limit_seconds(end: dict[str, Any]) -> float:
    """How long an end is told again and again."""
    patience = float(os.environ.get("RUNWIRE_PATIENCE_SECONDS", "60"))
    return END_LIMIT_SECONDS if end.get("reason") == "SUCCEEDED" else max(SHORTEST_END_LIMIT_SECONDS, patience)


def point_of(line: bytes) -> dict[str, Any] | None:
    """One value of one metric as the door takes it; None for what is none."""
    try:
        found = json.loads(line)
        name, step, value = found["name"], found["step"], float(found["value"])
        if not isinstance(name, str) or not isinstance(step, int):
            return None
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    told: Any = value
    if not math.isfinite(value):
        told = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    at = found.get("at")
    return {"name": name[:100], "step": step, "value": told, "at": at if isinstance(at, str) else rfc3339(time.time())}


def gpu_use() -> dict[str, float]:
    """Mean use of all GPUs, where the machine can tell."""
    query = "--query-gpu=utilization.gpu,memory.used,memory.total"
    try:
        told = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"], capture_output=True, timeout=5, check=True
        ).stdout.decode()
        rows = [[float(cell) for cell in line.split(",")] for line in told.splitlines() if line.strip()]
        total = sum(row[2] for row in rows)
        return {
            "gpuPercent": round(sum(row[0] for row in rows) / len(rows), 1),
            "gpuMemoryPercent": round(100.0 * sum(row[1] for row in rows) / total, 1),
        }
    except (OSError, ValueError, IndexError, ZeroDivisionError, subprocess.SubprocessError):
        return {}


def memory_percent() -> float | None:
    """Of the container's own limit where it has one, else of the machine."""
    groups = "/sys/fs/cgroup/"
    for current, most in (
        ("memory.current", "memory.max"),
        ("memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            limit = int(read_text(groups + most))
            if limit < 1 << 60:
                return round(100.0 * int(read_text(groups + current)) / limit, 1)
    with contextlib.suppress(OSError, ValueError, KeyError, ZeroDivisionError):
        facts = dict(line.split(":", 1) for line in read_text("/proc/meminfo").splitlines() if ":" in line)
        total, free = (int(facts[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
        return round(100.0 * (total - free) / total, 1)
    return None


def judged(home: str, step: str, code: int, line: str) -> tuple[str, str]:
    """Why a program ended, and in which words: its time first, then its own last word, then its exit code."""
    lines = tail_of(os.path.join(home, "log"))
    if os.path.exists(os.path.join(home, "timed_out")):
        return "TIMED_OUT", f"The {step} was ended because its time was up."
    said = last_word(lines)
    if said is not None and (said[0] != "SUCCEEDED" or code == 0):
        return said
    if code == 0:
        return "SUCCEEDED", ""
    if code == 137 and step == "training":
        return "MEMORY_LIMIT", "The program was killed; most likely the machine's memory was full."
    where = f" in line {line}" if line else ""
    words = error_line(lines)
    message = f"The {step} ended with exit code {code}{where}."
    return "CODE_ERROR", f"{words} ({message[:-1]})" if words else message


def last_word(lines: list[str]) -> tuple[str, str] | None:
    """The end that the program itself has told last."""
    for line in reversed(lines):
        if not line.startswith("::runwire "):
            continue
        with contextlib.suppress(ValueError, RecursionError):
            facts = json.loads(line[len("::runwire ") :])
            end = facts.get("end") if isinstance(facts, dict) else None
            if isinstance(end, dict) and end.get("reason") in REASONS:
                return end["reason"], str(end.get("message") or "")
    return None


def error_line(lines: list[str]) -> str:
    """The last line that looks like an error, else the last line at all."""
    spoken = [
        line.strip() for line in lines if line.strip() and not line.startswith("::runwire ") and " pod: " not in line
    ]
    for line in reversed(spoken):
        first = line.split(":", 1)[0].split()[:1]
        if line.upper().startswith("ERROR") or (first and first[0].endswith(("Error", "Exception"))):
            return line[:1_000]
    return spoken[-1][:1_000] if spoken else ""


def tail_of(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            return file.read().decode("utf-8", "replace").replace("\r", "\n").split("\n")
    except OSError:
        return []


def boundary_of(data: bytes) -> int:
    """How much of it can be cut off without cutting a character in two."""
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] & 0b1100_0000 != 0b1000_0000:
            return len(data) - back if data[-back] >= 0b1100_0000 else len(data)
    return len(data)


def rfc3339(seconds: float) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{moment}.{int(seconds % 1 * 1_000_000):06d}Z"


def seconds_of(text: str | None) -> float:
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


def read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_json(path: str) -> dict[str, Any] | None:
    try:
        content = json.loads(read_text(path))
        return content if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None


def write_json(path: str, content: dict[str, Any]) -> None:
    """Whole or not at all."""
    with open(f"{path}.new", "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(f"{path}.new", path)


def report(home: str, parent: int) -> int:
    """Run until the end; if nobody wants the work any more, the start script is told."""
    url = f"{os.environ['RUNWIRE_URL']}/runs/{os.environ['RUNWIRE_RUN_ID']}"
    code = Reporter(home, url, os.environ["RUNWIRE_TOKEN"]).run()
    if code == NOBODY_WANTS:
        write_json(os.path.join(home, "over"), {})
        with contextlib.suppress(OSError):
            os.kill(parent, signal.SIGTERM)
    return code


def main(words: list[str]) -> int:
    what, home = words[:2]
    if what == "report":
        return report(home, int(words[2]))
    if what == "judge":
        reason, message = judged(home, words[2], int(words[3]), words[4])
        print(f"{reason}\n{' '.join(message.split())[:MESSAGE_CHARACTERS]}")
        return 0
    reason, message, code, line = words[2:6]
    end = {
        "reason": reason,
        "message": message[:MESSAGE_CHARACTERS],
        "exitCode": int(code) if code else None,
        "line": int(line) if line else None,
    }
    write_json(os.path.join(home, "end.json"), end)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
