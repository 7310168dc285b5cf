"""E2B's control plane read as plain JSON: what sandboxes an account has, what they cost, and how often it may ask.

Everything that acts goes through E2B's own package. But that keeps the headers of an answer to itself, which say when
to ask again; so what is only read is read here, and a creation that was refused for its frequency is asked once more.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, urlencode

import httpx2

from jobs.providers.base import Account, ProviderBusy
from jobs.providers.e2b.errors import RateLimited, of_status, without

READ_SECONDS = 20.0
CREATE_SECONDS = 60.0
LARGEST_ANSWER_BYTES = 8 * 1024 * 1024
PAGE = 100
MOST_PAGES = 50
LONGEST_WAIT_SECONDS = 300.0
MICROS_PER_CPU_SECOND = 14.0
MICROS_PER_GIB_SECOND = 4.5
"""List prices: 0.000014 dollars a second for each vCPU, 0.0000045 for each GiB of memory; e2b.dev/docs, pricing."""
DEFAULT_CPU_COUNT = 2
DEFAULT_MEMORY_MB = 512


def price_micros_per_hour(cpu_count: int = DEFAULT_CPU_COUNT, memory_mb: int = DEFAULT_MEMORY_MB) -> int:
    """The list price of a running sandbox, in millionths of a dollar."""
    return round(3600 * (cpu_count * MICROS_PER_CPU_SECOND + memory_mb / 1024 * MICROS_PER_GIB_SECOND))


@dataclass(frozen=True, slots=True)
class SandboxInfo:
    """A sandbox, as E2B describes it."""

    id: str
    metadata: Mapping[str, str]
    is_paused: bool
    started_at: datetime
    """When it was created, or last resumed."""
    end_at: datetime
    cpu_count: int
    memory_mb: int

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Self:
        """Raises ValueError, KeyError or TypeError for what is no sandbox."""
        metadata = facts.get("metadata") or {}
        return cls(
            id=str(facts["sandboxID"]),
            metadata={str(name): str(value) for name, value in dict(metadata).items()},
            is_paused=facts["state"] == "paused",
            started_at=datetime.fromisoformat(facts["startedAt"]),
            end_at=datetime.fromisoformat(facts["endAt"]),
            cpu_count=int(facts["cpuCount"]),
            memory_mb=int(facts["memoryMB"]),
        )

    @property
    def price_micros_per_hour(self) -> int:
        return price_micros_per_hour(self.cpu_count, self.memory_mb)

    def cost_micros(self, now: datetime) -> int:
        """What its present stretch of running has cost; paused time is free."""
        seconds = max(0.0, ((self.end_at if self.is_paused else now) - self.started_at).total_seconds())
        return round(seconds * self.price_micros_per_hour / 3600)


class ControlPlane:
    """One account's reads."""

    def __init__(self, account: Account, http: httpx2.AsyncClient) -> None:
        self._account = account
        self._http = http
        self._not_before = 0.0

    async def info(self, sandbox_id: str) -> SandboxInfo:
        """Raises `SandboxGone`."""
        answer, _ = await self._json("GET", f"/sandboxes/{quote(sandbox_id, safe='')}", "show a sandbox")
        return _info_of(answer)

    async def listed(self, metadata: Mapping[str, str] | None = None, *, most: int | None = None) -> list[SandboxInfo]:
        """The account's living sandboxes, running and paused, the oldest first."""
        query = {"state": "running,paused", "limit": str(min(PAGE, most or PAGE))}
        if metadata:
            query["metadata"] = urlencode(metadata)
        found: list[SandboxInfo] = []
        for _ in range(MOST_PAGES):
            answer, headers = await self._json("GET", f"/v2/sandboxes?{urlencode(query)}", "list sandboxes")
            if not isinstance(answer, list):
                raise ProviderBusy("E2B answered something that is no list of sandboxes.")
            found += [_info_of(one) for one in answer]
            following = headers.get("x-next-token")
            if not following or (most is not None and len(found) >= most):
                break
            query["nextToken"] = following
        return sorted(found, key=lambda one: (one.started_at, one.id))

    async def create(self, *, life_seconds: int, metadata: Mapping[str, str], envs: Mapping[str, str], key: str) -> str:
        """Create a sandbox like E2B's package does; gives its id. With a key that was used before, it is that one."""
        body = {"templateID": "base", "timeout": life_seconds, "metadata": dict(metadata), "envVars": dict(envs)}
        answer, _ = await self._json(
            "POST", "/v2/sandboxes", "create a sandbox", body, {"Idempotency-Key": key}, CREATE_SECONDS
        )
        try:
            return str(answer["sandboxID"])
        except (KeyError, TypeError):
            raise ProviderBusy("E2B answered something that is no sandbox.") from None

    def check(self) -> None:
        """Raises `RateLimited` while E2B wants to be left alone."""
        wait = self._not_before - time.monotonic()
        if wait > 0:
            raise RateLimited("E2B wants to be left alone for a while.", wait)

    async def _json(
        self,
        method: str,
        path: str,
        doing: str,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        limit_seconds: float = READ_SECONDS,
    ) -> tuple[Any, httpx2.Headers]:
        self.check()
        try:
            async with self._http.stream(
                method,
                self._account.base_url + path,
                headers={"X-API-KEY": self._account.api_key.reveal(), **(headers or {})},
                json=body,
                timeout=limit_seconds,
            ) as answer:
                content = bytearray()
                async for chunk in answer.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST_ANSWER_BYTES:
                        raise ProviderBusy(f"E2B could not {doing}: its answer is too large.")
        except httpx2.HTTPError as error:
            words = f"E2B could not {doing}: the answer was lost ({type(error).__name__})."
            raise ProviderBusy(words) from None
        self._heed(answer)
        if answer.status_code >= 300:
            raise self._refusal(answer, bytes(content), doing)
        try:
            return json.loads(content), answer.headers
        except ValueError:
            raise ProviderBusy(f"E2B could not {doing}: its answer is no JSON.") from None

    def _heed(self, answer: httpx2.Response) -> None:
        """Remember when to ask again: after a refusal, and also before one, when nothing is left of the quota."""
        wait = _seconds(answer.headers.get("retry-after"))
        if wait is None and answer.headers.get("ratelimit-remaining") == "0" and answer.request.method == "GET":
            wait = _seconds(answer.headers.get("ratelimit-reset"))
        # The limit of creations is one of its own: it keeps nobody from looking.
        if wait is not None and answer.request.method == "GET":
            self._not_before = max(self._not_before, time.monotonic() + wait)

    def _refusal(self, answer: httpx2.Response, content: bytes, doing: str) -> Exception:
        try:
            told = json.loads(content)
            words = str(told["message"])
        except (ValueError, KeyError, TypeError):
            words = f"status {answer.status_code}"
        error = of_status(answer.status_code, without(self._account.api_key, words), doing)
        wait = _seconds(answer.headers.get("retry-after"))
        if isinstance(error, ProviderBusy) and wait is not None:
            error.retry_after_seconds = wait
        return error


def _info_of(facts: Any) -> SandboxInfo:
    try:
        return SandboxInfo.of(facts)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ProviderBusy("E2B answered something that is no sandbox.") from None


def _seconds(value: str | None) -> float | None:
    if value is None or not value.isascii() or not value.isdecimal():
        return None
    return min(LONGEST_WAIT_SECONDS, max(1.0, float(value[:10])))
