"""The grammar of tqdm's bars: `desc: P%|bar| i/N [elapsed<remaining, rate, postfix]`.

While nobody knows how many there are: `desc: |          | 0/? [00:00<?, ?it/s]`, or `desc: 12it [00:03,  4.01it/s]`.
"""

import re
from dataclasses import dataclass

from jobs.trainer_logs.sign import Claim, Known
from jobs.trainer_logs.values import has_loss, number_of, pairs, seconds_of

MOST_BARS = 16
"""In one piece; more were glued together by nobody who means well."""
DESCRIPTION_CHARACTERS = 120

_BEFORE = re.compile(r"(\d{1,3})$")
_AFTER = re.compile(
    r"%\|[^|]{0,300}\|[ ]{0,4}([\d.]{1,20}[kKMGT]?)/([\d.]{1,20}[kKMGT]?)[ ]{0,2}(?:\[([^\]]{0,500})\])?"
)
_TIMES = re.compile(r"[ ]*([\d:?]+(?: days?, [\d:]+)?)<([\d:?]+(?: days?, [\d:]+)?)(?:,[ ]*([^,]*))?(?:,(.*))?")
_RATE = re.compile(r"([\d.]+)[ ]?(\w+)/(\w+)")
_ENDLESS = re.compile(
    r"([^|\[]{0,120}?)(?::[ ]|^)(?:\|[^|]{0,300}\| )?(\d{1,15})(?:/\? |[A-Za-z]{1,12} )"
    r"\[[\d:]{1,12}(?:<\?)?, [^\]]{0,300}\]"
)
_OTHER = re.compile(
    r"\b(?:caption|cach|latent|load|download|fetch|valid|val\b|eval|sanity|test|predict|sampl|generat|token|map\b|filter"
    r"|preproc|prepar|extract|sav|upload|pack|encod|checkpoint|shard|import|convert|quantiz|bucket|install|hash|scan"
    r"|split|merg|unzip|creat|read|images?\b|files?\b)"
)
_ANNOUNCEMENT = re.compile(
    r"\b(?:caption|cach|load|download|fetch|validat|evaluat|test|predict|sampl|generat|tokeniz|filter|preprocess|prepar"
    r"|extract|sav|upload|pack|encod|convert|quantiz|hash|scan|split|merg|read|creat)ing\b|\bevaluation\b"
)
_TRAINING = re.compile(r"\b(?:train|steps?\b|epochs?\b|iter|fit|optimi)")


@dataclass(frozen=True, slots=True)
class Bar:
    """One look of a bar."""

    text: str
    description: str
    """Without its colon."""
    percent: float
    """As printed: whole."""
    done: float
    total: float
    """0 while it is not known."""
    elapsed_seconds: float | None
    remaining_seconds: float | None
    seconds_per_step: float | None
    postfix: str

    def claim(self, known: Known) -> Claim:
        """What it counts, by its description, its number of steps and whether it shows a loss."""
        name = self.description.casefold()
        if known.job is not None and name == known.job.casefold():
            return Claim.JOB
        if is_other(name) or not self.total:
            return Claim.OTHER
        if known.steps is not None and self.total == known.steps:
            return Claim.STEPS
        if _TRAINING.search(name) or has_loss(pairs(self.postfix)):
            return Claim.LIKELY
        return Claim.GUESS


def is_other(text: str) -> bool:
    """Whether the words are about something else than training steps."""
    return _OTHER.search(text[:DESCRIPTION_CHARACTERS].casefold()) is not None


def announces_other(text: str) -> bool:
    """Whether a line says that such work begins: the bare bar after it is then of that."""
    return _ANNOUNCEMENT.search(text[:DESCRIPTION_CHARACTERS].casefold()) is not None


def segments(text: str) -> list[Bar | str]:
    """The bars in a piece, and what was glued to them: a bar that is not closed yet is followed by whatever is
    printed next."""
    found: list[Bar | str] = []
    start = position = 0
    for _ in range(MOST_BARS):
        at = text.find("%|", position)
        if at < 0:
            break
        position = at + 2
        before = _BEFORE.search(text, max(start, at - 3), at)
        after = _AFTER.match(text, at)
        if before is None or after is None:
            continue
        done, total = number_of(after[1]), number_of(after[2])
        if done is None or not total:
            continue
        description = text[start : before.start()].strip()
        found.append(_bar(text[start : after.end()], description, float(before[1]), done, total, after[3] or ""))
        start = position = after.end()
    rest = text[start:]
    if endless := _ENDLESS.match(rest):
        looked = rest[: endless.end()].strip()
        found.append(Bar(looked, endless[1].strip(), 0.0, float(endless[2]), 0.0, None, None, None, ""))
        rest = rest[endless.end() :]
    if rest.strip():
        found.append(rest)
    return found


def _bar(text: str, description: str, percent: float, done: float, total: float, inside: str) -> Bar:
    times = _TIMES.fullmatch(inside)
    rate = _RATE.search(times[3] or "") if times else None
    per_step: float | None = None
    if rate is not None and (speed := number_of(rate[1])):
        per_step = speed if rate[2] == "s" else 1 / speed
    return Bar(
        text=text.strip(),
        description=description.removesuffix(":").strip()[-DESCRIPTION_CHARACTERS:],
        percent=percent,
        done=done,
        total=total,
        elapsed_seconds=seconds_of(times[1]) if times else None,
        remaining_seconds=seconds_of(times[2]) if times else None,
        seconds_per_step=per_step,
        postfix=(times[4] or "") if times else "",
    )
