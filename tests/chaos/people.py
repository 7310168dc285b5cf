"""The users in the storm: each starts runs, cancels some, and follows all that is theirs over the public API."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from graph.cli import documents
from graph.cli.client import Client, Credential
from graph.cli.errors import ClientError, Unreachable
from graph.cli.pictures import write_pictures
from graph.cli.session import ALL_SCOPES, sign_in
from graph.cli.stream import Drop
from graph.ids import uuid_of
from tests.chaos.plan import PlannedRun
from tests.chaos.wishes import wish_of
from tests.e2e.harness import Run, Tenant, World, run_of
from tests.e2e.watching import StrictStream, Watcher

FOLLOW_ACTIVITY = """
subscription FollowActivity($after: Cursor) {
  activity(after: $after) {
    __typename seq firstSeq cursor
    ... on TrainingRunMessage { runId }
    ... on ModelStatusChanged { modelId }
    ... on ResourceEnded { resourceId }
    ... on ActivitySnapshot { activeRuns { id } }
    ... on ActivityGap { activeRuns { id } }
  }
}
"""
VIEWER = "query { viewer { id } }"
PATIENCE_SECONDS = 60.0
"""How long somebody goes on asking while nobody answers."""


@dataclass(frozen=True, slots=True)
class StartedRun:
    """A planned run that is there."""

    planned: PlannedRun
    run: Run
    person: "Person"
    watcher: Watcher
    cut: list[ClientError] = field(default_factory=list)
    """What ended its reader before the run's end."""

    async def follow(self) -> None:
        try:
            await self.watcher.follow()
        except ClientError as error:
            self.cut.append(error)


class Feed:
    """Follows one user's activity, at one API after the other: each cut sends it to the next address."""

    def __init__(self, client: Client, urls: Sequence[str]) -> None:
        self.client = client
        self.urls = list(urls)
        self.messages: list[dict[str, Any]] = []
        self.drops: list[Drop] = []
        self.ended_by: ClientError | None = None
        self.stream = StrictStream(client, FOLLOW_ACTIVITY, {}, self._dropped)

    @property
    def seq(self) -> int:
        """The number of the last message that came."""
        return int(self.messages[-1]["seq"]) if self.messages else 0

    async def follow(self) -> None:
        """Until cancelled: a feed never ends by itself."""
        try:
            async with self.client, aclosing(self.stream.messages()) as messages:
                async for message in messages:
                    self.messages.append(message)
        except ClientError as error:
            self.ended_by = error

    def _dropped(self, drop: Drop) -> None:
        self.drops.append(drop)
        self.urls.append(self.urls.pop(0))
        self.client.url = self.urls[0]


@dataclass
class Person:
    """One user with a key of test mode, and data to train on."""

    number: int
    user_id: UUID
    tenant: Tenant
    urls: list[str]
    datasets: dict[str, str]
    feed: Feed
    runs: list[StartedRun] = field(default_factory=list)
    canceled: set[UUID] = field(default_factory=set)
    """Runs whose cancellation was accepted before their end."""

    async def start(self, planned: PlannedRun, group: TaskGroup) -> StartedRun:
        """Start a run, and follow it from then on. Who gets no answer asks again, elsewhere."""
        answer = await self._insist(documents.START_RUN, input=wish_of(planned, self.datasets))
        run = run_of(answer)
        turn = planned.number % len(self.urls)
        watcher = Watcher(self.tenant, run, [*self.urls[turn:], *self.urls[:turn]])
        started = StartedRun(planned, run, self, watcher)
        group.start_soon(started.follow)
        self.runs.append(started)
        return started

    async def cancel(self, run: Run) -> None:
        """Ask for the end, unless it has come before."""
        try:
            answer = await self._insist(documents.CANCEL_RUN, id=run.id)
        except ClientError as error:
            if error.code != "RUN_ALREADY_ENDED":
                raise
        else:
            assert answer["status"] in ("CANCELING", "CANCELED"), answer
            self.canceled.add(run.row)

    async def sees(self, run: Run) -> bool:
        """Whether this user gets to see the run."""
        data = await self._persist(lambda client: client.execute(documents.RUN, {"id": run.id}))
        return data["trainingRun"] is not None

    async def _insist(self, document: str, **variables: Any) -> Any:
        return await self._persist(lambda client: client.ask(document, **variables))

    async def _persist(self, ask: Callable[[Client], Awaitable[Any]]) -> Any:
        deadline, client = time.monotonic() + PATIENCE_SECONDS, self.tenant.client
        while True:
            try:
                return await ask(client)
            except Unreachable:
                if time.monotonic() > deadline:
                    raise
            turn = self.urls.index(client.url) + 1
            client.url = self.urls[turn % len(self.urls)]
            await anyio.sleep(0.1)


@asynccontextmanager
async def crowd(world: World, count: int) -> AsyncIterator[list[Person]]:
    """So many users, each of whom follows their own activity until the block ends."""
    pictures = world.folder / "pictures.zip"
    await anyio.to_thread.run_sync(write_pictures, pictures)
    async with AsyncExitStack() as stack, anyio.create_task_group() as group:
        people = []
        for number in range(count):
            person = await _person(world, number, stack, pictures)
            group.start_soon(person.feed.follow)
            people.append(person)
        yield people
        group.cancel_scope.cancel()


async def _person(world: World, number: int, stack: AsyncExitStack, pictures: Path) -> Person:
    turn = number % len(world.apis)
    urls = [*world.stack.api_urls[turn:], *world.stack.api_urls[:turn]]
    client = await stack.enter_async_context(Client(urls[0]))
    await sign_in(client, f"{uuid4().hex}@example.com", uuid4().hex, sign_up=True)
    wish = {"name": "chaos", "scopes": list(ALL_SCOPES), "testMode": True}
    made = await client.ask(documents.CREATE_API_KEY, input=wish)
    client.credential = Credential(made["token"])
    datasets = {}
    rows = await anyio.to_thread.run_sync(world.iris)
    for material, format, path in (("rows", "CSV", rows), ("pictures", "ZIP", pictures)):
        dataset = await client.ask(documents.CREATE_DATASET, input={"name": material, "format": format})
        await client.upload(dataset["id"], path)
        datasets[material] = dataset["id"]
    viewer = await client.ask(VIEWER)
    tenant = Tenant(client, datasets["rows"])
    feed = Feed(tenant.at(urls[-1]), urls[::-1])
    return Person(number, uuid_of(viewer["id"], "Viewer"), tenant, urls, datasets, feed)
