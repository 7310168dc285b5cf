"""A scripted pod: speaks to the doors of whoever created it as a pod's script does, without training anything.

It takes its orders from the pod's variables: RUNWIRE_URL, RUNWIRE_TOKEN, RUNWIRE_RUN_ID, and RUNWIRE_DATASET_… where
there is data to fetch. All its times are the simulator's.
"""

import asyncio
import base64
import hashlib
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import httpx2

from jobs.simulators.kit import SimulatorClock, seeded

STEPS = 20
HEARTBEAT_SECONDS = 15.0
LONGEST_NAP_SECONDS = 0.1
REQUEST_LIMIT_SECONDS = 30.0
OVER = frozenset({401, 403, 404, 409, 410})
"""Answers by which a pod learns that nobody wants its work any more."""
SKEW = timedelta(hours=1)


class Over(Exception):
    """Nobody wants this pod's work any more."""


class Ended(Exception):
    """The script has told its end; `reason` is what it told."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class Act:
    """One pod's play."""

    pod_id: str
    scenario: str
    variables: Mapping[str, str]
    training_seconds: float
    uploads: bool
    clock: SimulatorClock
    http: httpx2.AsyncClient
    on_training: Callable[[], None]
    sequence: int = 0
    written: int = 0
    """Bytes of the log so far."""
    lines: list[tuple[datetime, str]] = field(default_factory=list)
    _unsent: str = ""

    @property
    def url(self) -> str:
        return f"{self.variables['RUNWIRE_URL']}/runs/{self.variables['RUNWIRE_RUN_ID']}"

    async def play(self) -> str | None:
        """Until its end: the reason that was told, or None if nobody wanted to hear it any more."""
        try:
            await self._play()
        except Ended as ended:
            return ended.reason
        except Over:
            return None
        raise AssertionError("a play ends with a word or is ended")

    async def _play(self) -> None:
        self.write(f"pod {self.pod_id}: connected")
        await self.say(stage="DOWNLOADING_DATA")
        await self._fetch_data()
        await self.say(stage="INSTALLING")
        self.on_training()
        await self.say(stage="TRAINING", percent=0.0)
        await self._train()
        await self.say(stage="SAVING", percent=100.0)
        if self.uploads:
            await self._upload()
        await self.end("SUCCEEDED", None, 0)

    async def _train(self) -> None:
        began = self.clock.now()
        noise = seeded(0, self.pod_id)
        for step in range(1, STEPS + 1):
            await self._until(began + timedelta(seconds=self.training_seconds * step / STEPS))
            at = self._pod_clock()
            loss = 2.0 * math.exp(-3.0 * step / STEPS) + noise.uniform(0.0, 0.02)
            if step == STEPS // 2:
                await self._half_way(at)
            if self.scenario == "frozen_at_99" and step == STEPS:
                await self.say(percent=99.0, eta=1.0)
                await self._for_ever()
            self.write(f"step {step}/{STEPS} loss {loss:.4f}")
            points = [
                {"name": "loss", "step": step, "value": round(loss, 6), "at": _stamp(at)},
                {"name": "learning_rate", "step": step, "value": 0.001, "at": _stamp(at)},
            ]
            percent = min(99.0, 100.0 * step / STEPS)
            await self.say(percent=percent, eta=self.training_seconds * (1 - step / STEPS), points=points)

    async def _half_way(self, at: datetime) -> None:
        match self.scenario:
            case "fails_while_training":
                self.write("Traceback (most recent call last):")
                self.write('  File "train.py", line 41, in <module>')
                message = "RuntimeError: CUDA error: an illegal memory access was encountered"
                self.write(message)
                await self.end("CODE_ERROR", message, 1, line=1)
            case "diverges":
                points = [{"name": "loss", "step": STEPS // 2, "value": "NaN", "at": _stamp(at)}]
                await self.say(points=points)
                await self.end("DIVERGED", "The loss is not a number any more.", 3)
            case "stuck":
                await self._for_ever()
            case "silent":
                await asyncio.Event().wait()

    async def _for_ever(self) -> None:
        while True:
            await self._until(self.clock.now() + timedelta(seconds=HEARTBEAT_SECONDS))
            await self.say()

    def write(self, text: str) -> None:
        """One line of the log."""
        self.lines.append((self.clock.now(), text))
        self._unsent += text + "\n"

    async def end(self, reason: str, message: str | None, exit_code: int | None, line: int | None = None) -> None:
        """Tell the end. Raises `Ended` once it was taken."""
        await self.say(end={"reason": reason, "message": message or "", "exitCode": exit_code, "line": line})
        raise Ended(reason)

    async def say(
        self,
        *,
        stage: str | None = None,
        percent: float | None = None,
        eta: float | None = None,
        points: list[dict[str, Any]] | None = None,
        end: dict[str, Any] | None = None,
    ) -> None:
        """Send one report until it is taken. Raises `Over`."""
        self.sequence += 1
        text, self._unsent = self._unsent, ""
        size = len(text.encode())
        log = {"start": self.written, "end": self.written + size, "text": text} if text else None
        self.written += size
        report = {
            "sequence": self.sequence,
            "sentAt": _stamp(self._pod_clock()),
            "stage": stage,
            "percent": percent,
            "etaSeconds": eta,
            "points": points or [],
            "log": log,
            "system": {"gpuPercent": 91.0, "gpuMemoryPercent": 40.0, "memoryPercent": 20.0, "diskPercent": 12.0},
            "end": end,
        }
        for _ in range(2 if self.scenario == "doubled_reports" else 1):
            send = partial(self.http.post, f"{self.url}/reports", headers=self._headers(), json=report)
            answer = await self._insist(send)
            if answer.status_code == 200 and answer.json().get("stop") is True and end is None:
                raise Over

    async def _fetch_data(self) -> None:
        url = self.variables.get("RUNWIRE_DATASET_URL")
        if url is None:
            return
        headers = {"Authorization": f"Bearer {self.variables['RUNWIRE_DATASET_TOKEN']}"}
        answer = await self._insist(partial(self.http.get, url, headers=headers), over=frozenset())
        if answer.status_code != 200:
            message = f"The dataset could not be downloaded: the server answered {answer.status_code}."
            await self.end("DATA_ERROR", message, 2)
        right = hashlib.sha256(answer.content).hexdigest() == self.variables["RUNWIRE_DATASET_SHA256"]
        if not right or self.scenario == "bad_data":
            message = "The downloaded dataset is not the one that was ordered: its SHA-256 differs."
            await self.end("DATA_ERROR", message, 2)
        self.write(f"dataset complete: {len(answer.content):,} bytes")

    async def _upload(self) -> None:
        weights = f"weights of {self.pod_id}\n".encode()
        receipt = {
            "name": "weights.bin",
            "bytes": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
            "details": {"metrics": {"loss": 0.1}},
        }
        for name, content in (("weights.bin", weights), ("artifact.json", json.dumps(receipt).encode())):
            digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
            headers = {**self._headers(), "Content-Digest": f"sha-256=:{digest}:"}
            send = partial(self.http.put, f"{self.url}/artifacts/{name}", headers=headers, content=content)
            answer = await self._insist(send)
            if not answer.is_success:
                message = f"The artifact {name} could not be stored: the server answered {answer.status_code}."
                await self.end("CODE_ERROR", message, 1)

    async def _insist(
        self, send: Callable[[], Awaitable[httpx2.Response]], over: frozenset[int] = OVER
    ) -> httpx2.Response:
        """The first answer that is neither a fault nor "later". Raises `Over`."""
        pause = 0.1
        while True:
            wait = pause
            try:
                answer = await send()
                if answer.status_code in over:
                    raise Over
                if answer.status_code != 429 and answer.status_code < 500:
                    return answer
                wait = max(wait, float(answer.headers.get("retry-after", 0)))
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(min(wait, 5.0))
            pause = min(pause * 2, 2.0)

    async def _until(self, when: datetime) -> None:
        """Wait for a time of the clock; with a heartbeat where that is long."""
        heard = self.clock.now()
        while (now := self.clock.now()) < when:
            if now - heard >= timedelta(seconds=HEARTBEAT_SECONDS):
                await self.say()
                heard = self.clock.now()
            left = (when - now).total_seconds() / max(self.clock.speed, 0.001)  # a clock may only be moved by hand
            await asyncio.sleep(min(left, LONGEST_NAP_SECONDS))

    def _pod_clock(self) -> datetime:
        return self.clock.now() - SKEW if self.scenario == "clock_skewed" else self.clock.now()

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.variables['RUNWIRE_TOKEN']}"}


def can_act(variables: Mapping[str, str]) -> bool:
    """Whether a pod's variables tell where to report to."""
    return all(name in variables for name in ("RUNWIRE_URL", "RUNWIRE_TOKEN", "RUNWIRE_RUN_ID"))


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
