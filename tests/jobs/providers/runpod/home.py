"""A double of the doors at which a pod reports: it keeps everything, and refuses what the real ones would."""

import base64
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from domain.training.status import EndReason, RunStage
from jobs.programs import Program

REPORT_KEYS = {"sequence", "sentAt", "stage", "percent", "etaSeconds", "points", "log", "system", "end"}


@dataclass
class Home:
    """What one run's pod may fetch, and what it has said."""

    run_id: str
    token: str
    program: Program
    content: bytes = b""
    grant: str = "rwg_" + "g" * 43
    reports: list[dict[str, Any]] = field(default_factory=list)
    """Accepted, in order."""
    log: str = ""
    log_end: int = 0
    artifacts: dict[str, bytes] = field(default_factory=dict)
    stored: list[str] = field(default_factory=list)
    ended_before: list[str] = field(default_factory=list)
    """Artifacts that came after the end was told."""
    requests: list[str] = field(default_factory=list)
    download_status: list[int] = field(default_factory=list)
    """Refusals of the first downloads; the last one stays."""
    cut_after: int | None = None
    """The first download is cut after so many bytes."""
    artifact_status: int = 201
    report_statuses: list[int] = field(default_factory=list)
    """Refusals of the next reports."""
    packed: bytes | None = None
    """Sent instead of the program."""
    stops: bool = False
    over: bool = False
    healthy: bool = True

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/healthz", self._health),
                Route("/runs/{run}/program", self._program),
                Route("/runs/{run}/reports", self._report, methods=["POST"]),
                Route("/runs/{run}/artifacts/{name}", self._artifact, methods=["PUT"]),
                Route("/datasets/download", self._download),
            ]
        )

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def end(self) -> dict[str, Any] | None:
        ends: list[dict[str, Any]] = [report["end"] for report in self.reports if report["end"] is not None]
        return ends[-1] if ends else None

    @property
    def stages(self) -> list[str]:
        """Each stage when it was told first."""
        return list(dict.fromkeys(report["stage"] for report in self.reports if report["stage"]))

    async def _health(self, request: Request) -> Response:
        self.requests.append("healthz")
        return JSONResponse({"status": "ok"}, 200 if self.healthy else 503)

    async def _program(self, request: Request) -> Response:
        self.requests.append("program")
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if self.packed is not None:
            return Response(self.packed)
        packed = io.BytesIO()
        files = {**self.program.files, "prepare.sh": self.program.prepare.encode()}
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            for name, content in {**files, "command.sh": self.program.command.encode()}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o600
                archive.addfile(entry, io.BytesIO(content))
        return Response(packed.getvalue(), media_type="application/gzip")

    async def _download(self, request: Request) -> Response:
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.requests.append(f"download from {start}")
        if request.headers.get("authorization") != f"Bearer {self.grant}":
            return JSONResponse({"message": "Unknown grant."}, 401)
        if self.download_status:
            status = self.download_status[0] if len(self.download_status) == 1 else self.download_status.pop(0)
            if status != 200:
                return JSONResponse({"message": "No."}, status)
        if start >= len(self.content):
            return Response(status_code=416, headers={"Content-Range": f"bytes */{len(self.content)}"})
        part = self.content[start:]
        headers = {"Content-Length": str(len(part))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        if self.cut_after is not None:
            part, self.cut_after = part[: self.cut_after], None
        return Cut(part, 206 if start else 200, headers)

    async def _report(self, request: Request) -> Response:
        self.requests.append("report")
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if self.report_statuses:
            return JSONResponse({"message": "No."}, self.report_statuses.pop(0), {"Retry-After": "0"})
        body = await request.body()
        assert len(body) <= 1024 * 1024
        report = json.loads(body)
        check(report)
        expected = len(self.reports) + 1
        if report["sequence"] == expected:
            log = report["log"]
            if log is not None:
                assert log["start"] == self.log_end
                self.log, self.log_end = self.log + log["text"], log["end"]
            self.reports.append(report)
        else:
            assert report["sequence"] == expected - 1, "reports come strictly one after the other"
        return JSONResponse({"accepted": report["sequence"], "stop": self.stops})

    async def _artifact(self, request: Request) -> Response:
        name = request.path_params["name"]
        self.requests.append(f"artifact {name}")
        if (refusal := self._refusal(request)) is not None:
            return refusal
        body = await request.body()
        if self.artifact_status >= 300:
            return JSONResponse({"message": "The artifact is too large."}, self.artifact_status)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        assert request.headers["content-digest"] == f"sha-256=:{digest}:"
        assert request.headers["content-length"] == str(len(body))
        self.artifacts[name] = body
        self.stored.append(name)
        if self.end is not None:
            self.ended_before.append(name)
        return JSONResponse({}, self.artifact_status)

    def _refusal(self, request: Request) -> Response | None:
        if request.path_params["run"] != self.run_id or request.headers.get("authorization") != f"Bearer {self.token}":
            return JSONResponse({"message": "Unknown token."}, 401)
        return JSONResponse({"message": "The attempt is over."}, 410) if self.over else None


class Cut(Response):
    """A body that may be shorter than its headers promise; then the connection is cut."""

    def __init__(self, content: bytes, status: int, headers: dict[str, str]) -> None:
        super().__init__(content, status)
        self.raw_headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        self.is_whole = int(headers["Content-Length"]) == len(content)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": not self.is_whole})


def check(report: dict[str, Any]) -> None:
    """A report has exactly the agreed form."""
    assert set(report) == REPORT_KEYS
    assert datetime.fromisoformat(report["sentAt"]).tzinfo is not None
    assert report["stage"] is None or report["stage"] in RunStage.__members__
    assert len(report["points"]) <= 100
    for point in report["points"]:
        assert set(point) == {"name", "step", "value", "at"}
    if report["log"] is not None:
        assert set(report["log"]) == {"start", "end", "text"}
        assert report["log"]["end"] - report["log"]["start"] <= 200_000
    if report["system"] is not None:
        assert set(report["system"]) == {"gpuPercent", "gpuMemoryPercent", "memoryPercent", "diskPercent"}
    if report["end"] is not None:
        assert set(report["end"]) == {"reason", "message", "exitCode", "line"}
        assert report["end"]["reason"] in EndReason.__members__
        assert len(report["end"]["message"]) <= 2_000
