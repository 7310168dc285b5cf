"""Places in a stream: base64url of `1.<run|user|chat>.<uuid>.<epoch>.<seq>`."""

import base64
import binascii
from dataclasses import dataclass
from uuid import UUID

from domain.events import Stream, StreamKind
from domain.paging import BadCursor

LARGEST_SEQ = 2**31 - 2
"""GraphQL's `Int` tells numbers of events, and the one after the last that was seen; none ever comes as far."""


@dataclass(frozen=True, slots=True)
class StreamCursor:
    """Which event of which stream was seen last, and in which epoch of the journal."""

    stream: Stream
    epoch: int
    seq: int

    def __str__(self) -> str:
        text = f"1.{self.stream.kind}.{self.stream.id}.{self.epoch}.{self.seq}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str, stream: Stream) -> "StreamCursor":
        """Raises `BadCursor` if the cursor is malformed or of another stream."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
            version, kind, id, epoch, seq = raw.split(".")
            found = cls(Stream(StreamKind(kind), UUID(id)), int(epoch), int(seq))
        except (binascii.Error, ValueError):
            raise BadCursor from None
        if (
            version != "1"
            or found.stream != stream
            or not 0 <= found.seq <= LARGEST_SEQ
            or str(found) != text.rstrip("=")
        ):
            raise BadCursor
        return found
