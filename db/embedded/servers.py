"""Both embedded servers of one data directory, held by one process at a time."""

import atexit
import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from db.embedded.errors import AlreadyRunning, CannotUse
from db.embedded.postgres import EmbeddedPostgres
from db.embedded.redis import EmbeddedRedis

LOG_CHECK_SECONDS = 30.0


@dataclass(frozen=True)
class EmbeddedAddresses:
    database_url: str
    """`postgresql://runwire_owner@/runwire?host=<private folder>`, without a password."""
    redis_url: str
    """`unix://<private folder>/redis.sock?db=0`"""


class EmbeddedServers:
    """PostgreSQL and Redis in `data_dir`, on Unix sockets that only this user (and root) can open, never on TCP.

    with EmbeddedServers(Path(".runwire")) as servers:
        connect(servers.start().database_url)
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir.absolute()
        self.postgres = EmbeddedPostgres(self.data_dir, durable=durable)
        self.redis = EmbeddedRedis(self.data_dir)
        self._lock = _DirectoryLock(self.data_dir)
        self._stopped = threading.Event()

    def start(self) -> EmbeddedAddresses:
        """Start whichever of the two does not run, and return when both answer.

        Raises AlreadyRunning when another process holds the directory, else EmbeddedServerError; then neither runs.
        """
        if self._lock.take():
            self._stopped.clear()
            atexit.register(self.stop)  # for who forgets; a killed process takes them along too, see process.py
            threading.Thread(target=self._bound_logs, name="embedded-logs", daemon=True).start()
        try:
            return EmbeddedAddresses(database_url=self.postgres.start(), redis_url=self.redis.start())
        except OSError as error:
            self.stop()
            raise CannotUse(self.data_dir, error) from error
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop both and let go of the directory. Does nothing when they do not run."""
        if not self._lock.is_held:
            return
        try:
            self.redis.stop()
        finally:
            self.postgres.stop()
            self._stopped.set()
            self._lock.release()
            atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _bound_logs(self) -> None:
        while not self._stopped.wait(LOG_CHECK_SECONDS):
            self.postgres.trim_log()
            self.redis.trim_log()


class _DirectoryLock:
    """Ours alone: a lock on the file `servers.lock`, which the kernel lifts when its holder ends, however it ends."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._file: int | None = None

    @property
    def is_held(self) -> bool:
        return self._file is not None

    def take(self) -> bool:
        """True when taken now, False when held before. Raises AlreadyRunning."""
        if self._file is not None:
            return False
        try:
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._data_dir / "servers.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotUse(self._data_dir, error) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 20, 0).decode(errors="replace").strip()
            os.close(file)
            raise AlreadyRunning(self._data_dir, int(holder) if holder.isdigit() else None) from None
        os.truncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file
        return True

    def release(self) -> None:
        if self._file is not None:
            os.truncate(self._file, 0)
            os.close(self._file)
            self._file = None
