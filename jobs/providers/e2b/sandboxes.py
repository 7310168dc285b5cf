"""Sandboxes at E2B: made, written to, run in, looked at, and ended; for trainings and for any other program.

E2B's package has traps that are kept away from here: commands die after 60 seconds unless `timeout=0`, so each has a
limit of our own instead; a stream that is given up must be disconnected; a creation that is tried again needs a key.
Output is lost while nobody listens: what must not be lost is begun as a program, whose log is a file of the sandbox.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import secrets
import shlex
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx2

from jobs.providers.base import Account, NoCapacity, ProviderBusy, ProviderLost, ProviderRefused
from jobs.providers.e2b.control import ControlPlane, SandboxInfo
from jobs.providers.e2b.errors import RateLimited, SandboxGone, ours
from jobs.providers.e2b.glimpse import Glimpse, ProgramState

if TYPE_CHECKING:
    from e2b import AsyncCommandHandle, AsyncSandbox

logger = logging.getLogger("runwire.jobs")

LIFE_SECONDS = 1800
"""How long a sandbox lives if nobody extends its life."""
ATTACH_SECONDS = 60
"""The least life that a sandbox has left once we have attached to it."""
CALL_SECONDS = 20.0
CREATE_SECONDS = 60.0
UPLOAD_SECONDS = 120.0
SPARE_SECONDS = 2.0
"""Our own limit is a little longer than the package's: two that meet leave something behind."""
BATCH_BYTES = 16 * 1024 * 1024
STANDSTILL_SECONDS = 30.0
KEPT_CHARACTERS = 1024 * 1024
MOST_ATTACHED = 1_000
MOST_KEYS = 3
OWN_FOLDER = ".runwire"
_SCRIPTS = Path(__file__).parent

OutputHandler = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CommandEnd:
    """How a command ended, and the last of its output, at most a million characters each."""

    exit_code: int
    """-1 for a command that was killed."""
    stdout: str
    stderr: str
    was_over_time: bool = False


class E2BSandboxes:
    """The sandboxes of one account. Every method raises `ProviderError` only, and can be called twice.

    `app_url_pattern` says where a port of a sandbox is reached: `{port}` and `{id}` are filled in. By default it is
    E2B's own form, or the route of its simulator where the account's address is not E2B's.
    """

    def __init__(
        self,
        account: Account,
        http: httpx2.AsyncClient,
        *,
        app_url_pattern: str | None = None,
        call_seconds: float = CALL_SECONDS,
    ) -> None:
        self.control = ControlPlane(account, http)
        self._account = account
        self._http = http
        self._call_seconds = call_seconds
        host = urlsplit(account.base_url).hostname or ""
        self._domain = host.removeprefix("api.") if host.startswith("api.") else None
        own = f"https://{{port}}-{{id}}.{self._domain}" if self._domain else account.base_url + "/_port/{id}/{port}"
        self._app_url_pattern = app_url_pattern or own
        self._attached: OrderedDict[str, AsyncSandbox] = OrderedDict()
        self._leaving: set[asyncio.Task[None]] = set()

    async def create(
        self,
        tag: str,
        metadata: Mapping[str, str],
        *,
        life_seconds: int = LIFE_SECONDS,
        envs: Mapping[str, str] | None = None,
    ) -> SandboxInfo:
        """The sandbox of this tag, made of E2B's default template if there is none yet.

        A creation whose answer was lost is the same one when it is tried again, by its key. Raises `NoCapacity`.
        """
        found = await self.find(tag)
        if found is not None:
            return found
        for number in range(1, MOST_KEYS + 1):
            key = re.sub(r"[^a-z0-9-]", "-", tag.lower()) + (f"-{number}" if number > 1 else "")
            sandbox_id = await self._create(key, {**metadata, "tag": tag}, life_seconds, dict(envs or {}))
            with contextlib.suppress(SandboxGone):
                return await self.control.info(sandbox_id)
            # What was made with this key is gone already, and the key still stands for it.
        raise SandboxGone("The sandboxes that E2B makes are gone as soon as they are there.")

    async def find(self, tag: str) -> SandboxInfo | None:
        """The living sandbox of this tag; the oldest, should there be several."""
        found = await self.control.listed({"tag": tag})
        return found[0] if found else None

    async def alive(self) -> dict[str, str]:
        """All living sandboxes that bear a tag: id → tag."""
        return {one.id: one.metadata["tag"] for one in await self.control.listed() if one.metadata.get("tag")}

    async def write(self, sandbox_id: str, files: Mapping[str, bytes], folder: str = "") -> None:
        """Write files, paths relative to a folder of the home folder, and read their SHA-256 back.

        Raises `ProviderRefused` for a path that leads out of the folder, or a full disk.
        """
        paths = {_joined(folder, name): content for name, content in files.items()}
        sandbox = await self._sandbox(sandbox_id)
        for batch in _batches(paths):
            entries: Any = [{"path": path, "data": paths[path]} for path in batch]
            async with self._asking(sandbox_id, "write files", UPLOAD_SECONDS):
                await sandbox.files.write_files(entries, request_timeout=UPLOAD_SECONDS)
            named = " ".join(map(shlex.quote, batch))
            told = await self.run(sandbox_id, f"sha256sum -- {named}", limit_seconds=UPLOAD_SECONDS)
            hashes = [line.removeprefix("\\")[:64] for line in told.stdout.splitlines()]
            if hashes != [hashlib.sha256(paths[path]).hexdigest() for path in batch]:
                raise ProviderBusy("Files came damaged to a sandbox at E2B.")

    async def read(self, sandbox_id: str, path: str, limit_bytes: int) -> bytes:
        """A file's bytes. Raises `FileMissing`; `ProviderRefused` for a file that is larger."""
        content = bytearray()
        async for chunk in self.stream(sandbox_id, path):
            content += chunk
            if len(content) > limit_bytes:
                raise ProviderRefused(f"The file {path} in the sandbox is larger than {limit_bytes} bytes.")
        return bytes(content)

    async def stream(self, sandbox_id: str, path: str) -> AsyncIterator[bytes]:
        """A file's bytes as they come; given up when nothing comes for half a minute. Raises `FileMissing`."""
        sandbox = await self._sandbox(sandbox_id)
        async with self._asking(sandbox_id, "read a file", STANDSTILL_SECONDS):
            reader = await sandbox.files.read(path, format="stream", stream_idle_timeout=STANDSTILL_SECONDS)
        try:
            while True:
                async with self._asking(sandbox_id, "read a file", STANDSTILL_SECONDS + 1):
                    try:
                        chunk = await anext(reader)
                    except StopAsyncIteration:
                        return
                yield chunk
        finally:
            await reader.aclose()

    async def run(
        self,
        sandbox_id: str,
        command: str,
        *,
        cwd: str | None = None,
        envs: Mapping[str, str] | None = None,
        limit_seconds: float = 60.0,
        on_stdout: OutputHandler | None = None,
        on_stderr: OutputHandler | None = None,
    ) -> CommandEnd:
        """Run a command in bash and hear its output as it comes. It is killed after the limit; if we are lost, it goes
        on by itself, and what it prints then is lost too."""
        sandbox = await self._sandbox(sandbox_id)
        out, err = _Kept(on_stdout), _Kept(on_stderr)
        opening = asyncio.ensure_future(
            sandbox.commands.run(
                command,
                background=True,
                cwd=cwd,
                envs=dict(envs or {}),
                on_stdout=out.take,
                on_stderr=err.take,
                timeout=0,
                request_timeout=self._call_seconds,
                retain_output=False,
            )
        )
        async with self._asking(sandbox_id, "start a command", self._call_seconds + SPARE_SECONDS):
            try:
                # Opening a stream is not to be cancelled: the package would leave it, and its error, behind.
                handle = await asyncio.shield(opening)
            except asyncio.CancelledError:
                self._leave(opening)
                raise
        waiting = asyncio.ensure_future(_exit_code_of(handle))
        try:
            async with self._asking(sandbox_id, "follow a command", limit_seconds + self._call_seconds):
                await asyncio.wait({waiting}, timeout=limit_seconds)
                if waiting.done():
                    return CommandEnd(waiting.result(), out.text, err.text)
                await handle.kill()
                return CommandEnd(-1, out.text, err.text, was_over_time=True)
        finally:
            await handle.disconnect()
            waiting.cancel()
            await asyncio.wait({waiting})
            if not waiting.cancelled():
                waiting.exception()  # seen

    async def begin(
        self,
        sandbox_id: str,
        name: str,
        command: str,
        files: Mapping[str, bytes],
        *,
        limit_seconds: int,
        beside: Mapping[str, bytes] | None = None,
    ) -> None:
        """Begin a program once: a folder with these files, in which bash runs the command in the background.
        What is `beside` them lies in the folder's own folder `.runwire`.

        Its output becomes a log, its exit code a file; `look` and `follow` read both. Called again, with whatever was
        lost in between, it begins what did not begin and leaves alone what did.
        """
        if any(PurePosixPath(path).parts[:1] == (OWN_FOLDER,) for path in files):
            raise ProviderRefused(f"The folder {OWN_FOLDER} of a program is ours.")
        incoming = f"incoming-{secrets.token_hex(8)}"
        own = {
            **(beside or {}),
            "run.sh": (_SCRIPTS / "run.sh").read_bytes(),
            "command": command.encode(),
            "limit": str(limit_seconds).encode(),
        }
        everything = {**files, **{f"{OWN_FOLDER}/{path}": content for path, content in own.items()}}
        await self.write(sandbox_id, everything, incoming)
        ended = await self.run(
            sandbox_id,
            (_SCRIPTS / "launch.sh").read_text(),
            envs={"INCOMING": incoming, "NAME": name},
            limit_seconds=self._call_seconds,
        )
        if ended.exit_code != 0:
            raise ProviderBusy(f"A program could not be begun in a sandbox at E2B (code {ended.exit_code}).")

    async def look(
        self, sandbox_id: str, name: str, offset: int, *, limit_bytes: int, wait_seconds: float = 0.0, seen: int = 0
    ) -> Glimpse:
        """A program's state, and what its log says after the offset, bounded.

        Waits so long for a log that is longer than the offset, and than what was `seen` of it before.
        """
        ended = await self.run(
            sandbox_id,
            (_SCRIPTS / "look.sh").read_text(),
            envs={
                "NAME": name,
                "OFFSET": str(offset),
                "SEEN": str(max(offset, seen)),
                "LIMIT": str(limit_bytes),
                "WAIT": str(round(wait_seconds * 10)),
            },
            limit_seconds=wait_seconds + self._call_seconds,
        )
        return Glimpse.of(ended.stdout, offset)

    async def follow(
        self, sandbox_id: str, name: str, offset: int = 0, *, limit_bytes: int = 65_536, wait_seconds: float = 10.0
    ) -> AsyncIterator[Glimpse]:
        """Looks at a program, each where the one before ended, until it has ended and its log was shown whole.

        Lost connections are connected again. Raises `SandboxGone`; `ProviderLost` where no such program began.
        """
        while True:
            try:
                glimpse = await self.look(sandbox_id, name, offset, limit_bytes=limit_bytes, wait_seconds=wait_seconds)
            except NoCapacity:
                raise
            except ProviderBusy as busy:
                await asyncio.sleep(busy.retry_after_seconds / 5)
                continue
            if glimpse.state is ProgramState.ABSENT:
                raise ProviderLost("The sandbox at E2B holds no such program.")
            offset += len(glimpse.data)
            yield glimpse
            if glimpse.is_whole or glimpse.state is ProgramState.GONE:
                return

    def address(self, sandbox_id: str, port: int) -> str:
        """Where a port of the sandbox is reached from outside, without a slash at its end."""
        return self._app_url_pattern.replace("{port}", str(port)).replace("{id}", sandbox_id).rstrip("/")

    async def is_open(self, sandbox_id: str, port: int, path: str = "/") -> bool:
        """Whether something answers on that port. Raises `SandboxGone`, `ProviderBusy`."""
        try:
            answer = await self._http.get(self.address(sandbox_id, port) + path, timeout=self._call_seconds)
        except httpx2.HTTPError as error:
            raise ProviderBusy(f"A port of a sandbox could not be asked ({type(error).__name__}).") from None
        if answer.status_code != 502:
            return True
        if "was not found" in answer.text:
            raise SandboxGone("The sandbox at E2B is gone.")
        return "port is not open" not in answer.text

    async def extend(self, sandbox_id: str, life_seconds: int) -> None:
        """Let the sandbox live so long from now on; at most as long as the account's plan allows."""
        from e2b import AsyncSandbox

        async with self._asking(sandbox_id, "extend a sandbox's life", self._call_seconds):
            await AsyncSandbox.set_timeout(sandbox_id, life_seconds, **self._options())

    async def pause(self, sandbox_id: str) -> None:
        """Let it stand still, without cost, until `resume`."""
        from e2b import AsyncSandbox

        self._attached.pop(sandbox_id, None)
        async with self._asking(sandbox_id, "pause a sandbox", CREATE_SECONDS):
            await AsyncSandbox.pause(sandbox_id, **self._options())

    async def resume(self, sandbox_id: str, life_seconds: int = LIFE_SECONDS) -> None:
        """Let a paused sandbox go on; a running one lives at least so long."""
        self._attached.pop(sandbox_id, None)
        await self._attach(sandbox_id, life_seconds)

    async def kill(self, sandbox_id: str) -> bool:
        """End it; True once E2B says that it is gone."""
        from e2b import AsyncSandbox

        self._attached.pop(sandbox_id, None)
        async with self._asking(sandbox_id, "kill a sandbox", self._call_seconds):
            if not await AsyncSandbox.kill(sandbox_id, **self._options()):
                return True  # E2B knows no such sandbox
        return not await self.is_alive(sandbox_id)

    async def is_alive(self, sandbox_id: str) -> bool:
        """Whether E2B has this sandbox, running or paused."""
        try:
            await self.control.info(sandbox_id)
        except SandboxGone:
            return False
        return True

    def _leave(self, opening: "asyncio.Future[AsyncCommandHandle[Any]]") -> None:
        """Disconnect from a command whose starter was cancelled, once it has started."""

        async def disconnect() -> None:
            with contextlib.suppress(Exception):
                await (await opening).disconnect()

        task = asyncio.ensure_future(disconnect())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Wait for what was given up while it started."""
        if self._leaving:
            await asyncio.wait(set(self._leaving), timeout=self._call_seconds)

    async def _create(self, key: str, metadata: Mapping[str, str], life_seconds: int, envs: Mapping[str, str]) -> str:
        from e2b import AsyncSandbox

        self.control.check()
        try:
            async with self._asking("", "create a sandbox", CREATE_SECONDS):
                sandbox = await AsyncSandbox.create(
                    timeout=life_seconds,
                    metadata=dict(metadata),
                    envs=dict(envs),
                    idempotency_key=key,
                    **{**self._options(), "request_timeout": CREATE_SECONDS},
                )
        except RateLimited:
            # The package does not tell for how long: asked beside it, the answer does, or is a sandbox.
            return await self.control.create(life_seconds=life_seconds, metadata=metadata, envs=envs, key=key)
        self._remember(sandbox)
        return sandbox.sandbox_id

    async def _sandbox(self, sandbox_id: str) -> "AsyncSandbox":
        known = self._attached.get(sandbox_id)
        if known is not None:
            self._attached.move_to_end(sandbox_id)
            return known
        return await self._attach(sandbox_id, ATTACH_SECONDS)

    async def _attach(self, sandbox_id: str, life_seconds: int) -> "AsyncSandbox":
        from e2b import AsyncSandbox

        async with self._asking(sandbox_id, "attach to a sandbox", CREATE_SECONDS):
            sandbox = await AsyncSandbox.connect(sandbox_id, timeout=life_seconds, **self._options())
        self._remember(sandbox)
        return sandbox

    def _remember(self, sandbox: "AsyncSandbox") -> None:
        self._attached[sandbox.sandbox_id] = sandbox
        while len(self._attached) > MOST_ATTACHED:
            self._attached.popitem(last=False)

    def _options(self) -> Any:
        """The package's own tries are switched off: whoever calls us tries again, by rule and with patience."""
        base_url = self._account.base_url
        where = {"domain": self._domain} if self._domain else {"sandbox_url": base_url}
        return {
            **where,
            "api_url": base_url,
            "api_key": self._account.api_key.reveal(),
            "debug": False,
            "retries": 0,
            "request_timeout": self._call_seconds,
        }

    @contextlib.asynccontextmanager
    async def _asking(self, sandbox_id: str, doing: str, limit_seconds: float) -> AsyncIterator[None]:
        """A limit for what is done with the package, and its errors in our words."""
        try:
            async with asyncio.timeout(limit_seconds):
                yield
        except Exception as error:
            found = ours(error, doing, self._account.api_key)
            if isinstance(found, SandboxGone):
                self._attached.pop(sandbox_id, None)
            raise found from None


class _Kept:
    """The last of an output. What a listener does must not end the stream, so its errors are logged here."""

    def __init__(self, listener: OutputHandler | None) -> None:
        self.text = ""
        self._listener = listener

    def take(self, text: str) -> None:
        self.text = (self.text + text)[-KEPT_CHARACTERS:]
        if self._listener is not None:
            try:
                self._listener(text)
            except Exception:
                logger.exception("A listener to a command stumbled.")


async def _exit_code_of(handle: Any) -> int:
    from e2b import CommandExitException

    try:
        return int((await handle.wait()).exit_code)
    except CommandExitException as end:
        return int(end.exit_code)


def _joined(folder: str, name: str) -> str:
    path = PurePosixPath(folder) / name
    if path.is_absolute() or ".." in path.parts or "\0" in name or not PurePosixPath(name).parts:
        raise ProviderRefused("A file of a program has a path that leads out of its folder.")
    return path.as_posix()


def _batches(files: Mapping[str, bytes]) -> list[list[str]]:
    """The paths in groups that go in one request, and whose names go in one command."""
    found: list[list[str]] = []
    size = BATCH_BYTES
    for path, content in files.items():
        weight = len(content) + 100 * len(path)
        if not found or size + weight > BATCH_BYTES:
            found.append([])
            size = 0
        found[-1].append(path)
        size += weight
    return found
