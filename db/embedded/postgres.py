"""An embedded PostgreSQL 18: its cluster, its settings, its one server process.

The data is in `DATA_DIR/postgres`, the socket in a private folder elsewhere. When we are root, the server runs as an
account of its own that must not need any right on the folders above its data, which may be closed to it. So it starts
*inside* the data folder, entered while still root, and knows it as `/proc/self/cwd`: that is resolved without a walk
through the parents. Nothing outside of DATA_DIR is opened for it.

Who can enter the private folder is trusted: the same user, and root. There are no passwords.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

from db.embedded.account import Account, postgres_account
from db.embedded.errors import DidNotStart, EmbeddedServerError, WrongVersion
from db.embedded.folders import private_folder, remove_folder
from db.embedded.postgres_binaries import VERSION, reachable_installation, wheel_installation
from db.embedded.process import ServerProcess, bare_environment

OWNER = "runwire_owner"
DATABASE = "runwire"
SUPERUSER = "postgres"
START_LIMIT_SECONDS = 30.0
SOCKET_NAME = ".s.PGSQL.5432"

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    # One machine, no replicas: the least that crash recovery needs.
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    # Fewer processes, and short queries rather than large ones.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Neither statements nor the values in them: they may hold what is secret.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}
NOT_DURABLE = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """The server of one data directory. Only the holder of that directory's lock may start it.

    `durable=False` saves waiting for the disk: what is committed survives `kill -9`, but not a power cut. For tests.
    """

    def __init__(self, data_dir: Path, *, durable: bool = True) -> None:
        self.data_dir = data_dir
        self.folder = data_dir / "postgres"
        self.durable = durable
        self.socket_dir: Path | None = None
        self._server = ServerProcess(
            "postgres",
            self.folder,
            data_dir / "logs" / "postgres.log",
            stop_signal=signal.SIGINT,  # "fast": sessions are cut, what is committed is written down
            orphan_signal=signal.SIGQUIT,  # "immediate": the write-ahead log is replayed at the next start
        )

    @property
    def pid(self) -> int | None:
        return self._server.pid

    @property
    def is_running(self) -> bool:
        return self._server.is_running

    @property
    def address(self) -> str:
        """The address of the database `runwire` as its owner. Raises EmbeddedServerError before the first start."""
        return self.address_of(DATABASE)

    @property
    def socket(self) -> Path:
        """The socket's path. Raises EmbeddedServerError before the first start."""
        return self._started_socket_dir() / SOCKET_NAME

    def address_of(self, database: str, role: str = OWNER) -> str:
        """The address of any database of this server, for any role: `postgresql://role@/database?host=…`."""
        return f"postgresql://{quote(role)}@/{quote(database)}?host={quote(str(self._started_socket_dir()))}"

    def start(self) -> str:
        """Start it, if it does not run, and return its address once it answers. Makes the cluster when there is none.

        Raises EmbeddedServerError, with the end of the server's log, after 30 seconds at the latest.
        """
        if self.is_running:
            return self.address
        account = postgres_account()
        self._server.end_leftovers()
        self.socket_dir = private_folder(self.data_dir, "postgres", account, longest_name=f"{SOCKET_NAME}.lock")
        try:
            installation = reachable_installation(account, self.socket_dir)
            self._ensure_cluster(installation, account)
            self._start_server(installation, account)
            self._ensure_owner_and_database()
        except BaseException:
            self.stop()
            raise
        return self.address

    def stop(self) -> None:
        """A fast shutdown; a kill after 10 seconds. Leaves no process and no socket."""
        self._server.stop()
        if self.socket_dir is not None:
            remove_folder(self.socket_dir)

    def kill(self) -> None:
        """SIGKILL for the server and all its children, as a crash would. `start` recovers."""
        self._server.kill()

    def restart(self, *, immediate: bool = False) -> str:
        """Stop and start again at the same address; `immediate` skips the checkpoint, so that it has to recover."""
        self._server.stop(signal.SIGQUIT if immediate else None)
        return self.start()

    def trim_log(self) -> None:
        self._server.trim_log()

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make a database of `runwire_owner`, as a copy of `template` where given, and return its address.

        Nobody may be connected to the template. Raises EmbeddedServerError with PostgreSQL's own words.
        """
        copied = f" TEMPLATE {_quoted(template)}" if template else ""
        self._run_sql(f"CREATE DATABASE {_quoted(name)} OWNER {OWNER}{copied};")
        return self.address_of(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, if it exists, and cut its connections."""
        self._run_sql(f"DROP DATABASE IF EXISTS {_quoted(name)} WITH (FORCE);")

    def _started_socket_dir(self) -> Path:
        if self.socket_dir is None:
            raise EmbeddedServerError("The embedded PostgreSQL has no address before it is started.")
        return self.socket_dir

    def _ensure_cluster(self, installation: Path, account: Account) -> None:
        """Make the cluster beside its place and move it there when whole, so that a crash leaves no half of one."""
        written_by = self.folder / "PG_VERSION"
        if written_by.exists():
            found = written_by.read_text().strip()
            if found != VERSION:
                raise WrongVersion(self.folder, found, VERSION)
            return
        if self.folder.exists():
            self.folder.rmdir()  # an empty one may be replaced, any other is somebody's
        unfinished = self.folder.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
        if not account.is_ours:
            os.chown(unfinished, account.uid, account.gid)
        _initdb(installation, unfinished, account, durable=self.durable)
        unfinished.rename(self.folder)

    def _start_server(self, installation: Path, account: Account) -> None:
        # Nothing of ours runs here any more; but the number in the file may belong to some other process by now,
        # and PostgreSQL would take it for a server and refuse.
        (self.folder / "postmaster.pid").unlink(missing_ok=True)
        settings = SETTINGS | ({} if self.durable else NOT_DURABLE)
        settings["unix_socket_directories"] = str(self.socket_dir)
        command = [str(installation / "bin" / "postgres"), "-D", _as_known_to(account, self.folder)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        self._server.start(command, account)
        self._server.wait_until(self._says_ready, limit_seconds=START_LIMIT_SECONDS)

    def _says_ready(self) -> bool:
        """The server writes its state into the last line of its pid file."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) == 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _ensure_owner_and_database(self) -> None:
        self._run_sql(
            f"SELECT 'CREATE ROLE {OWNER} LOGIN CREATEROLE'"
            f" WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{OWNER}') \\gexec\n"
            f"SELECT 'CREATE DATABASE {DATABASE} OWNER {OWNER}'"
            f" WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{DATABASE}') \\gexec\n"
        )

    def _run_sql(self, script: str) -> None:
        command = [str(wheel_installation() / "bin" / "psql"), "-X", "-q", "-w", "-v", "ON_ERROR_STOP=1"]
        command += ["-h", str(self._started_socket_dir()), "-U", SUPERUSER, "-d", "postgres", "-o", os.devnull]
        done = subprocess.run(
            command, input=script, env=bare_environment(), capture_output=True, encoding="utf-8", check=False
        )
        if done.returncode != 0:
            raise EmbeddedServerError(f"PostgreSQL refused: {done.stderr.strip()}")


def _initdb(installation: Path, folder: Path, account: Account, *, durable: bool) -> None:
    command = [str(installation / "bin" / "initdb"), "-D", _as_known_to(account, folder), "-U", SUPERUSER]
    command += ["--auth-local=trust", "--auth-host=reject", "--encoding=UTF8", "--no-instructions"]
    # PostgreSQL's own locale: text sorts alike on every machine.
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    if not durable:
        command.append("--no-sync")
    done = subprocess.run(
        command,
        cwd=folder,
        env=bare_environment(),
        capture_output=True,
        text=True,
        check=False,
        user=None if account.is_ours else account.uid,
        group=None if account.is_ours else account.gid,
        extra_groups=None if account.is_ours else [],
    )
    if done.returncode != 0:
        raise DidNotStart("initdb", f"it ended with code {done.returncode}", done.stdout + done.stderr)


def _as_known_to(account: Account, folder: Path) -> str:
    """The data folder's name for the server, which starts inside it."""
    if not account.is_ours and sys.platform == "linux":
        return "/proc/self/cwd"
    return str(folder)


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'
