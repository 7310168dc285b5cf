"""Opens the one data file of a ZIP, or counts its pictures, without trusting anything that it says of itself."""

import io
import posixpath
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from domain.dataset.file_errors import BrokenZip, NotOneFile, UnsafeZip
from domain.dataset.model import DatasetFormat

UNPACKED_LIMIT_BYTES = 4 * 1024**3
"""What the recipes unpack at most."""
MEMBER_LIMIT = 1000
DIRECTORY_LIMIT_BYTES = 1024**2
"""The archive's table of contents is read as a whole, so its size is checked before."""
RATIO_LIMIT = 250
"""Real tables shrink to a hundredth at best; deflate ends at about 1,032."""
RATIO_FREE_BYTES = 10 * 1024**2
"""Below it the ratio does not matter."""
ENDINGS = {".csv": DatasetFormat.CSV, ".jsonl": DatasetFormat.JSONL, ".ndjson": DatasetFormat.JSONL}
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
"""What image trainers learn from."""
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar", ".zst", ".jar")
_BROKEN = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OverflowError, ValueError, zlib.error)
_END_BYTES = 22
_LONGEST_COMMENT = 65535


def count_pictures(file: BinaryIO) -> int:
    """How many pictures the archive holds, by their names, if it holds no table; else 0.

    Raises `BrokenZip` and `UnsafeZip`."""
    try:
        if _directory_bytes(file) > DIRECTORY_LIMIT_BYTES:
            raise UnsafeZip("it holds too many files", "ele contém arquivos demais")
        with zipfile.ZipFile(file) as archive:
            members = _checked(archive.infolist())
    except (*_BROKEN, struct.error) as error:
        raise BrokenZip(_reason_of(error)) from None
    finally:
        file.seek(0)
    if any(_kind_of(member.filename) is not None for member in members):
        return 0
    return sum(_is_picture(member) for member in members)


@contextmanager
def only_member(file: BinaryIO) -> Iterator[tuple[BinaryIO, DatasetFormat]]:
    """The bytes and the format of the archive's only CSV or JSONL file. Names inside are judged and never used.

    Raises `BrokenZip`, also while its bytes are read, `UnsafeZip` and `NotOneFile`."""
    try:
        if _directory_bytes(file) > DIRECTORY_LIMIT_BYTES:
            raise UnsafeZip("it holds too many files", "ele contém arquivos demais")
        with zipfile.ZipFile(file) as archive:
            member, kind = _chosen(archive.infolist())
            with archive.open(member) as source:
                yield io.BufferedReader(source, 1024**2), kind  # type: ignore[type-var]  # readable and with readinto, which is all that is asked for
    except (*_BROKEN, struct.error) as error:
        raise BrokenZip(_reason_of(error)) from None


def _checked(members: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    if len(members) > MEMBER_LIMIT:
        raise UnsafeZip(f"it holds more than {MEMBER_LIMIT} files", f"ele contém mais de {MEMBER_LIMIT} arquivos")
    for member in members:
        _check(member)
    if sum(member.file_size for member in members) > UNPACKED_LIMIT_BYTES:
        raise UnsafeZip(
            f"it unpacks to more than {UNPACKED_LIMIT_BYTES} bytes",
            f"ele se expande para mais de {UNPACKED_LIMIT_BYTES} bytes",
        )
    return members


def _is_picture(member: zipfile.ZipInfo) -> bool:
    base = posixpath.basename(member.filename)
    is_hidden = base.startswith(".") or "__MACOSX" in member.filename
    return not is_hidden and base.lower().endswith(PICTURES) and member.file_size > 0


def _chosen(members: list[zipfile.ZipInfo]) -> tuple[zipfile.ZipInfo, DatasetFormat]:
    members = _checked(members)
    found = [(member, kind) for member in members if (kind := _kind_of(member.filename)) is not None]
    if len(found) != 1:
        raise NotOneFile(len(found))
    return found[0]


def _check(member: zipfile.ZipInfo) -> None:
    # The name as the archive has it: zipfile cuts at NUL and turns the system's separator into a slash.
    name = member.orig_filename
    if _is_path(name):
        raise UnsafeZip("a file's name leads out of the archive", "o nome de um arquivo leva para fora do ZIP")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise UnsafeZip("it holds a link or a device", "ele contém um link ou um dispositivo")
    if member.flag_bits & 0x1:
        raise UnsafeZip("a file in it is encrypted", "um arquivo nele está criptografado")
    if name.lower().endswith(ARCHIVES):
        raise UnsafeZip("it holds another archive", "ele contém outro arquivo compactado")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnsafeZip("it is compressed in an unusual way (use Deflate)", "a compressão é incomum (use Deflate)")
    if member.file_size > max(RATIO_FREE_BYTES, RATIO_LIMIT * member.compress_size):
        raise UnsafeZip("it unpacks to far more than it weighs", "ele se expande para muito mais do que pesa")


def _is_path(name: str) -> bool:
    """Whether the name means anything but a plain place below the archive's root."""
    return (
        name.startswith("/")
        or "\\" in name
        or (len(name) > 1 and name[1] == ":")
        or ".." in name.split("/")
        or any(unicodedata.category(character) in ("Cc", "Cs") for character in name)
    )


def _kind_of(name: str) -> DatasetFormat | None:
    """The format of a data file; None for everything else, and for what macOS adds."""
    base = posixpath.basename(name)
    if base.startswith(".") or "__MACOSX" in name:
        return None
    return ENDINGS.get(posixpath.splitext(base)[1].lower())


def _directory_bytes(file: BinaryIO) -> int:
    """The size of the archive's table of contents, as its last record and, where there is one, the 64-bit one say."""
    size = file.seek(0, io.SEEK_END)
    start = max(0, size - _END_BYTES - _LONGEST_COMMENT - 20)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END_BYTES:
        raise BrokenZip("its end is missing")
    (directory_bytes,) = struct.unpack_from("<L", tail, at + 12)
    locator = at - 20
    if locator >= 0 and tail[locator : locator + 4] == b"PK\x06\x07":
        (record_at,) = struct.unpack_from("<Q", tail, locator + 8)
        # Where bytes stand before the archive, the record is not at its offset but right before the locator.
        for offset in (min(record_at, size), start + locator - 56):
            file.seek(max(offset, 0))
            record = file.read(56)
            if len(record) == 56 and record.startswith(b"PK\x06\x06"):
                directory_bytes = max(directory_bytes, struct.unpack_from("<Q", record, 40)[0])
    file.seek(0)
    return int(directory_bytes)


def _reason_of(error: Exception) -> str:
    """In plain words: some of zipfile's hold names from the archive."""
    if isinstance(error, zipfile.BadZipFile) and "CRC" in str(error):
        return "a file in it is damaged"
    return "a part of it cannot be read"
