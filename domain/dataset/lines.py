"""Reads text line by line in bounded memory, and knows where it is when something is wrong."""

from typing import BinaryIO

from domain.dataset.file_errors import LineTooLong, NotUtf8, NulByte, UnsafeZip

ROW_LIMIT_BYTES = 8 * 1024**2
"""The longest row, with all its quoted line ends; at most about two of them are in memory at once."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of UTF-8 text, with their ends. A byte order mark at the beginning is dropped.

    Raises `NotUtf8`, `NulByte` and `LineTooLong`; `UnsafeZip` past `limit_bytes`, which only unpacked text has."""

    def __init__(self, source: BinaryIO, *, limit_bytes: int | None = None) -> None:
        self.number = 0
        """Of the line given last; the first is 1."""
        self._source = source
        self._limit_bytes = limit_bytes
        self._offset = 0
        self._row_bytes = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        raw = self._source.readline(ROW_LIMIT_BYTES + 1)
        if not raw:
            raise StopIteration
        self.number += 1
        start, self._offset = self._offset, self._offset + len(raw)
        self._row_bytes += len(raw)
        if self._row_bytes > ROW_LIMIT_BYTES:
            raise LineTooLong(self.number, ROW_LIMIT_BYTES)
        if self._limit_bytes is not None and self._offset > self._limit_bytes:
            raise UnsafeZip(
                f"it unpacks to more than {self._limit_bytes} bytes",
                f"ele se expande para mais de {self._limit_bytes} bytes",
            )
        if start == 0 and raw.startswith(BYTE_ORDER_MARK):
            start, raw = len(BYTE_ORDER_MARK), raw[len(BYTE_ORDER_MARK) :]
        if b"\0" in raw:
            raise NulByte(start + raw.index(b"\0"), self.number)
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise NotUtf8(start + error.start, raw[error.start]) from None

    def row_ended(self) -> None:
        """A row was made of the lines so far; the next line begins another."""
        self._row_bytes = 0
