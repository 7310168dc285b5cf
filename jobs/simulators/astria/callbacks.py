"""Sends the callbacks: one POST each, never again when it fails, without a signature, an id or a redirect followed."""

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx2

from jobs.simulators.astria.tunes import Prompt, Tune, stamp
from jobs.simulators.kit import Due, SimulatorClock

TIME_LIMIT_SECONDS = 5.0
OVERSIZED_BYTES = 2 * 1024 * 1024
MOST_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Call:
    """One callback that was sent, for assertions."""

    tune_id: int
    body: bytes
    at: datetime
    status: int | None
    """What the receiver answered; None if it could not be reached."""


class Callbacks:
    """What is to be sent when, by the scenario of each tune."""

    def __init__(self, clock: SimulatorClock, due: Due, *, wraps: bool, late_seconds: float) -> None:
        self.clock = clock
        self.due = due
        self.wraps = wraps
        self.late_seconds = late_seconds
        self.sent: list[Call] = []
        self._http: httpx2.AsyncClient | None = None

    def plan(self, tune: Tune) -> None:
        """Arrange all callbacks of a new tune. Only a trained tune is told of: nothing documents a callback about a
        failure."""
        end = tune.planned_end
        if tune.fields["callback"] is None:
            return
        if tune.scenario == "webhook_forged" and end is not None:
            self.due.at(tune.created_at + (end - tune.created_at) / 2, lambda: self._send_lies(tune))
        if end is None or tune.plan.end != "trained" or tune.scenario in ("webhook_lost", "webhook_early"):
            return
        if tune.scenario == "webhook_late":
            end += timedelta(seconds=self.late_seconds)
        self.due.at(end, lambda: self._send_end(tune))

    def plan_prompt(self, prompt: Prompt) -> None:
        if prompt.fields["callback"] is not None:
            self.due.at(prompt.ready_at, lambda: self._send_prompt(prompt))

    async def send_now(self, tune: Tune) -> None:
        """The callback about the end, before anybody was told of the tune."""
        await self._send_end(tune)

    async def close(self) -> None:
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _send_end(self, tune: Tune) -> None:
        now = self.clock.now()
        if tune.state(now) != "succeeded":
            return  # deleted before
        body = tune.body(now)
        content = self._content("tune", body, wraps=self._wraps(tune))
        if tune.scenario == "webhook_oversized":
            body["orig_images"] = ["https://sdbooth2-production.s3.amazonaws.com/" + "x" * OVERSIZED_BYTES]
            content = self._content("tune", body, wraps=self._wraps(tune))
        await self._send(tune.fields["callback"], tune.id, content)
        if tune.scenario == "webhook_doubled":
            await self._send(tune.fields["callback"], tune.id, content)
        if tune.scenario == "webhook_reordered":
            older = body | {"trained_at": None, "expires_at": None, "updated_at": body["started_training_at"]}
            await self._send(tune.fields["callback"], tune.id, self._content("tune", older, wraps=self._wraps(tune)))

    async def _send_lies(self, tune: Tune) -> None:
        now = self.clock.now()
        trained = {"trained_at": stamp(now), "expires_at": stamp(now + timedelta(days=30))}
        for lie in (tune.body(now) | trained, tune.body(now) | trained | {"id": tune.id + 1_000_000}):
            await self._send(tune.fields["callback"], tune.id, self._content("tune", lie, wraps=self._wraps(tune)))

    async def _send_prompt(self, prompt: Prompt) -> None:
        body = prompt.body(self.clock.now())
        await self._send(prompt.fields["callback"], prompt.tune_id, self._content("prompt", body, wraps=self.wraps))

    def _wraps(self, tune: Tune) -> bool:
        return {"webhook_bare": False, "webhook_wrapped": True}.get(tune.scenario, self.wraps)

    @staticmethod
    def _content(name: str, body: Mapping[str, Any], *, wraps: bool) -> bytes:
        return json.dumps({name: body} if wraps else body).encode()

    async def _send(self, url: str, tune_id: int, content: bytes) -> None:
        parts = urlsplit(url)
        status: int | None = None
        # The vendor wants https; what is on this machine is let through, since nobody has a certificate for that.
        if parts.scheme == "https" or parts.hostname in ("127.0.0.1", "localhost", "::1"):
            if self._http is None:
                self._http = httpx2.AsyncClient(
                    timeout=TIME_LIMIT_SECONDS, trust_env=False, follow_redirects=False, headers={"user-agent": "Ruby"}
                )
            with contextlib.suppress(httpx2.HTTPError, httpx2.InvalidURL):
                answer = await self._http.post(url, content=content, headers={"content-type": "application/json"})
                status = answer.status_code
        if len(self.sent) >= MOST_KEPT:
            del self.sent[: MOST_KEPT // 2]
        self.sent.append(Call(tune_id, content, self.clock.now(), status))
