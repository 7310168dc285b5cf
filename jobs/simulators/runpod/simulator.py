"""The simulator itself: its accounts and their pods, what becomes of each pod, and who plays its script."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, ClassVar

import httpx2
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.routing import Router
from starlette.types import ASGIApp, Receive, Scope, Send

from jobs.simulators.kit import Caller, Door, Due, Journal, SimulatorClock, Truth, seeded
from jobs.simulators.runpod import acting, scenarios
from jobs.simulators.runpod.asking import bearer_of, problem_of
from jobs.simulators.runpod.catalog import CENTERS, GPUS
from jobs.simulators.runpod.checking import Rejected
from jobs.simulators.runpod.pods import OVER, Pod
from jobs.simulators.runpod.quotas import Quota
from jobs.simulators.runpod.routes import routes_of
from jobs.simulators.runpod.scripts import SEARCH_PATH, Containers

CPU_PRICE = 0.03
"""US dollars per hour and vCPU."""
LOOK_SECONDS = 0.05
HIDDEN_SECONDS = 5.0
LINGER_SECONDS = 3.0
_TOLD = re.compile(r" pod: (?:told the end: ([A-Z_]+)|nobody wants this work any more)$", re.MULTILINE)
ID_SIGNS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(slots=True)
class AccountState:
    """What one account has."""

    quota: Quota
    pods: dict[str, Pod] = field(default_factory=dict)
    script: list[str] = field(default_factory=list)
    """The scenarios of its next creations."""
    refused: dict[str, tuple[str, int]] = field(default_factory=dict)
    """By the name of what is to be created: the scenario, and how often it was refused so far."""


class RunPodSimulator:
    """RunPod for tests, demos and test mode.

    `runs_scripts`: whether a pod's start command is run for real, as a process of this machine (only where the pod is
    wanted by somebody who may run programs here); else, and in the scenarios that no real script can play, a scripted
    pod reports to RUNWIRE_URL. The seconds are those of the clock; real scripts take the time they take.
    """

    scenarios: ClassVar[Mapping[str, str]] = scenarios.SCENARIOS

    def __init__(
        self,
        clock: SimulatorClock | None = None,
        *,
        seed: int = 0,
        runs_scripts: bool = True,
        provisioning_seconds: float = 0.4,
        starting_seconds: float = 0.8,
        training_seconds: float = 6.0,
        uploads: bool = True,
        quotas: tuple[int, int, int] = (60, 3_000, 50_000),
        search_path: str = SEARCH_PATH,
    ) -> None:
        """`quotas` are requests per minute, hour and day of each account. `search_path` is where scripts find their
        tools, after this interpreter's Python. `uploads`: whether scripted pods upload a tiny artifact."""
        self.clock = clock or SimulatorClock()
        self.journal = Journal()
        self.default_scenario = "success"
        self.sold_out: set[str] = set()
        """GPU types of which nobody gets one at the moment."""
        self.seed = seed
        self.runs_scripts = runs_scripts
        self.provisioning_seconds = provisioning_seconds
        self.starting_seconds = starting_seconds
        self.training_seconds = training_seconds
        self.uploads = uploads
        self.quotas = quotas
        self.containers = Containers(search_path)
        self._accounts: dict[str, AccountState] = {}
        self._acts: dict[str, acting.Act] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due = Due(self.clock)
        self._is_running = False
        self._count = 0
        # Not a whole Starlette: that answers 500 to what is raised in order to cut the connection.
        router = Router(routes=routes_of(self), lifespan=self._lifespan)
        handled = ExceptionMiddleware(router, handlers={404: problem_of, 405: problem_of})

        async def inner(scope: Scope, receive: Receive, send: Send) -> None:
            scope["app"] = self  # only within an app does the router raise what it does not know
            await handled(scope, receive, send)

        self.app: ASGIApp = Door(inner, self.journal, self.clock, bearer_of)

    def script(self, account: str, scenarios: Sequence[str]) -> None:
        """The next creations of the account take these scenarios in order."""
        if unknown := set(scenarios) - self.scenarios.keys():
            raise ValueError(f"No such scenario: {', '.join(sorted(unknown))}")
        self.state(account).script.extend(scenarios)

    def truths(self) -> list[Truth]:
        """What really happened to each pod, in the order of creation."""
        now = self.clock.now()
        pods = [pod for state in self._accounts.values() for pod in state.pods.values()]
        return [pod.truth(now) for pod in sorted(pods, key=lambda pod: pod.created_at)]

    def output_of(self, pod_id: str) -> str:
        """Everything that a pod's container wrote, also after its end."""
        return "".join(f"{text}\n" for _, _, text in self.lines(pod_id))

    async def run(self) -> None:
        """Start and end scripts when the clock says so, until cancelled; then nothing of any pod is left running."""
        if self._is_running:
            await asyncio.Event().wait()
        self._is_running = True
        due = asyncio.ensure_future(self._due.run())
        try:
            while True:
                self._look_after_scripts()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self._is_running = False
            due.cancel()
            for task in self._tasks.values():
                task.cancel()
            self.containers.close()  # before anything is awaited: whoever ends us may not let us wait
            await asyncio.gather(due, *self._tasks.values(), return_exceptions=True)

    def state(self, account: str) -> AccountState:
        if account not in self._accounts:
            self._accounts[account] = AccountState(Quota(self.quotas))
        return self._accounts[account]

    def scenario_for(self, caller: Caller, body: Mapping[str, Any]) -> str:
        """What is to happen to this creation; a refusal that comes so many times sticks to the name until then."""
        state = self.state(caller.account)
        name = str(body.get("name", "")).rpartition("-")[0]  # the attempts of a run differ in their last part
        scenario, times = state.refused.get(name, ("", 0))
        if not scenario:
            scenario = caller.scenario or (state.script.pop(0) if state.script else self.default_scenario)
        if scenario not in self.scenarios:
            raise Rejected(400, f"the simulator knows no scenario {scenario}")
        if (most := scenarios.REFUSED_FIRST.get(scenario)) is not None:
            if times >= most:
                # By its key everything that is created fares like this: only this name has been through it.
                if caller.scenario is None:
                    del state.refused[name]
                return "success"
            state.refused[name] = (scenario, times + 1)
        return scenario

    def create(self, account: str, body: dict[str, Any], scenario: str, base_url: str) -> Pod:
        """A new pod, with its whole future as far as the scenario tells it."""
        now = self.clock.now()
        self._count += 1
        luck = seeded(self.seed, "pod", self._count)
        pod_id = "".join(luck.choice(ID_SIGNS) for _ in range(14))
        provisioned = now + timedelta(seconds=self.provisioning_seconds)
        running = provisioned + timedelta(seconds=self.starting_seconds)
        pod = Pod(
            id=pod_id,
            account=account,
            key=f"rpa_{pod_id}_{luck.getrandbits(96):024x}",
            base_url=base_url,
            body=body,
            scenario=scenario,
            price=price_of(body),
            center=luck.choice(body.get("dataCenterIds") or list(CENTERS)),
            created_at=now,
            provisioned_at=provisioned,
            running_at=running,
        )
        half_way = running + timedelta(seconds=self.training_seconds / 2)
        match scenario:
            case "fails_at_start":
                pod.failed_at = running
            case "stuck_starting":
                pod.running_at = now + timedelta(days=3_650)
            case "no_runtime":
                pod.has_runtime = False
            case "exits":
                pod.exited_at = pod.exits_at = half_way
            case "breaks":
                pod.failed_at = half_way
            case "pod_vanished":
                pod.terminated_at, pod.terminated_by = half_way, "provider"
            case "not_found_later":
                pod.terminated_at, pod.terminated_by = provisioned, "provider"
            case "hidden_at_first":
                pod.visible_at = now + timedelta(seconds=HIDDEN_SECONDS)
            case "lingers":
                pod.lingers_seconds = LINGER_SECONDS
            case "conflict":
                pod.conflicts = 1
        self.state(account).pods[pod_id] = pod
        self.boot(pod)
        return pod

    def boot(self, pod: Pod) -> None:
        """Start the pod's script once it runs; what ran in it before does not count any more."""
        self.containers.end(pod.id)
        boot = pod.boots

        async def start() -> None:
            if pod.boots == boot and pod.status(self.clock.now()) == "RUNNING" and pod.has_runtime:
                self._start_script(pod)

        self._due.at(pod.running_at, start)

    def end_script(self, pod: Pod, *, softly: bool = False) -> None:
        """Kill what plays the pod's script; softly: ask it first, as a container is stopped."""
        if (task := self._tasks.pop(pod.id, None)) is not None:
            task.cancel()
        if softly:
            self.containers.ask_to_end(pod.id)
        elif pod.id in self.containers.known():
            self.containers.end(pod.id)
            pod.word = pod.word or word_in(self.output_of(pod.id))

    def lines(self, pod_id: str) -> list[tuple[int, Any, str]]:
        """What the pod's container wrote: number, time, text."""
        if (act := self._acts.get(pod_id)) is not None:
            return [(number, at, text) for number, (at, text) in enumerate(act.lines, start=1)]
        return [(line.number, line.at, line.text) for line in self.containers.lines(pod_id)]

    def _start_script(self, pod: Pod) -> None:
        variables = pod.body.get("env", {})
        if self.runs_scripts and pod.scenario not in scenarios.SCRIPTED:
            if pod.body.get("args"):
                own = {
                    "RUNPOD_POD_ID": pod.id,
                    "RUNPOD_API_KEY": pod.key,
                    "RUNPOD_API_BASE_URL": pod.base_url,
                    "RUNPOD_DC_ID": pod.center,
                    "RUNPOD_GPU_COUNT": str(pod.body["gpu"].get("count", 1) if "gpu" in pod.body else 0),
                    "RUNPOD_PUBLIC_IP": "100.65.0.101",
                }
                pod.trains = True
                self.containers.start(pod.id, pod.body["args"], {**variables, **own}, self.clock.now())
        elif acting.can_act(variables):
            self._tasks[pod.id] = asyncio.ensure_future(self._act(pod, variables))

    async def _act(self, pod: Pod, variables: Mapping[str, str]) -> None:
        def on_training() -> None:
            pod.trains = True

        limit = acting.REQUEST_LIMIT_SECONDS
        async with httpx2.AsyncClient(timeout=limit, trust_env=False) as http:
            act = acting.Act(
                pod_id=pod.id,
                scenario=pod.scenario,
                variables=variables,
                training_seconds=self.training_seconds,
                uploads=self.uploads,
                clock=self.clock,
                http=http,
                on_training=on_training,
            )
            self._acts[pod.id] = act
            reason = await act.play()
        pod.word = reason or OVER
        pod.terminate(self.clock.now(), "script")

    def _look_after_scripts(self) -> None:
        """What the clock has ended ends here too; a container that has ended by itself leaves its pod EXITED."""
        now = self.clock.now()
        for pod_id in {*self.containers.known(), *self._tasks}:
            pod = self._pod(pod_id)
            match pod.status(now):
                case "TERMINATED" | "ERROR":
                    self.end_script(pod)
                case "EXITED":
                    if pod.exited_at == pod.exits_at:
                        self.end_script(pod)  # else it was asked to end, and is given its time
                case _:
                    if self.containers.exit_code(pod_id) is not None:
                        pod.exited_at = now
                        pod.word = word_in(self.output_of(pod_id))

    def pod_of_key(self, key: str) -> Pod | None:
        """The pod whose own key this is, as long as it lives."""
        now = self.clock.now()
        pods = (pod for state in self._accounts.values() for pod in state.pods.values() if pod.key == key)
        return next((pod for pod in pods if pod.status(now) != "TERMINATED"), None)

    def _pod(self, pod_id: str) -> Pod:
        return next(state.pods[pod_id] for state in self._accounts.values() if pod_id in state.pods)

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.run())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def word_in(output: str) -> str | None:
    """The end that a real script has told, by the words of its output; or that nobody wanted to hear of it."""
    found = _TOLD.findall(output)
    return (found[-1] or OVER) if found else None


def price_of(body: Mapping[str, Any]) -> float:
    """List price in US dollars per hour of what a creation asks for."""
    if "gpu" in body:
        count: int = body["gpu"].get("count", 1)
        return round(GPUS[body["gpu"]["id"]].price(body.get("cloud", "SECURE")) * count, 4)
    return round(CPU_PRICE * float(body["cpu"]["vcpuCount"]), 4)
