"""E2B's errors in our words.

Its package raises its own exceptions, of which some are no `SandboxException` and the lost sandboxes are timeouts; and
it lets those of `httpx` and of its RPC library through.
"""

import logging

from domain.secret import Secret, masked
from jobs.providers.base import (
    CredentialRefused,
    NoCapacity,
    ProviderBusy,
    ProviderError,
    ProviderLost,
    ProviderRefused,
)

logger = logging.getLogger("runwire.jobs")

WORDS_CHARACTERS = 600
FULL_SECONDS = 20.0
"""When to ask again for a sandbox where the account has as many as it may."""


class SandboxGone(ProviderLost):
    """The sandbox does not run: killed, paused, or over its time."""


class FileMissing(ProviderLost):
    """The sandbox has no such file."""


class RateLimited(ProviderBusy):
    """Too many calls at a time."""


def ours(error: Exception, doing: str, key: Secret) -> ProviderError:
    """The error in our words. `doing` completes "E2B could not …"; `key` is the account's, which E2B may quote."""
    from e2b import exceptions

    words = without(key, str(error))
    if isinstance(error, ProviderError):
        return error
    if isinstance(error, exceptions.AuthenticationException):
        return CredentialRefused("E2B refuses the key. Make a new one in its dashboard, and connect it here.")
    if isinstance(error, exceptions.RateLimitException):
        if "maximum number of concurrent" in words:
            return NoCapacity(f"E2B: {words}", FULL_SECONDS)
        return RateLimited(f"E2B could not {doing}: too many calls at a time.", 2.0)
    if isinstance(error, exceptions.ServiceBusyException) or "Failed to place sandbox" in words:
        return NoCapacity(f"E2B has no room for a sandbox now: {words}")
    if isinstance(error, exceptions.FileNotFoundException):
        return FileMissing(f"E2B could not {doing}: {words}")
    if isinstance(error, exceptions.SandboxNotRunningException | exceptions.NotFoundException):
        return SandboxGone("The sandbox at E2B is gone.")
    if isinstance(error, exceptions.NotEnoughSpaceException):
        return ProviderRefused("The sandbox's disk at E2B is full.")
    if isinstance(error, exceptions.InvalidArgumentException):
        return ProviderRefused(f"E2B could not {doing}: {words}")
    if isinstance(error, exceptions.TimeoutException | TimeoutError):
        return ProviderBusy(f"E2B could not {doing} in time.")
    if isinstance(error, exceptions.SandboxException) and error.status_code is not None:
        return of_status(error.status_code, words, doing)
    # Connections that were refused or cut, streams that stopped without their end, answers that are no JSON.
    logger.warning("E2B's answer was lost.", extra={"doing": doing, "error": type(error).__name__})
    return ProviderBusy(f"E2B could not {doing}: the answer was lost ({type(error).__name__}).")


def without(key: Secret, words: str) -> str:
    """E2B's own words, as far as they are shown."""
    return masked(words.replace(key.reveal(), "•••"))[:WORDS_CHARACTERS]


def of_status(status: int, words: str, doing: str) -> ProviderError:
    """What an HTTP status means; `words` are the provider's own."""
    if status in (401, 402, 403):
        return CredentialRefused(f"E2B refuses the account: {words}")
    if status == 404:
        return SandboxGone("The sandbox at E2B is gone.")
    if status == 429:
        return RateLimited(f"E2B could not {doing}: too many calls at a time.")
    if status in (408, 409) or status >= 500:
        return ProviderBusy(f"E2B could not {doing}: {words}")
    return ProviderRefused(f"E2B could not {doing}: {words}")
