"""The whole product on this machine: its servers, API processes and workers. For `up`, `demo`, and tests of faults.

stack = Stack(Path(".runwire"))
stack.start()
...
stack.stop()
"""

import asyncio
import contextlib
import errno
import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httpx2
from sqlalchemy.exc import SQLAlchemyError

from db.embedded import EmbeddedPostgres, EmbeddedRedis, EmbeddedServers
from db.embedded.postgres import DATABASE
from db.operators import name_operator
from db.postgres import API_ROLE, WORKER_ROLE, owner_engine
from db.settings import Settings
from db.upgrade import upgrade
from graph.cli.processes import KILL_SECONDS, Process, Supervisor
from jobs.providers.local.upkeep import stop_everything

READY_SECONDS = 60.0
POLL_SECONDS = 0.05
OF_THE_TERMINAL = frozenset({"RUNWIRE_URL", "RUNWIRE_TOKEN", "RUNWIRE_PASSWORD", "PROVIDER", "PROMPT"})
"""What is for the command line only, and never reaches a child."""


class AlreadyUp(Exception):
    """Another process runs the product on this data directory."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        self.data_dir = data_dir
        self.pid = pid
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            f"Runwire is already running on {data_dir} ({holder}). Stop it with Ctrl-C where it runs"
            + (f" or `kill {pid}`" if pid else "")
            + ", or choose another directory with --data-dir."
        )


class DatabaseUnusable(Exception):
    """The database could not be reached, or not be migrated."""

    def __init__(self, error: Exception) -> None:
        words = str(getattr(error, "orig", None) or error).splitlines()[0]
        super().__init__(f"The database cannot be used: {words}. Check DATABASE_URL; its role must own the schema.")


class Stack:
    """Servers, `apis` API processes on ports of their own, and `workers` workers, all on one data directory.

    `environment` is what the children get, beside the addresses; the servers it names are used instead of embedded
    ones. `on_step` is told what is being done, `on_news` what happened to a child.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        apis: int = 1,
        workers: int = 1,
        environment: Mapping[str, str] | None = None,
        durable: bool = True,
        restart: bool = True,
        on_step: Callable[[str], None] = lambda step: None,
        on_news: Callable[[str], None] = lambda news: None,
    ) -> None:
        self.data_dir = data_dir.absolute()
        given = dict(os.environ if environment is None else environment)
        self.environment = {name: value for name, value in given.items() if name not in OF_THE_TERMINAL}
        self.environment["DATA_DIR"] = str(self.data_dir)
        self.host = self.environment.get("HOST") or "127.0.0.1"
        self.first_port = int(self.environment.get("PORT") or 8000)
        self.restart = restart
        self.on_step = on_step
        self.supervisor = Supervisor(on_news)
        self.servers = EmbeddedServers(self.data_dir, durable=durable)
        self.apis: list[Process] = []
        self.workers: list[Process] = []
        self.api_urls: list[str] = []
        self.api_url = ""
        """The address that is told to the outside: PUBLIC_URL, or the first API's own."""
        self.apps_url = ""
        self.has_own_database = False
        """Whether the database is the embedded one, which is this machine's user's own."""
        self.simulators: list[Process] = []
        self._api_count = apis
        self._worker_count = workers
        self._lock: int | None = None

    @property
    def postgres(self) -> EmbeddedPostgres:
        return self.servers.postgres

    @property
    def redis(self) -> EmbeddedRedis:
        return self.servers.redis

    def start(self) -> None:
        """Start all of it and return when every API says that it is ready.

        Raises AlreadyUp, EmbeddedServerError, DatabaseUnusable, ProcessError or OSError. Call `stop` afterwards in any
        case.
        """
        self._take_directory()
        self._start_servers()
        self.on_step("Bringing the database to the newest schema")
        try:
            asyncio.run(migrate(self.settings()))
        except (OSError, SQLAlchemyError) as error:
            raise DatabaseUnusable(error) from error
        self._choose_addresses()
        self.on_step("Starting the API and the worker")
        if not self.environment.get("SIMULATORS_URL"):
            self._start_simulators()
        for number in range(1, self._worker_count + 1):
            self.workers.append(self._run(f"worker-{number}", "jobs", {}))
        for number, url in enumerate(self.api_urls, start=1):
            self.apis.append(self._run(f"api-{number}", "graph", {"PORT": str(urlsplit(url).port)}, "serve"))
        self.wait_until_ready(bear_deaths=False)

    def stop(self) -> None:
        """End it in order: API and workers, their sandboxes, the servers. Nothing of it is left."""
        try:
            self.supervisor.stop()
        finally:
            self._end_rest()

    def kill(self) -> None:
        """End it at once, also in the middle of `stop`. What was committed stays; sandboxes are told, and end soon."""
        self.supervisor.kill()
        self.redis.kill()
        self.postgres.kill()
        # In a thread, since this one may be in the middle of the same.
        ending = threading.Thread(target=lambda: asyncio.run(stop_everything(self.data_dir)), daemon=True)
        ending.start()
        ending.join(KILL_SECONDS)

    def wait_until_ready(self, limit_seconds: float = READY_SECONDS, *, bear_deaths: bool = True) -> None:
        """Return when every API answers at `/readyz` that it can work. Raises ProcessError with the end of a log.

        A process that dies meanwhile is started again; without `bear_deaths` that is an error.
        """
        deadline = time.monotonic() + limit_seconds
        with httpx2.Client(timeout=5, trust_env=False) as http:
            for process, url in zip(self.apis, self.api_urls, strict=True):
                while not _is_ready(http, url, with_worker=bool(self.workers)):
                    for other in self.processes:
                        if other.gave_up or (other.deaths and not bear_deaths):
                            raise other.problem("ended as soon as it had started")
                    if time.monotonic() > deadline:
                        raise process.problem(f"was not ready within {limit_seconds:g} seconds")
                    time.sleep(POLL_SECONDS)

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers, *self.simulators]

    def name_operator(self, email: str) -> None:
        """Let the local user look after the installation, which is theirs as far as its database is embedded."""
        if not self.has_own_database:
            return

        async def name() -> None:
            engine = owner_engine(self.settings())
            try:
                await name_operator(engine, email)
            finally:
                await engine.dispose()

        asyncio.run(name())

    def settings(self) -> Settings:
        """The settings that the children will read."""
        names = {name.lower(): value for name, value in self.environment.items() if value}
        known = {name: value for name, value in names.items() if name in Settings.model_fields}
        return Settings.model_validate(known)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, name: str, module: str, environment: Mapping[str, str], *arguments: str) -> Process:
        # -P: a folder `graph` or `jobs` where somebody happens to stand must not be taken for ours.
        command = [sys.executable, "-P", "-m", module, *arguments]
        log = self.data_dir / "logs" / f"{name}.log"
        process = Process(name, command, {**self.environment, **environment}, log, restart=self.restart)
        self.supervisor.start(process)
        return process

    def _start_servers(self) -> None:
        has_database, has_redis = bool(self.environment.get("DATABASE_URL")), bool(self.environment.get("REDIS_URL"))
        if not has_database and not has_redis:
            self.on_step("Starting PostgreSQL and Redis")
            addresses = self.servers.start()
            self.environment |= {"DATABASE_URL": addresses.database_url, "REDIS_URL": addresses.redis_url}
        elif not has_database:
            self.on_step("Starting PostgreSQL")
            self.environment["DATABASE_URL"] = self.postgres.start()
        elif not has_redis:
            self.on_step("Starting Redis")
            self.environment["REDIS_URL"] = self.redis.start()
        self.has_own_database = not has_database
        if not has_database:
            # Who comes as the owner can step up again; who comes as the role cannot, whatever is sent to the database.
            self.environment |= {
                "API_DATABASE_URL": self.postgres.address_of(DATABASE, API_ROLE),
                "WORKER_DATABASE_URL": self.postgres.address_of(DATABASE, WORKER_ROLE),
            }

    def _start_simulators(self) -> None:
        """The test mode of this machine: what stands in for every remote provider."""
        port = free_port("127.0.0.1", 0)
        arguments = ("--port", str(port))
        self.simulators.append(self._run("simulators", "jobs.simulators", {}, *arguments))
        self.environment["SIMULATORS_URL"] = f"http://127.0.0.1:{port}"

    def _choose_addresses(self) -> None:
        port = self.first_port
        for _ in range(self._api_count):
            port = free_port(self.host, port)
            self.api_urls.append(f"http://{_in_url(self.host)}:{port}")
            port += 1
        self.environment["HOST"] = self.host
        first = self.api_urls[0]
        self.api_url = self.environment.setdefault("PUBLIC_URL", first)
        # Two names of one port are two origins: what a served page does cannot reach into the playground.
        if self.api_url == first and urlsplit(first).hostname == "127.0.0.1" and _localhost_is("127.0.0.1"):
            self.environment.setdefault("APPS_URL", first.replace("127.0.0.1", "localhost"))
        self.apps_url = self.environment.get("APPS_URL") or self.api_url

    def _end_rest(self) -> None:
        try:
            if self._lock is not None and not asyncio.run(stop_everything(self.data_dir)):
                self.supervisor.on_news("A sandbox does not end; its supervisor goes on trying.")
        finally:
            try:
                self.servers.stop()
            finally:
                self.redis.stop()  # these two for where only one of them was ours; else they do nothing
                self.postgres.stop()
                self._leave_directory()

    def _take_directory(self) -> None:
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self.data_dir / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(file, 20, 0).decode(errors="replace").strip()
            os.close(file)
            raise AlreadyUp(self.data_dir, int(holder) if holder.isdigit() else None) from None
        os.truncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._lock = file

    def _leave_directory(self) -> None:
        if self._lock is not None:
            os.truncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None


async def migrate(settings: Settings) -> None:
    """Bring the database to the newest schema, as its owner."""
    engine = owner_engine(settings)
    try:
        await upgrade(engine)
    finally:
        await engine.dispose()


def free_port(host: str, first: int) -> int:
    """`first`, or the next port where nobody listens; 0 takes any. Raises OSError when there is none."""
    for port in range(first, min(first + 200, 65536)) if first else [0]:
        with contextlib.suppress(OSError):
            return _bound_port(host, port)
    raise OSError(errno.EADDRINUSE, f"No port from {first} on is free on {host}; name another one with PORT")


def _bound_port(host: str, port: int) -> int:
    """The port, if we can listen there. A stranger on ::1 would be what `localhost` means to a browser."""
    with contextlib.ExitStack() as stack:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        own = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: old connections do not matter
        own.bind((host, port))
        chosen = int(own.getsockname()[1])
        if host == "127.0.0.1" and socket.has_ipv6:
            other = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                other.bind(("::1", chosen))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise
        return chosen


def _localhost_is(address: str) -> bool:
    try:
        found = socket.getaddrinfo("localhost", None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return any(entry[4][0] == address for entry in found)


def _in_url(host: str) -> str:
    host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
    return f"[{host}]" if ":" in host else host


def _is_ready(http: httpx2.Client, url: str, *, with_worker: bool) -> bool:
    """Whether the API can do all of its work; it also answers 200 while it can do only some."""
    try:
        answer = http.get(f"{url}/readyz")
        checks = answer.json().get("checks", {}) if answer.is_success else {}
    except (httpx2.HTTPError, ValueError):
        return False
    return bool(checks) and all(is_well for name, is_well in checks.items() if with_worker or name != "worker")
