"""`python -m db`: what an operator types, and what it answers."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from db.embedded import EmbeddedServers
from db.unit_of_work import Database
from db.upgrade import newest_revision
from domain.account.operators import is_operator
from tests.factories import make_user

pytestmark = pytest.mark.anyio


def db(*arguments: str, url: str | None) -> tuple[int, str]:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    if url:
        environment["DATABASE_URL"] = url
    command = [sys.executable, "-m", "db", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_an_empty_database_is_brought_to_the_newest_schema(servers: EmbeddedServers) -> None:
    url = servers.postgres.create_database(f"test_{uuid4().hex}")
    newest = newest_revision()
    assert db("current", url=url) == (0, "empty")
    assert db("check", url=url)[0] == 1
    assert db("upgrade", url=url) == (0, f"The database went from empty to {newest}.")
    assert db("upgrade", url=url) == (0, f"The database is at {newest}.")
    assert db("check", url=url) == (0, f"The database is at {newest}, the newest.")


async def test_a_new_epoch_is_another_one(database_url: str) -> None:
    assert db("new-epoch", url=database_url)[1].startswith("The journal is in epoch 2.")
    assert db("new-epoch", url=database_url)[1].startswith("The journal is in epoch 3.")


async def test_an_operator_is_named_and_is_none_any_more(
    database_url: str, database: Database, owner_engine: AsyncEngine
) -> None:
    user = await make_user(database, email="ada@example.com")
    stranger = await make_user(database)

    async def operators() -> list[bool]:
        found = []
        for viewer in (user, stranger):
            async with database.begin(viewer) as work:
                found.append(await is_operator(work.session))
        return found

    assert db("operator", "Ada@example.com", url=database_url) == (0, "Ada@example.com is an operator now.")
    assert db("operator", "ada@example.com", url=database_url) == (0, "ada@example.com is an operator already.")
    assert await operators() == [True, False]
    assert (
        db("operator", "ada@example.com", "--remove", url=database_url)[1] == "ada@example.com is no operator any more."
    )
    assert db("operator", "--remove", "ada@example.com", url=database_url) == (0, "ada@example.com was no operator.")
    assert await operators() == [False, False]
    async with owner_engine.connect() as connection:
        log = await connection.execute(sa.text("SELECT user_id, action FROM audit_log ORDER BY id"))
        assert [tuple(row) for row in log] == [
            (user.user_id, "account.operator_named"),
            (user.user_id, "account.operator_removed"),
        ]


async def test_nobody_unknown_becomes_an_operator(database_url: str) -> None:
    assert db("operator", "eve@example.com", url=database_url) == (
        1,
        "There is no user eve@example.com: sign up first.",
    )


@pytest.mark.parametrize(
    "arguments", [(), ("operator",), ("operator", "--remove"), ("operator", "a", "b"), ("check", "a")]
)
def test_what_is_not_asked_right_is_usage(arguments: tuple[str, ...]) -> None:
    assert db(*arguments, url="postgresql://nobody@/nothing")[0] == 2


def test_what_cannot_be_meant_is_usage() -> None:
    assert db("downgrade", url="postgresql://nobody@/nothing")[0] == 2
    code, words = db("upgrade", url=None)
    assert (code, words) == (2, "DATABASE_URL is not set: give the address of the database, as its owner.")


def test_a_database_that_is_away_is_told_without_its_password() -> None:
    code, words = db("current", url="postgresql://owner:secret-password@127.0.0.1:1/runwire")
    assert code == 1
    assert words.startswith("The database cannot be used:")
    assert "secret-password" not in words
