"""GraphQL's own words about a mistake in a request, without what was given: with a wrong input they would repeat all of
it, and with it a password or a key, to wherever a client logs its errors."""

import re

_GIVEN = re.compile(
    r"(?:(?P<suggests>\?)|[,.;]) [Ff]ound: .*$"
    r"|(?P<says>(?:String|ID|Enum '\w+') cannot represent [^:]*value): .*$",
    re.DOTALL,
)


def without_given(message: str) -> str:
    """The message, saying what was expected and where."""
    return _GIVEN.sub(lambda found: found["suggests"] or f"{found['says'] or ''}.", message)
