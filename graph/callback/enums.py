"""The enums of callbacks, with what each value means to those who read the schema."""

from domain.callback.model import CallbackSource, CallbackStatus
from graph.enums import expose

expose(
    CallbackSource,
    "Who called.",
    {
        "REPLICATE": "Replicate, about a training.",
        "ASTRIA": "Astria, about a tune.",
        "E2B": "E2B, about a sandbox.",
        "POD": "The script of an attempt at a provider.",
    },
)
expose(
    CallbackStatus,
    "What became of a callback.",
    {
        "RECEIVED": "Stored; a worker applies it, or tries again.",
        "APPLIED": "Folded into its run, or taken as a hint to read the provider again.",
        "MOOT": "About a run or an attempt that was over, or one that nobody knows.",
        "REJECTED": "Not by whom it says: no valid signature, or too old.",
        "UNREADABLE": "In no form that is understood, or only in part; `error` says what was expected.",
    },
)
