"""What a dataset may be called. A name is shown to people and sent as a file's name; it is never a path."""

import unicodedata
from urllib.parse import unquote

from domain.dataset.errors import BadDatasetName

LONGEST_NAME = 200
LONGEST_TYPED = 1000
"""Beyond it nothing is normalized, which takes time that grows with the square of a run of combining marks."""
_DECODINGS = 3
"""How often an encoding may be wrapped into another before we stop looking."""
_FORBIDDEN = frozenset("/\\")
_HIDDEN = frozenset({"Cc", "Cs", "Cn", "Co", "Zl", "Zp"})
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Signs that turn the direction of writing, so that a name reads as another one."""


def checked_name(name: str) -> str:
    """The name without blanks around it, in Unicode's composed form. Raises `BadDatasetName`.

    Refused also where only a decoded form is bad (`%2e%2e%2f`): some receiver would decode it."""
    if len(name) > LONGEST_TYPED:
        raise BadDatasetName(LONGEST_NAME)
    name = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(name) <= LONGEST_NAME:
        raise BadDatasetName(LONGEST_NAME)
    shown = name
    for _ in range(_DECODINGS):
        if _is_bad(shown):
            raise BadDatasetName(LONGEST_NAME)
        shown = unicodedata.normalize("NFKC", unquote(shown))
    return name


def _is_bad(text: str) -> bool:
    return text.strip(". ") == "" or any(
        character in _FORBIDDEN or character in _TURNING or unicodedata.category(character) in _HIDDEN
        for character in text
    )
