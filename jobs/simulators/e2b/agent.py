"""The agent in each sandbox: files and health over plain HTTP, processes and directories over Connect."""

import asyncio
import base64
import errno
import grp
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from jobs.simulators.e2b.machine import Machine, Outside
from jobs.simulators.e2b.processes import KEEPALIVE_SECONDS
from jobs.simulators.e2b.sandboxes import Sandbox, Sandboxes
from jobs.simulators.e2b.wire import (
    ConnectFault,
    ConnectStream,
    StreamBroken,
    is_stream,
    stream_message,
    unary_message,
)
from jobs.simulators.kit import SimulatorClock

MOST_PARTS = 10_000
LARGEST_PART_BYTES = 64 * 1024 * 1024
MOST_BROKEN_STREAMS = 2
SIGNALS = {"SIGNAL_SIGKILL": 9, "SIGNAL_SIGTERM": 15}


class World(Protocol):
    """What the agents need of the simulator."""

    clock: SimulatorClock
    sandboxes: Sandboxes


class Trouble(Exception):
    """A plain HTTP error of the agent, or of the proxy before it."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body

    def response(self) -> Response:
        return JSONResponse(self.body, self.status)


class Agents:
    """The routes of `https://sandbox.e2b.app`: the sandbox is named in a header."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._unary: dict[str, Callable[[Sandbox, Mapping[str, Any]], Awaitable[dict[str, Any]]]] = {
            "process.Process/List": self.list_processes,
            "process.Process/SendInput": self.send_input,
            "process.Process/CloseStdin": self.close_stdin,
            "process.Process/SendSignal": self.send_signal,
            "filesystem.Filesystem/Stat": self.stat,
            "filesystem.Filesystem/ListDir": self.list_dir,
            "filesystem.Filesystem/MakeDir": self.make_dir,
            "filesystem.Filesystem/Move": self.move,
            "filesystem.Filesystem/Remove": self.remove,
        }

    def routes(self) -> list[Route]:
        return [
            Route("/health", self.health, methods=["GET"]),
            Route("/files", self.read_file, methods=["GET"]),
            Route("/files", self.write_files, methods=["POST"]),
            Route("/{service}.{name}/{method}", self.call, methods=["POST"]),
        ]

    def sandbox_of(self, request: Request) -> Sandbox:
        """The sandbox that a request is for. Raises `Trouble`: 502 for one that is gone or paused."""
        sandbox_id = request.headers.get("e2b-sandbox-id", "")
        return self.running(sandbox_id)

    def running(self, sandbox_id: str) -> Sandbox:
        found = self.world.sandboxes.all.get(sandbox_id)
        if found is not None:
            self.world.sandboxes.settle(found, self.world.clock.now())
        if found is None or not found.is_running:
            raise Trouble(502, {"sandboxId": sandbox_id, "message": "The sandbox was not found", "code": 502})
        return found

    async def _authorized(self, request: Request) -> Sandbox:
        sandbox = self.sandbox_of(request)
        given = request.headers.get("x-access-token", "")
        if not secrets.compare_digest(given.encode(), sandbox.token.encode()):
            raise Trouble(401, {"code": 401, "message": "unauthorized access, please provide a valid access token"})
        if sandbox.scenario == "hangs":
            await asyncio.Event().wait()
        return sandbox

    async def health(self, request: Request) -> Response:
        try:
            self.sandbox_of(request)
        except Trouble as trouble:
            return trouble.response()
        return Response(status_code=204)

    async def read_file(self, request: Request) -> Response:
        try:
            sandbox = await self._authorized(request)
            path = request.query_params.get("path", "")
            real = _inside(sandbox.machine, path)
            if not real.exists():
                raise Trouble(404, {"code": 404, "message": f"path '{path}' does not exist"})
            if not real.is_file():
                raise Trouble(400, {"code": 400, "message": f"path '{path}' is a directory"})
            return FileResponse(real, media_type="application/octet-stream", content_disposition_type="inline")
        except Trouble as trouble:
            return trouble.response()

    async def write_files(self, request: Request) -> Response:
        try:
            sandbox = await self._authorized(request)
            if sandbox.scenario == "disk_full":
                raise Trouble(507, {"code": 507, "message": "not enough disk space available"})
            written = []
            for path, content in await _uploaded(request):
                real = _inside(sandbox.machine, path)
                await asyncio.to_thread(_write, real, content)
                written.append({"name": real.name, "type": "file", "path": sandbox.machine.outside(real)})
            return JSONResponse(written)
        except Trouble as trouble:
            return trouble.response()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return JSONResponse({"code": 507, "message": "not enough disk space available"}, 507)
            return JSONResponse({"code": 500, "message": f"error writing file: {error.strerror}"}, 500)

    async def call(self, request: Request) -> Any:
        values = request.path_params
        name = f"{values['service']}.{values['name']}/{values['method']}"
        try:
            sandbox = await self._authorized(request)
        except Trouble as trouble:
            return trouble.response()
        if is_stream(request):
            return ConnectStream(self._stream(name, sandbox, request))
        try:
            if name not in self._unary:
                raise ConnectFault("unimplemented", f"{name} is not implemented")
            return JSONResponse(await self._unary[name](sandbox, await unary_message(request)))
        except ConnectFault as fault:
            return fault.response()

    async def _stream(self, name: str, sandbox: Sandbox, request: Request) -> AsyncGenerator[dict[str, Any], None]:
        message = await stream_message(request)
        if name == "process.Process/Start":
            limit = _milliseconds(request)
            deadline = self.world.clock.now() + timedelta(milliseconds=limit) if limit else None
            running = await sandbox.processes.start(message, deadline)
        elif name == "process.Process/Connect":
            running = sandbox.processes.find(message)
        else:
            raise ConnectFault("unimplemented", f"{name} is not implemented")
        broken = sandbox.scenario == "stream_cut" and sandbox.broken_streams < MOST_BROKEN_STREAMS
        sandbox.broken_streams += broken
        events = running.events(_keepalive(request))
        try:
            async for event in events:
                if broken and "end" in event["event"]:
                    raise StreamBroken
                yield event
        finally:
            await events.aclose()

    async def list_processes(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "processes": [
                {"config": one.config, "pid": one.pid, **({"tag": one.tag} if one.tag else {})}
                for one in sandbox.processes.known.values()
                if one.end is None
            ]
        }

    async def send_input(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        running = sandbox.processes.living(message)
        if running.process.stdin is None:
            raise ConnectFault("internal", "error writing to stdin: stdin is not enabled")
        content = (message.get("input") or {}).get("stdin")
        if not isinstance(content, str):
            raise ConnectFault("unimplemented", "invalid input type")
        running.process.stdin.write(_from_base64(content))
        await running.process.stdin.drain()
        return {}

    async def close_stdin(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        running = sandbox.processes.living(message)
        if running.process.stdin is None:
            raise ConnectFault("internal", "error closing stdin: stdin is not enabled")
        running.process.stdin.close()
        return {}

    async def send_signal(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        running = sandbox.processes.living(message)
        number = SIGNALS.get(str(message.get("signal")))
        if number is None:
            raise ConnectFault("unimplemented", f"invalid signal: {message.get('signal')}")
        running.process.send_signal(number)
        return {}

    async def stat(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        return {"entry": _entry(sandbox.machine, _real(sandbox.machine, message.get("path")))}

    async def list_dir(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        top = _real(sandbox.machine, message.get("path"))
        if not top.is_dir():
            code = "invalid_argument" if top.exists() else "not_found"
            raise ConnectFault(code, f"path is not a directory: {message.get('path')}")
        found: list[dict[str, Any]] = []
        level = [top]
        for _ in range(int(message.get("depth") or 1)):
            below = [entry for folder in level for entry in sorted(folder.iterdir())]
            found += [_entry(sandbox.machine, entry) for entry in below]
            level = [entry for entry in below if entry.is_dir() and not entry.is_symlink()]
        return {"entries": found}

    async def make_dir(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        real = _real(sandbox.machine, message.get("path"))
        if real.is_dir():
            raise ConnectFault("already_exists", f"directory already exists: {message.get('path')}")
        try:
            real.mkdir(parents=True)
        except OSError as error:
            raise ConnectFault("invalid_argument", f"error creating directory: {error.strerror}") from None
        return {"entry": _entry(sandbox.machine, real)}

    async def move(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        source = _real(sandbox.machine, message.get("source"))
        target = _real(sandbox.machine, message.get("destination"))
        if not source.exists():
            raise ConnectFault("not_found", f"source file not found: {message.get('source')}")
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return {"entry": _entry(sandbox.machine, target)}

    async def remove(self, sandbox: Sandbox, message: Mapping[str, Any]) -> dict[str, Any]:
        real = _real(sandbox.machine, message.get("path"))
        if real.is_dir() and not real.is_symlink():
            await asyncio.to_thread(shutil.rmtree, real, True)
        else:
            real.unlink(missing_ok=True)
        return {}


async def _uploaded(request: Request) -> list[tuple[str, bytes]]:
    """Path and content of each uploaded file. Raises `Trouble`."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    path = request.query_params.get("path")
    if kind == "application/octet-stream":
        if not path:
            raise Trouble(400, {"code": 400, "message": "path query parameter is required for raw body upload"})
        return [(path, await request.body())]
    if kind != "multipart/form-data":
        words = f"unsupported content type: {kind}, expected multipart/form-data or application/octet-stream"
        raise Trouble(400, {"code": 400, "message": words})
    found = []
    async with request.form(max_files=MOST_PARTS, max_part_size=LARGEST_PART_BYTES) as form:
        for name, part in form.multi_items():
            if name == "file" and not isinstance(part, str):
                found.append((path or _plain(part.filename or ""), await part.read()))
    if path and len(found) > 1:
        raise Trouble(400, {"code": 400, "message": f"you cannot upload multiple files to the same path '{path}'"})
    return found


def _plain(name: str) -> str:
    """A part's file name is a path; quotes and line ends in it come as HTTP clients write them."""
    return name.replace("%22", '"').replace("%0A", "\n").replace("%0D", "\r")


def _write(real: Path, content: bytes) -> None:
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_bytes(content)


def _inside(machine: Machine, path: str) -> Path:
    try:
        return machine.inside(path)
    except Outside:
        words = f"error resolving path: '{path}' leads out of the simulated sandbox"
        raise Trouble(400, {"code": 400, "message": words}) from None


def _real(machine: Machine, path: object) -> Path:
    try:
        return machine.inside(path if isinstance(path, str) else "")
    except Outside:
        raise ConnectFault("invalid_argument", f"path leads out of the simulated sandbox: {path}") from None


def _entry(machine: Machine, real: Path) -> dict[str, Any]:
    try:
        facts = real.lstat()
    except FileNotFoundError:
        raise ConnectFault("not_found", f"file not found: {machine.outside(real)}") from None
    link = os.readlink(real) if stat.S_ISLNK(facts.st_mode) else None
    is_dir = real.is_dir()
    return {
        "name": real.name,
        "path": machine.outside(real),
        "type": "FILE_TYPE_DIRECTORY" if is_dir else "FILE_TYPE_FILE",
        "size": str(facts.st_size),
        "mode": stat.S_IMODE(facts.st_mode),
        "permissions": stat.filemode(facts.st_mode),
        "owner": _name_of(lambda: pwd.getpwuid(facts.st_uid).pw_name, facts.st_uid),
        "group": _name_of(lambda: grp.getgrgid(facts.st_gid).gr_name, facts.st_gid),
        "modifiedTime": datetime.fromtimestamp(facts.st_mtime, UTC).isoformat().replace("+00:00", "Z"),
        **({"symlinkTarget": link} if link is not None else {}),
    }


def _name_of(find: Callable[[], str], number: int) -> str:
    try:
        return find()
    except KeyError:
        return str(number)


def _milliseconds(request: Request) -> int:
    value = request.headers.get("connect-timeout-ms", "0")
    if not value.isdecimal():
        raise ConnectFault("invalid_argument", f'protocol error: invalid timeout "{value}"')
    return int(value)


def _keepalive(request: Request) -> float:
    value = request.headers.get("keepalive-ping-interval", "")
    return float(value) if value.isdecimal() and int(value) else KEEPALIVE_SECONDS


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ConnectFault("invalid_argument", "unmarshal message: invalid base64") from None
