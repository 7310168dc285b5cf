"""The whole product is used and misused, and then nothing that came out of it holds a secret: no log, no answer, no
socket, no row.

What is allowed: an answer that hands a secret out on purpose, such as that of createApiKey, for that secret only; and
the column `callbacks.body`, which keeps what others sent as they sent it (operators are shown it without secrets, and
those answers are looked through like all others).
"""

import contextlib
import re
import secrets as randomness
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.to_thread
import pytest

from db.redis import redis_of
from domain.training.status import Provider
from graph.cli.pictures import write_pictures
from jobs.simulators.kit import serving
from jobs.simulators.server import Simulators
from tests.e2e.careless import PREFIXES, Careless
from tests.e2e.harness import World, until
from tests.e2e.leaks import Finding, Pile, Secrets, findings, forms_of
from tests.e2e.recording import Recording

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]  # a busy machine has not one minute, but three

RAW = frozenset({("callbacks", "body")})
TOKEN = re.compile(r"rw[a-z]_[A-Za-z0-9_-]{43}")
KINDS = {"rwg_": "a download grant", "rwp_": "a token of an attempt"}
RUNS_SECONDS = 60.0
PLANTED = 'planted "secret" é/+?>>>ÿÿÿ~~~'
"""Written differently in each form."""
PRINTS_ALL = """
env; cat order.json; ls -a; cat .runwire/* 2>/dev/null | tail -c 4000; tr '\\0' '\\n' </proc/$PPID/environ
echo "step 1/2 loss 0.5"; cat data/content | head -c 100; ls /nonexistent; sleep 1
"""
"""A program that tells all it can see of what it was given."""
NEEDS_MEMORY = "set -e; python3 -c 'import time; held = bytearray(50_000_000); time.sleep(30)'"
"""What the simulator of E2B kills."""


@dataclass
class Evidence:
    """What came out, and what must not."""

    world: World
    simulators: Simulators
    recording: Recording = field(default_factory=Recording)
    secrets: Secrets = field(default_factory=Secrets)
    handed_out: set[tuple[str, str]] = field(default_factory=set)
    ends: dict[str, str] = field(default_factory=dict)
    """How each run ended, by its title."""
    rows: list[tuple[str, bytes]] = field(default_factory=list)
    redis: list[tuple[str, bytes]] = field(default_factory=list)

    def logs(self) -> list[tuple[str, bytes]]:
        """Every line of every process's log, those of PostgreSQL and Redis included."""
        return [
            (f"{log.name}, line {number}", line)
            for log in sorted(self.world.folder.rglob("*.log"))
            for number, line in enumerate(log.read_bytes().splitlines(), start=1)
        ]

    def scan(self) -> list[Finding]:
        piles = [Pile(self.logs()), Pile(self.recording.parts()), Pile(self.rows), Pile(self.redis)]
        return findings(self.secrets, piles, frozenset(self.handed_out))


@pytest.fixture(scope="module")
async def evidence() -> AsyncIterator[Evidence]:
    """Everything that two careless users, their providers and an operator were told, and what was kept of it."""
    quick = {"starting_seconds": 0.3, "training_seconds": 2.0}
    simulators = Simulators(
        replicate=quick,
        runpod={"provisioning_seconds": 0.1, **quick},
        astria={"queue_seconds": 0.3, "training_seconds": 2.0},
    )
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(simulators.app))
        folder = stack.enter_context(TemporaryDirectory(prefix="runwire-secrets-", ignore_cleanup_errors=True))
        secrets = Secrets()
        world = World(Path(folder), apis=1, workers=1, **_settings(url, secrets))
        stack.push_async_callback(anyio.to_thread.run_sync, world.stack.stop)
        await anyio.to_thread.run_sync(world.stack.start)
        evidence = Evidence(world, simulators, secrets=secrets)
        await _live(evidence)
        yield evidence


async def test_nothing_holds_a_secret(evidence: Evidence) -> None:
    found = evidence.scan()
    assert not found, "\n" + "\n".join(f"{one.where} holds {one.kind}, {one.form}" for one in found)


async def test_everything_was_looked_at(evidence: Evidence) -> None:
    """Else nothing would be found in it."""
    logs = {name.partition(",")[0] for name, _ in evidence.logs()}
    assert {"api-1.log", "worker-1.log", "postgres.log", "redis.log"} <= logs
    assert set(evidence.secrets.kinds.values()) >= {
        *("a password", "an access token", "a refresh token", "an API key", "a stream token"),
        *("a signing key", "an encryption key", "a webhooks' secret", "a sandbox's token", "a pod's own key"),
        *(f"a user's key at {provider}" for provider in PREFIXES),
        *(f"the operator's key at {provider}" for provider in PREFIXES),
        *KINDS.values(),
    }
    tables = {name.partition(".")[0] for name, _ in evidence.rows}
    assert tables >= {
        "users",
        "training_runs",
        "run_attempts",
        "callbacks",
        "user_integrations",
        "audit_log",
        "run_logs",
    }
    told = b"\n".join(value for name, value in evidence.rows if name.startswith("run_logs.text"))
    assert "RUNWIRE_TOKEN=rwp_•••".encode() in told and "RUNPOD_API_KEY=rpa_•••".encode() in told
    assert len(evidence.recording.answers) > 150 and evidence.recording.frames > 50
    assert evidence.redis != []


async def test_the_runs_ended_as_they_were_to(evidence: Evidence) -> None:
    assert evidence.ends == {}


@pytest.mark.parametrize("form", [form for form, _ in forms_of(PLANTED)])
async def test_a_secret_in_a_log_is_found_and_not_repeated(evidence: Evidence, form: str) -> None:
    needle = dict(forms_of(PLANTED))[form]
    log = evidence.world.folder / "logs" / "planted.log"
    evidence.secrets.add("a planted secret", PLANTED)
    try:
        log.write_bytes(b"Nothing here.\nINFO somebody said: x" + needle + b"y\n")
        found = [one for one in evidence.scan() if one.kind == "a planted secret"]
    finally:
        log.unlink()
        del evidence.secrets.kinds[PLANTED]
    assert found == [Finding("a planted secret", form, "planted.log, line 2")]
    assert PLANTED not in str(found) and needle.decode() not in str(found)


def _settings(url: str, secrets: Secrets) -> dict[str, str]:
    """The installation's, with keys of the operator's own at every provider, which is simulated."""
    names = {
        Provider.REPLICATE: "REPLICATE_API_TOKEN",
        Provider.RUNPOD: "RUNPOD_API_KEY",
        Provider.ASTRIA: "ASTRIA_API_KEY",
        Provider.E2B: "E2B_API_KEY",
    }
    settings = {"SIMULATORS_URL": url}
    for provider, prefix in PREFIXES.items():
        scenario = ".unauthorized" if provider is Provider.ASTRIA else ""
        key = f"{prefix}sim_operator-{randomness.token_hex(6)}{scenario}"
        settings |= {names[provider]: key, f"{provider}_BASE_URL": f"{url}/{provider.value.lower()}"}
        secrets.add(f"the operator's key at {provider}", key)
    for name, kind in (("SECRET_KEYS", "a signing key"), ("ENCRYPTION_KEYS", "an encryption key")):
        keys = [randomness.token_urlsafe(36) for _ in range(2)]
        secrets.add(kind, *keys)
        settings[name] = ",".join(keys)
    return settings


async def _live(evidence: Evidence) -> None:
    world = evidence.world
    ada, bob = (
        Careless(world.url(0), evidence.recording, evidence.secrets, evidence.handed_out, name)
        for name in ("ada", "bob")
    )
    async with ada.http, bob.http:
        await _use(evidence, ada, bob)
    await _learn(evidence)
    await _gather(evidence)


async def _use(evidence: Evidence, ada: Careless, bob: Careless) -> None:
    world = evidence.world
    pictures = world.folder / "pictures.zip"
    rows = await anyio.to_thread.run_sync(world.iris)
    await anyio.to_thread.run_sync(write_pictures, pictures)
    for user in (ada, bob):
        await user.arrive()
    await anyio.to_thread.run_sync(world.stack.name_operator, bob.email)
    await ada.connect()
    await ada.upload(rows, pictures)
    await _start_runs(evidence, ada)
    async with anyio.create_task_group() as group:
        group.start_soon(ada.follow)
        group.start_soon(ada.stumble)
        await _hear_lies(evidence, ada)
        await _all_ended(evidence, ada)
        group.cancel_scope.cancel()
    await ada.look_around()
    await bob.look_around(is_operator=True)
    await ada.leave()


EXPECTED = {
    "local": "READY/SUCCEEDED",
    "REPLICATE mine": "READY/SUCCEEDED",
    "RUNPOD mine": "READY/SUCCEEDED",
    "ASTRIA mine": "READY/SUCCEEDED",
    "E2B mine": "READY/SUCCEEDED",
    "REPLICATE operator's": "READY/SUCCEEDED",
    "ASTRIA operator's": "FAILED/PROVIDER_REFUSED",
    "REPLICATE webhook_forged": "READY/SUCCEEDED",
    "ASTRIA webhook_forged": "READY/SUCCEEDED",
    "RUNPOD stuck_starting": "CANCELED/CANCELED_BY_USER",
    **{f"{provider} unauthorized": "FAILED/PROVIDER_REFUSED" for provider in PREFIXES},
    "REPLICATE reply_lost": "READY/SUCCEEDED",
    "ASTRIA reply_lost": "READY/SUCCEEDED",
    "REPLICATE fails_while_training": "FAILED/CODE_ERROR",
    "RUNPOD fails_while_training": "FAILED/CODE_ERROR",
    "ASTRIA fails_while_training": "FAILED/PROVIDER_ERROR",
    "E2B fails_while_training": "FAILED/CODE_ERROR",
}
SACRIFICED = "RUNPOD stuck_starting"
"""The run whose script never begins, and is spoken for by somebody else."""


async def _start_runs(evidence: Evidence, ada: Careless) -> None:
    for title in EXPECTED:
        name, _, how = title.partition(" ")
        if title == "local":
            wish: dict[str, Any] = {"recipe": "tabular-classification", "hyperparameters": {"epochs": 3}}
            await ada.start(title, {**wish, "provider": "LOCAL", "datasetId": ada.datasets["rows"], "deploy": True})
            continue
        provider = Provider(name)
        wish = {"provider": name, **_training(provider, how, ada)}
        if how == "mine":
            wish["integrationId"] = ada.integrations[provider]
        if how in ("mine", "operator's"):
            await ada.start(title, wish)
        else:
            await ada.start(title, {**wish, "scenario": how}, test_mode=True)


def _training(provider: Provider, how: str, ada: Careless) -> dict[str, Any]:
    match provider:
        case Provider.REPLICATE:
            wish = {"triggerWord": "TOK", "steps": 100}
            return {"recipe": "flux-lora", "hyperparameters": wish, "datasetId": ada.datasets["pictures"]}
        case Provider.ASTRIA:
            return {
                "recipe": "image-tune",
                "hyperparameters": {"className": "style"},
                "datasetId": ada.datasets["pictures"],
            }
        case _:
            command = f"{NEEDS_MEMORY if how == 'fails_while_training' else ''}\n{PRINTS_ALL}"
            return {"recipe": "command", "hyperparameters": {"command": command}, "datasetId": ada.datasets["rows"]}


async def _hear_lies(evidence: Evidence, ada: Careless) -> None:
    """Calls in the names of providers and scripts, with their tokens, and with secrets in what they say."""
    simulators = evidence.simulators
    tag = f"run-{ada.runs[SACRIFICED].row.hex}-1"

    async def has_begun() -> bool:
        return bool(simulators.astria.tunes) and any(pod.name == tag for pod in _pods(simulators))

    await until("a tune and a pod are there", has_begun)
    (pod,) = [pod for pod in _pods(simulators) if pod.name == tag]
    token, grant = pod.body["env"]["RUNWIRE_TOKEN"], pod.body["env"]["RUNWIRE_DATASET_TOKEN"]
    callback = next(str(tune.fields["callback"]) for tune in simulators.astria.tunes.values())
    address = callback.removeprefix(ada.url)
    assert address.startswith("/webhooks/astria/")
    everything = " ".join([token, grant, callback, pod.key, *ada.keys.values(), ada.access, ada.api_key])
    tune = {"tune": {"id": 1, "title": tag, "error": everything, "callback": callback}}
    for title, path in {
        "forged": address,
        "longer": f"{address}/{token}",
        "coded": "/webhooks/astria/%72" + address.removeprefix("/webhooks/astria/r"),
        "with a query": f"{address}?token={token}",
    }.items():
        await ada.send(f"astria: {title}", "POST", path, json=tune)
    await ada.send("astria: read", "GET", address)
    await ada.send("astria: not JSON", "POST", address, content=everything)
    signed = {"webhook-id": "msg_x", "webhook-timestamp": "1", "webhook-signature": f"v1,{token}"}
    training = {"id": "x", "status": "failed", "error": everything, "logs": everything, "input": {"x": everything}}
    await ada.send("replicate: forged", "POST", f"/webhooks/replicate?run={tag}", json=training, headers=signed)
    await ada.send("replicate: broken", "POST", f"/webhooks/replicate?run={tag}", content=everything, headers=signed)
    await ada.send("e2b: forged", "POST", "/webhooks/e2b", json={"type": "x", "sandboxId": everything})
    run = f"/runs/{ada.runs[SACRIFICED].row}"
    as_pod = {"authorization": f"Bearer {token}"}
    await ada.send("report: broken", "POST", f"{run}/reports", content=f'{{"x": "{everything}', headers=as_pod)
    await ada.send("report: no number", "POST", f"{run}/reports", json={"sequence": everything}, headers=as_pod)
    await ada.send("report: of another run", "POST", "/runs/x/reports", json={}, headers=as_pod)
    await ada.send("report: token in the address", "POST", f"{run}/reports?token={token}", json={"sequence": 1})
    await ada.send("program", "GET", f"{run}/program?token={token}", headers=as_pod)
    await ada.send("artifact", "PUT", f"{run}/artifacts/{token}?token={token}", content=b"x", headers=as_pod)
    for method in ("GET", "HEAD", "POST"):
        await ada.send(f"download: {method}", method, f"/datasets/download?token={grant}")
        await ada.send(f"download: wrong, {method}", method, f"/datasets/download?token={grant[:-1]}&x={token}")
    said = f"export TOKEN={token} GRANT={grant} ADDRESS={callback}\nBearer {ada.access}\n{everything}\n"
    report = {
        "sequence": 1,
        "stage": "TRAINING",
        "points": [{"name": token, "step": 1, "value": 1.0}, {"name": "loss", "step": token, "value": grant}],
        "log": {"start": 0, "end": len(said.encode()), "text": said},
        token: grant,
    }
    heard = await ada.send("report: a script that tells all", "POST", f"{run}/reports", json=report, headers=as_pod)
    assert heard.is_success, heard.text


async def _all_ended(evidence: Evidence, ada: Careless) -> None:
    async with evidence.world.database() as rows:

        async def is_applied() -> bool:
            query = "SELECT status FROM callbacks WHERE run_id = $1 AND sequence = 1"
            status = await rows.value(query, ada.runs[SACRIFICED].row)
            return status not in (None, "RECEIVED")

        await until("the script's last word is applied", is_applied)
        async with ada.client() as client:
            await client.ask(
                "mutation ($id: ID!) { cancelTrainingRun(id: $id) { __typename } }", id=ada.runs[SACRIFICED].id
            )
        for title, run in ada.runs.items():
            await rows.until_ended(run.row, limit_seconds=RUNS_SECONDS)
            end = await rows.one("SELECT status, end_reason, error_message FROM training_runs WHERE id = $1", run.row)
            if f"{end['status']}/{end['end_reason']}" != EXPECTED[title]:
                evidence.ends[title] = str(end)


def _pods(simulators: Simulators) -> list[Any]:
    """Every pod there ever was."""
    accounts = {truth.account for truth in simulators.runpod.truths()}
    return [pod for account in accounts for pod in simulators.runpod.state(account).pods.values()]


async def _learn(evidence: Evidence) -> None:
    """The secrets that only providers and scripts were shown."""
    simulators, secrets = evidence.simulators, evidence.secrets
    for pod in _pods(simulators):
        secrets.add("a pod's own key", pod.key)
    for sandbox in simulators.e2b.sandboxes.all.values():
        secrets.add("a sandbox's token", sandbox.token)
    for account in {training.account for training in simulators.replicate.trainings.values()}:
        secrets.add("a webhooks' secret", simulators.replicate.secrets_of(account).current)
    shown = [str(pod.body) for pod in _pods(simulators)]
    for simulator in simulators.by_provider.values():
        entries = simulator.journal.entries
        shown += [f"{entry.path} {entry.query} {entry.body.decode('utf-8', 'replace')}" for entry in entries]
    for spec in (evidence.world.folder / "sandboxes").glob("*/spec.json"):
        shown.append(await anyio.Path(spec).read_text())
    for text in shown:
        for token in TOKEN.findall(text):
            secrets.add(KINDS[token[:4]], token)


async def _gather(evidence: Evidence) -> None:
    """All rows of all tables, and all that Redis holds."""
    async with evidence.world.database() as rows:
        columns = await rows.all(
            "SELECT table_schema, table_name, column_name, data_type FROM information_schema.columns"
            " JOIN information_schema.tables USING (table_schema, table_name)"
            " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        )
        for column in columns:
            table, name = column["table_name"], column["column_name"]
            if (table, name) in RAW:
                continue
            kind = "" if column["data_type"] == "bytea" else "::text"
            query = f'SELECT ctid::text AS place, "{name}"{kind} AS value FROM "{column["table_schema"]}"."{table}"'
            for row in await rows.all(f'{query} WHERE "{name}" IS NOT NULL'):
                value = row["value"] if isinstance(row["value"], bytes) else row["value"].encode()
                evidence.rows.append((f"{table}.{name} at {row['place']}", value))
    client = redis_of(evidence.world.redis.address)
    try:
        async for key in client.scan_iter():
            evidence.redis.append(("a key of Redis", key))
            evidence.redis.append((f"Redis, {_shape(key)}", await client.dump(key) or b""))
    finally:
        await client.aclose()


def _shape(key: bytes) -> str:
    """A key's name without what may be secret in it."""
    return re.sub(r"[A-Za-z0-9_-]{16,}", "…", key.decode("utf-8", "replace"))
