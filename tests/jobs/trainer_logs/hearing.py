"""A log heard piece by piece, each by a reader that only has the last one's state; everything that was said."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from domain.training.report import LogText, Outcome, Reading, Warned
from domain.training.status import RunStage
from jobs.trainer_logs import LogReader, Said
from tests.jobs.trainer_logs.golden import AT

STATE_BYTES = 4_096


@dataclass
class Heard:
    """All that was said, together."""

    lines: list[LogText] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    warnings: list[Warned] = field(default_factory=list)
    percent: float | None = None
    stage: RunStage | None = None
    outcome: Outcome | None = None
    last_error_line: str | None = None

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.lines]

    @property
    def values(self) -> dict[tuple[str, int], float]:
        return {(reading.name, reading.step): reading.value for reading in self.readings}

    def add(self, said: Said) -> None:
        if said.percent is not None:
            assert 0 <= said.percent <= 100
            assert self.percent is None or said.percent >= self.percent, "progress fell"
            self.percent = said.percent
        self.lines += said.lines
        self.readings += said.readings
        self.warnings += said.warnings
        self.stage = said.stage or self.stage
        self.outcome = said.outcome or self.outcome
        self.last_error_line = said.last_error_line or self.last_error_line


def hear(
    chunks: Sequence[str], *, steps: int | None = None, job: str | None = None, epochs: int | None = None
) -> Heard:
    """What the chunks say, to the end of the log."""
    heard = Heard()
    reader = LogReader(steps=steps, job=job, epochs=epochs)
    for chunk in chunks:
        heard.add(reader.feed(chunk, AT))
        kept = json.dumps(reader.state, ensure_ascii=False)
        assert len(kept.encode()) < STATE_BYTES
        reader = LogReader(json.loads(kept))
    heard.add(reader.finish(AT))
    return heard


def percents(*lines: str, steps: int | None = None, job: str | None = None, epochs: int | None = None) -> list[float]:
    """The progress after each line; 0 while nothing was said."""
    reader = LogReader(steps=steps, job=job, epochs=epochs)
    found = [0.0]
    for line in lines:
        percent = reader.feed(line + "\n", AT).percent
        found.append(found[-1] if percent is None else percent)
    return found[1:]
