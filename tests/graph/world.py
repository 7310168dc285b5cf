"""A tenant with one of everything, for tests that let all kinds of callers try all operations on it."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from domain.account.model import User
from domain.callback.model import Callback
from domain.callback.service import mark_rejected
from domain.dataset import service as datasets
from domain.dataset.model import DownloadReceipt
from domain.secret import Secret
from domain.tables import OWNED
from domain.training.model import TrainingConfig, TrainingRun
from domain.training.report import LogChunk, LogText, Reading, StoredArtifact
from domain.training.status import RunStage, RunStatus
from domain.viewer import ALL_SCOPES, Scope, Viewer, ViewerKind
from graph.ids import parts_of
from tests.domain.callback.support import keep, make_operator
from tests.domain.deployment.support import make_app, make_artifact, make_deployment
from tests.domain.integration.support import make_integration
from tests.factories import make_api_key, make_dataset, make_model, make_run, make_session
from tests.graph.served import Served

PASSWORD = "adas own long password"
SIGN_UP = """mutation ($input: SignUpInput!) {
  signUp(input: $input) { ... on SignedIn { accessToken refreshToken viewer { id } session { id } } }
}"""

ROWS_OF_A_TABLE = "SELECT '{name}' AS name, t::text AS row FROM {name} t WHERE {mine} = :user_id"
ALL_ROWS = (
    "SELECT md5(string_agg(name || row, '|' ORDER BY name, row)) FROM ("
    + " UNION ALL ".join(
        ROWS_OF_A_TABLE.format(name=kind.__tablename__, mine="id" if kind is User else "user_id") for kind in OWNED
    )
    + " UNION ALL SELECT 'callbacks', c::text FROM callbacks c) AS everything"
)


@dataclass
class World:
    """Ada, who is an operator, what is hers, and the credentials that callers come with."""

    served: Served
    ada: Viewer
    ids: dict[str, UUID]
    slug: str
    grant: Secret
    """The text of a download grant of Ada's."""
    refresh_token: str
    tokens: dict[str, str]
    """Texts by caller: `owner` (Ada), `other` (Eve), `bound` (Ada's stream token of the run `queued`), `stream`."""
    eve: Viewer
    engine: AsyncEngine
    """The database's owner's, who sees all rows."""
    weak: dict[Scope, tuple[datetime, str]] = field(default_factory=dict)
    """Keys that lack a scope, and when they were made."""

    async def weak_token(self, lacking: Scope) -> str:
        """An API key of Ada's that may do everything but this; a fresh one now and then, since using an older one is
        written down."""
        now = self.served.clock.now()
        made_at, text = self.weak.get(lacking, (None, ""))
        if made_at is None or now - made_at > timedelta(seconds=20):
            _, token = await _key(self.served, self.ada, ALL_SCOPES - {lacking})
            made_at, text = self.weak[lacking] = now, token.reveal()
        return text

    async def fingerprint(self) -> str:
        """Everything that Ada has or operates, in one number: unchanged as long as none of these rows is."""
        async with self.engine.connect() as connection:
            found = await connection.execute(sa.text(ALL_ROWS), {"user_id": self.ada.user_id})
            digest: str = found.scalar_one()
        return digest


async def build_world(served: Served, engine: AsyncEngine) -> World:
    """Ada with one of everything, and what is to be changed twice: one for reading, one to be ended."""
    ada, refresh_token = await _sign_up(served, "ada@adas-house.example")
    eve, _ = await _sign_up(served, "eve@example.com")
    database = served.database
    columns = [
        {"name": "adas-width", "kind": "NUMBER", "missing": 0, "distinct": 90, "examples": ["1"]},
        {"name": "adas-label", "kind": "CATEGORY", "missing": 0, "distinct": 3, "examples": ["adas-class"]},
    ]
    data = await make_dataset(database, ada, name="adas-data.csv", columns=columns)
    spare_data = await make_dataset(database, ada, name="adas-spare.csv")
    model = await make_model(database, ada, name="adas-model")
    named: dict[str, Any] = {"tags": ["adas-tag"], "hyperparameters": {"targetColumn": "adas-label"}}
    failed = await make_run(database, ada, model=model, dataset=data, status=RunStatus.FAILED, **named)
    training = await make_run(
        database, ada, model=model, dataset=data, status=RunStatus.TRAINING, retry_of_id=failed.id, **named
    )
    queued = await make_run(database, ada, model=model)
    ready = await make_run(database, ada, dataset=data, status=RunStatus.READY)
    await _tell_of(served, training)
    await make_artifact(served.worker, ready)
    app = await make_app(database, ada, run=ready)
    deployment = await make_deployment(database, ada, app, ready)
    stopping = await make_deployment(database, ada, app, ready, is_current=False)
    grant, grant_token = await _grant(served, training)
    async with database.begin(ada) as work:
        configs = [
            TrainingConfig(created_at=work.now, updated_at=work.now, user_id=grant.user_id, name=name, recipe=None)
            for name in ("adas-config", "adas-spare-config")
        ]
        work.session.add_all(configs)
    async with served.worker.begin() as work:
        model_row = await work.session.get_one(type(model), model.id)
        model_row.current_run_id, model_row.trained_run_id = training.id, ready.id
        ready_model = await work.session.get_one(type(model), ready.model_id)
        ready_model.current_run_id = ready_model.trained_run_id = ready.id
    accounts = [
        await make_integration(
            database, ada, name=name, key="r8_sim_ada", vault=served.api.accounts.vault, account_name="adas-user"
        )
        for name in ("adas-account", "adas-spare-account")
    ]
    await make_operator(engine, ada)
    calls = [
        await keep(database, f"adas-call {event_id}".encode(), event_id=event_id, tag=f"runwire-{training.id}-1")
        for event_id in ("kept", "rejected")
    ]
    async with served.worker.begin() as work:
        await mark_rejected(work, await work.session.get_one(Callback, calls[1]), "adas-reason")
    key, _ = await _key(served, ada, ALL_SCOPES)
    session = await make_session(database, ada, user_agent="adas-phone")
    ids = {
        "viewer": ada.user_id,
        "dataset": data.id,
        "spare dataset": spare_data.id,
        "model": model.id,
        "ready model": ready.model_id,
        "training": training.id,
        "failed": failed.id,
        "queued": queued.id,
        "ready": ready.id,
        "app": app.id,
        "deployment": deployment.id,
        "stopping deployment": stopping.id,
        "config": configs[0].id,
        "spare config": configs[1].id,
        "integration": accounts[0].id,
        "spare integration": accounts[1].id,
        "callback": calls[0],
        "rejected callback": calls[1],
        "key": key.id,
        "session": session.id,
        "attempt": await _first_id(served, "run_attempts", ada),
        "resource": await _first_id(served, "provider_resources", ada),
        "grant": grant.id,
    }
    tokens = {
        "owner": served.token_of(ada),
        "other": served.token_of(eve),
        "bound": served.stream_token_of(ada, queued.id),
        "stream": served.stream_token_of(ada),
    }
    known = {name: id for name, id in ids.items() if id is not None}
    return World(served, ada, known, app.slug, grant_token, refresh_token, tokens, eve, engine)


async def _sign_up(served: Served, email: str) -> tuple[Viewer, str]:
    answer = (await served.data(SIGN_UP, input={"email": email, "password": PASSWORD, "name": email[:3]}))["signUp"]
    viewer = Viewer(
        kind=ViewerKind.USER,
        user_id=parts_of(answer["viewer"]["id"])[1],
        credential_id=parts_of(answer["session"]["id"])[1],
        scopes=ALL_SCOPES,
    )
    return replace(viewer, expires_at=served.clock.now() + timedelta(minutes=15)), answer["refreshToken"]


async def _key(served: Served, viewer: Viewer, scopes: frozenset[Scope]) -> tuple[Any, Secret]:
    """A key that was used just now, so that using it again writes nothing down."""
    return await make_api_key(served.database, viewer, scopes=scopes, name="adas-key", last_used_at=served.clock.now())


async def _tell_of(served: Served, run: TrainingRun) -> None:
    at = served.clock.now()
    lines = tuple(LogText(f"adas-line {number}", at) for number in range(3))
    await served.tell(run.id, stage=RunStage.TRAINING, percent=10.0, log=LogChunk(0, 3, lines))
    await served.tell(run.id, readings=(Reading("adas-loss", 1, 0.5, at),))
    artifact = StoredArtifact("model.joblib", "/adas/model", 4, "ab" * 32, {})
    await served.tell(run.id, artifact=artifact)


async def _grant(served: Served, run: TrainingRun) -> tuple[Any, Secret]:
    async with served.worker.begin() as work:
        grant, token = await datasets.grant_download(work, run=run, attempt=1)
    async with served.database.begin(Viewer(user_id=run.user_id)) as work:
        work.session.add(
            DownloadReceipt(
                created_at=work.now, user_id=run.user_id, grant_id=grant.id, dataset_id=grant.dataset_id, run_id=run.id
            )
        )
    return grant, token


async def _first_id(served: Served, table: str, viewer: Viewer) -> UUID:
    async with served.worker.begin() as work:
        found = await (await work.session.connection()).execute(
            sa.text(f"SELECT id FROM {table} WHERE user_id = :user_id ORDER BY id LIMIT 1"),
            {"user_id": viewer.user_id},
        )
        id: UUID = found.scalar_one()
    return id
