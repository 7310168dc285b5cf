"""What is done when something looks wrong with a training: told, or stopped, as its owner has set."""

from collections.abc import Mapping
from enum import StrEnum

from domain.training.status import EndReason, WarningCode


class RuleAction(StrEnum):
    """What a warning leads to."""

    IGNORE = "IGNORE"
    WARN = "WARN"
    STOP = "STOP"


STOPPED_AS = {
    WarningCode.NAN_LOSS: EndReason.DIVERGED,
    WarningCode.SILENCE: EndReason.LOST,
    WarningCode.DISK_NEARLY_FULL: EndReason.DISK_LIMIT,
    WarningCode.IDLE_GPU: EndReason.IDLE,
}
"""How a run ends that its own rule stops."""


def action_for(rules: Mapping[str, str], code: WarningCode) -> RuleAction:
    """The rule that the run's owner set for this, else a warning."""
    return RuleAction(rules.get(code.value, RuleAction.WARN.value))
