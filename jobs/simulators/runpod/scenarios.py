"""What can happen to a pod, by name, and which of it the wire, the clock or the script does."""

from collections.abc import Mapping

SCENARIOS: Mapping[str, str] = {
    "success": "The pod comes up, trains and ends well.",
    "fails_at_start": "The container never comes up: the pod's status is ERROR after STARTING.",
    "fails_while_training": "The program dies half way, with a traceback, and the script reports it.",
    "bad_data": "The script finds that the dataset is not what it should be.",
    "diverges": "The loss becomes NaN, and the program says so and ends.",
    "stuck": "Training goes on for ever without progress; heartbeats come.",
    "frozen_at_99": "Training reaches 99 % and stays there; heartbeats come.",
    "silent": "The script says nothing any more half way; the pod stays RUNNING.",
    "no_runtime": "The pod is RUNNING, but its container never starts: no runtime and no word of the script.",
    "stuck_starting": "The pod stays in STARTING for ever.",
    "exits": "The container exits half way without a word: EXITED.",
    "breaks": "The pod's status becomes ERROR half way, without a word of the script.",
    "pod_vanished": "The pod is gone half way, from the list and by its id.",
    "not_found_later": "The pod is gone before its container has started.",
    "hidden_at_first": "A pod that was created is in no list and not found for some seconds.",
    "lingers": "A terminated pod is still there for some seconds.",
    "conflict": "The first action on the pod is refused with 409.",
    "doubled_reports": "The script sends each report twice.",
    "clock_skewed": "The pod's clock is an hour behind.",
    "no_capacity": "No machine is free, ever (400).",
    "no_capacity_500": "No machine is free, ever, said with a 500.",
    "no_capacity_once": "No machine is free at the first try.",
    "no_capacity_twice": "No machine is free at the first two tries.",
    "reply_lost": "The pod is created, and the connection is cut instead of answering.",
    "reply_late": "The answer to the creation comes some seconds late.",
    "unauthorized": "The key is refused (401).",
    "no_access": "The key may not do this (403).",
    "no_money": "The balance is too low (402).",
    "unprocessable": "The creation is refused with 422.",
    "throttled": "The first three creations are refused with 429, then all is fine.",
    "unstable": "The first three creations are answered with 500, then all is fine.",
}
SCRIPTED = frozenset(
    {
        *("fails_while_training", "bad_data", "diverges", "stuck", "frozen_at_99", "silent"),
        *("doubled_reports", "clock_skewed"),
    }
)
"""Those that only a scripted pod can play; in the others the pod's own start script may be run."""
REFUSED_FIRST: Mapping[str, int] = {"no_capacity_once": 1, "no_capacity_twice": 2, "throttled": 3, "unstable": 3}
"""How often a creation is refused before it is fine."""
