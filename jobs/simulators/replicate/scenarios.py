"""What can happen to a training, by name."""

from collections.abc import Mapping

SCENARIOS: Mapping[str, str] = {
    "success": "Boots, fetches the data, trains, packs the weights, succeeds.",
    "fails_at_start": "The worker cannot be set up: failed without a word in the log.",
    "fails_while_training": "Fails at 45 % with a traceback in the log and an error.",
    "bad_data": "The trainer cannot use the archive: failed with an error that names the input.",
    "stuck": "Comes to 40 % and never ends.",
    "frozen_at_99": "Comes to 99 % and never ends.",
    "no_capacity": "Waits for a machine in `starting` and never leaves it (replicate-python #352).",
    "slow_start": "Waits for a machine in `starting` for a minute, then succeeds.",
    "aborted": "Ends as `aborted` before it began, a status that the SDK cannot read.",
    "canceled_elsewhere": "Somebody cancels it on Replicate's own page.",
    "cancel_late": "A cancellation is answered at once and takes effect three seconds later.",
    "not_found_later": "Answers 404 two seconds after it began, and is in no list.",
    "nine_digits": "Succeeds, with nine fractional digits in all times.",
    "reply_lost": "Is created, and the connection is cut instead of an answer.",
    "reply_late": "Is created, and the answer comes seconds later.",
    "created_504": "Is created, and a gateway answers 504.",
    "unauthorized": "401: the token is not valid.",
    "no_money": "402 on creation: no way to pay is set up.",
    "unprocessable": "422 on creation: the version is invalid or not permitted.",
    "conflict": "The destination is made by somebody else meanwhile: `POST /models` answers 409. Then it succeeds.",
    "throttled": "Creation answers 429 twice, and so do two reads of the training; then it succeeds.",
    "unstable": "Creation answers 503 and 500, and so do two reads of the training; then it succeeds.",
    "webhook_lost": "Succeeds without a single webhook.",
    "webhook_late": "Succeeds; each webhook comes twenty seconds late.",
    "webhook_doubled": "Succeeds; each webhook comes twice, with the same id.",
    "webhook_reordered": "Succeeds; the webhook of the end comes first, then the earlier ones, newest first.",
    "webhook_early": "Succeeds; a webhook comes before the creation is answered.",
    "webhook_forged": "Succeeds; before the real webhooks come lies with a wrong signature, and one that is too old.",
    "webhook_oversized": "Succeeds with a log, and so with webhooks, of several megabytes.",
}

ON_EVERY_CALL = frozenset({"unauthorized"})
"""Told by the key alone, these are true of every call and not of creations only."""

CREATION_FAULTS: Mapping[str, tuple[int, ...]] = {"throttled": (429, 429), "unstable": (503, 500)}
READ_FAULTS: Mapping[str, tuple[int, ...]] = {"throttled": (429, 429), "unstable": (502, 500)}
"""Which answers come first. 502 and 500 on reads, since the SDK hides 429, 503 and 504 by asking again itself."""
