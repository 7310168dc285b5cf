"""What every reader saw, held against what is stored: all of it, once, in order, and nothing of anybody else."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from domain.training.status import FINAL
from graph.ids import global_id
from tests.chaos.judge import Finding
from tests.chaos.people import Person, StartedRun
from tests.e2e.harness import Rows


async def findings_of_readers(rows: Rows, people: Sequence[Person]) -> list[Finding]:
    """All that a reader saw and should not have, or did not see and should have."""
    findings: list[Finding] = []
    for person in people:
        stored = await rows.all(
            "SELECT seq, type, run->>'id' AS run FROM feed_events WHERE user_id = $1 ORDER BY seq", person.user_id
        )
        newest = await rows.value("SELECT feed_seq FROM users WHERE id = $1", person.user_id)
        numbers = [row["seq"] for row in stored]
        if numbers != list(range(1, newest + 1)):
            findings.append(Finding("events", _name(person), f"the feed's numbers have holes or doubles: {numbers}"))
        theirs = await _theirs(rows, person.user_id)
        findings += about_feed(person, {row["seq"]: row for row in stored}, newest, theirs)
        for one in person.runs:
            last = await rows.value("SELECT seq FROM training_runs WHERE id = $1", one.run.row)
            findings += about_run(one, last)
    for person, other in zip(people, [*people[1:], *people[:1]], strict=True):
        if other.runs and other is not person and await person.sees(other.runs[-1].run):
            findings.append(Finding("tenants", _name(person), f"sees the run {other.runs[-1].run.row} of another"))
    return findings


async def _theirs(rows: Rows, user_id: UUID) -> set[str]:
    """The ids, as the outside knows them, of all that a user owns."""
    tables = {"TrainingRun": "training_runs", "AIModel": "ai_models", "Resource": "provider_resources"}
    found = set()
    for kind, table in tables.items():
        ids = await rows.column(f"SELECT id FROM {table} WHERE user_id = $1", user_id)
        found |= {global_id(kind, id) for id in ids}
    return found


def about_feed(
    person: Person, stored: Mapping[int, Mapping[str, Any]], newest: int, theirs: set[str]
) -> Iterator[Finding]:
    name, feed = _name(person), person.feed
    for words in feed.stream.wrong:
        yield Finding("events", name, f"in the feed: {words}")
    if feed.ended_by is not None:
        yield Finding("events", name, f"the feed was ended: {feed.ended_by} ({feed.ended_by.code})")
    if feed.seq != newest:
        yield Finding("events", name, f"the feed was told up to {feed.seq} of {newest}")
    for message in feed.messages:
        for id in _ids_in(message):
            if id not in theirs:
                yield Finding("tenants", name, f"was told of somebody else's: {message}")
        row = stored.get(message["seq"])
        if row is not None and row["run"] and "runId" in message:
            run_id = global_id("TrainingRun", UUID(row["run"]))
            if message["runId"] != run_id:
                yield Finding("events", name, f"was told another event than is stored: {message} {row}")


def _ids_in(message: Mapping[str, Any]) -> Iterator[str]:
    for field in ("runId", "modelId", "resourceId"):
        if field in message:
            yield message[field]
    for run in message.get("activeRuns") or ():
        yield run["id"]


def about_run(one: StartedRun, last: int) -> Iterator[Finding]:
    watcher = one.watcher
    name = f"reader of run {one.planned.number} ({one.run.row})"
    if one.cut:
        yield Finding("events", name, f"the stream was ended: {one.cut}")
    for words in watcher.problems():
        yield Finding("events", name, words)
    if watcher.messages and (watcher.seqs[-1] != last or watcher.messages[-1]["status"] not in FINAL):
        yield Finding("events", name, f"was told up to {watcher.seqs[-1]} of {last}")
    if strange := {message["runId"] for message in watcher.messages} - {one.run.id}:
        yield Finding("tenants", name, f"was told of {strange}")


def _name(person: Person) -> str:
    return f"user {person.number} ({person.user_id})"
