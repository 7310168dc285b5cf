"""Reads text line by line in bounded memory, and knows where it is when something is wrong."""

import io
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from domain.dataset.file_errors import LineTooLong, NotUtf8, NulByte, UnsafeZip

BLOCK_BYTES = 256 * 1024
ROW_LIMIT_BYTES = 8 * 1024**2
"""The longest row, with all the line ends that its quotes hold."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of UTF-8 text, with their ends. A byte order mark at the beginning is dropped.

    Whoever makes rows of them sets `unfinished_bytes` to 0 after each row. Raises `NotUtf8`, `NulByte` and
    `LineTooLong`; `UnsafeZip` past `limit_bytes`, which only unpacked text has."""

    def __init__(self, source: BinaryIO, *, limit_bytes: int | None = None) -> None:
        self.unfinished_bytes = 0
        """Read since the last row ended, give or take a block."""
        self.offset = 0
        """How much of the text was given away, in bytes."""
        self._source = source
        self._limit_bytes = limit_bytes
        self._count = 0

    def __iter__(self) -> Iterator[str]:
        # Lists of lines, chained: a million lines cost no million calls of ours.
        return chain.from_iterable(self._blocks())

    def _blocks(self) -> Iterator[list[str]]:
        rest = self._source.read(BLOCK_BYTES)
        if rest.startswith(BYTE_ORDER_MARK):
            rest, self.offset = rest[len(BYTE_ORDER_MARK) :], len(BYTE_ORDER_MARK)
        while block := self._source.read(BLOCK_BYTES):
            whole, end, rest = (rest + block).rpartition(b"\n")
            yield self._lines_of(whole + end)
            if len(rest) > ROW_LIMIT_BYTES:
                raise LineTooLong(self._count + 1, ROW_LIMIT_BYTES)
        yield self._lines_of(rest)

    def _lines_of(self, block: bytes) -> list[str]:
        if b"\0" in block:
            at = block.index(b"\0")
            raise NulByte(self.offset + at, self._count + block.count(b"\n", 0, at) + 1)
        try:
            lines = io.StringIO(block.decode()).readlines()
        except UnicodeDecodeError as error:
            raise NotUtf8(self.offset + error.start, block[error.start]) from None
        self.unfinished_bytes += len(block)
        if self.unfinished_bytes > ROW_LIMIT_BYTES + BLOCK_BYTES:
            raise LineTooLong(self._count + 1, ROW_LIMIT_BYTES)
        self._count += len(lines)
        self.offset += len(block)
        if self._limit_bytes is not None and self.offset > self._limit_bytes:
            limit = self._limit_bytes
            raise UnsafeZip(f"it unpacks to more than {limit} bytes", f"ele se expande para mais de {limit} bytes")
        return lines
