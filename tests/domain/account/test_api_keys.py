"""API keys: shown once, never stronger than their maker, ended for good."""

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import anyio
import pytest
from sqlmodel import col, select

from db.unit_of_work import Database
from domain import account
from domain.account import queries
from domain.account.errors import (
    BadExpiry,
    BadName,
    ExpiryBeyondYours,
    ScopesNeeded,
    ScopesNotYours,
    TooManyApiKeys,
)
from domain.account.model import ApiKey, AuditEntry
from domain.account.service import MOST_API_KEYS, note_key_use
from domain.base import new_id
from domain.clock import FixedClock
from domain.errors import NotFound
from domain.secret import Secret, digest_of
from domain.viewer import Scope, ScopeMissing, Viewer, ViewerKind
from tests.factories import make_api_key, make_user

pytestmark = pytest.mark.anyio

READ = frozenset({Scope.RUNS_READ, Scope.MODELS_READ})


async def create(
    database: Database,
    viewer: Viewer,
    *,
    name: str = "Partner",
    scopes: frozenset[Scope] = READ,
    expires_at: datetime | None = None,
) -> tuple[ApiKey, Secret]:
    async with database.begin(viewer) as work:
        return await account.create_api_key(work, viewer, name=name, scopes=scopes, expires_at=expires_at)


async def keys_of(database: Database, viewer: Viewer) -> list[ApiKey]:
    async with database.begin(viewer) as work:
        return list((await work.session.exec(select(ApiKey))).all())


async def test_only_the_hash_is_stored(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    key, token = await create(database, viewer, name=" Partner ")
    (row,) = await keys_of(database, viewer)
    assert row.model_dump() == {
        "id": key.id,
        "user_id": viewer.user_id,
        "created_at": clock.at,
        "name": "Partner",
        "prefix": token.reveal()[:12],
        "hash": digest_of(token.reveal()),
        "scopes": ["models:read", "runs:read"],
        "test_mode": False,
        "expires_at": None,
        "last_used_at": None,
        "revoked_at": None,
    }
    assert token.reveal().startswith("rwk_")
    assert len(token.reveal()) == 4 + 43


async def test_making_and_ending_one_is_in_the_audit_log(database: Database) -> None:
    viewer = await make_user(database)
    key, token = await create(database, viewer)
    async with database.begin(viewer) as work:
        await account.revoke_api_key(work, viewer, key_id=key.id)
        entries = (await work.session.exec(select(AuditEntry).order_by(col(AuditEntry.id)))).all()
    assert [(entry.action, entry.subject_id, entry.credential_id) for entry in entries] == [
        ("account.api_key_created", key.id, viewer.credential_id),
        ("account.api_key_revoked", key.id, viewer.credential_id),
    ]
    assert entries[0].details == {
        "name": "Partner",
        "prefix": key.prefix,
        "scopes": ["models:read", "runs:read"],
        "testMode": False,
    }
    assert token.reveal() not in str(entries)


async def test_a_key_of_test_mode_shows_what_it_is_and_makes_no_others(database: Database) -> None:
    viewer = await make_user(database)
    async with database.begin(viewer) as work:
        first, token = await account.create_api_key(work, viewer, name="Test", scopes=READ, test_mode=True)
    assert token.reveal().startswith("rwk_test_")
    assert (len(token.reveal()), first.prefix) == (9 + 43, token.reveal()[:17])
    async with database.begin() as work:
        standing = await queries.standing_of_key(work.session, digest_of(token.reveal()))
    async with database.begin(viewer) as work:
        same = await queries.standing_of(work.session, viewer.require(), first.id)
    assert standing is not None and same is not None
    assert standing.test_mode and same.test_mode
    holder = replace(viewer, kind=ViewerKind.API_KEY, credential_id=first.id, expires_at=None, test_mode=True)
    second, token = await create(database, holder)
    assert second.test_mode and token.reveal().startswith("rwk_test_")
    third, token = await create(database, viewer)
    assert not third.test_mode and not token.reveal().startswith("rwk_test_")


async def test_a_key_cannot_have_more_rights_than_its_maker(database: Database) -> None:
    viewer = await make_user(database, scopes=frozenset({Scope.ACCOUNT_WRITE, Scope.RUNS_READ}))
    with pytest.raises(ScopesNotYours) as refusal:
        await create(database, viewer)
    assert refusal.value.params == {"scopes": "models:read"}
    assert await keys_of(database, viewer) == []


async def test_a_key_cannot_outlive_the_key_that_makes_it(database: Database, clock: FixedClock) -> None:
    user = await make_user(database)
    maker = replace(user, kind=ViewerKind.API_KEY, expires_at=clock.at + timedelta(days=1))
    for expires_at in (None, clock.at + timedelta(days=2)):
        with pytest.raises(ExpiryBeyondYours):
            await create(database, maker, expires_at=expires_at)
    key, _ = await create(database, maker, expires_at=clock.at + timedelta(hours=1))
    assert [row.id for row in await keys_of(database, user)] == [key.id]


async def test_making_one_needs_the_right_to_write(database: Database) -> None:
    viewer = await make_user(database, scopes=READ | {Scope.ACCOUNT_READ})
    with pytest.raises(ScopeMissing):
        await create(database, viewer)


async def test_what_would_be_no_use_is_refused(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    with pytest.raises(ScopesNeeded):
        await create(database, viewer, scopes=frozenset())
    with pytest.raises(BadName):
        await create(database, viewer, name=" ")
    with pytest.raises(BadExpiry):
        await create(database, viewer, expires_at=clock.at)
    assert await keys_of(database, viewer) == []


async def test_only_so_many_can_be_active(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    for number in range(MOST_API_KEYS - 1):
        await make_api_key(database, viewer, name=str(number))
    await make_api_key(database, viewer, revoked_at=clock.at)
    await make_api_key(database, viewer, expires_at=clock.at)
    refusals: list[TooManyApiKeys] = []

    async def attempt() -> None:
        try:
            await create(database, viewer)
        except TooManyApiKeys as refusal:
            refusals.append(refusal)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(attempt)
    assert len(refusals) == 2
    assert refusals[0].params == {"most": 50}
    assert sum(key.is_active(clock.at) for key in await keys_of(database, viewer)) == MOST_API_KEYS


async def test_ending_one_is_written_once(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    key, _ = await make_api_key(database, viewer)
    for _ in range(2):
        async with database.begin(viewer) as work:
            await account.revoke_api_key(work, viewer, key_id=key.id)
        clock.at += timedelta(minutes=1)
    (row,) = await keys_of(database, viewer)
    assert row.revoked_at == clock.at - timedelta(minutes=2)


async def test_foreign_and_unknown_keys_are_not_found(database: Database) -> None:
    viewer, stranger = await make_user(database), await make_user(database)
    key, _ = await make_api_key(database, stranger)
    ids: list[UUID] = [key.id, new_id()]
    for key_id in ids:
        async with database.begin(viewer) as work:
            with pytest.raises(NotFound):
                await account.revoke_api_key(work, viewer, key_id=key_id)
    assert [row.revoked_at for row in await keys_of(database, stranger)] == [None]


async def test_a_use_is_noted_once_a_minute(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    key, _ = await make_api_key(database, viewer)
    seen: list[datetime | None] = []
    for _ in range(3):
        clock.at += timedelta(seconds=40)
        async with database.begin(viewer) as work:
            await note_key_use(work, viewer, key_id=key.id)
        seen.append((await keys_of(database, viewer))[0].last_used_at)
    assert seen == [clock.at - timedelta(seconds=80), clock.at - timedelta(seconds=80), clock.at]


async def test_a_stored_scope_that_no_longer_exists_allows_nothing(database: Database) -> None:
    viewer = await make_user(database)
    async with database.begin(viewer) as work:
        work.session.add(
            ApiKey(
                id=new_id(),
                user_id=viewer.require(),
                created_at=work.now,
                name="old",
                prefix="rwk_old",
                hash=digest_of("rwk_old"),
                scopes=["runs:read", "everything"],
            )
        )
    async with database.begin() as work:
        standing = await queries.standing_of_key(work.session, digest_of("rwk_old"))
    assert standing is not None
    assert standing.scopes == {Scope.RUNS_READ}


async def test_the_list_shows_ended_keys_too_newest_first(database: Database, clock: FixedClock) -> None:
    viewer = await make_user(database)
    first, _ = await make_api_key(database, viewer, revoked_at=clock.at)
    second, _ = await make_api_key(database, viewer)
    await make_api_key(database, await make_user(database))
    async with database.begin(viewer) as work:
        page = await queries.api_keys_page(work.session, viewer.require(), first=20, after=None)
    assert [row.id for row in page.rows] == [second.id, first.id]
