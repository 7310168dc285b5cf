"""Reads a trainer's log as it grows, in any cut, and goes on in another process."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.secret import masked
from domain.training.report import LogText, Outcome, Reading, Warned
from domain.training.status import LogLevel, RunStage
from jobs.trainer_logs import following
from jobs.trainer_logs.bars import Bar, is_other, segments
from jobs.trainer_logs.following import JOB_CHARACTERS, Following
from jobs.trainer_logs.pieces import Ending, Piece, Splitter
from jobs.trainer_logs.refreshes import Refreshes
from jobs.trainer_logs.registry import sign_of
from jobs.trainer_logs.structured import MARK, MOST_STEPS, structured_of
from jobs.trainer_logs.text import LINE_CHARACTERS, loudness, plain, storable, without_stamp


@dataclass(frozen=True, slots=True)
class Said:
    """What a stretch of a log says; of what changes, the newest word. None and empty: not said in this stretch."""

    lines: tuple[LogText, ...] = ()
    percent: float | None = None
    """Of the training, 0 to 100; it never falls, and is 100 only by our own structured lines."""
    eta_seconds: float | None = None
    readings: tuple[Reading, ...] = ()
    warnings: tuple[Warned, ...] = ()
    stage: RunStage | None = None
    outcome: Outcome | None = None
    """Only by our own structured lines."""
    last_error_line: str | None = None


class LogReader:
    """Feed it the text that follows what was fed before, and keep `state` beside the offset of the text.

    `steps` and `job` say which bar is the training: the one to this number of steps, or of this name.
    """

    def __init__(
        self,
        state: Mapping[str, Any] | None = None,
        *,
        steps: int | None = None,
        job: str | None = None,
        epochs: int | None = None,
    ) -> None:
        state = state or {}
        carry, given = state.get("carry"), state.get("given")
        self._splitter = Splitter(
            storable(carry) if isinstance(carry, str) else "",
            min(max(given, 0), LINE_CHARACTERS) if isinstance(given, int) else 0,
        )
        self._follow = Following.of(state.get("follow"))
        self._refreshes = Refreshes.of(state.get("refreshes"))
        self._follow.steps = min(steps, MOST_STEPS) if steps else self._follow.steps
        self._follow.epochs = min(epochs, MOST_STEPS) if epochs else self._follow.epochs
        self._follow.job = storable(job)[:JOB_CHARACTERS] if job else self._follow.job
        self._follow.told = self._follow.told or bool(steps or job)

    @property
    def state(self) -> dict[str, Any]:
        """All that is needed to go on; less than 4 KB of JSON, whatever was read."""
        return {
            "carry": self._splitter.carry,
            "given": self._splitter.given,
            "follow": self._follow.kept(),
            "refreshes": self._refreshes.kept(),
        }

    def feed(self, text: str, at: datetime) -> Said:
        """What this text says, as far as it is whole. `at` is when it was written, or read."""
        heard = _Hearing(self._follow, self._refreshes, at)
        for piece in self._splitter.feed(storable(text)):
            heard.take(piece)
        return heard.said()

    def finish(self, at: datetime) -> Said:
        """What is left when the log is over."""
        heard = _Hearing(self._follow, self._refreshes, at)
        for piece in self._splitter.finish():
            heard.take(piece)
        heard.release()
        return heard.said()


class _Hearing:
    """One stretch of the log being read."""

    def __init__(self, follow: Following, refreshes: Refreshes, at: datetime) -> None:
        self.follow = follow
        self.refreshes = refreshes
        self.at = at
        self.lines: list[LogText] = []
        self.readings: list[Reading] = []
        self.warnings: list[Warned] = []
        self.percent: float | None = None
        self.eta_seconds: float | None = None
        self.stage: RunStage | None = None
        self.outcome: Outcome | None = None
        self.last_error_line: str | None = None

    def said(self) -> Said:
        return Said(
            tuple(self.lines),
            self.percent,
            self.eta_seconds,
            tuple(self.readings),
            tuple(self.warnings),
            self.stage,
            self.outcome,
            self.last_error_line,
        )

    def take(self, piece: Piece) -> None:
        text = plain(piece.text)
        if not text:
            self._blank(piece)
        elif not piece.is_whole:
            self._line(text)
        else:
            for segment in segments(text):
                if isinstance(segment, Bar):
                    self._bar(segment)
                else:
                    self._words(segment, piece.ending)

    def release(self) -> None:
        """Show what was held back."""
        held = self.refreshes.release()
        if held:
            self._line(held)

    def _blank(self, piece: Piece) -> None:
        if piece.ending is not Ending.LINE:
            return
        if self.refreshes.held:
            self.release()
        elif piece.is_whole:
            self.lines.append(LogText("", self.at))

    def _bar(self, bar: Bar) -> None:
        self._sign(bar)
        overall = self.follow.percent
        if self.refreshes.shows(f"{bar.description} {bar.total}", bar.percent, bar.done >= bar.total, overall):
            self._line(bar.text)

    def _words(self, text: str, ending: Ending) -> None:
        bare = without_stamp(text)
        if bare.startswith(MARK):
            self._structured(bare.removeprefix(MARK))
            return
        is_refresh = self._sign(bare)
        if not is_refresh and ending is Ending.REFRESH:
            before = self.refreshes.replaces(text, self.follow.percent)
            if before:
                self._line(before)
            return
        self.release()
        if not is_refresh:
            self.follow.elsewhere = is_other(bare)
            self._line(text)

    def _sign(self, piece: Bar | str) -> bool:
        """Learn from a piece; True if it is one of many looks of a bar of words, and is not shown."""
        sign = sign_of(piece, self.follow.known)
        if sign is None:
            return False
        heard = following.take(self.follow, sign, self.at)
        self.percent = heard.percent if heard.percent is not None else self.percent
        self.eta_seconds = heard.eta_seconds if heard.eta_seconds is not None else self.eta_seconds
        self.readings.extend(heard.readings)
        self.warnings.extend(heard.warnings)
        if isinstance(piece, Bar) or not sign.is_refresh:
            return False
        inside = 100 * (sign.done or 0) / (sign.total or 1)
        name = f"{sign.format} {sign.counter} {sign.total}"
        return not self.refreshes.shows(name, inside, sign.is_complete, self.follow.percent)

    def _structured(self, text: str) -> None:
        said = structured_of(text, self.at)
        if said is None:
            return
        self.stage = said.stage or self.stage
        if said.percent is not None:
            self.follow.percent = max(self.follow.percent, said.percent)
            self.percent = self.follow.percent
        self.eta_seconds = said.eta_seconds if said.eta_seconds is not None else self.eta_seconds
        self.readings.extend(said.readings)
        self.outcome = said.outcome or self.outcome

    def _line(self, text: str) -> None:
        line = masked(text)[:LINE_CHARACTERS]
        level = loudness(line)
        self.lines.append(LogText(line, self.at, level))
        if level is LogLevel.ERROR and line.strip():
            self.last_error_line = line.strip()
