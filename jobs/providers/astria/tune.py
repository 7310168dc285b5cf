"""A tune as Astria shows it. Every field but `id` may be missing: the documentation's own samples differ in them."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from jobs.providers.astria.words import words_of

_FAILED = frozenset({"failed", "error", "failure", "errored"})


@dataclass(frozen=True, slots=True)
class Tune:
    """What of a tune matters here. It has no status: that follows from its dates."""

    id: str
    title: str
    branch: str | None
    created_at: datetime | None
    started_at: datetime | None
    trained_at: datetime | None
    eta: datetime | None
    failure: str | None
    """Why it failed, in the vendor's words where there are any. How a failure shows is documented nowhere: users go by
    a text in `error`, by a `status`, or by a date of expiry of something that was never trained. A trained tune has
    not failed, whatever else it says."""

    @classmethod
    def of(cls, body: object) -> Self | None:
        """None for what is no tune."""
        if not isinstance(body, dict):
            return None
        number = id_of(body.get("id"))
        if number is None:
            return None
        trained_at = time_of(body.get("trained_at"))
        title, branch = body.get("title"), body.get("branch")
        return cls(
            id=number,
            title=title if isinstance(title, str) else "",
            branch=branch if isinstance(branch, str) else None,
            created_at=time_of(body.get("created_at")),
            started_at=time_of(body.get("started_training_at")) or trained_at,
            trained_at=trained_at,
            eta=time_of(body.get("eta")),
            failure=None if trained_at is not None else _failure(body),
        )

    @property
    def is_alive(self) -> bool:
        """Whether it waits or trains."""
        return self.trained_at is None and self.failure is None


def id_of(value: object) -> str | None:
    """The id as digits, from a number or a text of them."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    return text if re.fullmatch(r"[1-9][0-9]{0,18}", text) else None


def time_of(value: object) -> datetime | None:
    """ISO 8601, in UTC where no zone is named."""
    if not isinstance(value, str) or len(value) > 64:
        return None
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _failure(body: dict[str, object]) -> str | None:
    callback = body.get("callback")
    hidden = [callback] if isinstance(callback, str) else []  # it holds the token by which we are called
    words = words_of(body.get("error"), hidden)
    if words:
        return words
    status = body.get("status")
    if isinstance(status, str) and status.strip().lower() in _FAILED:
        return f"Astria says that the tune is in the status {words_of(status)}."
    if time_of(body.get("expires_at")) is not None:
        return "Astria gave up the tune: it is to expire though it was never trained."
    return None
