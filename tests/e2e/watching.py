"""A reader who trusts nobody: follows a run over the public socket and writes down every message that does not fit."""

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
from anyio.abc import TaskGroup

from graph.cli import documents
from graph.cli.client import Client
from graph.cli.stream import SNAPSHOTS, Drop, Pace, Stream
from tests.e2e.harness import Run, Tenant, until

ENDED_SECONDS = 100.0
PACE = Pace(first=0.05, longest=0.5, patience=60)


class StrictStream(Stream):
    """The product's client, except that a message that came twice or too early is a finding, and not passed over."""

    def __init__(
        self, client: Client, document: str, variables: dict[str, Any], on_drop: Callable[[Drop], None]
    ) -> None:
        super().__init__(client, document, variables, on_drop=on_drop, pace=PACE)
        self.wrong: list[str] = []

    def _is_next(self, message: dict[str, Any]) -> bool:
        kind = message["__typename"].removeprefix("Activity")
        if self.seq is None and kind != "Snapshot":
            self.wrong.append(f"the first message is {kind}")
        if self.seq is not None and (kind in SNAPSHOTS or message["firstSeq"] != self.seq + 1):
            self.wrong.append(f"{kind} {message['firstSeq']}…{message['seq']} came after {self.seq}")
        return super()._is_next(message)


class Watcher:
    """Follows one run to its end, at one API after the other: each cut sends it to the next address."""

    def __init__(self, tenant: Tenant, run: Run, urls: Sequence[str]) -> None:
        self.run = run
        self.urls = list(urls)
        self.client = tenant.at(self.urls[0])
        self.messages: list[dict[str, Any]] = []
        self.arrived: list[float] = []
        """When each message came, on the clock of the system."""
        self.drops: list[Drop] = []
        self.ended = anyio.Event()
        self.stream = StrictStream(self.client, documents.FOLLOW_RUN, {"id": run.id}, self._dropped)

    @property
    def seqs(self) -> list[int]:
        return [message["seq"] for message in self.messages]

    @property
    def lines(self) -> list[int]:
        """The numbers of all log lines that came live."""
        return [
            number
            for message in self.messages
            if message["__typename"] == "RunLogged"
            for number in range(message["fromLine"], message["toLine"] + 1)
        ]

    async def follow(self) -> None:
        async with self.client, aclosing(self.stream.messages()) as messages:
            async for message in messages:
                self.messages.append(message)
                self.arrived.append(time.time())
        self.ended.set()

    async def until_ended(self, limit_seconds: float = ENDED_SECONDS) -> None:
        with anyio.fail_after(limit_seconds):
            await self.ended.wait()

    async def until_seen(self, *, status: str, limit_seconds: float = 30.0) -> None:
        """Wait for the first message in which the run has this status."""

        async def seen() -> bool:
            return any(message["status"] == status for message in self.messages)

        await until(f"the reader sees {status}", seen, limit_seconds=limit_seconds)

    def problems(self) -> list[str]:
        """What did not fit; nothing once it saw every number to the run's last exactly once and in order."""
        found = list(self.stream.wrong)
        if not self.messages:
            return [*found, "nothing came"]
        expected = self.messages[0]["seq"]
        for message in self.messages[1:]:
            if message["firstSeq"] != expected + 1:
                found.append(f"{message['firstSeq']} came after {expected}")
            expected = message["seq"]
        if self.ended.is_set() and self.messages[-1]["status"] not in ("READY", "FAILED", "CANCELED"):
            found.append(f"the stream completed in {self.messages[-1]['status']}")
        return found

    def _dropped(self, drop: Drop) -> None:
        self.drops.append(drop)
        self.urls.append(self.urls.pop(0))
        self.client.url = self.urls[0]


class Watchers:
    """Everybody who watches."""

    def __init__(self, tenant: Tenant, group: TaskGroup) -> None:
        self.tenant = tenant
        self.all: list[Watcher] = []
        self._group = group

    def add(self, run: Run, urls: Sequence[str]) -> Watcher:
        """One more, who follows this run from now on, at the first of these addresses."""
        watcher = Watcher(self.tenant, run, urls)
        self.all.append(watcher)
        self._group.start_soon(watcher.follow)
        return watcher

    def of(self, run: Run) -> list[Watcher]:
        return [watcher for watcher in self.all if watcher.run == run]

    async def until_ended(self) -> None:
        for watcher in self.all:
            await watcher.until_ended()


@asynccontextmanager
async def watching(tenant: Tenant, runs: Sequence[Run] = (), urls: Sequence[str] = ()) -> AsyncIterator[Watchers]:
    """A watcher per run and first address, each following until the block ends."""
    async with anyio.create_task_group() as group:
        watchers = Watchers(tenant, group)
        for run in runs:
            for place in range(len(urls)):
                watchers.add(run, [*urls[place:], *urls[:place]])
        yield watchers
        group.cancel_scope.cancel()
