"""Replicate's API: by its SDK where that serves, else by plain JSON.

The SDK creates, cancels and gives the signing secret. Its models know neither the status `aborted` nor `metrics`, and
one item that they do not know breaks a whole page of a list; so what is read is read as JSON. It also asks again by
itself, for up to 51 seconds: every call has a limit here.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx2

from domain.secret import masked
from jobs.providers.base import (
    Account,
    CredentialRefused,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
)
from jobs.providers.replicate.quota import Quota

if TYPE_CHECKING:
    import httpx
    from replicate.client import Client

READ_SECONDS = 20.0
CREATE_SECONDS = 30.0
CANCEL_SECONDS = 15.0
SECRET_SECONDS = 10.0
LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
WORDS_CHARACTERS = 600
_UNREADABLE = (ValueError, TypeError, AttributeError, KeyError)
"""What the SDK raises for an answer that it does not understand; pydantic's errors are ValueErrors."""


class AnswerLost(ProviderBusy):
    """Something was perhaps made, but we do not know what."""


class ReplicateApi:
    """One account's calls. Every method raises `ProviderError` only."""

    def __init__(
        self,
        account: Account,
        http: httpx2.AsyncClient,
        *,
        quota: Quota,
        read_seconds: float = READ_SECONDS,
        create_seconds: float = CREATE_SECONDS,
    ) -> None:
        self.quota = quota
        self._account = account
        self._http = http
        self._read_seconds = read_seconds
        self._create_seconds = create_seconds
        self._sdk: Client | None = None
        self._transport: httpx.AsyncHTTPTransport | None = None
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Give the SDK's connections back."""
        transport, self._transport, self._sdk = self._transport, None, None
        if transport is not None:
            await transport.aclose()

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON of an answer. `ProviderLost` where there is nothing."""
        return await self._json("GET", path, query=query)

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        return await self._json("POST", path, body=body)

    async def create_training(
        self,
        trainer: str,
        version: str,
        *,
        given: Mapping[str, Any],
        destination: str,
        webhook: str | None,
        events: Sequence[str],
    ) -> str:
        """Its id. Raises `AnswerLost` where it may have been created all the same."""
        self.quota.check()
        sdk = await self._client()
        import httpx
        from replicate.exceptions import ReplicateError

        hook = {"webhook": webhook, "webhook_events_filter": list(events)} if webhook is not None else {}
        try:
            async with asyncio.timeout(self._create_seconds):
                training: Any = await sdk.trainings.async_create(
                    trainer,
                    version,
                    dict(given),
                    destination=destination,
                    **hook,  # type: ignore[arg-type]  # the SDK's types would have each name written out
                )
                return _id_of(training)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise _unreachable(error) from error
        except (httpx.HTTPError, TimeoutError) as error:
            words = "Replicate was asked for the training, but the answer was lost"
            raise AnswerLost(f"{words} ({type(error).__name__}).") from error
        except ReplicateError as error:
            refusal = self._refusal(error.status or 0, error.title, error.detail)
            if (error.status or 0) >= 500:
                raise AnswerLost(f"{refusal} It may have been created: the answer was lost.") from None
            if isinstance(refusal, ProviderLost):
                raise ProviderRefused(str(refusal)) from None  # the destination or the trainer does not exist
            raise refusal from None
        except _UNREADABLE as error:
            words = "Replicate's answer to the creation could not be read, so the answer was lost"
            raise AnswerLost(f"{words} ({type(error).__name__}).") from None  # its words hold the answer

    async def cancel_training(self, reference: str) -> str | None:
        """Its status after that; None where the SDK cannot read it. A full quota stops no cancellation: it saves
        money."""
        sdk = await self._client()
        import httpx
        from replicate.exceptions import ReplicateError

        try:
            async with asyncio.timeout(CANCEL_SECONDS):
                training: Any = await sdk.trainings.async_cancel(reference)
                return str(training.status)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _unreachable(error) from error
        except ReplicateError as error:
            raise self._refusal(error.status or 0, error.title, error.detail) from None
        except _UNREADABLE:
            return None

    async def signing_secret(self) -> str:
        """The key that the account's webhooks are signed with."""
        self.quota.check()
        sdk = await self._client()
        import httpx
        from replicate.exceptions import ReplicateError

        try:
            async with asyncio.timeout(SECRET_SECONDS):
                return str((await sdk.webhooks.default.async_secret()).key)
        except (httpx.HTTPError, TimeoutError) as error:
            raise _unreachable(error) from error
        except ReplicateError as error:
            raise self._refusal(error.status or 0, error.title, error.detail) from None
        except _UNREADABLE:
            raise ProviderBusy("Replicate's answer about the webhooks' secret could not be read.") from None

    async def _json(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Mapping[str, Any] | None = None
    ) -> Any:
        self.quota.check()
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._read_seconds),
                self._http.stream(
                    method,
                    f"{self._account.base_url}{path}",
                    params=query,
                    json=body,
                    headers={"authorization": f"Bearer {self._account.api_key.reveal()}", "accept": "application/json"},
                    follow_redirects=False,
                    timeout=self._read_seconds,
                ) as response,
            ):
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > LARGEST_ANSWER_BYTES:
                        raise ProviderBusy("Replicate's answer is larger than 64 MiB.", 60)
        except (httpx2.HTTPError, TimeoutError) as error:
            raise _unreachable(error) from error
        try:
            read = json.loads(content)
        except (ValueError, RecursionError):
            read = None
        problem = read if isinstance(read, dict) else {}
        self.quota.heard(response.status_code, response.headers, _text(problem.get("detail")))
        if response.status_code >= 300:
            raise self._refusal(response.status_code, _text(problem.get("title")), _text(problem.get("detail")))
        if read is None:
            raise ProviderBusy("Replicate answered with something that is no JSON.")
        return read

    async def _client(self) -> "Client":
        """The SDK's client, made once. Its connections are ours to close: it has no method for that."""
        async with self._opening:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(self._made)
            return self._sdk

    def _made(self) -> "Client":
        import httpx
        from replicate.client import Client

        self._transport = httpx.AsyncHTTPTransport(trust_env=False)
        return Client(
            api_token=self._account.api_key.reveal(),
            base_url=self._account.base_url,
            timeout=httpx.Timeout(self._create_seconds, connect=5.0, pool=10.0),
            transport=self._transport,
            trust_env=False,
            event_hooks={"response": [self._heard]},
        )

    async def _heard(self, response: "httpx.Response") -> None:
        self.quota.heard(response.status_code, response.headers)

    def _refusal(self, status: int, title: str | None, detail: str | None) -> ProviderError:
        """Replicate's refusal in our words and its own, which may quote what was sent. The SDK's own error does that
        too, and is never a cause: logs show those."""
        said = ". ".join(part.strip().rstrip(".") for part in (title, detail) if part and part.strip())
        said = said.replace(self._account.api_key.reveal(), "•••")  # keys have had other forms than today's
        words = masked(said)[:WORDS_CHARACTERS] or "no reason given"
        sentence = f"Replicate answered {status}: {words}."
        if status == 429:
            self.quota.heard(status, {}, detail)
            return ProviderBusy(sentence, self.quota.wait_seconds or 1.0)
        if status in (401, 402, 403):
            return CredentialRefused(sentence)
        if status in (404, 410):
            return ProviderLost(sentence)
        if 400 <= status < 500 and status not in (408, 425):
            return ProviderRefused(sentence)
        return ProviderBusy(sentence)


def _id_of(training: Any) -> str:
    reference = training.id
    if not isinstance(reference, str) or not reference.isalnum():
        raise ValueError("no id")
    return reference


def _unreachable(error: Exception) -> ProviderBusy:
    return ProviderBusy(f"Replicate could not be reached ({type(error).__name__}).")


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
