"""Replicate on a port: routes, tokens, rate limits, and the trainings of all accounts."""

import asyncio
import base64
import contextlib
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.kit import Caller, Door, Due, Journal, SimulatorClock, Truth, WireFault, seeded
from jobs.simulators.replicate import problems
from jobs.simulators.replicate.catalog import HARDWARE_NAMES, TRAINERS, Trainer, wrong_fields
from jobs.simulators.replicate.files import FileShelf, weights_of
from jobs.simulators.replicate.models import ModelShelf, new_version_id
from jobs.simulators.replicate.problems import Refusal
from jobs.simulators.replicate.requests import base_of, check_creation, json_of, key_of, last_of_page, loopback_input
from jobs.simulators.replicate.scenarios import CREATION_FAULTS, ON_EVERY_CALL, READ_FAULTS, SCENARIOS
from jobs.simulators.replicate.training import OVERSIZED_CHARACTERS, SimulatedTraining
from jobs.simulators.replicate.webhooks import Secrets, WebhookSender

FETCH_SECONDS = 20.0
LOOK_WAITS_SECONDS = 2.0
"""How long a read waits for the data to be there, at most."""
_ID = "0123456789abcdefghijklmnopqrstuvwxyz"
Answer = Callable[["ReplicateSimulator", Request, Caller, Mapping[str, str]], Awaitable[Response]]


class ReplicateSimulator:
    """The vendor as `app`; every other member is for whoever serves it and for tests."""

    scenarios: ClassVar[Mapping[str, str]] = SCENARIOS

    def __init__(
        self,
        clock: SimulatorClock | None = None,
        *,
        seed: int = 0,
        starting_seconds: float = 1.5,
        training_seconds: float = 7.0,
        requests_per_minute: int = 3_000,
        page_size: int = 100,
        late_reply_seconds: float = 3.0,
        oversized_characters: int = OVERSIZED_CHARACTERS,
        trainers: Sequence[Trainer] = TRAINERS,
    ) -> None:
        self.clock = clock or SimulatorClock()
        self.journal = Journal()
        self.default_scenario = "success"
        self.trainings: dict[str, SimulatedTraining] = {}
        self._seed = seed
        self._starting_seconds = starting_seconds
        self._training_seconds = training_seconds
        self._requests_per_minute = requests_per_minute
        self._page_size = page_size
        self._late_reply_seconds = late_reply_seconds
        self._oversized_characters = oversized_characters
        self._models = ModelShelf(trainers)
        self._files = FileShelf()
        self._scripts: dict[str, list[str]] = {}
        self._faults: Counter[tuple[str, str]] = Counter()
        self._windows: dict[str, tuple[datetime, int]] = {}
        self._secrets: dict[str, Secrets] = {}
        self._fetches: dict[str, asyncio.Task[None]] = {}
        self._client: httpx2.AsyncClient | None = None
        self._began, self._began_monotonic = self.clock.now(), time.monotonic()
        self.due = Due(self.clock)
        self.webhooks = WebhookSender(
            self.clock,
            self.due,
            secrets_of=self.secrets_of,
            settle=self._settle,
            http=self._http,
            wall=self.wall,
        )
        self.app: ASGIApp = Door(Router(default=self._serve, lifespan=self._lifespan), self.journal, self.clock, key_of)

    def script(self, account: str, scenarios: Sequence[str]) -> None:
        """The next creations of that account take these, in order."""
        unknown = [name for name in scenarios if name not in SCENARIOS]
        if unknown:
            raise ValueError(f"There is no scenario named {unknown[0]}.")
        self._scripts.setdefault(account, []).extend(scenarios)

    def truths(self) -> list[Truth]:
        """What really happened, oldest first."""
        now = self.clock.now()
        return [training.truth(now) for training in self.trainings.values()]

    def secrets_of(self, account: str) -> Secrets:
        """The account's signing keys, to be rotated by tests."""
        return self._secrets.setdefault(account, Secrets(self._seed, account))

    def wall(self) -> datetime:
        """The time in signatures: it goes on with real time even where the clock is hurried, since receivers compare
        it with theirs."""
        return self._began + timedelta(seconds=time.monotonic() - self._began_monotonic)

    async def run(self) -> None:
        """Send webhooks and fetch data, until cancelled."""
        try:
            await self.due.run()
        finally:
            for task in self._fetches.values():
                task.cancel()
            client, self._client = self._client, None
            if client is not None:
                await client.aclose()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        running = asyncio.create_task(self.run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        response = await self._answered(request)
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> Response:
        quota: dict[str, str] = {}
        try:
            caller = self._caller(request)
            quota = self._counted(caller)
            response = await self._routed(request, caller)
        except Refusal as refusal:
            response = refusal.response
        for name, value in quota.items():
            response.headers.setdefault(name, value)
        return response

    async def _routed(self, request: Request, caller: Caller) -> Response:
        path = str(request.scope["path"]).removeprefix(str(request.scope.get("root_path", "")))
        allowed = []
        for method, pattern, answer in _ROUTES:
            found = pattern.fullmatch(path)
            if found and method == request.method:
                return await answer(self, request, caller, found.groupdict())
            if found:
                allowed.append(method)
        if allowed:
            words = f'Method "{request.method}" not allowed.'
            raise Refusal(405, words, headers={"allow": ", ".join(allowed)})
        raise problems.not_found()

    def _caller(self, request: Request) -> Caller:
        key = key_of(request)
        caller = Caller.of_key(key) if key.startswith("r8_") else None
        if caller is None or caller.scenario in ON_EVERY_CALL:
            raise problems.unauthenticated()
        if caller.scenario is not None and caller.scenario not in SCENARIOS:
            raise Refusal(422, f"The simulator knows no scenario named {caller.scenario}.", "Unknown scenario")
        return caller

    def _counted(self, caller: Caller) -> dict[str, str]:
        """The headers about the account's quota. Raises 429 beyond it."""
        now = self.clock.now()
        begin, count = self._windows.get(caller.account, (now, 0))
        if (now - begin).total_seconds() >= 60:
            begin, count = now, 0
        self._windows[caller.account] = (begin, count + 1)
        resets = max(1, 60 - int((now - begin).total_seconds()))
        if count >= self._requests_per_minute:
            raise problems.throttled(resets)
        remaining = self._requests_per_minute - count - 1
        return {"ratelimit-remaining": str(remaining), "ratelimit-reset": str(resets)}

    def _upcoming(self, caller: Caller) -> str:
        """What the caller's next creation takes."""
        waiting = self._scripts.get(caller.account)
        return caller.scenario or (waiting[0] if waiting else self.default_scenario)

    def _taken(self, caller: Caller) -> None:
        waiting = self._scripts.get(caller.account)
        if caller.scenario is None and waiting:
            waiting.pop(0)

    def _of(self, caller: Caller) -> list[SimulatedTraining]:
        """The account's trainings, newest first."""
        now = self.clock.now()
        mine = [one for one in self.trainings.values() if one.account == caller.account and not one.is_gone_at(now)]
        return mine[::-1]

    def _training(self, caller: Caller, training_id: str) -> SimulatedTraining:
        training = self.trainings.get(training_id)
        if training is None or training.account != caller.account or training.is_gone_at(self.clock.now()):
            raise problems.not_found()
        return training

    async def account(self, _: Request, caller: Caller, __: Mapping[str, str]) -> Response:
        content = {"type": "organization", "username": caller.account, "name": caller.account.title()}
        return JSONResponse({**content, "github_url": f"https://github.com/{caller.account}"})

    async def hardware(self, _: Request, __: Caller, ___: Mapping[str, str]) -> Response:
        return JSONResponse([{"sku": sku, "name": name} for sku, name in HARDWARE_NAMES.items()])

    async def secret(self, _: Request, caller: Caller, __: Mapping[str, str]) -> Response:
        return JSONResponse({"key": self.secrets_of(caller.account).current})

    async def make_model(self, request: Request, caller: Caller, _: Mapping[str, str]) -> Response:
        given = await json_of(request)
        if self._upcoming(caller) == "conflict" and f"{given.get('owner')}/{given.get('name')}" not in self._models.own:
            self._models.make(caller.account, given)  # somebody else was a little faster
        model = self._models.make(caller.account, given)
        name = f"{model.owner}/{model.name}"
        return JSONResponse(self._models.shown(caller.account, name, (), self.clock.now()), status_code=201)

    async def model(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        name = f"{words['owner']}/{words['name']}"
        return JSONResponse(self._models.shown(caller.account, name, self._of(caller), self.clock.now()))

    async def versions(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        name = f"{words['owner']}/{words['name']}"
        found = self._models.versions(caller.account, name, self._of(caller), self.clock.now())
        return JSONResponse({"next": None, "previous": None, "results": found})

    async def version(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        name = f"{words['owner']}/{words['name']}"
        for version in self._models.versions(caller.account, name, self._of(caller), self.clock.now()):
            if version["id"] == words["version"]:
                return JSONResponse(version)
        raise problems.not_found()

    async def create(self, request: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        given = await json_of(request)
        scenario = self._upcoming(caller)
        self._refuse_if_wished(caller, scenario)
        trainer = self._models.trainers.get(f"{words['owner']}/{words['name']}")
        if trainer is None or trainer.version != words["version"]:
            raise problems.invalid_version()
        check_creation(given)
        wrong = wrong_fields(trainer, given["input"])
        if wrong:
            raise problems.invalid(wrong)
        destination = self._models.own.get(given["destination"])
        if destination is None or destination.owner != caller.account:
            raise problems.no_destination()
        self._taken(caller)
        training = self._made(request, caller, scenario, trainer, given)
        if scenario == "reply_lost":
            raise WireFault("The answer to a creation")
        if scenario == "reply_late":
            await asyncio.sleep(self._late_reply_seconds)
        if scenario == "created_504":
            raise problems.server_error(504)
        if scenario == "webhook_early":
            await self.webhooks.tell_start(training)
        return JSONResponse(training.shown_as_created(), status_code=201)

    def _refuse_if_wished(self, caller: Caller, scenario: str) -> None:
        refusals = {
            "unauthorized": problems.unauthenticated,
            "no_money": problems.billing_required,
            "unprocessable": problems.invalid_version,
        }
        if scenario in refusals:
            self._taken(caller)
            raise refusals[scenario]()
        faults = CREATION_FAULTS.get(scenario, ())
        met = self._faults[caller.account, scenario]
        if met < len(faults):
            self._faults[caller.account, scenario] += 1
            raise problems.throttled(1) if faults[met] == 429 else problems.server_error(faults[met])
        del self._faults[caller.account, scenario]

    def _made(
        self, request: Request, caller: Caller, scenario: str, trainer: Trainer, given: Mapping[str, Any]
    ) -> SimulatedTraining:
        chance = seeded(self._seed, "training", len(self.trainings))
        training_id = "".join(chance.choice(_ID) for _ in range(26))
        webhook = given.get("webhook") or given.get("webhook_completed")
        events = given.get("webhook_events_filter") or ("output", "completed")
        training = SimulatedTraining(
            id=training_id,
            account=caller.account,
            scenario=scenario,
            trainer=trainer,
            destination=given["destination"],
            input=given["input"],
            webhook=webhook,
            events=frozenset(events if given.get("webhook") else ("completed",)),
            base_url=base_of(request),
            created_at=self.clock.now(),
            starting_seconds=0.0 if scenario == "webhook_early" else self._starting_seconds,
            training_seconds=self._training_seconds,
            new_version=new_version_id(training_id),
            oversized_characters=self._oversized_characters,
            fetch_is_due=loopback_input(given["input"]) is not None,
            faults_left=list(READ_FAULTS.get(scenario, ())),
        )
        self.trainings[training.id] = training
        self.webhooks.follow(training)
        self.due.at(training.start_at, lambda: self._settle(training))
        return training

    async def listed(self, request: Request, caller: Caller, _: Mapping[str, str]) -> Response:
        mine = self._of(caller)
        before = last_of_page(request.query_params.get("cursor"))
        if before is not None:
            ids = [one.id for one in mine]
            if before not in ids:
                raise Refusal(400, "Invalid cursor")
            mine = mine[ids.index(before) + 1 :]
        page, more = mine[: self._page_size], mine[self._page_size :]
        for training in page:
            await self._settle(training)
        now = self.clock.now()
        following = None
        if more:
            cursor = base64.urlsafe_b64encode(f"p={page[-1].id}".encode()).decode().rstrip("=")
            following = f"{base_of(request)}/v1/trainings?cursor={cursor}"
        results = [training.shown(now, in_list=True) for training in page]
        return JSONResponse({"next": following, "previous": None, "results": results})

    async def get(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        training = self._training(caller, words["id"])
        if training.faults_left:
            status = training.faults_left.pop(0)
            raise problems.throttled(1) if status == 429 else problems.server_error(status)
        await self._settle(training)
        return JSONResponse(training.shown(self.clock.now()))

    async def cancel(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        training = self._training(caller, words["id"])
        await self._settle(training)
        training.cancel(self.clock.now())
        self.due.at(self.clock.now(), lambda: self.webhooks.look_now(training))
        return JSONResponse(training.shown_as_canceled(self.clock.now()))

    async def add_file(self, request: Request, caller: Caller, _: Mapping[str, str]) -> Response:
        stored = await self._files.add(caller.account, request, self.clock.now())
        return JSONResponse(stored.shown(base_of(request)), status_code=201)

    async def files(self, request: Request, caller: Caller, _: Mapping[str, str]) -> Response:
        results = [stored.shown(base_of(request)) for stored in self._files.of(caller.account).values()]
        return JSONResponse({"next": None, "previous": None, "results": results})

    async def file(self, request: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        return JSONResponse(self._files.get(caller.account, words["id"]).shown(base_of(request)))

    async def delete_file(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        self._files.delete(caller.account, words["id"])
        return Response(status_code=204)

    async def weights(self, _: Request, caller: Caller, words: Mapping[str, str]) -> Response:
        training = self._training(caller, words["id"])
        if training.look(self.clock.now()).status != "succeeded":
            raise problems.not_found()
        return Response(weights_of(training), media_type="application/x-tar")

    async def _settle(self, training: SimulatedTraining) -> None:
        """Fetch the training's data if it is time, and wait a little until it is there."""
        if not training.fetch_is_due or training.look(self.clock.now()).status != "processing":
            return
        task = self._fetches.get(training.id)
        if task is None:
            task = self._fetches[training.id] = asyncio.create_task(self._fetch(training))
            task.add_done_callback(lambda _: self._fetches.pop(training.id, None))
        await asyncio.wait([task], timeout=LOOK_WAITS_SECONDS)

    async def _fetch(self, training: SimulatedTraining) -> None:
        found = loopback_input(training.input)
        assert found is not None
        name, url = found
        error: str | None = None
        try:
            async with self._http().stream("GET", url, timeout=FETCH_SECONDS) as response:
                count = 0
                async for chunk in response.aiter_bytes():
                    count += len(chunk)
            if response.status_code != 200:
                error = f"Failed to download {name}: the server answered {response.status_code}"
            elif not count:
                error = f"Failed to download {name}: no bytes came"
        except httpx2.HTTPError as failure:
            error = f"Failed to download {name}: {type(failure).__name__}"
        training.fetch_error, training.fetch_is_due = error, False

    def _http(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = httpx2.AsyncClient(trust_env=False, follow_redirects=False)
        return self._client


def _routes() -> list[tuple[str, re.Pattern[str], Answer]]:
    owner, training = r"/v1/models/(?P<owner>[^/]+)/(?P<name>[^/]+)", r"/v1/trainings/(?P<id>[^/]+)"
    version, file = r"/versions/(?P<version>[^/]+)", r"/v1/files/(?P<id>[^/]+)"
    simulator = ReplicateSimulator
    table: list[tuple[str, str, Answer]] = [
        ("GET", "/v1/account", simulator.account),
        ("GET", "/v1/hardware", simulator.hardware),
        ("GET", "/v1/webhooks/default/secret", simulator.secret),
        ("POST", "/v1/models", simulator.make_model),
        ("GET", owner, simulator.model),
        ("GET", owner + "/versions", simulator.versions),
        ("GET", owner + version, simulator.version),
        ("POST", owner + version + "/trainings", simulator.create),
        ("GET", "/v1/trainings", simulator.listed),
        ("GET", training, simulator.get),
        ("POST", training + "/cancel", simulator.cancel),
        ("POST", "/v1/files", simulator.add_file),
        ("GET", "/v1/files", simulator.files),
        ("GET", file, simulator.file),
        ("DELETE", file, simulator.delete_file),
        ("GET", r"/delivery/(?P<id>[^/]+)/trained_model\.tar", simulator.weights),
    ]
    return [(method, re.compile(pattern), answer) for method, pattern, answer in table]


_ROUTES = _routes()
