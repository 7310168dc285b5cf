"""What a piece of a log is as text: without a terminal's signs, fit to be stored, and how loud it is."""

import re

from domain.training.status import LogLevel

LINE_CHARACTERS = 8_192
"""The longest line that is kept."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
# No class below holds ESC itself, so a search that fails at one ESC ends at the next: the whole takes linear time.
_ESCAPES = re.compile(
    "\x1b\\[[0-?]*[ -/]*[@-~]"  # colours, cursor, erasing
    "|\x1b[PX^_\\]][^\x07\x1b]*(?:\x07|\x1b\\\\)"  # titles and links
    "|\x1b[ -/]*[0-~]"
)
_STRING = re.compile("\x1b[PX^_\\]]")
_CONTROLS = re.compile("[\0-\x07\x0a-\x1f\x7f-\x9f]")
_LEVELS = {level.value: level for level in LogLevel}
_NAMED = _LEVELS | {"WARN": LogLevel.WARNING, "CRITICAL": LogLevel.ERROR, "FATAL": LogLevel.ERROR}
_NAMES = "(DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL)"
_FIRST = re.compile(r"[|\[ ]{0,4}" + _NAMES + r"(?:[\]:| ]|$)")
_BRACKETED = re.compile(r"\[" + _NAMES + r"[\]|]")
_STAMP = re.compile(r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?\]?[ \t]{1,4}")
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w{0,60}\.){0,6}[A-Z]\w{0,60}(?:Error|Exception|Interrupt|Exit)(?::|$)")
PREFIX_CHARACTERS = 100
"""Within so many a logging library puts its level."""


def storable(text: str) -> str:
    """The text without the two signs that PostgreSQL cannot hold, one for one."""
    return _UNSTORABLE.sub("\ufffd", text)


def plain(text: str) -> str:
    """A piece between two ends without what only a terminal understands: colours, cursors, titles."""
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    return _CONTROLS.sub("", text).rstrip()


def has_open_string(text: str) -> bool:
    """Whether a title or link for the terminal begins in it: what follows may be part of that."""
    return _STRING.search(text) is not None


def without_stamp(text: str) -> str:
    """The text behind a time with which a logging library or a script began it."""
    found = _STAMP.match(text)
    return text[found.end() :] if found else text


def level_said(line: str) -> LogLevel | None:
    """The level with which a line begins, if it does: `ERROR …`, `WARNING: …`."""
    return _LEVELS.get(line.partition(" ")[0].rstrip(":"))


def loudness(line: str) -> LogLevel:
    """The level that a line names itself, first or behind a logging library's time and name; exceptions are errors."""
    said = level_said(line)
    if said is not None:
        return said
    beginning = line[:PREFIX_CHARACTERS]
    found = _FIRST.match(without_stamp(beginning)) or _BRACKETED.search(beginning)
    if found is not None:
        return _NAMED[found[1]]
    if _EXCEPTION.match(line) or line.startswith("Traceback (most recent call last)"):
        return LogLevel.ERROR
    return LogLevel.INFO
