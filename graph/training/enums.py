"""The enums of runs, with what each value means to those who read the schema."""

from domain.training.rules import RuleAction
from domain.training.status import EndReason, LogLevel, Provider, RunStage, RunStatus, WarningCode
from domain.training.texts import ENDS, STAGES
from graph.enums import expose

expose(
    RunStatus,
    "Where a run stands: QUEUED → PREPARING → TRAINING → DEPLOYING → READY, or FAILED or CANCELED from any of them;"
    " CANCELING between the wish to stop and the provider's yes. READY, FAILED and CANCELED are final.",
    {
        "QUEUED": "Accepted; nobody works on it yet.",
        "PREPARING": "The provider makes a place and fetches the data.",
        "TRAINING": "The training program runs.",
        "DEPLOYING": "The model is trained, and its address is being proved.",
        "CANCELING": "Somebody wants it stopped; the provider has not confirmed yet. Every end is then CANCELED.",
        "READY": "Trained and, where that was asked for, answering at its address.",
        "FAILED": "Ended without what was asked for; `endReason` says why.",
        "CANCELED": "Stopped, and the provider confirmed that nothing of it is left.",
    },
)
expose(
    RunStage,
    "The finer step within a status, in the order they happen.",
    {stage.value: f"{english}." for stage, (english, _) in STAGES.items()},
)
expose(
    EndReason,
    "Why a run or an attempt ended.",
    {reason.value: f"{english}." for reason, (english, _) in ENDS.items()},
)
expose(
    Provider,
    "Who does the work; LOCAL is this installation's own machine.",
    {
        "LOCAL": "This installation's own machine, in a sandbox.",
        "REPLICATE": "Replicate: public trainers; the model stays there.",
        "RUNPOD": "RunPod: a machine with a GPU, for the time of the training.",
        "ASTRIA": "Astria: image models tuned to a person or a thing; the model stays there.",
        "E2B": "E2B: a sandbox without a GPU, for the time of the training.",
    },
)
expose(
    LogLevel,
    "How loud a log line is.",
    {
        "DEBUG": "Details for those who look for a fault.",
        "INFO": "What goes on.",
        "WARNING": "Something looks wrong, and it goes on.",
        "ERROR": "Something went wrong.",
    },
)
expose(
    WarningCode,
    "What may look wrong with a training.",
    {
        "NAN_LOSS": "The loss is not a number any more.",
        "SILENCE": "Nothing was heard of the training's script for more than 90 seconds.",
        "DISK_NEARLY_FULL": "The disk is 95 % full or more.",
        "IDLE_GPU": "The GPU has had nothing to do for ten minutes.",
    },
)
expose(
    RuleAction,
    "What is done when something looks wrong.",
    {
        "IGNORE": "Nothing.",
        "WARN": "The event `RunWarned` tells it, once per attempt.",
        "STOP": "It is told, and the run is stopped.",
    },
)
