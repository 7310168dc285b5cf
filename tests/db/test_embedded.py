"""The embedded servers, really started: where they listen, what they survive, what they leave behind."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis

from db.embedded import AlreadyRunning, EmbeddedServerError, EmbeddedServers
from db.embedded.account import our_account
from db.embedded.errors import CannotUse, DidNotStart
from db.embedded.folders import private_folder
from db.embedded.postgres_binaries import linked_installation, wheel_installation
from db.embedded.process import LOG_LIMIT_BYTES

SOCKET_LIMIT_BYTES = 107
LIMIT_SECONDS = 10

HOLDER = """
import sys
from pathlib import Path
from db.embedded import EmbeddedServers
servers = EmbeddedServers(Path(sys.argv[1]), durable=False)
servers.start()
print(servers.postgres.pid, servers.redis.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A path that no socket could have, below a folder that is closed to others."""
    tmp_path.chmod(0o700)
    return tmp_path / ("long" * 40) / "named like a person's folder" / ".runwire"


@pytest.fixture
def servers(data_dir: Path) -> Iterator[EmbeddedServers]:
    with EmbeddedServers(data_dir, durable=False) as servers:
        yield servers


def ask(address: str, *statements: str) -> Any:
    """What the last statement answers."""

    async def run() -> Any:
        connection = await asyncpg.connect(address, timeout=LIMIT_SECONDS)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(run())


def redis_of(servers: EmbeddedServers) -> redis.Redis:
    return redis.Redis.from_url(servers.redis.address, decode_responses=True)


def family_of(*pids: int | None) -> list[psutil.Process]:
    parents = [psutil.Process(pid) for pid in pids if pid is not None]
    return parents + [child for parent in parents for child in parent.children(recursive=True)]


def all_end(processes: list[psutil.Process]) -> bool:
    """Whether all have ended or do so within seconds; that somebody takes note of it (reaps them) is not needed."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while any(is_alive(process) for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_owner_is_no_superuser_and_owns_the_database(servers: EmbeddedServers) -> None:
    address = servers.postgres.address

    assert ask(address, "SELECT current_user || '@' || current_database()") == "runwire_owner@runwire"
    assert ask(address, "SELECT rolcreaterole AND NOT rolsuper FROM pg_roles WHERE rolname = current_user")
    assert ask(address, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'runwire'") == "runwire_owner"
    assert ask(address, "SHOW server_version_num").startswith("18")


def test_redis_answers_and_keeps_a_log(servers: EmbeddedServers) -> None:
    with redis_of(servers) as client:
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert client.config_get("save") == {"save": ""}


def test_the_sockets_are_private_and_their_paths_short(servers: EmbeddedServers) -> None:
    for server in (servers.postgres, servers.redis):
        folder = server.socket.parent.lstat()
        assert stat.S_ISDIR(folder.st_mode)
        assert stat.S_IMODE(folder.st_mode) == 0o700
        assert stat.S_ISSOCK(server.socket.lstat().st_mode)
        assert len(os.fsencode(server.socket)) <= SOCKET_LIMIT_BYTES


def test_nothing_listens_on_tcp(servers: EmbeddedServers) -> None:
    family = family_of(servers.postgres.pid, servers.redis.pid)

    assert len(family) > 2
    assert [process.net_connections(kind="inet") for process in family] == [[]] * len(family)


def test_they_do_not_inherit_our_secrets(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_KEYS", "not for servers")
    with EmbeddedServers(data_dir, durable=False) as servers:
        for process in family_of(servers.postgres.pid, servers.redis.pid):
            assert "SECRET_KEYS" not in process.environ()


def test_a_second_start_changes_nothing(servers: EmbeddedServers) -> None:
    before = (servers.postgres.pid, servers.redis.pid)

    addresses = servers.start()

    assert (servers.postgres.pid, servers.redis.pid) == before
    assert (addresses.database_url, addresses.redis_url) == (servers.postgres.address, servers.redis.address)


def test_they_outlive_the_thread_that_asked_for_them(data_dir: Path) -> None:
    servers = EmbeddedServers(data_dir, durable=False)
    thread = threading.Thread(target=servers.start)
    thread.start()
    thread.join()
    try:
        assert ask(servers.postgres.address, "SELECT 1") == 1
        with redis_of(servers) as client:
            assert client.ping()
    finally:
        servers.stop()


def test_stop_leaves_the_data_and_nothing_else(data_dir: Path) -> None:
    servers = EmbeddedServers(data_dir, durable=False)
    servers.start()
    ask(servers.postgres.address, "CREATE TABLE kept (line text)", "INSERT INTO kept VALUES ('whole')")
    with redis_of(servers) as client:
        client.set("kept", "whole")
    family = family_of(servers.postgres.pid, servers.redis.pid)
    folders = [servers.postgres.socket.parent, servers.redis.socket.parent]

    servers.stop()
    servers.stop()

    assert all_end(family)
    assert not any(folder.exists() for folder in folders)
    with EmbeddedServers(data_dir, durable=False) as again:
        assert ask(again.postgres.address, "SELECT line FROM kept") == "whole"
        with redis_of(again) as client:
            assert client.get("kept") == "whole"


def test_what_postgres_committed_survives_a_kill(servers: EmbeddedServers) -> None:
    ask(servers.postgres.address, "CREATE TABLE kept (line text)", "INSERT INTO kept VALUES ('whole')")
    family = family_of(servers.postgres.pid)

    servers.postgres.kill()

    assert not servers.postgres.is_running
    assert servers.postgres.pid is None
    assert all_end(family)
    assert (servers.data_dir / "postgres" / "postmaster.pid").exists()
    before = servers.postgres.address
    assert servers.postgres.start() == before
    assert ask(before, "SELECT line FROM kept") == "whole"


def test_what_redis_was_told_survives_a_kill(servers: EmbeddedServers) -> None:
    with redis_of(servers) as client:
        client.set("kept", "whole")

    servers.redis.kill()
    assert not servers.redis.is_running
    servers.redis.start()

    with redis_of(servers) as client:
        assert client.get("kept") == "whole"


@pytest.mark.parametrize("immediate", [False, True])
def test_a_restart_is_another_process_at_the_same_address(servers: EmbeddedServers, immediate: bool) -> None:
    ask(servers.postgres.address, "CREATE TABLE kept (line text)", "INSERT INTO kept VALUES ('whole')")
    before = [(server.pid, server.address) for server in (servers.postgres, servers.redis)]

    addresses = [server.restart(immediate=immediate) for server in (servers.postgres, servers.redis)]

    assert addresses == [address for _, address in before]
    assert not {servers.postgres.pid, servers.redis.pid} & {pid for pid, _ in before}
    assert ask(servers.postgres.address, "SELECT line FROM kept") == "whole"


def test_a_pid_file_that_names_a_stranger_is_no_obstacle(data_dir: Path) -> None:
    with EmbeddedServers(data_dir, durable=False) as servers:
        servers.postgres.kill()
        pid_file = data_dir / "postgres" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")

        servers.postgres.start()

        assert ask(servers.postgres.address, "SELECT 1") == 1


def test_another_holder_is_refused_and_told_who_holds(servers: EmbeddedServers, data_dir: Path) -> None:
    with pytest.raises(AlreadyRunning) as refusal:
        EmbeddedServers(data_dir, durable=False).start()

    assert refusal.value.pid == os.getpid()
    assert str(os.getpid()) in str(refusal.value)
    assert ask(servers.postgres.address, "SELECT 1") == 1


def test_the_servers_of_a_killed_holder_end_and_its_data_stays(data_dir: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, data_dir], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    with holder:
        pids = [int(word) for word in holder.stdout.readline().split()]
        family = family_of(*pids)
        with pytest.raises(AlreadyRunning) as refusal:
            EmbeddedServers(data_dir, durable=False).start()
        assert refusal.value.pid == holder.pid

        holder.send_signal(signal.SIGKILL)
    servers = EmbeddedServers(data_dir, durable=False)
    servers.start()
    try:
        assert all_end(family)
        assert ask(servers.postgres.address, "SELECT 1") == 1
    finally:
        servers.stop()


def test_databases_are_copied_from_a_template_and_dropped_while_in_use(servers: EmbeddedServers) -> None:
    template = servers.postgres.create_database("a template")
    ask(template, "CREATE TABLE kept (line text)", "INSERT INTO kept VALUES ('whole')")

    copy = servers.postgres.create_database('copy "1"', template="a template")

    async def drop_while_connected() -> None:
        connection = await asyncpg.connect(copy)
        assert await connection.fetchval("SELECT line FROM kept") == "whole"
        await asyncio.to_thread(servers.postgres.drop_database, 'copy "1"')
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await connection.fetchval("SELECT 1")
        await connection.close()

    asyncio.run(drop_while_connected())
    servers.postgres.drop_database('copy "1"')
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        ask(copy, "SELECT 1")
    with pytest.raises(EmbeddedServerError, match="already exists"):
        servers.postgres.create_database("a template")


def test_a_server_that_cannot_start_shows_its_log_and_lets_go(data_dir: Path) -> None:
    with EmbeddedServers(data_dir, durable=False):
        pass
    settings = data_dir / "postgres" / "postgresql.conf"
    kept = settings.read_text()
    settings.write_text("no_such_setting = 1\n")
    servers = EmbeddedServers(data_dir, durable=False)

    with pytest.raises(DidNotStart, match="no_such_setting"):
        servers.start()

    assert not servers.postgres.is_running
    assert not servers.redis.is_running
    settings.write_text(kept)
    servers.start()
    servers.stop()


def test_half_a_cluster_is_made_again(data_dir: Path) -> None:
    unfinished = data_dir / "postgres.new"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("1")

    with EmbeddedServers(data_dir, durable=False) as servers:
        assert ask(servers.postgres.address, "SELECT 1") == 1

    assert not unfinished.exists()


def test_a_folder_that_holds_something_else_is_left_alone(data_dir: Path) -> None:
    letter = data_dir / "postgres" / "letter.txt"
    letter.parent.mkdir(parents=True)
    letter.write_text("Dear reader")

    with pytest.raises(CannotUse, match="another DATA_DIR"):
        EmbeddedServers(data_dir, durable=False).start()

    assert letter.read_text() == "Dear reader"


def test_the_log_keeps_its_newest_part(servers: EmbeddedServers) -> None:
    log = servers.data_dir / "logs" / "redis.log"
    with log.open("ab") as file:
        file.write(b"x" * LOG_LIMIT_BYTES)

    servers.redis.trim_log()
    assert log.stat().st_size == 0
    servers.redis.stop()

    assert "bye bye" in log.read_text()
    assert (log.parent / "redis.log.1").stat().st_size > LOG_LIMIT_BYTES


@pytest.mark.parametrize("trap", ["link", "file", "open"])
def test_a_folder_that_is_not_ours_alone_is_not_used(
    trap: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as base, tempfile.TemporaryDirectory(dir="/tmp") as elsewhere:
        monkeypatch.setenv("XDG_RUNTIME_DIR", base)
        first = private_folder(data_dir, "test", our_account(), longest_name="socket")
        assert first.parent == Path(base)
        first.rmdir()
        if trap == "link":
            first.symlink_to(elsewhere)
        elif trap == "file":
            first.touch(mode=0o600)
        else:
            first.mkdir()
            first.chmod(0o755)

        second = private_folder(data_dir, "test", our_account(), longest_name="socket")

        assert second.parent != Path(base)
        assert stat.S_IMODE(second.lstat().st_mode) == 0o700
        second.rmdir()


def test_the_programs_run_from_another_place(tmp_path: Path) -> None:
    installation = linked_installation(wheel_installation(), tmp_path / "programs")

    for program in ("postgres", "initdb"):
        version = subprocess.run(
            [installation / "bin" / program, "--version"], capture_output=True, text=True, check=True
        ).stdout
        assert "(PostgreSQL) 18." in version
    assert (installation / "share" / "postgresql" / "postgres.bki").exists()
