"""One look at a program in a sandbox: how it stands, and what its log says after an offset."""

import base64
import binascii
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from jobs.providers.base import ProviderBusy


class ProgramState(StrEnum):
    """What is known of a program."""

    ABSENT = "absent"
    """It was never started here."""
    RUNNING = "running"
    ENDED = "ended"
    GONE = "gone"
    """Neither running nor ended: it was killed, with the script that would have told."""


@dataclass(frozen=True, slots=True)
class ProgramEnd:
    """How a program ended."""

    code: int
    seconds: int
    was_over_time: bool
    was_out_of_memory: bool
    """Whether the kernel killed a process of the sandbox meanwhile, for want of memory."""


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What one look showed."""

    state: ProgramState
    offset: int
    data: bytes
    """The log's bytes from the offset on, bounded."""
    size: int
    """Of the whole log, in bytes."""
    began_at: datetime | None = None
    """By the sandbox's clock."""
    end: ProgramEnd | None = None

    @property
    def is_whole(self) -> bool:
        """Whether nothing will follow after these bytes: the program has ended, and the log was read to its end."""
        return self.end is not None and self.offset + len(self.data) >= self.size

    @classmethod
    def of(cls, printed: str, offset: int) -> Self:
        """From what `look.sh` printed. Raises `ProviderBusy` for anything else, as it comes from a cut stream."""
        first, _, encoded = printed.partition("\n")
        words = first.split()
        if words == ["absent"]:
            return cls(ProgramState.ABSENT, offset, b"", 0)
        try:
            state = ProgramState(words[0])
            size, began = int(words[1]), datetime.fromtimestamp(int(words[2]), UTC)
            data = base64.b64decode(encoded.strip(), validate=True)
            end = None
            if state is ProgramState.ENDED:
                code, seconds, killed, is_over = map(int, words[3:7])
                end = ProgramEnd(code, seconds, bool(is_over), killed > 0)
        except (IndexError, ValueError, OverflowError, OSError, binascii.Error):
            raise ProviderBusy("A sandbox at E2B was looked at, and showed nothing that can be read.") from None
        return cls(state, offset, data, size, began, end)
