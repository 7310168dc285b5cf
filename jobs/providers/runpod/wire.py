"""Asks RunPod's REST v2: with a time limit, a bounded body, the quota obeyed, and refusals in our words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2

from domain.secret import Secret, masked
from jobs.providers.base import (
    Account,
    CredentialRefused,
    NoCapacity,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
)
from jobs.providers.runpod.limits import Limits

LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
MESSAGE_CHARACTERS = 2_000
NO_CAPACITY_WORDS = (
    "no longer any instances",
    "no instances currently available",
    "no instances available",
    "does not have the resources",
    "not enough free gpus",
)
"""Beginnings are not enough: the same sentence comes with different words before it, with a 400 or a 500."""
THIN_STOCK_WORDS = ("something went wrong. please try again later",)
"""Said for about half of the creations when few machines are left; of a creation only."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, read to its end."""

    status: int
    headers: Mapping[str, str]
    content: Any
    """The JSON; None if there was none."""

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """What RunPod says about it."""
        if not isinstance(self.content, dict):
            return ""
        said = [self.content.get("detail") or self.content.get("error") or self.content.get("title")]
        errors = self.content.get("errors")
        said += errors if isinstance(errors, list) else []
        return "; ".join(str(one) for one in said if one)[:MESSAGE_CHARACTERS]


class AnswerLost(ProviderBusy):
    """The request was sent, and what became of it is not known."""


class Wire:
    """One account's connection."""

    def __init__(self, account: Account, http: httpx2.AsyncClient) -> None:
        self.account = account
        self.http = http
        self.limits = Limits()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        limit_seconds: float,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        urgent: bool = False,
    ) -> Answer:
        """The answer, whatever its status. Raises `ProviderBusy` before a request that the quota does not allow, and
        `AnswerLost` after one whose answer did not come."""
        wait = self.limits.wait_seconds(urgent=urgent)
        if wait > 0:
            raise ProviderBusy("RunPod's quota for this key is used up for now.", wait)
        self.limits.sent()
        headers = {"Authorization": f"Bearer {self.account.api_key.reveal()}", "Accept": "application/json"}
        url = f"{self.account.base_url}{path}"
        try:
            with anyio.fail_after(limit_seconds):
                async with self.http.stream(
                    method, url, headers=headers, json=body, params=params, timeout=limit_seconds
                ) as response:
                    content = await _bounded(response)
        except (httpx2.HTTPError, TimeoutError) as error:
            raise AnswerLost(f"RunPod did not answer: the answer was lost ({type(error).__name__}).") from error
        self.limits.heard(response.headers)
        return Answer(response.status_code, response.headers, _json_of(content))

    def refusal(self, answer: Answer, *, creating: bool = False, hidden: Sequence[Secret] = ()) -> ProviderError:
        """What an answer that is no success means."""
        words = self.told(answer.words, hidden)
        said = f"RunPod answered {answer.status}" + (f": {words}" if words else ".")
        small = answer.words.lower()
        match answer.status:
            case 400 | 500 if any(one in small for one in NO_CAPACITY_WORDS):
                return NoCapacity(f"RunPod has no free machine of this kind: {words}")
            case 500 if creating and any(one in small for one in THIN_STOCK_WORDS):
                return NoCapacity(f"RunPod could not place the pod: {words}")
            case 401:
                return CredentialRefused("RunPod refused the key.")
            case 402:
                return CredentialRefused(f"The balance at RunPod is too low: {words}")
            case 403:
                return CredentialRefused(f"The key may not do this at RunPod: {words}")
            case 404:
                return ProviderLost(f"RunPod does not know it: {words}")
            case 409:
                return ProviderBusy(f"RunPod cannot do this at the moment: {words}", 2.0)
            case 429:
                return ProviderBusy("RunPod takes no more requests for now.", self.limits.refused(answer.headers))
            case status if status >= 500 or status in (408, 425):
                return AnswerLost(said, 5.0) if creating else ProviderBusy(said, 5.0)
            case _:
                return ProviderRefused(said)

    def told(self, words: str, hidden: Sequence[Secret] = ()) -> str:
        """Somebody else's words without our secrets: a refusal may quote what was sent."""
        for secret in (*hidden, self.account.api_key):
            words = words.replace(secret.reveal(), "•••") if secret.reveal() else words
        return masked(words)[:MESSAGE_CHARACTERS].replace("\0", "\ufffd")


async def _bounded(response: httpx2.Response) -> bytes:
    content = bytearray()
    async for block in response.aiter_bytes():
        content += block
        if len(content) > LARGEST_ANSWER_BYTES:
            raise ProviderBusy("RunPod's answer is too large to be read.", 60.0)
    return bytes(content)


def _json_of(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None
