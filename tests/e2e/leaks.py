"""Looks for secrets in everything that came out of the product, and tells of what it finds without repeating it."""

import base64
import json
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

SHORTEST = 12
"""What is shorter stands in any text by chance."""
BETWEEN = b"\n\0\n"
"""No secret has this in it, so none is found across two parts."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A secret that came out."""

    kind: str
    form: str
    where: str


@dataclass
class Secrets:
    """What must not come out. `repr` shows only how much of it there is."""

    kinds: dict[str, str] = field(default_factory=dict, repr=False)
    """By text, what it is."""

    def add(self, kind: str, *texts: str) -> None:
        for text in texts:
            if len(text) < SHORTEST:
                raise ValueError(f"{kind} is too short to be looked for.")
            self.kinds.setdefault(text, kind)

    def forms(self) -> Iterator[tuple[str, str, str, bytes]]:
        """Each secret in each form in which it may be written: kind, text, form, and what to look for."""
        for text, kind in self.kinds.items():
            for form, needle in forms_of(text):
                yield kind, text, form, needle


def forms_of(text: str) -> list[tuple[str, bytes]]:
    """The ways to write it that show all of it."""
    plain = text.encode()
    found = {
        "plain": plain,
        "URL-encoded": quote(text, safe="").encode(),
        "JSON-escaped": json.dumps(text)[1:-1].encode(),
    }
    for alignment in range(3):
        coded = base64.b64encode(b"\0" * alignment + plain)
        # What depends on the bytes before and after it is left out.
        whole = (alignment + len(plain)) * 8 // 6
        coded = coded[-(-alignment * 8 // 6) : whole]
        found[f"base64, alignment {alignment}"] = coded
        found[f"base64 for addresses, alignment {alignment}"] = coded.translate(bytes.maketrans(b"+/", b"-_"))
    first = {needle: form for form, needle in reversed(found.items())}
    return [(form, needle) for form, needle in found.items() if first[needle] == form]


@dataclass
class Pile:
    """Many parts of one kind, each with a name, to be looked through at once."""

    parts: list[tuple[str, bytes]]

    def __post_init__(self) -> None:
        self.content = BETWEEN.join(content for _, content in self.parts)
        self.starts: list[int] = []
        start = 0
        for _, content in self.parts:
            self.starts.append(start)
            start += len(content) + len(BETWEEN)

    def places(self, needle: bytes) -> Iterator[str]:
        """The name of the part of each place where it stands; each part once."""
        start = self.content.find(needle)
        while start >= 0:
            part = bisect_right(self.starts, start) - 1
            yield self.parts[part][0]
            following = self.starts[part + 1] if part + 1 < len(self.starts) else len(self.content)
            start = self.content.find(needle, following)


def findings(secrets: Secrets, piles: Iterable[Pile], handed_out: frozenset[tuple[str, str]]) -> list[Finding]:
    """Every secret that stands somewhere; `handed_out` are answers that give one on purpose: part's name, text."""
    found = {
        Finding(kind, form, where)
        for pile in piles
        for kind, text, form, needle in secrets.forms()
        for where in pile.places(needle)
        if (where, text) not in handed_out
    }
    return sorted(found, key=lambda one: (one.where, one.kind, one.form))
