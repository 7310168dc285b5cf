"""The simulator as a whole: accounts, scenarios, the app, and what happens by itself."""

import asyncio
import atexit
import contextlib
import secrets
import shutil
import subprocess
import tempfile
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.e2b.agent import Agents
from jobs.simulators.e2b.control import ControlPlane, Plan
from jobs.simulators.e2b.machine import MARKER, Machine
from jobs.simulators.e2b.ports import HOST, Ports
from jobs.simulators.e2b.sandboxes import Sandboxes
from jobs.simulators.kit import Caller, Door, Journal, SimulatorClock, Truth, seeded

LOOK_SECONDS = 0.05


class E2BSimulator:
    """E2B on this machine.

    The control plane, the agents of all sandboxes and the apps in them have one address. An account's key is
    `e2b_sim_<account>`, or `e2b_sim_<account>.<scenario>`. A sandbox keeps the scenario of its creation, which is known
    by the metadata's `tag`, else by the idempotency key; so a creation that is tried again is the same one.
    """

    scenarios: ClassVar[Mapping[str, str]] = {
        "success": "Commands run as they are.",
        "fails_at_start": "Every creation is answered with 500 sandbox_create_failed.",
        "fails_while_training": "The largest program is killed in the middle of its work, as by a lack of memory.",
        "stuck": "The programs stand still in the middle of their work, and never end.",
        "no_capacity": "Every creation is answered with 503 sandbox_capacity_unavailable.",
        "no_capacity_once": "The first try to create is answered with 503, the second gets a sandbox.",
        "no_capacity_twice": "The first two tries to create are answered with 503.",
        "no_node": "Every creation is answered with 503 sandbox_no_compatible_node.",
        "placement_late": "The first try to create is answered with 504 sandbox_placement_timeout.",
        "too_many": "Every creation is answered with 429: the account has as many sandboxes as it may.",
        "too_many_once": "The first try to create is answered with 429: as many sandboxes as the account may.",
        "reply_lost": "The sandbox is created, and the connection is cut instead of an answer.",
        "reply_late": "The sandbox is created at once, and the answer comes seconds later.",
        "unauthorized": "The key is refused with 401.",
        "no_money": "Creations are answered with 403: the team is blocked by its billing limit.",
        "conflict": "Creations are answered with 409.",
        "unprocessable": "Creations are answered with 422.",
        "throttled": "The first two tries to create are answered with 429 and Retry-After.",
        "unstable": "The first two tries to create are answered with 500 and 502.",
        "not_found_later": "The sandbox vanishes in the middle of its work, long before its time.",
        "expired": "The sandbox ends early, whatever life was asked for.",
        "disk_full": "Files cannot be written: 507.",
        "hangs": "The sandbox is there, and its agent answers nothing.",
        "stream_cut": "The first two command streams stop without their end.",
        "port_not_open": "No app in the sandbox can be reached from outside.",
    }

    def __init__(
        self,
        clock: SimulatorClock | None = None,
        *,
        seed: int = 0,
        default_scenario: str = "success",
        plan: Plan | None = None,
        accident_after_seconds: float = 2.0,
        late_seconds: float = 3.0,
        folder: Path | None = None,
    ) -> None:
        self.clock = clock or SimulatorClock()
        self.seed = seed
        self.default_scenario = default_scenario
        self.plan = plan or Plan()
        self.late_seconds = late_seconds
        self.journal = Journal()
        self.sandboxes = Sandboxes(accident_after_seconds)
        self.folder = folder or Path(tempfile.gettempdir(), f"runwire-e2b-{secrets.token_hex(8)}")
        self._scripts: dict[str, deque[str]] = {}
        self._scenarios: dict[tuple[str, str], str] = {}
        self._tries: Counter[tuple[str, str]] = Counter()
        self._running = asyncio.Lock()
        self._watchdog: subprocess.Popen[bytes] | None = None
        agents = Agents(self)
        self._ports = Ports(agents)
        self._inner = Starlette(
            routes=[*ControlPlane(self).routes(), *agents.routes(), *self._ports.routes()],
            exception_handlers={HTTPException: _unknown},
            lifespan=self._lifespan,
        )
        self.app: ASGIApp = Door(self._route, self.journal, self.clock, self._key_of)
        atexit.register(self._end_at_exit)

    def script(self, account: str, scenarios: Sequence[str]) -> None:
        """The next sandboxes that the account creates take these scenarios in turn."""
        unknown = set(scenarios) - set(self.scenarios)
        if unknown:
            raise ValueError(f"The simulator has no scenario {', '.join(sorted(unknown))}.")
        self._scripts.setdefault(account, deque()).extend(scenarios)

    def scenario_of(self, caller: Caller, name: str) -> str:
        """The scenario of a creation; asked again for the same name, it is the same."""
        key = (caller.account, name)
        if key not in self._scenarios:
            script = self._scripts.get(caller.account)
            chosen = caller.scenario or (script.popleft() if script else self.default_scenario)
            self._scenarios[key] = chosen if chosen in self.scenarios else self.default_scenario
        return self._scenarios[key]

    def tried(self, account: str, name: str) -> int:
        """How often this creation was tried, with this time."""
        self._tries[account, name] += 1
        return self._tries[account, name]

    def new_machine(self) -> Machine:
        """The place of the next sandbox, whose id is the same for the same seed."""
        if self._watchdog is None:
            self.folder.mkdir(mode=0o700)
            script = Path(__file__).with_name("watchdog.sh")
            self._watchdog = subprocess.Popen(
                ["bash", script, MARKER, self.folder], stdin=subprocess.PIPE, start_new_session=True
            )
        number = len(self.sandboxes.all)
        sandbox_id = f"i{seeded(self.seed, 'sandbox', number).getrandbits(76):019x}"
        return Machine(self.folder / sandbox_id, sandbox_id)

    def truths(self) -> list[Truth]:
        """Every sandbox there ever was, in the order of their creation."""
        now = self.clock.now()
        for one in self.sandboxes.all.values():
            self.sandboxes.settle(one, now)
        return [one.truth(now) for one in self.sandboxes.all.values()]

    async def run(self) -> None:
        """Let the clock have its effects until cancelled; then kill whatever runs in any sandbox."""
        async with self._running:
            try:
                while True:
                    await self.sandboxes.look(self.clock.now())
                    await asyncio.sleep(LOOK_SECONDS)
            finally:
                closing = asyncio.ensure_future(self.close())
                while not closing.done():  # whoever cancels may do so more than once
                    with contextlib.suppress(asyncio.CancelledError):
                        await asyncio.shield(closing)

    async def close(self) -> None:
        """End every sandbox with all that lives in it."""
        await self.sandboxes.end_all()
        await self._ports.close()
        await asyncio.to_thread(self._dismiss)
        atexit.unregister(self._end_at_exit)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An app by its host's name, everything else by its path."""
        if scope["type"] == "http":
            request = Request(scope, receive)
            named = HOST.match(request.headers.get("host", ""))
            if named is not None:
                response = await self._ports.forward(request, named[2], int(named[1]), request.url.path.lstrip("/"))
                return await response(scope, receive, send)
        await self._inner(scope, receive, send)

    def _key_of(self, request: Request) -> str:
        key = request.headers.get("x-api-key")
        if key is None and (found := self.sandboxes.all.get(request.headers.get("e2b-sandbox-id", ""))) is not None:
            return f"e2b_sim_{found.account}"
        return key or ""

    def _end_at_exit(self) -> None:
        for one in self.sandboxes.all.values():
            if one.is_alive:
                one.machine.end()
        self._dismiss()

    def _dismiss(self) -> None:
        """Nothing is left to watch."""
        shutil.rmtree(self.folder, ignore_errors=True)
        watchdog, self._watchdog = self._watchdog, None
        if watchdog is not None:
            watchdog.communicate()


async def _unknown(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 404
    words = {404: "no matching operation was found", 405: "method not allowed"}.get(status, "bad request")
    return JSONResponse({"code": status, "message": words}, status)
