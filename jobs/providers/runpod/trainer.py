"""Trains on rented pods: one attempt is one pod, found again by its name."""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx2

from domain.training.report import Outcome, Report
from domain.training.status import EndReason, ReportSource, RunStage, RunStatus
from jobs.providers.base import (
    Account,
    FinishedModel,
    Pace,
    Position,
    ProviderRefused,
    Quote,
    Started,
    TrainingOrder,
)
from jobs.providers.runpod.creation import cloud_of, creation_of, secrets_of
from jobs.providers.runpod.pods import DEFAULT_URL, Pod, Reader, SharedList, micros_of, segment
from jobs.providers.runpod.wire import AnswerLost, Wire

IMAGE = "runpod/pytorch:2.1.0-py3.10-cuda11.8.0-devel-ubuntu22.04"
CREATE_LIMIT_SECONDS = 60.0
ACTION_LIMIT_SECONDS = 30.0
SILENCE_SECONDS = 90.0
"""A script speaks at least every 20 seconds."""
PREPARE_LIMIT_SECONDS = 900.0
SHORTEST_PREPARE_LIMIT_SECONDS = 240.0
NEVER_BEGAN_MICROS = 450_000
"""A pod that never begins may cost so much: dear machines get less time, down to the shortest limit above."""
GRACE_SECONDS = 60.0
"""A pod that was just created may be missing from lists, and even by its id, for a while."""
_TAG = re.compile(r"run-[0-9a-f]{32}-[0-9]{1,9}")


class RunPodTrainer:
    """The provider `RUNPOD`. The reference of a training is the pod's id.

    - `image`: for orders that name none.
    - `patience_seconds`: how long a pod tries to reach us, and to fetch its data, without getting anywhere.
    - `list_seconds`: how long the list of pods is shared; `stale_seconds`: and while RunPod takes no request.
    - `prepare_limit_seconds`: a pod whose script was not heard for so long has never begun.
    - `silence_seconds`: a pod whose script was heard once is suspected after so long without a word.
    """

    def __init__(
        self,
        account: Account,
        http: httpx2.AsyncClient,
        *,
        image: str = IMAGE,
        patience_seconds: int = 60,
        list_seconds: float = 4.0,
        stale_seconds: float = 60.0,
        prepare_limit_seconds: float = PREPARE_LIMIT_SECONDS,
        silence_seconds: float = SILENCE_SECONDS,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.account = account
        self.image = image
        self.patience_seconds = patience_seconds
        self.prepare_limit_seconds = prepare_limit_seconds
        self.silence_seconds = silence_seconds
        self.grace_seconds = grace_seconds
        self.wire = Wire(account, http)
        self.pods = SharedList(self.wire, fresh_seconds=list_seconds, stale_seconds=stale_seconds)
        self.reader = Reader(self.wire)
        self._unseen: dict[str, float] = {}
        """Pods that this process has created and no read has shown yet: when they were created."""

    @property
    def pace(self) -> Pace:
        """One list serves all runs, so that asking often costs little. Simulators train in seconds."""
        return Pace(1.0, 5.0) if self.account.is_test else Pace(first_seconds=5.0, longest_seconds=30.0)

    @property
    def bills_from_creation(self) -> bool:
        """Whether STARTING is billed is not documented; it is taken to be."""
        return True

    async def start(self, order: TrainingOrder) -> Started:
        """Create the pod. Raises `NoCapacity`, `ProviderBusy` (also when the answer was lost), `ProviderRefused`."""
        body = creation_of(order, image=self.image, patience_seconds=self.patience_seconds)
        answer = await self.wire.ask("POST", "/v2/pods", body=body, limit_seconds=CREATE_LIMIT_SECONDS)
        if not answer.is_success:
            raise self.wire.refusal(answer, creating=True, hidden=secrets_of(order))
        pod = Pod.of(answer.content)
        if pod is None:
            raise AnswerLost("RunPod's answer cannot be read: the answer was lost.")
        born = time.monotonic()
        self._unseen = {known: at for known, at in self._unseen.items() if born - at < self.grace_seconds}
        self._unseen[pod.id] = born
        return self._started(pod)

    async def find(self, tag: str) -> Started | None:
        """The living pod of that name; the oldest, should there be two."""
        named = [pod for pod in (await self.pods.fresh()).values() if pod.name == tag and not pod.is_gone]
        named.sort(key=lambda pod: (pod.created_at is None, pod.created_at, pod.id))
        return self._started(named[0]) if named else None

    async def report(self, reference: str, position: Position, now: datetime) -> Report:
        """Whether the pod lives and was heard lately, and what it costs. All else is told by its script."""
        pod = (await self.pods.recent()).get(reference)
        age = (now - position.begun_at).total_seconds() if position.begun_at is not None else None
        if pod is None and not (age is not None and age < self.grace_seconds):
            pod = await self.reader.pod(reference)  # a list may lag behind
        if pod is None or pod.is_gone:
            young = age is not None and age < self.grace_seconds
            return self._absent(position, now, young=pod is None and young)
        self._unseen.pop(reference, None)
        return self._present(pod, position, now)

    async def stop(self, reference: str) -> bool:
        """Terminate the pod; True once a read after that shows nothing of it."""
        path = f"/v2/pods/{segment(reference)}/action"
        answer = await self.wire.ask(
            "POST", path, body={"action": "terminate"}, limit_seconds=ACTION_LIMIT_SECONDS, urgent=True
        )
        if not answer.is_success and answer.status not in (404, 405, 409):
            raise self.wire.refusal(answer)
        pod = await self.reader.pod(reference, urgent=True)
        if pod is not None and not pod.is_gone:
            self._unseen.pop(reference, None)
            return False
        # What no read has ever shown may only be hidden still, and would go on costing.
        born = self._unseen.get(reference)
        if answer.status == 404 and born is not None and time.monotonic() - born < self.grace_seconds:
            return False
        self._unseen.pop(reference, None)
        return True

    async def whose(self) -> str:
        """The API tells no name, so the account is described by what it holds. Proves that the key opens it."""
        count = len(await self.pods.fresh())
        return f"A RunPod account with {count} {'pod' if count == 1 else 'pods'}"

    async def quotes(self, gpu_types: Sequence[str], hyperparameters: Mapping[str, Any]) -> Sequence[Quote]:
        """List price and stock of each wanted GPU type that RunPod has. High stock promises nothing."""
        cloud = cloud_of(hyperparameters.get("cloud"))
        found = await self.reader.gpus(list(gpu_types), cloud)
        return [quote for gpu in found if (quote := _quote_of(gpu, cloud)) is not None]

    async def alive(self) -> Mapping[str, str]:
        """All pods with a name of ours that are not gone: also those that are stopped, since their disk may cost."""
        pods = (await self.pods.fresh()).values()
        return {pod.id: pod.name for pod in pods if _TAG.fullmatch(pod.name) and not pod.is_gone}

    async def finished(self, version: str) -> FinishedModel:
        """RunPod keeps nothing of a pod."""
        raise ProviderRefused("RunPod keeps no models: what a pod has trained is stored here, or lost with the pod.")

    def _started(self, pod: Pod) -> Started:
        shown = self.account.base_url.rstrip("/") == DEFAULT_URL
        url = f"https://console.runpod.io/pods?id={segment(pod.id)}" if shown else None
        return Started(pod.id, url=url, price_micros_per_hour=pod.price_micros_per_hour, began_at=pod.created_at)

    def _present(self, pod: Pod, position: Position, now: datetime) -> Report:
        cost = self._cost(pod, position, now)
        outcome: Outcome | None = None
        suspicion: str | None = None
        if pod.status == "ERROR":
            outcome = Outcome(EndReason.PROVIDER_ERROR, "RunPod says that the pod's container cannot be run (ERROR).")
        elif pod.status == "EXITED":
            suspicion = "The pod's container exited without a word of its script."
        elif position.heard_at is None:
            began = position.begun_at or pod.created_at
            waited = (now - began).total_seconds() if began is not None else 0.0
            price = pod.price_micros_per_hour or position.price_micros_per_hour
            if waited > self._prepare_limit(price):
                words = f"The pod's script never began: nothing was heard of it for {waited / 60:.0f} minutes"
                outcome = Outcome(EndReason.PROVIDER_ERROR, f"{words} (the pod is {pod.status}).")
        else:
            silent = (now - position.heard_at).total_seconds()
            if silent > self.silence_seconds:
                suspicion = f"No heartbeat for {silent:.0f} s"
        waiting = position.heard_at is None and outcome is None and suspicion is None
        return Report(
            source=ReportSource.POLL,
            attempt=position.attempt,
            at=now,
            status=RunStatus.PREPARING if waiting else None,
            stage=RunStage.CREATING_SANDBOX if waiting else None,
            cost_micros=cost,
            outcome=outcome,
            suspicion=suspicion,
        )

    def _absent(self, position: Position, now: datetime, *, young: bool) -> Report:
        """A pod that is not there, or not there yet."""
        return Report(
            source=ReportSource.POLL,
            attempt=position.attempt,
            at=now,
            cost_micros=position.known_cost_micros,  # while nobody sees it, nothing is reckoned
            suspicion=None if young else "RunPod does not know the pod any more.",
        )

    def _cost(self, pod: Pod, position: Position, now: datetime) -> int | None:
        """Its price times its age; what it cost before, once it is stopped."""
        price = pod.price_micros_per_hour
        since = pod.created_at or position.begun_at
        if not price or since is None:
            return position.known_cost_micros or None
        return max(position.known_cost_micros, round(price * max(0.0, (now - since).total_seconds()) / 3600))

    def _prepare_limit(self, price_micros_per_hour: int) -> float:
        if not price_micros_per_hour:
            return self.prepare_limit_seconds
        affordable = NEVER_BEGAN_MICROS / price_micros_per_hour * 3600
        return min(self.prepare_limit_seconds, max(SHORTEST_PREPARE_LIMIT_SECONDS, affordable))


def _quote_of(gpu: Mapping[str, Any], cloud: str) -> Quote | None:
    price, stock = gpu.get("price"), gpu.get("availability")
    micros = micros_of(price.get(cloud.lower())) if isinstance(price, dict) else 0
    if not micros:  # this cloud has none
        return None
    return Quote(
        gpu_type=str(gpu.get("id")),
        price_micros_per_hour=micros,
        flat_micros=None,
        is_available=None if stock is None else stock != "NONE",
        expected_seconds=None,
    )
