"""One seed from beginning to end: the users start their runs, the storm rages, everything comes to rest, is judged."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from domain.training.status import Provider
from jobs.providers.local.folders import inhabitants
from jobs.providers.local.sandbox import Sandbox
from jobs.simulators.kit import Truth
from jobs.simulators.server import scenarios
from tests.chaos.case import Case, by_tag, cases_of
from tests.chaos.drama import Drama
from tests.chaos.judge import Finding, findings_of
from tests.chaos.outcome import Outcome
from tests.chaos.people import Person, crowd
from tests.chaos.plan import Plan
from tests.chaos.readers import findings_of_readers
from tests.chaos.simulating import SimulatorsProcess
from tests.chaos.storm import Storm
from tests.e2e.harness import Rows, World

REST_SECONDS = 75.0
"""How long, after the storm, until nothing is left alive: strays are looked for every half minute."""
CATCHING_UP_SECONDS = 30.0
LOOK_SECONDS = 0.25
NOT_ENDED = """
    SELECT count(*) FROM provider_resources
    WHERE status <> 'ENDED' AND kind = 'TRAINING' AND NOT (reference IS NULL AND last_error IS NOT NULL)
"""


@contextmanager
def stage(plan: Plan, folder: Path) -> Iterator[tuple[World, SimulatorsProcess]]:
    """The product and the simulators, started."""
    with SimulatorsProcess(folder, plan.seed, plan.durations) as simulators:
        world = World(folder, SIMULATORS_URL=simulators.url, ACTIVE_RUNS_PER_USER="200")
        with world.stack:
            yield world, simulators


def plan_of(seed: int, runs: int, *, with_long_ones: bool = True) -> Plan:
    """The plan that a seed means, with all scenarios that there are."""
    names = {provider: [*plays] for provider, plays in scenarios().items()}
    return Plan.of(seed, runs, names, with_long_ones=with_long_ones)


async def play(
    plan: Plan, world: World, simulators: SimulatorsProcess, *, pace: float = 1.0, tell: Callable[[str], None] = print
) -> Outcome:
    """Play the plan; `pace` hurries the storm."""
    began = time.monotonic()
    await simulators.ready()
    storm = Storm(world, plan.seed, pace)
    async with crowd(world, plan.people) as people, world.database() as rows:
        async with anyio.create_task_group() as readers:
            drama = Drama(plan, world, people, storm, readers, tell)
            await drama.perform()
            ended_at = time.monotonic()
            await world.whole()
            await _rest(rows, simulators)
            rest_seconds = time.monotonic() - ended_at
            await _catch_up(rows, people)
            readers.cancel_scope.cancel()
        truths = await simulators.truths()
        cases = await cases_of(rows, drama.started, truths)
        findings = [*drama.findings, *(finding for case in cases for finding in findings_of(case))]
        findings += await findings_of_readers(rows, people)
        findings += await _about_the_rest(world, rows, cases, truths)
    return Outcome(
        seed=plan.seed,
        findings=findings,
        accidents=storm.accidents,
        cases=cases,
        truths=truths,
        drops=sum(len(one.watcher.drops) for one in drama.started) + sum(len(one.feed.drops) for one in people),
        messages=sum(len(one.watcher.messages) for one in drama.started)
        + sum(len(one.feed.messages) for one in people),
        seconds=time.monotonic() - began,
        rest_seconds=rest_seconds,
    )


async def _rest(rows: Rows, simulators: SimulatorsProcess) -> None:
    """Until nothing is alive any more; whoever judges finds what is."""
    deadline = time.monotonic() + REST_SECONDS
    while time.monotonic() < deadline:
        left = await rows.value(NOT_ENDED)
        if not left and not any(truth.is_alive for truth in await simulators.truths()):
            return
        await anyio.sleep(LOOK_SECONDS)


async def _catch_up(rows: Rows, people: Sequence[Person]) -> None:
    """Until every reader has seen what there is; whoever judges finds who has not."""
    query = "SELECT id, feed_seq FROM users WHERE id = ANY($1)"
    deadline = time.monotonic() + CATCHING_UP_SECONDS
    while time.monotonic() < deadline:
        newest = {row["id"]: row["feed_seq"] for row in await rows.all(query, [one.user_id for one in people])}
        if all(
            person.feed.seq >= newest[person.user_id] and all(one.watcher.ended.is_set() for one in person.runs)
            for person in people
        ):
            return
        await anyio.sleep(LOOK_SECONDS)


async def _about_the_rest(world: World, rows: Rows, cases: Sequence[Case], truths: Sequence[Truth]) -> list[Finding]:
    """What belongs to no single run: trainings of nobody, rows of the wrong user, programs on this machine."""
    findings = []
    tags = {attempt.tag for case in cases for attempt in case.attempts}
    attempts = await rows.all("SELECT run_id, number, tag FROM run_attempts")
    for tag, made in by_tag(truths, attempts).items():
        if tag not in tags:
            findings.append(Finding("resources", tag, f"nobody knows what was made: {made}"))
    for kind, query in STRANGE.items():
        for row in await rows.all(query):
            findings.append(Finding("tenants", kind, str(row)))
    here = [case for case in cases if case.last.provider is Provider.LOCAL]
    for case in here:
        living = await anyio.to_thread.run_sync(inhabitants, Sandbox(world.folder, case.last.tag).folder)
        if living:
            findings.append(Finding("resources", case.name, f"alive on this machine: {living}"))
    return findings


STRANGE = {
    "an event of a run with another owner": """
        SELECT event.run_id, event.seq FROM run_events event JOIN training_runs run ON run.id = event.run_id
        WHERE event.user_id <> run.user_id""",
    "a feed with somebody else's run": """
        SELECT feed.user_id, feed.seq FROM feed_events feed
        JOIN training_runs run ON run.id::text = coalesce(feed.run->>'id', feed.data->>'runId')
        WHERE feed.user_id <> run.user_id""",
    "a resource of another owner": """
        SELECT resource.id FROM provider_resources resource JOIN training_runs run ON run.id = resource.run_id
        WHERE resource.user_id <> run.user_id""",
}
