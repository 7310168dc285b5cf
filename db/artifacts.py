"""Where the files that trainings elsewhere left behind are kept: fetched from a sandbox, or uploaded by a script.

    artifacts/<tag>/<name>                a whole file, complete and checked
    artifacts/<tag>/.<name>.<hex>.part    one on its way

A tag names one attempt of a run. Bytes are counted and hashed as they come, written to a file of their own, and bear
their name only once they are all there and on the disk; so nobody ever reads half a file, and two that keep the same
artifact at once end with one whole file. Everything is opened below the store's descriptor, without following links.
"""

import contextlib
import errno
import hashlib
import os
import re
import secrets
import stat
from collections.abc import AsyncIterable, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

import anyio
from anyio import to_thread

from db.settings import Settings
from db.storage import DISK_RESERVE_BYTES, FileMissing, free_bytes
from domain.dataset.errors import DiskFull
from domain.secret import masked, same

LONGEST_NAME = 150
"""Characters of a tag or a name; file systems take 255 bytes, and a part's name is longer than the file's."""
BLOCK_BYTES = 1024**2
"""Smaller chunks are gathered to so much before a thread writes them."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PART = ".part"
_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ArtifactRefused(Exception):
    """The file cannot be kept. `str(error)` is a sentence; nothing of it was stored."""


class ArtifactTooLarge(ArtifactRefused):
    """More bytes came than were allowed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The file has more than the {limit_bytes} bytes that are allowed.")
        self.limit_bytes = limit_bytes


class ArtifactDamaged(ArtifactRefused):
    """The bytes are not those that were announced."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"The file's SHA-256 is {found}, but {expected} was announced: send it again.")
        self.expected, self.found = expected, found


class BadArtifactName(ArtifactRefused):
    """A name that could lead out of the store, or hide in it."""

    def __init__(self) -> None:
        super().__init__(
            f"A file's name has 1 to {LONGEST_NAME} letters, digits, points, lines and hyphens, and begins with a"
            " letter or digit."
        )


class KeptArtifact(NamedTuple):
    """A whole file in the store."""

    path: Path
    """Absolute."""
    bytes: int
    sha256: str
    """Hex."""


class ArtifactStore:
    """The artifacts of all runs of this installation."""

    def __init__(self, folder: Path, *, free: Callable[[Path], int] = free_bytes) -> None:
        self.folder = folder.absolute()
        self._free = free

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The installation's own store, `DATA_DIR/artifacts`."""
        return cls(settings.data_dir / "artifacts")

    async def keep(
        self, tag: str, name: str, chunks: AsyncIterable[bytes], *, limit_bytes: int, sha256: str | None = None
    ) -> KeptArtifact:
        """Keep the bytes under this name, in place of what had it before; with `sha256` (hex) only if they are those.

        Raises `BadArtifactName`, `ArtifactTooLarge`, `ArtifactDamaged`, `DiskFull`, and whatever the chunks raise;
        the former file, if there was one, is then still there."""
        path = self.path_of(tag, name)
        part = await to_thread.run_sync(self._part, tag, name)
        try:
            gathered = bytearray()
            async for chunk in chunks:
                part.count(chunk, limit_bytes)
                gathered += chunk
                if len(gathered) >= BLOCK_BYTES:
                    await to_thread.run_sync(part.write, bytes(gathered))
                    gathered.clear()
            await to_thread.run_sync(part.write, bytes(gathered))
            if sha256 is not None and not same(part.sha256, sha256.lower()):
                raise ArtifactDamaged(sha256.lower(), part.sha256)
            await to_thread.run_sync(part.take_its_name)
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(part.close)
        return KeptArtifact(path, part.bytes, part.sha256)

    def path_of(self, tag: str, name: str) -> Path:
        """Where the file is or would be. Raises `BadArtifactName`."""
        return self.folder / _checked(tag) / _checked(name)

    def open(self, tag: str, name: str) -> BinaryIO:
        """A kept file, to be read in a thread. Raises `BadArtifactName` and `FileMissing`."""
        self.path_of(tag, name)
        try:
            with self._folder_of(tag) as folder:
                file = os.open(name, os.O_RDONLY | os.O_NONBLOCK | _SAFELY, dir_fd=folder)
        except OSError as error:
            raise FileMissing from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileMissing
        return os.fdopen(file, "rb", buffering=0)

    def sizes(self, tag: str) -> dict[str, int]:
        """The whole files that were kept of an attempt, each with its bytes. Blocks. Raises `BadArtifactName`."""
        _checked(tag)
        found: dict[str, int] = {}
        with contextlib.suppress(FileNotFoundError), self._folder_of(tag) as folder:
            for name in os.listdir(folder):
                with contextlib.suppress(FileNotFoundError):
                    entry = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    if _is_name(name) and stat.S_ISREG(entry.st_mode):
                        found[name] = entry.st_size
        return found

    def remove(self, tag: str) -> None:
        """Remove everything that was kept of an attempt; none is fine too. Blocks. Raises `BadArtifactName`."""
        _checked(tag)
        with contextlib.suppress(FileNotFoundError):
            with self._folder_of(tag) as folder:
                for name in os.listdir(folder):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
            with contextlib.suppress(OSError):  # somebody keeps a file there just now
                (self.folder / tag).rmdir()

    def tags(self) -> list[str]:
        """The attempts that something was kept of. Blocks."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            return sorted(one.name for one in entries if one.is_dir(follow_symlinks=False) and _is_name(one.name))
        return []

    def remove_parts(self, before: datetime) -> int:
        """Remove unfinished files that nobody wrote to since then; how many there were. Blocks."""
        removed = 0
        for tag in self.tags():
            with contextlib.suppress(FileNotFoundError), self._folder_of(tag) as folder:
                for name in os.listdir(folder):
                    if not (name.startswith(".") and name.endswith(_PART)):
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < before.timestamp():
                            os.unlink(name, dir_fd=folder)
                            removed += 1
        return removed

    def _part(self, tag: str, name: str) -> "_Part":
        for folder in (self.folder, self.folder / tag):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return _Part(self, tag, name)

    def check_room(self, more_bytes: int) -> None:
        """Raises `DiskFull` unless so many bytes fit and the reserve stays free."""
        if self._free(self.folder) < more_bytes + DISK_RESERVE_BYTES:
            raise DiskFull

    @contextlib.contextmanager
    def _folder_of(self, tag: str) -> Iterator[int]:
        """A descriptor of the attempt's folder; neither it nor the store's may be a link."""
        outer = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        try:
            folder = os.open(tag, os.O_RDONLY | os.O_DIRECTORY | _SAFELY, dir_fd=outer)
        finally:
            os.close(outer)
        try:
            yield folder
        finally:
            os.close(folder)


class _Part:
    """One file on its way. All methods but `count` block."""

    def __init__(self, store: ArtifactStore, tag: str, name: str) -> None:
        self.bytes = 0
        self._store, self._tag, self._name = store, tag, name
        self._part = f".{name}.{secrets.token_hex(8)}{_PART}"
        self._digest = hashlib.sha256()
        self._has_its_name = False
        with _room_needed(), store._folder_of(tag) as folder:
            self._file = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY, 0o600, dir_fd=folder)

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def count(self, chunk: bytes, limit_bytes: int) -> None:
        self.bytes += len(chunk)
        if self.bytes > limit_bytes:
            raise ArtifactTooLarge(limit_bytes)

    def write(self, block: bytes) -> None:
        self._store.check_room(len(block))
        rest = memoryview(block)
        with _room_needed():
            while rest:
                rest = rest[os.write(self._file, rest) :]
        self._digest.update(block)

    def take_its_name(self) -> None:
        with _room_needed(), self._store._folder_of(self._tag) as folder:
            os.fsync(self._file)
            os.replace(self._part, self._name, src_dir_fd=folder, dst_dir_fd=folder)
            self._has_its_name = True
            os.fsync(folder)

    def close(self) -> None:
        os.close(self._file)
        if not self._has_its_name:
            with contextlib.suppress(FileNotFoundError), self._store._folder_of(self._tag) as folder:
                os.unlink(self._part, dir_fd=folder)


def _is_name(text: str) -> bool:
    return len(text) <= LONGEST_NAME and _NAME.fullmatch(text) is not None and masked(text) == text


def _checked(text: str) -> str:
    if not _is_name(text):
        raise BadArtifactName
    return text


@contextlib.contextmanager
def _room_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull from error
        raise
