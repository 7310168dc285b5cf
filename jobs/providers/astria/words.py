"""The vendor's own words, fit to be shown and stored: short, without secrets, without signs that no row holds."""

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from domain.secret import masked

MOST_CHARACTERS = 2_000
MOST_TEXTS = 50
_LONGEST_TEXT = 16_000
_DEEPEST = 5
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def words_of(said: object, hidden: Sequence[str] = ()) -> str:
    """One line of text from any of the vendor's error shapes: `{field: [text]}`, `message`, `error`, `errors`, a text.

    Empty for what says nothing. `hidden` are secrets that the vendor was given and might repeat.
    """
    text = "; ".join(dict.fromkeys(islice(_texts(said), MOST_TEXTS)))
    for secret in hidden:
        if secret:
            text = text.replace(secret, "•••")
    return clean(text)


def clean(text: str) -> str:
    """At most 2,000 characters; what PostgreSQL cannot hold is replaced, and what looks like a token is masked."""
    return masked(_UNSTORABLE.sub("\ufffd", text))[:MOST_CHARACTERS].strip()


def _texts(said: object, depth: int = 0) -> Iterable[str]:
    if depth > _DEEPEST or said is None or isinstance(said, bool):
        return
    if isinstance(said, dict):
        for name, value in said.items():
            for text in _texts(value, depth + 1):
                plain = str(name) in ("message", "error", "errors", "base", "detail", "details")
                yield text if plain else f"{name} {text}"
    elif isinstance(said, list | tuple):
        for value in said:
            yield from _texts(value, depth + 1)
    else:
        text = str(said)[:_LONGEST_TEXT].strip()
        if text:
            yield text
