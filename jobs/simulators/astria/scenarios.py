"""The scenarios by name: what they do to the answers, the training and the callbacks."""

from collections.abc import Mapping
from typing import Any

from jobs.simulators.astria.forms import Refusal
from jobs.simulators.astria.tunes import End, Plan

SCENARIOS: Mapping[str, str] = {
    "success": "The tune waits a little, trains, and is there.",
    "immediate": "The tune is trained in the very answer to its creation.",
    "fails_at_start": "The tune fails before its training begins, with an error text.",
    "fails_while_training": "The training fails half way, with an error text and a status.",
    "fails_by_expiry": "The training fails half way, to be seen only by a date of expiry without one of training.",
    "stuck": "The tune waits in the queue for ever.",
    "eta_passes": "The training never ends, and its ETA passes.",
    "frozen_at_99": "The training never ends, and its ETA stays just ahead.",
    "not_found_later": "The tune vanishes half way through its training.",
    "deleted_while_training": "Somebody deletes the tune at the vendor half way through its training.",
    "reply_lost": "The tune is made, and the connection is cut instead of an answer.",
    "reply_late": "The tune is made, and the answer takes its time.",
    "gateway_timeout_created": "504 for the first creation, and the tune is made all the same.",
    "gateway_timeout_lost": "504 for the first creation, and no tune is made.",
    "unauthorized": "401: with a key of this scenario for every call, else for the creation.",
    "no_money": "402 for the creation.",
    "bad_request": "400 for the creation.",
    "unprocessable": "422 with a text per field.",
    "unprocessable_message": "422 with a `message`.",
    "unprocessable_error": "422 with an `error`.",
    "unprocessable_errors": "422 with a list of `errors`.",
    "unprocessable_empty": "422 with no body at all.",
    "throttled": "429 for the first two creations and the first two looks at the tune; then all is fine.",
    "throttled_with_hint": "The same, with a Retry-After of 2 seconds.",
    "unstable": "500 for the first two creations and the first two looks at the tune; then all is fine.",
    "webhook_lost": "The callback is never sent.",
    "webhook_late": "The callback is sent long after the end.",
    "webhook_doubled": "The callback is sent twice at once.",
    "webhook_reordered": "After the callback about the end comes one that knows of no end yet.",
    "webhook_forged": "Half way, somebody else calls: that it is trained, and about a tune that is not this one.",
    "webhook_oversized": "The callback is larger than two megabytes.",
    "webhook_bare": "The callback holds the bare tune.",
    "webhook_wrapped": 'The callback holds {"tune": …}.',
    "webhook_early": "The tune is trained at once, and the callback comes before the answer to the creation.",
}

FIRST_REFUSED = 2
"""How often `throttled` and `unstable` refuse."""

_ALWAYS: Mapping[str, tuple[int, Any]] = {
    "no_money": (402, {"error": "Training models is only available on paid plans."}),
    "bad_request": (400, {"error": "callback is not a valid URL"}),
    "unprocessable": (422, {"images": ["could not be read"], "name": ["is not supported by the preset"]}),
    "unprocessable_message": (422, {"message": "Validation failed: images could not be read"}),
    "unprocessable_error": (422, {"error": "images could not be read"}),
    "unprocessable_errors": (422, {"errors": ["images could not be read", "name is not supported by the preset"]}),
    "unprocessable_empty": (422, None),
}


def unauthorized() -> Refusal:
    return Refusal(
        401, "HTTP Token: Access denied.\n", {"www-authenticate": 'Bearer realm="Application", error="invalid_token"'}
    )


def not_found() -> Refusal:
    return Refusal(404, {"status": 404, "error": "Not Found"})


def gateway_timeout() -> Refusal:
    return Refusal(
        504,
        "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n<center><h1>504 Gateway Time-out"
        "</h1></center>\r\n</body>\r\n</html>\r\n",
    )


def refusal_of(scenario: str, times_before: int) -> Refusal | None:
    """What the scenario answers to a creation instead of doing anything, and to a look at a tune, when it was asked
    so many times before."""
    if scenario == "unauthorized":
        return unauthorized()
    if scenario in _ALWAYS:
        return Refusal(*_ALWAYS[scenario])
    return passing_refusal_of(scenario, times_before)


def passing_refusal_of(scenario: str, times_before: int) -> Refusal | None:
    """Refusals that go away by themselves."""
    if times_before >= FIRST_REFUSED:
        return None
    match scenario:
        case "throttled":
            return Refusal(429, {"status": 429, "error": "Too Many Requests"})
        case "throttled_with_hint":
            return Refusal(429, {"status": 429, "error": "Too Many Requests"}, {"retry-after": "2"})
        case "unstable":
            return Refusal(500, {"status": 500, "error": "Internal Server Error"})
    return None


def plan_of(scenario: str, queue_seconds: float, training_seconds: float) -> Plan:
    """What is to become of a tune in this scenario."""
    half = training_seconds / 2
    endings: dict[str, tuple[float, End]] = {
        "fails_while_training": (half, "failed"),
        "fails_by_expiry": (half, "expired"),
        "not_found_later": (half, "vanished"),
        "deleted_while_training": (half, "deleted"),
    }
    match scenario:
        case "immediate" | "webhook_early":
            return Plan(0.0, 0.0)
        case "fails_at_start":
            return Plan(None, queue_seconds, "error")
        case "stuck":
            return Plan(None, None)
        case "eta_passes":
            return Plan(queue_seconds, None)
        case "frozen_at_99":
            return Plan(queue_seconds, None, eta_recedes=True)
    after, end = endings.get(scenario, (training_seconds, "trained"))
    return Plan(queue_seconds, after, end)
