"""Which part of a file is asked for (RFC 9110, section 14), and under which name it is sent."""

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

_RANGE = re.compile(r"bytes\s*=\s*(\d{0,19})-(\d{0,19})\s*", re.IGNORECASE | re.ASCII)
LONGEST_FILE_NAME = 120


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file; the whole unless `is_partial`."""

    start: int
    length: int
    is_partial: bool = False

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class Unsatisfiable(Exception):
    """The range begins behind the end, or asks for nothing."""


def part_of(asked: list[str], if_range: str | None, *, etag: str, size: int) -> Part:
    """The part that the `Range` headers ask for. Raises `Unsatisfiable`.

    Several ranges, and what is no range of bytes, are answered with the whole file; so is a range of what was another
    file before, as `If-Range` tells. A date there matches nothing, since we never gave one."""
    whole = Part(0, size)
    if len(asked) != 1 or (if_range is not None and if_range.strip() != etag):
        return whole
    found = _RANGE.fullmatch(asked[0].strip())
    if found is None or found[0] == "" or not (found[1] or found[2]):
        return whole
    if not found[1]:
        start, end = max(0, size - int(found[2])), size - 1
    else:
        start, end = int(found[1]), min(int(found[2] or size), size - 1)
        if found[2] and int(found[2]) < start:
            return whole  # not a range at all, says the RFC
    if start > end:
        raise Unsatisfiable
    return Part(start, end - start + 1, is_partial=True)


def disposition_of(name: str, ending: str) -> str:
    """`Content-Disposition` for a file of this name: plain ASCII for old readers (RFC 6266), all of it for others
    (RFC 8187). No sign of the name can end the value or the header."""
    if not name.lower().endswith(ending):
        name = name[: LONGEST_FILE_NAME - len(ending)] + ending
    elif len(name) > LONGEST_FILE_NAME:
        name = name[: LONGEST_FILE_NAME - len(ending)] + name[-len(ending) :]
    name = name.lstrip(".") if name.strip(".") else f"dataset{ending}"
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", plain).lstrip("._")
    if not plain.lower().removesuffix(ending[1:]):
        plain = f"dataset{ending}"
    encoded = quote(name.encode("utf-8", "replace"), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
