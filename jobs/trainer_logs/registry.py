"""All trainer formats that are read, the most particular first. The first that knows a piece has it."""

from typing import Protocol

from jobs.trainer_logs.bars import Bar
from jobs.trainer_logs.formats import ai_toolkit, counters, flux, hugging_face, keras, kohya, lightning, nanogpt, tqdm
from jobs.trainer_logs.sign import Known, Sign


class Format(Protocol):
    """How one trainer writes."""

    @property
    def NAME(self) -> str: ...

    def read(self, piece: Bar | str, known: Known) -> Sign | None:
        """What the piece says; None if it is not in this format. Pure, and linear in the piece."""
        ...


FORMATS: tuple[Format, ...] = (flux, kohya, lightning, ai_toolkit, tqdm, hugging_face, keras, nanogpt, counters)


def sign_of(piece: Bar | str, known: Known) -> Sign | None:
    """What a piece says, in the first format that knows it."""
    for format in FORMATS:
        sign = format.read(piece, known)
        if sign is not None:
            return sign
    return None
