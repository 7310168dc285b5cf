"""One pod: what was ordered, and what it is at a time of the clock.

    PROVISIONING → STARTING → RUNNING → EXITED → (start) STARTING …
                                 └─→ ERROR            any → TERMINATED

All moments are kept as times, also those to come, so that the state is read off the clock and never has to be moved.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from jobs.simulators.kit import Truth
from jobs.simulators.runpod.catalog import IMAGES_CUDA

ACTIONS = {
    "PROVISIONING": ["stop", "terminate"],
    "STARTING": ["stop", "terminate"],
    "RUNNING": ["stop", "restart", "terminate"],
    "EXITED": ["start", "terminate"],
    "ERROR": ["start", "terminate"],
    "TERMINATED": [],
}
OVER = "OVER"
"""The word of a script that has learned that nobody wants its work any more."""


@dataclass(slots=True)
class Pod:
    id: str
    account: str
    key: str
    """What the pod itself may use; opens this pod only."""
    base_url: str
    """Where its creator reached the simulator."""
    body: dict[str, Any]
    scenario: str
    price: float
    """US dollars per hour, for all its GPUs."""
    center: str
    created_at: datetime
    provisioned_at: datetime
    running_at: datetime
    boots: int = 1
    booted_at: datetime | None = None
    """When it was started again after a stop."""
    exited_at: datetime | None = None
    exits_at: datetime | None = None
    """When its scenario lets it exit."""
    failed_at: datetime | None = None
    terminated_at: datetime | None = None
    terminated_by: str = ""
    """`script`, `creator` or `provider`."""
    visible_at: datetime | None = None
    has_runtime: bool = True
    locked: bool = False
    conflicts: int = 0
    lingers_seconds: float = 0.0
    word: str | None = None
    """The reason of the end that its script told, once that was taken."""
    trains: bool = False
    stopped_spans: list[tuple[datetime, datetime]] = field(default_factory=list)
    """When it cost nothing: from each exit to the next start."""

    @property
    def name(self) -> str:
        return str(self.body["name"])

    def status(self, now: datetime) -> str:
        if self.terminated_at is not None and self.terminated_at <= now:
            return "TERMINATED"
        if self.failed_at is not None and self.failed_at <= now:
            return "ERROR"
        if self.exited_at is not None and self.exited_at <= now:
            return "EXITED"
        if now < self.provisioned_at:
            return "PROVISIONING"
        return "STARTING" if now < self.running_at else "RUNNING"

    def is_visible(self, now: datetime) -> bool:
        return self.status(now) != "TERMINATED" and (self.visible_at is None or self.visible_at <= now)

    def start(self, now: datetime, starting_seconds: float) -> None:
        since = self.exited_at or self.failed_at
        if self.exited_at is not None and since is not None:
            self.stopped_spans.append((since, now))
        self.exited_at = self.failed_at = None
        self.boots += 1
        self.booted_at = now
        self.provisioned_at = now
        self.running_at = now + timedelta(seconds=starting_seconds)

    def terminate(self, now: datetime, by: str) -> None:
        if self.terminated_at is None or self.terminated_at > now:
            self.terminated_at = now + timedelta(seconds=self.lingers_seconds)
            self.terminated_by = by

    def billed_seconds(self, now: datetime) -> float:
        """From the creation to the end, whether it was starting or running; nothing while it was stopped."""
        until = min(now, self.terminated_at) if self.terminated_at is not None else now
        exited = self.exited_at
        end = min(until, exited) if exited is not None else until
        pauses = sum((min(until, last) - first).total_seconds() for first, last in self.stopped_spans if first < until)
        return max(0.0, (end - self.created_at).total_seconds() - pauses)

    def cost_micros(self, now: datetime) -> int:
        return round(self.price * 1_000_000 * self.billed_seconds(now) / 3600)

    def json(self, now: datetime) -> dict[str, Any]:
        status = self.status(now)
        costs = status not in ("EXITED", "TERMINATED")
        shown: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "status": status,
            "actions": ACTIONS[status],
            "image": self.body.get("image", ""),
            "args": self.body.get("args", ""),
            "disk": self.body.get("disk", 50),
            "mounts": self.body.get("mounts", {}),
            "ports": self.body.get("ports", []),
            "env": self.body.get("env", {}),
            "registry": self.body.get("registry"),
            "cloud": self.body.get("cloud", "SECURE"),
            "dataCenterId": self.center,
            "cudaVersion": IMAGES_CUDA if "gpu" in self.body else None,
            "ssh": {"proxy": None, "direct": None},
            "template": None,
            "cost": self.price if costs else 0.0,
            "locked": self.locked,
            "globalNetworking": {"enabled": bool(self.body.get("globalNetworking"))},
            "runtime": self._runtime(now) if status == "RUNNING" and self.has_runtime else None,
            "createdAt": stamp(self.created_at),
            "startedAt": stamp(self.running_at) if now >= self.running_at else None,
        }
        if "gpu" in self.body:
            shown["gpu"] = {"id": self.body["gpu"]["id"], "count": self.body["gpu"].get("count", 1)}
        else:
            count = self.body["cpu"]["vcpuCount"]
            shown["cpu"] = {"id": self.body["cpu"]["id"], "vcpuCount": count, "memory": count * 2}
        return shown

    def truth(self, now: datetime) -> Truth:
        alive = self.status(now) != "TERMINATED"
        return Truth(
            provider="runpod",
            account=self.account,
            reference=self.id,
            tag=self.name,
            scenario=self.scenario,
            state=self._state(now),
            is_alive=alive,
            created_at=self.created_at,
            ended_at=None if alive else self.terminated_at,
            billed_seconds=self.billed_seconds(now),
            price_micros_per_hour=round(self.price * 1_000_000),
            cost_micros=self.cost_micros(now),
        )

    def _state(self, now: datetime) -> str:
        if self.word is not None:
            return {"SUCCEEDED": "succeeded", OVER: "canceled"}.get(self.word, "failed")
        match self.status(now):
            case "TERMINATED" if self._had_failed:
                return "failed"
            case "TERMINATED":
                return {"creator": "canceled", "script": "failed"}.get(self.terminated_by, "gone")
            case "ERROR" | "EXITED":
                return "failed"
            case "PROVISIONING":
                return "queued"
            case "RUNNING" if self.trains:
                return "training"
            case _:
                return "preparing"

    @property
    def _had_failed(self) -> bool:
        """Whether it failed or exited without a word before somebody terminated it."""
        end = self.terminated_at
        return end is not None and any(at is not None and at <= end for at in (self.failed_at, self.exited_at))

    def _runtime(self, now: datetime) -> dict[str, Any]:
        gpus = self.body.get("gpu", {}).get("count", 1) if "gpu" in self.body else 0
        ports = []
        for place, port in enumerate(self.body.get("ports", [])):
            private, _, kind = port.partition("/")
            ports.append({"private": int(private), "public": 60_000 + place, "type": kind, "ip": "100.65.0.101"})
        return {
            "uptime": int((now - self.running_at).total_seconds()),
            "gpus": [{"util": 91, "memoryUtil": 40}] * gpus,
            "cpu": {"util": 12},
            "memory": {"util": 20},
            "ports": ports,
        }


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second, as the API writes it."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
