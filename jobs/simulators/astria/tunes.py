"""Tunes and prompts. Where one stands follows from the clock alone, each time somebody looks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from jobs.simulators.kit import Truth

KEPT_DAYS = 30
End = Literal["trained", "error", "failed", "expired", "vanished", "deleted"]
State = Literal["queued", "training", "succeeded", "failed", "canceled", "gone"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to become of a tune, fixed when it is made."""

    starts_after_seconds: float | None
    """None for one that waits for ever."""
    ends_after_seconds: float | None
    """From the start, or from the creation where there is none; None for one that never ends."""
    end: End = "trained"
    """How it ends. The vendor does not say how a failure looks; users report an `error` text (`error`), a `status`
    beside it (`failed`), and a date of expiry without one of training (`expired`)."""
    eta_recedes: bool = False


@dataclass(slots=True)
class Prompt:
    """A wish for images, asked of a tune."""

    id: int
    account: str
    tune_id: int
    fields: Mapping[str, Any]
    created_at: datetime
    ready_at: datetime
    base_url: str

    def body(self, now: datetime) -> dict[str, Any]:
        ready = self.ready_at <= now
        scale = self.fields["cfg_scale"]
        images = [_image(f"prompts/{self.id}/{number}") for number in range(self.fields["num_images"])]
        return {
            "id": self.id,
            "callback": self.fields["callback"],
            "text": self.fields["text"],
            "negative_prompt": self.fields["negative_prompt"],
            "cfg_scale": None if scale is None else str(scale),
            "steps": self.fields["steps"],
            "seed": self.fields["seed"],
            "num_images": self.fields["num_images"],
            "super_resolution": self.fields["super_resolution"],
            "tune_id": self.tune_id,
            "trained_at": stamp(self.ready_at) if ready else None,
            "started_training_at": stamp(self.created_at),
            "created_at": stamp(self.created_at),
            "updated_at": stamp(self.ready_at if ready else self.created_at),
            "url": f"{self.base_url}/tunes/{self.tune_id}/prompts/{self.id}.json",
            "images": images if ready else [],
        }


@dataclass(slots=True)
class Tune:
    """A fine-tune of one account."""

    id: int
    account: str
    scenario: str
    plan: Plan
    fields: Mapping[str, Any]
    created_at: datetime
    base_url: str
    hint_seconds: float
    """How long the vendor believes that queue and training take."""
    prompts: list[Prompt] = field(default_factory=list)
    deleted_at: datetime | None = None
    reads: int = 0

    @property
    def title(self) -> str:
        return str(self.fields["title"])

    @property
    def planned_start(self) -> datetime | None:
        seconds = self.plan.starts_after_seconds
        return None if seconds is None else self.created_at + timedelta(seconds=seconds)

    @property
    def planned_end(self) -> datetime | None:
        seconds = self.plan.ends_after_seconds
        return None if seconds is None else (self.planned_start or self.created_at) + timedelta(seconds=seconds)

    def started_at(self, now: datetime) -> datetime | None:
        """When the training began, if it did before now and before somebody deleted the tune."""
        start = self.planned_start
        return start if start is not None and start <= min(now, self.deleted_at or now) else None

    def ended_at(self, now: datetime) -> datetime | None:
        """When it ended by itself, if it did."""
        end = self.planned_end
        return end if end is not None and end <= min(now, self.deleted_at or now) else None

    def state(self, now: datetime) -> State:
        if self.ended_at(now) is not None:
            match self.plan.end:
                case "trained":
                    return "succeeded" if self.deleted_at is None else "gone"
                case "vanished":
                    return "gone"
                case "deleted":
                    return "canceled"
                case _:
                    return "failed"
        if self.deleted_at is not None:
            return "canceled"
        return "training" if self.started_at(now) is not None else "queued"

    def is_there(self, now: datetime) -> bool:
        """Whether the API still knows it."""
        return self.deleted_at is None and self.state(now) not in ("gone", "canceled")

    def body(self, now: datetime) -> dict[str, Any]:
        """The tune as the API shows it, with every field that was seen on one."""
        state = self.state(now)
        started, ended = self.started_at(now), self.ended_at(now)
        trained = ended if state == "succeeded" else None
        expires = ended if trained is not None or (state == "failed" and self.plan.end == "expired") else None
        weights = None
        if trained is not None and self.fields["branch"] in ("sd15", "sdxl1"):  # never those of Flux: its licence
            weights = _image(f"tunes/{self.id}/weights")
        body: dict[str, Any] = {
            "id": self.id,
            "title": self.title,
            "name": self.fields["name"],
            "is_api": True,
            "token": self.fields["token"] or ("sks" if self.fields["branch"] == "sd15" else "ohwx"),
            "eta": stamp(trained or self._eta(now)),
            "callback": self.fields["callback"],
            "started_training_at": stamp(started),
            "trained_at": stamp(trained),
            "expires_at": stamp(expires + timedelta(days=KEPT_DAYS)) if expires else None,
            "created_at": stamp(self.created_at),
            "updated_at": stamp(ended or started or self.created_at),
            "model_type": self.fields["model_type"],
            "base_tune_id": self.fields["base_tune_id"],
            "branch": self.fields["branch"],
            "args": None,
            "steps": self.fields["steps"],
            "face_crop": bool(self.fields["face_crop"]),
            "training_face_correct": bool(self.fields["training_face_correct"]),
            "ckpt_url": weights,
            "ckpt_urls": [weights] if weights else [],
            "url": f"{self.base_url}/tunes/{self.id}.json",
            "orig_images": [_image(f"tunes/{self.id}/{number}") for number in range(self.fields["image_count"])],
        }
        if state == "failed" and self.plan.end in ("error", "failed"):
            body["error"] = "Training failed: no face could be found in the images."
        if state == "failed" and self.plan.end == "failed":
            body["status"] = "failed"
        return body

    def _eta(self, now: datetime) -> datetime:
        planned = self.created_at + timedelta(seconds=self.hint_seconds)
        if self.plan.eta_recedes and self.started_at(now) is not None:
            return max(planned, now + timedelta(seconds=self.hint_seconds / 100))
        return planned

    def truth(self, now: datetime, price_micros: int, prompt_micros: int) -> Truth:
        """What really happened. The money is taken when training starts (when exactly is not documented), and for
        each prompt when the model is there to make its images; `branch=fast` is free."""
        state = self.state(now)
        cost = price_micros if self.started_at(now) is not None else 0
        if state == "succeeded":
            cost += prompt_micros * len(self.prompts)
        return Truth(
            provider="ASTRIA",
            account=self.account,
            reference=str(self.id),
            tag=self.title,
            scenario=self.scenario,
            state=state,
            is_alive=state in ("queued", "training"),
            created_at=self.created_at,
            ended_at=self.ended_at(now) or self.deleted_at,
            billed_seconds=0.0,
            price_micros_per_hour=0,
            cost_micros=0 if self.fields["branch"] == "fast" else cost,
        )


def stamp(at: datetime | None) -> str | None:
    """ISO 8601 in UTC with milliseconds and `Z`."""
    return None if at is None else at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def _image(path: str) -> str:
    return f"https://sdbooth2-production.s3.amazonaws.com/simulated/{path}"
