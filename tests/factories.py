"""Rows to begin a test with. Each has tiny defaults and takes everything; `database` is the API's (the fixture).

They write rows and nothing else: no event is published, no password hashed, no file stored.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from db.unit_of_work import Database
from domain.account.model import ApiKey, User, UserSession
from domain.ai_model.model import AIModel
from domain.base import new_id
from domain.dataset.model import Dataset, DatasetFormat, DatasetStatus
from domain.secret import Secret, digest_of, new_token
from domain.training.model import RunAttempt, TrainingRun
from domain.training.status import EndReason, Provider, RunStage, RunStatus
from domain.viewer import ALL_SCOPES, Locale, Scope, Viewer, ViewerKind

NO_PASSWORD = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$ZmluZHMgbm8gcGFzc3dvcmQ"
DIGITS_SHA256 = "0f5c1e7d9a3b" + "0" * 52
STAGE_OF = {
    RunStatus.QUEUED: RunStage.WAITING,
    RunStatus.PREPARING: RunStage.CREATING_SANDBOX,
    RunStatus.TRAINING: RunStage.TRAINING,
    RunStatus.DEPLOYING: RunStage.DEPLOYING,
    RunStatus.CANCELING: RunStage.STOPPING,
}
END_OF = {
    RunStatus.READY: EndReason.SUCCEEDED,
    RunStatus.FAILED: EndReason.CODE_ERROR,
    RunStatus.CANCELED: EndReason.CANCELED_BY_USER,
}


async def make_user(
    database: Database,
    *,
    email: str | None = None,
    name: str = "Ada",
    password_hash: str = NO_PASSWORD,
    locale: Locale = Locale.EN,
    scopes: frozenset[Scope] = ALL_SCOPES,
) -> Viewer:
    """A user who is signed in on one device: rows of the user and of their session. The e-mail is unique by default."""
    user_id = new_id()
    viewer = Viewer(kind=ViewerKind.USER, user_id=user_id, scopes=scopes, locale=locale)
    async with database.begin(viewer) as work:
        user = User(
            id=user_id,
            created_at=work.now,
            email=email or f"{user_id.hex}@example.com",
            name=name,
            password_hash=password_hash,
            locale=locale,
        )
        work.session.add(user)
        await work.session.flush()
    session = await make_session(database, viewer)
    return replace(viewer, credential_id=session.id, expires_at=session.created_at + timedelta(minutes=15))


async def make_session(database: Database, viewer: Viewer, **facts: Any) -> UserSession:
    """Another signed-in device of the user."""
    async with database.begin(viewer) as work:
        given: dict[str, Any] = {
            "id": new_id(),
            "created_at": work.now,
            "last_used_at": work.now,
            "expires_at": work.now + timedelta(days=30),
            "user_agent": "tests",
            "address": "192.0.2.1",
        }
        session = UserSession(user_id=_user_of(viewer), **(given | facts))
        work.session.add(session)
    return session


async def make_api_key(
    database: Database, viewer: Viewer, *, scopes: frozenset[Scope] = ALL_SCOPES, name: str = "Partner", **facts: Any
) -> tuple[ApiKey, Secret]:
    """A key of the user, and its text."""
    token = new_token("rwk_")
    async with database.begin(viewer) as work:
        key = ApiKey(
            id=new_id(),
            user_id=_user_of(viewer),
            created_at=work.now,
            name=name,
            prefix=token.reveal()[:12],
            hash=digest_of(token.reveal()),
            scopes=sorted(scopes),
            **facts,
        )
        work.session.add(key)
    return key, token


async def make_model(database: Database, viewer: Viewer, *, name: str = "Digits", **facts: Any) -> AIModel:
    """A model, NEW by default."""
    async with database.begin(viewer) as work:
        model = AIModel(
            id=new_id(),
            user_id=_user_of(viewer),
            created_at=work.now,
            name=name,
            **({"updated_at": work.now} | facts),
        )
        work.session.add(model)
    return model


async def make_dataset(
    database: Database,
    viewer: Viewer,
    *,
    name: str = "digits.csv",
    status: DatasetStatus = DatasetStatus.READY,
    **facts: Any,
) -> Dataset:
    """A dataset with a row, but without a file; READY by default."""
    async with database.begin(viewer) as work:
        given: dict[str, Any] = {"format": DatasetFormat.CSV}
        if status is DatasetStatus.READY:
            given |= {
                "bytes": 2048,
                "sha256": DIGITS_SHA256,
                "row_count": 100,
                "columns": [
                    {"name": "pixel", "kind": "number", "missing": 0, "distinct": 17, "examples": ["0", "16"]},
                    {"name": "digit", "kind": "number", "missing": 0, "distinct": 10, "examples": ["3", "7"]},
                ],
                "uploaded_at": work.now,
            }
        dataset = Dataset(
            id=new_id(),
            user_id=_user_of(viewer),
            created_at=work.now,
            name=name,
            status=status,
            **(given | facts),
        )
        work.session.add(dataset)
    return dataset


async def make_run(
    database: Database,
    viewer: Viewer,
    *,
    status: RunStatus = RunStatus.QUEUED,
    model: AIModel | None = None,
    dataset: Dataset | None = None,
    attempts: int | None = None,
    **facts: Any,
) -> TrainingRun:
    """A run as if it had come to this status, with its model and, unless QUEUED, its first attempt; no events."""
    if model is None:
        model = await make_model(database, viewer, name=f"Model {new_id()}")
    if attempts is None:
        attempts = 0 if status is RunStatus.QUEUED else 1
    async with database.begin(viewer) as work:
        given: dict[str, Any] = {
            "provider": Provider.LOCAL,
            "recipe": "tabular-classification",
            "hyperparameters": {},
            "time_limit_seconds": 3600,
            "status": status,
            "stage": STAGE_OF.get(status, RunStage.DONE),
            "progress": 100.0 if status is RunStatus.READY else 0.0,
            "end_reason": END_OF.get(status),
            "attempt": attempts,
            "dataset_id": dataset.id if dataset else None,
            "started_at": work.now if status in (RunStatus.TRAINING, RunStatus.DEPLOYING, RunStatus.READY) else None,
            "ended_at": work.now if status.is_final else None,
            "next_check_at": work.now,
        }
        run = TrainingRun(
            id=new_id(), user_id=_user_of(viewer), created_at=work.now, model_id=model.id, **(given | facts)
        )
        work.session.add(run)
        await work.session.flush()
        for number in range(1, attempts + 1):
            work.session.add(
                RunAttempt(
                    id=new_id(),
                    user_id=run.user_id,
                    created_at=work.now,
                    run_id=run.id,
                    number=number,
                    provider=run.provider,
                    tag=f"runwire-{run.id}-{number}",
                    started_at=run.started_at,
                    ended_at=run.ended_at if number == attempts else work.now,
                    end_reason=run.end_reason if number == attempts else EndReason.NO_CAPACITY,
                )
            )
    return run


def _user_of(viewer: Viewer) -> UUID:
    if viewer.user_id is None:
        raise ValueError("Nobody owns nothing: give a viewer made by make_user.")
    return viewer.user_id
