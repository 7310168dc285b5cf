"""Webhooks as Replicate sends them: signed, at most one about the log each half second, only the last one repeated."""

import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import httpx2

from jobs.simulators.kit import Due, SimulatorClock, seeded
from jobs.simulators.replicate.training import SimulatedTraining

RETRY_SECONDS = (1, 2, 4, 8, 16, 30)
"""Waits between the tries to tell an end: the last try is about a minute after it."""
LOGS_EVERY_SECONDS = 0.5
LATE_SECONDS = 20.0
ANSWER_SECONDS = 5.0
TOO_OLD_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery, for assertions."""

    training: str
    webhook_id: str
    status_told: str
    answer: int | None
    """None if the receiver could not be reached."""
    at: datetime
    bytes: int
    is_forged: bool = False


@dataclass(slots=True)
class Secrets:
    """An account's signing keys; while they are changed, what is sent is signed with the older one too."""

    seed: int
    account: str
    count: int = 1
    older_signs: bool = False

    @property
    def current(self) -> str:
        return self._secret(self.count)

    @property
    def signing(self) -> list[str]:
        return [self.current, *([self._secret(self.count - 1)] if self.older_signs else [])]

    def rotate(self, *, older_signs: bool) -> None:
        self.count += 1
        self.older_signs = older_signs

    def _secret(self, number: int) -> str:
        key = seeded(self.seed, "webhook", self.account, number).randbytes(24)
        return "whsec_" + base64.b64encode(key).decode()


@dataclass(slots=True)
class Following:
    """How far the outside was told of one training."""

    training: SimulatedTraining
    start_told: bool = False
    characters_told: int = 0
    is_over: bool = False
    count: int = 0
    held: list[tuple[bytes, str]] = field(default_factory=list)


class WebhookSender:
    """Tells the addresses that creations named, by the simulator's clock."""

    def __init__(
        self,
        clock: SimulatorClock,
        due: Due,
        *,
        secrets_of: Callable[[str], Secrets],
        settle: Callable[[SimulatedTraining], Awaitable[None]],
        http: Callable[[], httpx2.AsyncClient],
        wall: Callable[[], datetime],
    ) -> None:
        self.clock = clock
        self.due = due
        self.sent: list[Sent] = []
        self._secrets_of = secrets_of
        self._settle = settle
        self._http = http
        self._wall = wall
        self._following: dict[str, Following] = {}

    def follow(self, training: SimulatedTraining) -> None:
        """Tell of the training from now on, if its creator wished it."""
        if training.webhook is None or training.scenario == "webhook_lost":
            return
        self._following[training.id] = Following(training)
        self._look_again(self._following[training.id])

    async def tell_start(self, training: SimulatedTraining) -> None:
        """The first webhook, at once: before the creation is answered."""
        following = self._following.get(training.id)
        if following is not None:
            following.start_told = True
            await self._tell(following, retried=False)

    async def look_now(self, training: SimulatedTraining) -> None:
        """Something happened that no clock knew of, such as a cancellation."""
        following = self._following.get(training.id)
        if following is not None:
            await self._step(following)

    def _look_again(self, following: Following) -> None:
        training, now = following.training, self.clock.now()
        wait = LOGS_EVERY_SECONDS if training.start_at <= now else 2.0
        when = now + timedelta(seconds=wait)
        if training.start_at > now:
            when = min(when, training.start_at)

        async def look() -> None:
            await self._step(following)
            if not following.is_over:
                self._look_again(following)

        self.due.at(when, look)

    async def _step(self, following: Following) -> None:
        training = following.training
        await self._settle(training)
        now = self.clock.now()
        if following.is_over:
            return
        if training.is_gone_at(now):
            following.is_over = True
            return
        look = training.look(now)
        if look.is_final:
            following.is_over = True
            del self._following[training.id]
            if "completed" in training.events:
                await self._tell(following, retried=True)
            await self._tell_held(following)
        elif look.status == "processing" and not following.start_told:
            following.start_told = True
            if training.scenario == "webhook_forged":
                await self._lie(following)
            if "start" in training.events:
                await self._tell(following, retried=False)
            following.characters_told = len(training.log_at(now))
        elif look.status == "processing" and len(training.log_at(now)) > following.characters_told:
            following.characters_told = len(training.log_at(now))
            if "logs" in training.events:
                await self._tell(following, retried=False)

    async def _tell(self, following: Following, *, retried: bool) -> None:
        training = following.training
        following.count += 1
        body = json.dumps(training.shown(self.clock.now()), separators=(",", ":")).encode()
        webhook_id = f"msg_{training.id}{following.count}"
        if training.scenario == "webhook_reordered" and not retried:
            following.held.append((body, webhook_id))
            return
        if training.scenario == "webhook_late":
            when = self.clock.now() + timedelta(seconds=LATE_SECONDS)
            self.due.at(when, lambda: self._deliver(training, body, webhook_id, retried=retried))
            return
        await self._deliver(training, body, webhook_id, retried=retried)
        if training.scenario == "webhook_doubled":
            await self._deliver(training, body, webhook_id, retried=False)

    async def _tell_held(self, following: Following) -> None:
        for body, webhook_id in reversed(following.held):
            await self._deliver(following.training, body, webhook_id, retried=False)

    async def _lie(self, following: Following) -> None:
        """The end that an attacker would like to be believed: signed with another key, and signed well but long ago."""
        training = following.training
        output = {"version": "attacker/model:" + "0" * 64, "weights": "https://attacker.example/weights.tar"}
        body = json.dumps({**training.shown(self.clock.now()), "status": "succeeded", "output": output}).encode()
        wrong = "whsec_" + base64.b64encode(b"not the key of this account").decode()
        now = int(self._wall().timestamp())
        await self._post(training, body, f"msg_{training.id}a", now, [wrong], is_forged=True)
        right = self._secrets_of(training.account).signing
        await self._post(training, body, f"msg_{training.id}b", now - TOO_OLD_SECONDS, right, is_forged=True)

    async def _deliver(
        self, training: SimulatedTraining, body: bytes, webhook_id: str, *, retried: bool, tried: int = 0
    ) -> None:
        timestamp = int(self._wall().timestamp())
        answer = await self._post(training, body, webhook_id, timestamp, self._secrets_of(training.account).signing)
        if retried and tried < len(RETRY_SECONDS) and (answer is None or answer >= 400):
            when = self.clock.now() + timedelta(seconds=RETRY_SECONDS[tried])
            self.due.at(when, lambda: self._deliver(training, body, webhook_id, retried=True, tried=tried + 1))

    async def _post(
        self,
        training: SimulatedTraining,
        body: bytes,
        webhook_id: str,
        timestamp: int,
        secrets: list[str],
        *,
        is_forged: bool = False,
    ) -> int | None:
        assert training.webhook is not None
        headers = {
            "content-type": "application/json",
            "user-agent": "Replicate-Webhooks",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(signature(secret, webhook_id, timestamp, body) for secret in secrets),
        }
        answer: int | None
        try:
            response = await self._http().post(training.webhook, content=body, headers=headers, timeout=ANSWER_SECONDS)
            answer = response.status_code
        except httpx2.HTTPError:
            answer = None
        told: Any = json.loads(body)
        self.sent.append(Sent(training.id, webhook_id, told["status"], answer, self.clock.now(), len(body), is_forged))
        if len(self.sent) > 100_000:
            del self.sent[:50_000]
        return answer


def signature(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """One `v1,<base64>` of the header."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.new(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()
