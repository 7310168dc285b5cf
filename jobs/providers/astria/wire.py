"""One request to Astria: its time limit, its size limit, and what the answer means in our words.

An error's message never holds what a library said of it: a header with a wrong sign in it is repeated there, key and
all.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import anyio
import httpx2

from jobs.providers.astria.words import words_of
from jobs.providers.base import Account, CredentialRefused, ProviderBusy, ProviderError, ProviderLost, ProviderRefused

READ_LIMIT_SECONDS = 20.0
MOST_ANSWER_BYTES = 8 * 1024 * 1024
"""A page of tunes, each of which names its images by long addresses."""
LOST_ANSWER_SECONDS = 60.0
"""The vendor's advice after a 504: the tune was probably made; wait a minute and look for its title."""
FIRST_ERROR_SECONDS = 30.0
"""The vendor's advice after a 500: again after half a minute, then at growing distances."""
LONGEST_ERROR_SECONDS = 120.0
THROTTLED_SECONDS = 60.0
"""After a 429 that does not say how long: the vendor's limits are not documented."""
SLOW_SECONDS = 600.0
"""So long after a 429 all is asked more slowly."""
LONGEST_PAUSE_SECONDS = 3_600.0
_UNREACHED = (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout)
_OVER_THE_GATEWAY = frozenset({502, 503, 504, 520, 521, 522, 523, 524})
"""Answers of what stands before the vendor's program, which may go on with the request all the same."""


@dataclass(frozen=True, slots=True)
class Content:
    """A body that is sent in pieces."""

    chunks: AsyncIterator[bytes]
    length_bytes: int
    kind: str


class Wire:
    """Asks with one account's key. Remembers for all who share it when the vendor wants to be left alone."""

    def __init__(self, account: Account, http: httpx2.AsyncClient) -> None:
        self.account = account
        self.http = http
        self._quiet_until = 0.0
        self._throttled_at: float | None = None
        self._failing_since: float | None = None

    @property
    def is_throttled(self) -> bool:
        """Whether the vendor has lately said that it is asked too often."""
        return self._throttled_at is not None and time.monotonic() - self._throttled_at < SLOW_SECONDS

    async def read(self, path: str, **query: int) -> Any:
        """GET. Raises `ProviderBusy`, `CredentialRefused`, `ProviderRefused`, `ProviderLost`."""
        return await self._ask("GET", path, query=query, limit_seconds=READ_LIMIT_SECONDS)

    async def delete(self, path: str) -> None:
        """DELETE. Raises as `read` does."""
        await self._ask("DELETE", path, limit_seconds=READ_LIMIT_SECONDS, reads_body=False)

    async def create(
        self, path: str, body: Mapping[str, Any] | Content, *, limit_seconds: float, hidden: Sequence[str]
    ) -> Any:
        """POST. What may have been done though no answer came is a `ProviderBusy` that says so."""
        return await self._ask("POST", path, body=body, limit_seconds=limit_seconds, hidden=hidden)

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        limit_seconds: float,
        query: Mapping[str, int] | None = None,
        body: Mapping[str, Any] | Content | None = None,
        hidden: Sequence[str] = (),
        reads_body: bool = True,
    ) -> Any:
        key = self.account.api_key.reveal()
        if not key:
            raise CredentialRefused("There is no key for Astria.")
        pause = self._quiet_until - time.monotonic()
        if pause > 0:
            raise ProviderBusy("Astria asked for a pause in requests with this key.", pause)
        creates = method == "POST"
        try:
            with anyio.fail_after(limit_seconds):
                status, headers, answer = await self._send(method, path, query, body, key, limit_seconds)
        except _UNREACHED:
            raise ProviderBusy("Astria could not be reached.", 15.0) from None
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL):
            raise ProviderRefused("Astria cannot be asked at the address that is set for it.") from None
        except (httpx2.HTTPError, httpx2.StreamError, TimeoutError, _TooLarge) as error:
            if creates:
                raise _lost_answer() from None
            if isinstance(error, _TooLarge):
                raise ProviderBusy("Astria's answer was larger than 8 MiB.", FIRST_ERROR_SECONDS) from None
            raise ProviderBusy(f"Astria did not answer within {limit_seconds:g} seconds.", 10.0) from None
        self._obey(status, headers)
        if 200 <= status < 300:
            if not reads_body:
                return None
            try:
                return json.loads(answer)
            except (ValueError, RecursionError):
                if creates:
                    raise _lost_answer() from None
                raise ProviderBusy("Astria's answer was no JSON.", FIRST_ERROR_SECONDS) from None
        raise self._error(status, headers, _said(answer, headers), creates, [key, *hidden])

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, int] | None,
        body: Mapping[str, Any] | Content | None,
        key: str,
        limit_seconds: float,
    ) -> tuple[int, httpx2.Headers, bytes]:
        headers = {"authorization": f"Bearer {key}", "accept": "application/json", "accept-encoding": "identity"}
        options: dict[str, Any] = {}
        if isinstance(body, Content):
            headers |= {"content-type": body.kind, "content-length": str(body.length_bytes)}
            options["content"] = body.chunks
        elif body is not None:
            options["json"] = body
        if query:
            options["params"] = query
        answer = bytearray()
        async with self.http.stream(
            method,
            self.account.base_url + path,
            headers=headers,
            timeout=limit_seconds,
            follow_redirects=False,
            **options,
        ) as response:
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > MOST_ANSWER_BYTES:
                    raise _TooLarge
            return response.status_code, response.headers, bytes(answer)

    def _obey(self, status: int, headers: httpx2.Headers) -> None:
        """Remember what the answer says about how often to ask."""
        now = time.monotonic()
        if status == 429:
            self._throttled_at = now
            self._quiet_until = max(self._quiet_until, now + _retry_after(headers, THROTTLED_SECONDS))
        for prefix in ("ratelimit-", "x-ratelimit-"):
            # No such header is documented; where one comes, the last request is not spent on being refused.
            if headers.get(prefix + "remaining", "").strip() == "0":
                self._quiet_until = max(self._quiet_until, now + _seconds_until(headers.get(prefix + "reset", "")))
        if status < 500:
            self._failing_since = None
        elif self._failing_since is None:
            self._failing_since = now

    def _error(
        self, status: int, headers: httpx2.Headers, said: object, creates: bool, hidden: Sequence[str]
    ) -> ProviderError:
        words = words_of(said, hidden)
        because = f": {words}" if words else "."
        if status in (401, 403):
            return CredentialRefused(f"Astria refused the key ({status}){because}")
        if status == 402:
            return CredentialRefused(f"Astria wants a paid plan or more credit for this account{because}")
        if status == 404 and not creates:
            return ProviderLost("Astria does not know this tune (any more).")
        if status == 429:
            return ProviderBusy("Astria was asked too often with this key.", self._quiet_until - time.monotonic())
        if status in (408, 425):
            return ProviderBusy(f"Astria did not take the request now ({status}).", _retry_after(headers, 10.0))
        if status in _OVER_THE_GATEWAY and creates:
            return _lost_answer()
        if status >= 500:
            failing = time.monotonic() - (self._failing_since or time.monotonic())
            wait = min(LONGEST_ERROR_SECONDS, max(FIRST_ERROR_SECONDS, failing))
            return ProviderBusy(f"Astria has trouble of its own ({status}).", _retry_after(headers, wait))
        if 300 <= status < 400:
            return ProviderRefused("Astria's address leads elsewhere; keys are not sent after a redirect.")
        return ProviderRefused(f"Astria refused the request ({status}){because}")


class _TooLarge(Exception):
    """An answer of more bytes than anybody reads."""


def _lost_answer() -> ProviderBusy:
    return ProviderBusy(
        "Astria was asked for a tune, but the answer was lost; it may have made one.", LOST_ANSWER_SECONDS
    )


def _said(answer: bytes, headers: httpx2.Headers) -> object:
    """What an error's body says; nothing for pages of HTML, which gateways answer with."""
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind == "text/html":
        return None
    text = answer[:65_536].decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _retry_after(headers: httpx2.Headers, default_seconds: float) -> float:
    """Seconds, from a Retry-After in seconds or as a date."""
    given = headers.get("retry-after", "").strip()
    if not given:
        return default_seconds
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", given):
        return min(LONGEST_PAUSE_SECONDS, max(1.0, float(given)))
    try:
        seconds = parsedate_to_datetime(given).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return default_seconds
    return min(LONGEST_PAUSE_SECONDS, max(1.0, seconds))


def _seconds_until(reset: str) -> float:
    """Seconds, from a number of them or from an epoch."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", reset.strip()) is None:
        return FIRST_ERROR_SECONDS
    seconds = float(reset)
    if seconds > 1_000_000_000:
        seconds -= time.time()
    return min(LONGEST_PAUSE_SECONDS, max(0.0, seconds))
