"""GraphQL's own words about a mistake in a request, without what was given: with a wrong input they would repeat all of
it, and with it a password or a key, to wherever a client logs its errors."""

import re

from domain.secret import masked

LONGEST_NAME = 32
"""Longer than any name of the schema; keys and tokens are longer still."""
_GIVEN = re.compile(
    r"(?:(?P<suggests>\?)|[,.;]) [Ff]ound: .*$"
    r"|(?P<says>(?:String|ID|Enum '\w+') cannot represent [^:]*value): .*$",
    re.DOTALL,
)


_LONG = re.compile(rf"(['\"])[^'\"\s]{{{LONGEST_NAME + 1},}}\1")
"""What stands in the place of a name, and is none."""


def without_given(message: str) -> str:
    """The message, saying what was expected and where."""
    said = _GIVEN.sub(lambda found: found["suggests"] or f"{found['says'] or ''}.", message)
    return _LONG.sub(r"\1…\1", masked(said))
