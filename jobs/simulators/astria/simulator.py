"""Astria's API: the doors, who may pass them, and the tunes behind them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.astria.callbacks import Call, Callbacks
from jobs.simulators.astria.forms import BASES, Problems, Refusal, checked_prompt, checked_tune, entity_of
from jobs.simulators.astria.scenarios import (
    SCENARIOS,
    gateway_timeout,
    not_found,
    passing_refusal_of,
    plan_of,
    refusal_of,
    unauthorized,
)
from jobs.simulators.astria.tunes import Plan, Prompt, Tune
from jobs.simulators.kit import Caller, Door, Due, Journal, SimulatorClock, Truth, WireFault, seeded

LARGEST_PAGE = 120
DEFAULT_PAGE = 20
LARGEST_OFFSET = 200
PROMPT_SECONDS = 1.0
_LORA = "<lora:"

Answer = Callable[[Request, Caller], Awaitable[Response]]


class AstriaSimulator:
    """Astria at `app`. Keys look like `sd_sim_acme` or `sd_sim_acme.fails_while_training`.

    A retried creation is known by its title: it stays in the scenario that its first try had. `idempotent_title` is
    the vendor's account switch by which a title that exists is answered with the tune that has it.
    """

    scenarios: ClassVar[Mapping[str, str]] = SCENARIOS
    default_scenario: str = "success"

    def __init__(
        self,
        clock: SimulatorClock | None = None,
        *,
        seed: int = 0,
        queue_seconds: float = 1.5,
        training_seconds: float = 6.5,
        late_reply_seconds: float = 5.0,
        late_callback_seconds: float = 20.0,
        idempotent_title: bool = False,
        wraps_callbacks: bool = True,
        price_micros: int = 1_500_000,
        prompt_micros: int = 100_000,
    ) -> None:
        self.clock = clock or SimulatorClock()
        self.journal = Journal()
        self.queue_seconds = queue_seconds
        self.training_seconds = training_seconds
        self.late_reply_seconds = late_reply_seconds
        self.idempotent_title = idempotent_title
        self.price_micros = price_micros
        self.prompt_micros = prompt_micros
        self.tunes: dict[int, Tune] = {}
        self.prompts: dict[int, Prompt] = {}
        self._due = Due(self.clock)
        self._callbacks = Callbacks(self.clock, self._due, wraps=wraps_callbacks, late_seconds=late_callback_seconds)
        self._scripts: dict[str, list[str]] = {}
        self._creations: dict[tuple[str, str], tuple[str, int]] = {}
        self._ids = itertools.count(3_401_603 + seeded(seed, "tunes").randrange(1_000_000))
        self._prompt_ids = itertools.count(21_000_000 + seeded(seed, "prompts").randrange(1_000_000))
        doors: Mapping[str, Mapping[str, Answer]] = {
            "/tunes": {"POST": self._create, "GET": self._list},
            "/tunes/{tune_id:int}": {"GET": self._read, "DELETE": self._delete},
            "/tunes/{tune_id:int}.json": {"GET": self._read},
            "/tunes/{tune_id:int}/prompts": {"POST": self._create_prompt, "GET": self._list_prompts},
            "/tunes/{tune_id:int}/prompts/{prompt_id:int}": {"GET": self._read_prompt},
            "/tunes/{tune_id:int}/prompts/{prompt_id:int}.json": {"GET": self._read_prompt},
        }
        router = Router(
            # A bare application: a Route around a function would answer other methods itself, and not as Rails does.
            [Route(path, _Guarded(answers)) for path, answers in doors.items()],
            redirect_slashes=False,
            default=_nothing_here,
            lifespan=self._lifespan,
        )
        self.app: ASGIApp = Door(router, self.journal, self.clock, _key_of)

    @property
    def calls(self) -> Sequence[Call]:
        """The callbacks that were sent, in order."""
        return self._callbacks.sent

    def script(self, account: str, scenarios: Sequence[str]) -> None:
        """The next new tunes of the account take these, in order."""
        for name in scenarios:
            if name not in self.scenarios:
                raise ValueError(f"{name} is no scenario of Astria's.")
        self._scripts.setdefault(account, []).extend(scenarios)

    def truths(self) -> list[Truth]:
        now = self.clock.now()
        return [tune.truth(now, self.price_micros, self.prompt_micros) for tune in self.tunes.values()]

    async def run(self) -> None:
        """Send callbacks when they are due, until cancelled."""
        try:
            await self._due.run()
        finally:
            await self._callbacks.close()

    @asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(self.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    # Tunes

    async def _create(self, request: Request, caller: Caller) -> Response:
        given = await entity_of(request, "tune")
        title = given.get("title")
        scenario, times_before = self._scenario_of(caller, title if isinstance(title, str) else "")
        refusal = refusal_of(scenario, times_before)
        if refusal is not None:
            raise refusal
        fields = await checked_tune(given)
        if self.idempotent_title:
            for tune in self._of(caller.account):
                if tune.title == fields["title"]:
                    return JSONResponse(tune.body(self.clock.now()), 201)
        if scenario == "gateway_timeout_lost" and times_before == 0:
            raise gateway_timeout()
        tune = self._add(caller.account, scenario, fields, _base_url_of(request))
        if scenario == "gateway_timeout_created" and times_before == 0:
            raise gateway_timeout()
        if scenario == "reply_lost" and times_before == 0:
            raise WireFault("The reply is lost.")
        if scenario == "webhook_early" and fields["callback"] is not None:
            await self._callbacks.send_now(tune)
        if scenario == "reply_late":
            await self._wait(self.late_reply_seconds)
        return JSONResponse(tune.body(self.clock.now()), 201)

    async def _wait(self, seconds: float) -> None:
        """On the simulator's clock."""
        over = asyncio.Event()

        async def end() -> None:
            over.set()

        self._due.at(self.clock.now() + timedelta(seconds=seconds), end)
        await over.wait()

    def _scenario_of(self, caller: Caller, title: str) -> tuple[str, int]:
        """The scenario of this creation, and how often the title was tried before."""
        before = self._creations.get((caller.account, title)) if title else None
        if before is None:
            script = self._scripts.get(caller.account)
            before = (caller.scenario or (script.pop(0) if script else self.default_scenario), 0)
        if title:
            self._creations[caller.account, title] = (before[0], before[1] + 1)
        return before

    def _add(self, account: str, scenario: str, fields: Mapping[str, Any], base_url: str) -> Tune:
        plan = plan_of(scenario, self.queue_seconds, self.training_seconds)
        if fields["model_type"] == "faceid" and scenario == "success":
            plan = Plan(0.0, 0.0)  # seen: such a tune is trained in the very answer to its creation
        immediate = plan.ends_after_seconds == 0.0
        tune = Tune(
            id=next(self._ids),
            account=account,
            scenario=scenario,
            plan=plan,
            fields=fields,
            created_at=self.clock.now(),
            base_url=base_url,
            hint_seconds=0.0 if immediate else self.queue_seconds + self.training_seconds,
        )
        self.tunes[tune.id] = tune
        if tune.planned_end is not None and plan.end == "trained":
            ready_at = tune.planned_end + timedelta(seconds=PROMPT_SECONDS)
            for wish in fields["prompts_attributes"]:
                prompt = Prompt(next(self._prompt_ids), account, tune.id, wish, tune.planned_end, ready_at, base_url)
                self.prompts[prompt.id] = prompt
                tune.prompts.append(prompt)
                self._callbacks.plan_prompt(prompt)
        self._callbacks.plan(tune)
        return tune

    async def _list(self, request: Request, caller: Caller) -> Response:
        limit = _number(request, "limit", DEFAULT_PAGE)
        offset = _number(request, "offset", 0)
        before = _number(request, "before_id", None)
        for name in request.query_params.keys() - {"limit", "offset", "before_id"}:
            raise Refusal(400, {"error": f"{name} is not a known parameter"})
        if limit is None or not 1 <= limit <= LARGEST_PAGE:
            raise Refusal(400, {"error": f"limit must be between 1 and {LARGEST_PAGE}"})
        if offset is None or offset > LARGEST_OFFSET:
            raise Refusal(400, {"error": f"offset must not be above {LARGEST_OFFSET}: use before_id"})
        now = self.clock.now()
        found = [tune for tune in self._of(caller.account) if before is None or tune.id < before]
        found.sort(key=lambda tune: -tune.id)
        return JSONResponse([tune.body(now) for tune in found[offset : offset + limit]])

    async def _read(self, request: Request, caller: Caller) -> Response:
        tune = self._tune(request, caller)
        tune.reads += 1
        refusal = passing_refusal_of(tune.scenario, tune.reads - 1)
        if refusal is not None:
            raise refusal
        return JSONResponse(tune.body(self.clock.now()))

    async def _delete(self, request: Request, caller: Caller) -> Response:
        tune = self._tune(request, caller)
        tune.deleted_at = self.clock.now()
        for prompt in tune.prompts:
            self.prompts.pop(prompt.id, None)
        return Response(status_code=200)

    def _of(self, account: str) -> list[Tune]:
        now = self.clock.now()
        return [tune for tune in self.tunes.values() if tune.account == account and tune.is_there(now)]

    def _tune(self, request: Request, caller: Caller) -> Tune:
        tune = self.tunes.get(request.path_params["tune_id"])
        if tune is None or tune.account != caller.account or not tune.is_there(self.clock.now()):
            raise not_found()
        return tune

    # Prompts

    async def _create_prompt(self, request: Request, caller: Caller) -> Response:
        tune_id: int = request.path_params["tune_id"]
        problems = Problems()
        if tune_id not in BASES and self._tune(request, caller).fields["model_type"] == "lora":
            raise Refusal(422, {"base": ["model_type=lora is not supported. Use a checkpoint instead"]})
        fields = checked_prompt(await entity_of(request, "prompt"), problems)
        if tune_id in BASES and _LORA not in str(fields["text"]):
            problems.add("text", "names no model such as <lora:123:1>")
        problems.refuse()
        now = self.clock.now()
        ready_at = now + timedelta(seconds=PROMPT_SECONDS)
        base_url = _base_url_of(request)
        prompt = Prompt(next(self._prompt_ids), caller.account, tune_id, fields, now, ready_at, base_url)
        self.prompts[prompt.id] = prompt
        self._callbacks.plan_prompt(prompt)
        return JSONResponse(prompt.body(now), 201)

    async def _list_prompts(self, request: Request, caller: Caller) -> Response:
        tune_id: int = request.path_params["tune_id"]
        if tune_id not in BASES:
            self._tune(request, caller)
        now = self.clock.now()
        found = [one for one in self.prompts.values() if one.account == caller.account and one.tune_id == tune_id]
        return JSONResponse([prompt.body(now) for prompt in reversed(found)])

    async def _read_prompt(self, request: Request, caller: Caller) -> Response:
        prompt = self.prompts.get(request.path_params["prompt_id"])
        tune_id: int = request.path_params["tune_id"]
        if prompt is None or prompt.account != caller.account or prompt.tune_id != tune_id:
            raise not_found()
        return JSONResponse(prompt.body(self.clock.now()))


class _Guarded:
    """One path: the key first, then the method; refusals as the vendor's answers."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self.answers = answers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            key = _key_of(request)
            caller = Caller.of_key(key) if key.startswith("sd_") else None
            if caller is None or (caller.scenario or "success") not in SCENARIOS or caller.scenario == "unauthorized":
                raise unauthorized()
            answer = self.answers.get(request.method)
            if answer is None:
                raise not_found()  # Rails knows no 405: what has no route is not found
            response = await answer(request, caller)
        except Refusal as refusal:
            response = refusal.response()
        finally:
            await request.close()  # the files of a form, whoever has looked at them
        await response(scope, receive, send)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await not_found().response()(scope, receive, send)


def _key_of(request: Request) -> str:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def _base_url_of(request: Request) -> str:
    """Where this simulator is, wherever it is mounted; Starlette's own `base_url` names the outermost application."""
    root: str = request.scope.get("root_path", "")
    return f"{request.url.scheme}://{request.url.netloc}{root.rstrip('/')}"


def _number(request: Request, name: str, default: int | None) -> int | None:
    """A whole number of the query, or the default. Raises `Refusal` for what is none."""
    given = request.query_params.get(name)
    if given is None or given == "":
        return default
    if not given.isascii() or not given.isdecimal() or len(given) > 18:
        raise Refusal(400, {"error": f"{name} is not a number"})
    return int(given)
