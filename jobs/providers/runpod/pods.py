"""Pods as RunPod tells of them: the list that all runs of an account share, and one pod by its id."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any
from urllib.parse import quote

import anyio
from anyio import to_thread

from jobs.providers.base import CredentialRefused, ProviderBusy, ProviderError, ProviderLost
from jobs.providers.runpod.wire import Answer, Wire

SDK_ADDRESS = "RUNPOD_API_BASE_URL"
DEFAULT_URL = "https://api.runpod.io"
READ_LIMIT_SECONDS = 20.0
LIST_LIMIT_SECONDS = 30.0
SDK_CALLS_AT_ONCE = 4
MOST_PODS = 20_000


@dataclass(frozen=True, slots=True)
class Pod:
    """What is asked of a pod. Its variables hold secrets and are not kept."""

    id: str
    name: str
    status: str
    """PROVISIONING, STARTING, RUNNING, EXITED, ERROR or TERMINATED."""
    price_micros_per_hour: int
    """What it costs now: 0 once it is stopped."""
    created_at: datetime | None
    has_runtime: bool
    """Whether its container runs, as far as RunPod knows."""

    @property
    def is_gone(self) -> bool:
        return self.status == "TERMINATED"

    @classmethod
    def of(cls, content: object) -> "Pod | None":
        """None for what is no pod; a single odd one must not hide all others."""
        if not isinstance(content, dict):
            return None
        pod_id, status = content.get("id"), content.get("status")
        if not isinstance(pod_id, str) or not pod_id or not isinstance(status, str):
            return None
        return cls(
            id=pod_id,
            name=str(content.get("name") or ""),
            status=status,
            price_micros_per_hour=micros_of(content.get("cost")),
            created_at=moment_of(content.get("createdAt")),
            has_runtime=bool(content.get("runtime")),
        )


class SharedList:
    """`GET /v2/pods`, asked once for everybody who wants it at the same time, and kept for some seconds."""

    def __init__(self, wire: Wire, *, fresh_seconds: float, stale_seconds: float) -> None:
        """A list is fresh for `fresh_seconds`; one up to `stale_seconds` old serves while RunPod cannot be asked."""
        self.wire = wire
        self.fresh_seconds = fresh_seconds
        self.stale_seconds = stale_seconds
        self.clock: Callable[[], float] = time.monotonic
        self._pods: Mapping[str, Pod] = {}
        self._asked_at = float("-inf")
        self._failed_at = float("-inf")
        self._failure: ProviderError | None = None
        self._lock = anyio.Lock()

    async def recent(self) -> Mapping[str, Pod]:
        """All pods by id, as of some seconds ago."""
        try:
            return await self.since(self.clock() - self.fresh_seconds)
        except ProviderBusy:
            if self._asked_at >= self.clock() - self.stale_seconds:
                return self._pods
            raise

    async def fresh(self) -> Mapping[str, Pod]:
        """All pods by id, asked for after this call began."""
        return await self.since(self.clock())

    async def since(self, moment: float) -> Mapping[str, Pod]:
        called_at = self.clock()
        async with self._lock:  # whoever waits here takes what the one before has asked for, if that is new enough
            if self._asked_at >= moment:
                return self._pods
            if self._failure is not None and self._failed_at >= called_at:
                raise self._failure  # else all who wait would fail one after the other, each after its own time limit
            asked_at = self.clock()
            try:
                answer = await self.wire.ask("GET", "/v2/pods", limit_seconds=LIST_LIMIT_SECONDS)
                if not answer.is_success:
                    raise self.wire.refusal(answer)
                self._pods = _pods_in(answer)
            except ProviderError as error:
                self._failure, self._failed_at = error, self.clock()
                raise
            self._asked_at, self._failure = asked_at, None
            return self._pods


def _pods_in(answer: Answer) -> Mapping[str, Pod]:
    listed = answer.content.get("pods") if isinstance(answer.content, dict) else None
    if not isinstance(listed, list):
        raise ProviderBusy("RunPod's list of pods cannot be read.", 10.0)
    pods = [Pod.of(one) for one in listed[:MOST_PODS]]
    return {pod.id: pod for pod in pods if pod is not None}


def sdk_serves(base_url: str) -> bool:
    """Whether the vendor's SDK would ask the very address of the account: it knows one per process, from a variable
    that it reads at each call, and a worker serves real accounts and simulators at the same time."""
    return (os.environ.get(SDK_ADDRESS) or DEFAULT_URL).rstrip("/") == base_url.rstrip("/")


class Reader:
    """Single reads: through the SDK where it asks the right address, else the same request by ourselves.

    Only functions of the SDK that take the key as an argument are called, and never without one: without, the SDK takes
    a key of the whole process, by which one tenant could pay for another. It tells nothing of quotas, so each of its
    calls is counted here.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._places = anyio.CapacityLimiter(SDK_CALLS_AT_ONCE)

    async def pod(self, pod_id: str, *, urgent: bool = False) -> Pod | None:
        """One pod; None if RunPod does not know it."""
        if not sdk_serves(self.wire.account.base_url):
            path = f"/v2/pods/{segment(pod_id)}"
            answer = await self.wire.ask("GET", path, limit_seconds=READ_LIMIT_SECONDS, urgent=urgent)
            if answer.status in (404, 405):
                return None
            if not answer.is_success:
                raise self.wire.refusal(answer)
            content = answer.content
        else:
            content = await self._by_sdk("get_pod", pod_id, urgent=urgent)
            if content is None:
                return None
        pod = Pod.of(content)
        if pod is None:
            raise ProviderBusy("RunPod's answer about the pod cannot be read.", 10.0)
        return pod

    async def gpus(self, wanted: Sequence[str], cloud: str) -> list[Mapping[str, Any]]:
        """Catalog entries with stock, of the wanted GPU types that RunPod has."""
        if len(wanted) == 1 and cloud == "SECURE" and sdk_serves(self.wire.account.base_url):
            try:
                found = await self._by_sdk("get_gpu", wanted[0])
            except ProviderLost:
                return []
            return [found] if isinstance(found, dict) else []
        params = {"include": "AVAILABILITY", "product": "POD", "cloud": cloud}
        answer = await self.wire.ask("GET", "/v2/catalog/gpus", params=params, limit_seconds=READ_LIMIT_SECONDS)
        if not answer.is_success:
            raise self.wire.refusal(answer)
        listed = answer.content.get("gpus") if isinstance(answer.content, dict) else None
        if not isinstance(listed, list):
            raise ProviderBusy("RunPod's catalog cannot be read.", 10.0)
        by_id = {gpu.get("id"): gpu for gpu in listed if isinstance(gpu, dict)}
        return [by_id[gpu_type] for gpu_type in wanted if gpu_type in by_id]

    async def _by_sdk(self, function: str, argument: str, *, urgent: bool = False) -> Any:
        wait = self.wire.limits.wait_seconds(urgent=urgent)
        if wait > 0:
            raise ProviderBusy("RunPod's quota for this key is used up for now.", wait)
        key = self.wire.account.api_key.reveal()
        if not key:
            raise CredentialRefused("There is no key for RunPod.")
        self.wire.limits.sent()
        try:
            with anyio.fail_after(READ_LIMIT_SECONDS):
                call = partial(_call_sdk, function, argument, key)
                return await to_thread.run_sync(call, limiter=self._places, abandon_on_cancel=True)
        except TimeoutError as error:
            raise ProviderBusy("RunPod did not answer in time.", 5.0) from error
        except ProviderError:
            raise
        except Exception as error:
            raise self._meaning(error) from error

    def _meaning(self, error: Exception) -> ProviderError:
        """What the SDK raised, in our words."""
        from runpod.error import AuthenticationError, QueryError  # type: ignore[import-untyped]  # it has no types

        if isinstance(error, AuthenticationError):
            return CredentialRefused("RunPod refused the key.")
        if isinstance(error, QueryError) and error.status_code:
            content = {"detail": str(error), "errors": list(error.errors)}
            return self.wire.refusal(Answer(int(error.status_code), {}, content))
        return ProviderBusy(f"RunPod did not answer as expected ({type(error).__name__}).", 5.0)


def _call_sdk(function: str, argument: str, key: str) -> Any:
    import runpod  # type: ignore[import-untyped]  # it has no types

    if function == "get_pod":
        return runpod.get_pod(argument, api_key=key)
    try:
        return runpod.get_gpu(argument, api_key=key)
    except ValueError as error:
        if "No GPU found" in str(error):
            raise ProviderLost("RunPod has no such GPU type.") from error
        raise


def segment(text: str) -> str:
    """An id as one part of a path, whatever is in it."""
    return quote(text, safe="")


def micros_of(dollars: object) -> int:
    """Millionths of a dollar; 0 for what is no price."""
    if isinstance(dollars, bool) or not isinstance(dollars, int | float) or not 0 <= dollars < 1_000_000:
        return 0
    return round(dollars * 1_000_000)


def moment_of(text: object) -> datetime | None:
    """A time that RunPod wrote."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
