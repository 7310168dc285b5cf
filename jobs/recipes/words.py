"""How a recipe's program speaks: lines for people, and structured lines for the one who watches it.

epoch 12/40 loss 0.2134 validation_accuracy 0.9410
::runwire {"stage": "TRAINING", "percent": 30.0, "readings": [{"name": "loss", "step": 12, "value": 0.2134}]}
::runwire {"end": {"reason": "DIVERGED", "message": "…"}}        the last line
"""

import json
import time
from typing import Any

MARK = "::runwire "
TELL_EVERY_SECONDS = 0.1


class Failure(Exception):
    """The program cannot go on: DATA_ERROR, DIVERGED or CODE_ERROR, and a sentence for the person who asked."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class BadData(Failure):
    """The data is not what the recipe needs."""

    def __init__(self, message: str) -> None:
        super().__init__("DATA_ERROR", message)


def say(text: str) -> None:
    """One line for people; `WARNING …` and `ERROR …` are louder."""
    print(" ".join(text.split("\n"))[:4_000], flush=True)


def tell(**facts: Any) -> None:
    """One structured line."""
    print(MARK + json.dumps(facts, allow_nan=False, ensure_ascii=False), flush=True)


def stage(name: str) -> None:
    """Which step begins; the names are those of the product's RunStage."""
    tell(stage=name)


class Throttle:
    """True at most so often."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.next_at = 0.0

    def ready(self) -> bool:
        """Whether enough time went by since it last said yes."""
        now = time.monotonic()
        if now < self.next_at:
            return False
        self.next_at = now + self.seconds
        return True
