"""Plays many pods at once, each really run by the simulator: a pod takes seconds, most of which it waits."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.routing import Mount

from domain.secret import Secret
from jobs.programs import Program
from jobs.providers.base import DatasetOrder
from jobs.providers.runpod.trainer import RunPodTrainer
from jobs.simulators.kit import SimulatorClock, Truth, serving
from jobs.simulators.runpod import RunPodSimulator
from jobs.simulators.runpod.scripts import SEARCH_PATH
from tests.jobs.providers.runpod.conftest import NOW, TOKEN, account_of, order_of
from tests.jobs.providers.runpod.home import Home

LONGEST_SECONDS = 60.0
AT_ONCE = 6
TOOLS = (
    *("bash", "sh", "env", "mkdir", "touch", "rm", "mv", "cat", "sed", "grep", "tail", "head", "tr", "wc", "sleep"),
    *("tar", "base64", "gunzip", "gzip", "seq", "setsid"),
)
"""What each image has."""
WEB_TOOLS: Mapping[str, tuple[str, ...]] = {"wget": ("wget", "sha256sum"), "curl": ("curl", "sha256sum"), "python3": ()}


@dataclass
class Case:
    """One pod: its program and data, and what happens to it."""

    program: Program
    content: bytes | None = None
    tools: str = "wget"
    change: Mapping[str, Any] = field(default_factory=dict)
    """Of the dataset as it is announced to the pod."""
    order: Mapping[str, Any] = field(default_factory=dict)
    patience_seconds: int = 5
    home: Mapping[str, Any] = field(default_factory=dict)
    """How the doors behave."""
    home_url: str | None = None
    meanwhile: Callable[["Played"], Awaitable[None]] | None = None
    """What happens while the pod is there."""


@dataclass
class Played:
    """A pod and what came of it."""

    case: Case
    home: Home
    simulator: RunPodSimulator
    trainer: RunPodTrainer
    pod_id: str = ""
    trouble: str | None = None

    @property
    def end(self) -> dict[str, Any]:
        """What the script told last; the whole story if it told none."""
        assert self.trouble is None, self.story
        assert self.home.end is not None, self.story
        return self.home.end

    @property
    def truth(self) -> Truth:
        return next(truth for truth in self.simulator.truths() if truth.reference == self.pod_id)

    @property
    def output(self) -> str:
        return self.simulator.output_of(self.pod_id)

    @property
    def said(self) -> list[str]:
        """The program's own lines, as they came to us."""
        return [line for line in self.home.log.splitlines() if " pod: " not in line]

    @property
    def downloads(self) -> list[str]:
        return [one for one in self.home.requests if one.startswith("download")]

    @property
    def story(self) -> str:
        return f"{self.trouble}\n{self.output}\n{self.home.requests}"

    async def until(self, what: Callable[[], object]) -> None:
        with anyio.fail_after(LONGEST_SECONDS):
            while not what():
                await anyio.sleep(0.05)

    async def play(self, home_url: str, number: int) -> None:
        dataset = None
        if self.case.content is not None:
            url = f"{home_url}/datasets/download"
            grant = Secret(self.home.grant)
            dataset = DatasetOrder(url, grant, "CSV", len(self.case.content), self.home.sha256)
            dataset = replace(dataset, **self.case.change)
        run_id = UUID(self.home.run_id)
        given = {"run_id": run_id, "tag": f"run-{run_id.hex}-1", **self.case.order}
        order = order_of(self.case.home_url or home_url, dataset, **given)
        self.pod_id = (await self.trainer.start(order)).reference
        if self.case.meanwhile is not None:
            await self.case.meanwhile(self)
        await self.until(lambda: not self.truth.is_alive)


@asynccontextmanager
async def played(cases: Mapping[str, Case]) -> AsyncIterator[Mapping[str, Played]]:
    """All cases by name, each played to its end."""
    run_ids = {name: UUID(int=0x0199_D2C4_7F00_7000_8000_0000_0000_0000 + place) for place, name in enumerate(cases)}
    homes = {
        name: Home(str(run_ids[name]), TOKEN, case.program, case.content or b"", **case.home)
        for name, case in cases.items()
    }
    app = Starlette(routes=[Mount(f"/{name}", home.app) for name, home in homes.items()])
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        home_url = await stack.enter_async_context(serving(app))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=10, trust_env=False))
        simulators: dict[str, tuple[RunPodSimulator, str]] = {}
        for tools in {case.tools for case in cases.values()}:
            simulator = RunPodSimulator(
                SimulatorClock(NOW),
                provisioning_seconds=0.0,
                starting_seconds=0.0,
                quotas=(9_000, 9_000, 9_000),
                search_path=machine_with(folder / tools, WEB_TOOLS[tools]),
            )
            simulators[tools] = simulator, await stack.enter_async_context(serving(simulator.app))
        found: dict[str, Played] = {}
        places = anyio.CapacityLimiter(AT_ONCE)

        async def play(name: str, number: int) -> None:
            case = cases[name]
            simulator, url = simulators[case.tools]
            trainer = RunPodTrainer(account_of(url), http, patience_seconds=case.patience_seconds)
            found[name] = Played(case, homes[name], simulator, trainer)
            async with places:
                try:
                    await found[name].play(f"{home_url}/{name}", number)
                except (Exception, AssertionError) as error:
                    found[name].trouble = repr(error)

        async with anyio.create_task_group() as group:
            for number, name in enumerate(cases):
                group.start_soon(play, name, number)
        yield found


def machine_with(folder: Path, web_tools: tuple[str, ...]) -> str:
    """A folder with just the tools of a plain image and these."""
    folder.mkdir()
    for name in (*TOOLS, *web_tools):
        tool = shutil.which(name, path=SEARCH_PATH)
        assert tool is not None, f"this machine has no {name}"
        (folder / name).symlink_to(tool)
    return str(folder)
