"""Reads a trainer's log as it grows, in any cut, and goes on in another process."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from domain.secret import masked
from domain.training.report import LogText, Outcome, Reading, Warned
from domain.training.status import LogLevel, RunStage
from jobs.trainer_logs.bars import Bar, announces_other, segments
from jobs.trainer_logs.following import Following
from jobs.trainer_logs.measuring import Measuring
from jobs.trainer_logs.pieces import Ending, Piece, Splitter
from jobs.trainer_logs.refreshes import Look, Refreshes
from jobs.trainer_logs.registry import sign_of
from jobs.trainer_logs.sign import Claim, Sign
from jobs.trainer_logs.state import MOST, WORD_CHARACTERS
from jobs.trainer_logs.structured import MARK, structured_of
from jobs.trainer_logs.text import LINE_CHARACTERS, has_open_string, loudness, plain, storable, without_stamp

MOST_READINGS = 3_000
"""In one stretch; only a text that nobody has read for hours, or that means no good, has more."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a stretch of a log says; of what changes, the newest word. None and empty: not said in this stretch."""

    lines: tuple[LogText, ...] = ()
    percent: float | None = None
    """Of the training, 0 to 100; it never falls, and is 100 only by our own structured lines."""
    eta_seconds: float | None = None
    """Until the training's end, by the trainer's own words."""
    readings: tuple[Reading, ...] = ()
    warnings: tuple[Warned, ...] = ()
    stage: RunStage | None = None
    """Only by our own structured lines."""
    outcome: Outcome | None = None
    """Only by our own structured lines."""
    last_error_line: str | None = None


class LogReader:
    """Feed it the text that follows what was fed before, and keep `state` beside the offset of the text.

    `steps` and `job` say which bar is the training: the one to this number of steps, or of this name; `epochs` how many
    there are, where a bar per epoch does not say it. They are kept in the state.
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
        self._splitter = Splitter.of(state.get("pieces"))
        self._follow = Following.of(state.get("follow"))
        self._measuring = Measuring.of(state.get("measuring"))
        self._refreshes = Refreshes.of(state.get("refreshes"))
        if steps:
            self._follow.steps = min(max(steps, 0), MOST)
        if epochs:
            self._follow.epochs = min(max(epochs, 0), MOST)
        if job:
            self._follow.job = storable(job)[:WORD_CHARACTERS]
        self._follow.ordered = self._follow.ordered or bool(steps or job)

    @property
    def state(self) -> dict[str, Any]:
        """All that is needed to go on; less than 4 KB of JSON in UTF-8, whatever was read."""
        return {
            "pieces": self._splitter.kept(),
            "follow": self._follow.kept(),
            "measuring": self._measuring.kept(),
            "refreshes": self._refreshes.kept(),
        }

    def feed(self, text: str, at: datetime) -> Said:
        """What this text says, as far as it is whole; a bar is whole when its last bracket is there. `at` is when it
        was written, or read. All that comes of a text comes at once: feed a long one in stretches."""
        hearing = self._hearing(at)
        # Backspaces go back to what is to be replaced, as returns do: Keras writes a bar's width of them.
        for piece in self._splitter.feed(storable(text).replace("\b", "\r")):
            hearing.take(piece)
        hearing.glance(self._splitter.running)
        return hearing.said()

    def finish(self, at: datetime) -> Said:
        """What is left when the log is over."""
        hearing = self._hearing(at)
        for piece in self._splitter.finish():
            hearing.take(piece)
        hearing.release()
        return hearing.said()

    def _hearing(self, at: datetime) -> "_Hearing":
        return _Hearing(self._follow, self._measuring, self._refreshes, at)


class _Hearing:
    """One stretch of the log being read."""

    def __init__(self, follow: Following, measuring: Measuring, refreshes: Refreshes, at: datetime) -> None:
        self.follow = follow
        self.measuring = measuring
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
        """Read a piece."""
        text = plain(piece.text)
        if not text.strip():
            self._blank(piece)
        elif not piece.is_whole:
            self.release()
            self._line(text)
        else:
            for segment in segments(text):
                if isinstance(segment, Bar):
                    self._bar(segment, is_closed=text.endswith(segment.text) and piece.ending is Ending.LINE)
                else:
                    self._words(segment, piece.ending)

    def glance(self, running: str) -> None:
        """Look at a piece that has no end yet. A bar's newest look never has one, and may be the last for long: what it
        says is heard now, and hearing it again with its end changes nothing."""
        text = plain(running)
        if text.endswith("]") and not has_open_string(running):
            found = segments(text)
            if len(found) == 1 and isinstance(found[0], Bar):
                self._hear(found[0])

    def release(self) -> None:
        """Show what was held back."""
        for line in self.refreshes.release():
            self._line(line)

    def _blank(self, piece: Piece) -> None:
        if piece.ending is not Ending.LINE:
            return
        if self.refreshes.held:
            self.release()
        elif piece.is_whole and self.refreshes.follows_words:
            self.lines.append(LogText("", self.at))
            self.refreshes.follows_words = False

    def _bar(self, bar: Bar, is_closed: bool) -> None:
        sign = self._hear(bar)
        is_other = sign is None or sign.claim is Claim.OTHER
        name = f"{bar.description} {bar.total:g}"
        self._look(Look(bar.text, name, bar.percent, 0 < bar.total <= bar.done, is_closed, is_other))

    def _words(self, text: str, ending: Ending) -> None:
        bare = without_stamp(text)
        if bare.lstrip().startswith(MARK):
            self._structured(bare.lstrip().removeprefix(MARK))
            return
        sign = self._hear(bare)
        if sign is not None and sign.done is not None and (sign.is_look or ending is Ending.REFRESH):
            percent = sign.percent if sign.percent is not None else 100 * sign.done / (sign.total or max(sign.done, 1))
            name = f"{sign.format} {sign.counter} {self.follow.epoch if sign.per_epoch else 0}"
            is_other, is_closed = sign.claim is Claim.OTHER, ending is Ending.LINE
            self._look(Look(text, name, percent, sign.is_complete, is_closed, is_other))
        elif ending is Ending.REFRESH:
            for line in self.refreshes.words(text, self.follow.percent):
                self._line(line)
        else:
            self.follow.elsewhere = announces_other(bare)
            for line in [*self.refreshes.line(text), text]:
                self._line(line)

    def _look(self, look: Look) -> None:
        if look.is_complete:
            self.follow.elsewhere = False
        for line in self.refreshes.look(look, self.follow.percent):
            self._line(line)

    def _hear(self, segment: Bar | str) -> Sign | None:
        """Learn from what was said."""
        sign = sign_of(segment, self.follow.known)
        if sign is None or self.follow.claim == Claim.OWN:
            return sign
        self.follow.learn(sign)
        is_followed = self.follow.follow(sign)
        if is_followed:
            self.percent = self.follow.percent
            eta = self.follow.eta_seconds(sign)
            self.eta_seconds = eta if eta is not None else self.eta_seconds
        if is_followed or (sign.claim is not Claim.OTHER and not sign.is_look):
            for reading in self.measuring.readings(sign, self.follow, self.at):
                if len(self.readings) < MOST_READINGS:
                    self.readings.append(reading)
            self.warnings.extend(self.measuring.warnings(sign, self.follow))
        return sign

    def _structured(self, text: str) -> None:
        said = structured_of(text, self.at)
        if said is None:
            return
        self.stage = said.stage or self.stage
        if said.percent is not None:
            self.percent = self.follow.own_word(said.percent)
        self.eta_seconds = said.eta_seconds if said.eta_seconds is not None else self.eta_seconds
        self.readings.extend(said.readings[: max(0, MOST_READINGS - len(self.readings))])
        self.outcome = said.outcome or self.outcome

    def _line(self, text: str) -> None:
        line = masked(text)[:LINE_CHARACTERS]
        level = loudness(line)
        self.lines.append(LogText(line, self.at, level))
        if level is LogLevel.ERROR and line.strip():
            self.last_error_line = line.strip()
