"""Where datasets' bytes are kept: a folder of files that are named by ids and never by people.

    datasets/<uuid>                the bytes of a READY dataset
    datasets/incoming/<uuid>.part  bytes on their way, locked by the process that receives them

Everything is opened below the folder's own descriptor and without following links, so a link that somebody put into
the store leads nowhere. All functions block; call them in a thread.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self
from uuid import UUID

from db.settings import Settings
from domain.dataset.errors import DatasetBeingUploaded, DiskFull

logger = logging.getLogger("runwire.storage")

DISK_RESERVE_BYTES = 256 * 1024**2
"""Left free for everything else on the disk: PostgreSQL stops where it has no room."""
CHECK_BYTES = 64 * 1024**2
"""How much is written between two looks at the free room."""
INCOMING = "incoming"
_PART = ".part"
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileMissing(Exception):
    """The store has no such file, or something that is not a plain file is in its place."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of the store, as the sweep sees it."""

    dataset_id: UUID
    changed_at: datetime


def free_bytes(folder: Path) -> int:
    """What an ordinary process may still write to the disk of this folder."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


class DatasetStore:
    """The files of all datasets of this installation."""

    def __init__(self, folder: Path, *, free: Callable[[Path], int] = free_bytes) -> None:
        self.folder = folder
        self._free = free

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(settings.data_dir / "datasets")

    def receive(self, dataset_id: UUID, *, announced_bytes: int = 0) -> "Incoming":
        """A file to write a dataset's bytes to; use it as a context manager, which removes what was not kept.

        Raises `DatasetBeingUploaded` while another process or request receives the same dataset, and `DiskFull`."""
        for folder in (self.folder, self.folder / INCOMING):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check_room(announced_bytes)
        return self._claimed(dataset_id)

    def open(self, dataset_id: UUID) -> BinaryIO:
        """A dataset's bytes. Raises `FileMissing`, also for links and whatever else is no plain file."""
        try:
            with self._opened() as folder:
                file = os.open(str(dataset_id), os.O_RDONLY | os.O_NONBLOCK | _SAFELY, dir_fd=folder)
        except OSError as error:
            raise FileMissing from error
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileMissing
        return os.fdopen(file, "rb", buffering=0)

    def remove(self, dataset_id: UUID) -> None:
        """Remove a dataset's bytes; none is fine too."""
        with contextlib.suppress(FileNotFoundError), self._opened() as folder:
            os.unlink(str(dataset_id), dir_fd=folder)

    def files(self) -> Iterator[StoredFile]:
        """Every dataset's file in the store."""
        yield from self._listed(self.folder, "")

    def remove_parts(self, before: datetime) -> int:
        """Remove unfinished uploads that nobody writes any more; how many there were."""
        removed = 0
        for part in list(self._listed(self.folder / INCOMING, _PART)):
            if part.changed_at >= before:
                continue
            with contextlib.suppress(DatasetBeingUploaded), self._claimed(part.dataset_id):
                removed += 1
        return removed

    def check_room(self, more_bytes: int) -> None:
        """Raises `DiskFull` unless so many bytes fit and the reserve stays free."""
        if self._free(self.folder) < more_bytes + DISK_RESERVE_BYTES:
            raise DiskFull

    def _claimed(self, dataset_id: UUID) -> "Incoming":
        with self._opened(INCOMING) as incoming:
            name = f"{dataset_id}{_PART}"
            while True:
                with _room_needed():
                    part = os.open(name, os.O_RDWR | os.O_CREAT | _SAFELY, 0o600, dir_fd=incoming)
                try:
                    fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    if _is_still(part, name, incoming):
                        os.ftruncate(part, 0)  # whatever a killed process left
                        return Incoming(self, dataset_id, os.fdopen(part, "r+b", buffering=0))
                    os.close(part)  # its last owner kept or removed it before we had the lock
                except BlockingIOError:
                    os.close(part)
                    raise DatasetBeingUploaded from None
                except BaseException:
                    os.close(part)
                    raise

    @contextlib.contextmanager
    def _opened(self, below: str | None = None) -> Iterator[int]:
        """A descriptor of the store's folder, or of one right below it; neither may be a link."""
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | _SAFELY)
        try:
            if below is not None:
                outer, folder = folder, os.open(below, os.O_RDONLY | os.O_DIRECTORY | _SAFELY, dir_fd=folder)
                os.close(outer)
            yield folder
        finally:
            os.close(folder)

    def _listed(self, folder: Path, ending: str) -> Iterator[StoredFile]:
        if not folder.is_dir():
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    dataset_id = UUID(entry.name.removesuffix(ending))
                    if f"{dataset_id}{ending}" != entry.name:
                        continue
                    changed = entry.stat(follow_symlinks=False).st_mtime
                except (ValueError, FileNotFoundError):
                    continue
                yield StoredFile(dataset_id, datetime.fromtimestamp(changed, UTC))


class Incoming:
    """Bytes on their way into the store: counted, hashed, and gone again unless they are kept."""

    def __init__(self, store: DatasetStore, dataset_id: UUID, file: BinaryIO) -> None:
        self.bytes = 0
        self._store = store
        self._dataset_id = dataset_id
        self._file = file
        self._digest = hashlib.sha256()
        self._unchecked_bytes = 0
        self._is_kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Done with it. What was not kept is gone."""
        try:
            if not self._is_kept:
                with contextlib.suppress(FileNotFoundError), self._store._opened(INCOMING) as incoming:
                    os.unlink(f"{self._dataset_id}{_PART}", dir_fd=incoming)
        finally:
            self._file.close()  # and with it goes the lock

    @property
    def sha256(self) -> str:
        """Hex, of the bytes so far."""
        return self._digest.hexdigest()

    def write(self, block: bytes) -> None:
        """Raises `DiskFull`."""
        self._unchecked_bytes += len(block)
        if self._unchecked_bytes >= CHECK_BYTES:
            self._store.check_room(len(block))
            self._unchecked_bytes = 0
        rest = memoryview(block)
        with _room_needed():
            while rest:
                rest = rest[self._file.write(rest) :]
        self._digest.update(block)
        self.bytes += len(block)

    def finish(self) -> BinaryIO:
        """All bytes are on the disk itself; gives the file, at its beginning, to read them again."""
        with _room_needed():
            os.fsync(self._file.fileno())
        with self._store._opened(INCOMING) as incoming:
            again = os.open(f"{self._dataset_id}{_PART}", os.O_RDONLY | _SAFELY, dir_fd=incoming)
        return os.fdopen(again, "rb", buffering=1024**2)

    def keep(self) -> None:
        """Make these the dataset's bytes, for good. Call it with the dataset's row locked, right before the commit:
        where the commit then fails, the next upload writes over them and the sweep finds them."""
        with _room_needed(), self._store._opened(INCOMING) as incoming, self._store._opened() as folder:
            os.replace(f"{self._dataset_id}{_PART}", str(self._dataset_id), src_dir_fd=incoming, dst_dir_fd=folder)
            self._is_kept = True
            os.fsync(folder)
            os.fsync(incoming)


_SAFELY = os.O_NOFOLLOW | os.O_CLOEXEC


def _is_still(file: int, name: str, folder: int) -> bool:
    """Whether this open file is the one that bears the name now."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(file)
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino) and stat.S_ISREG(mine.st_mode)


@contextlib.contextmanager
def _room_needed() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        logger.error("The disk of the dataset store is full.", extra={"error": errno.errorcode[error.errno or 0]})
        raise DiskFull from error
