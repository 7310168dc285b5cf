"""`python -m db`: what an operator types, and what it answers."""

import os
import subprocess
import sys
from uuid import uuid4

import pytest

from db.embedded import EmbeddedServers
from db.upgrade import newest_revision

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


def test_what_cannot_be_meant_is_usage() -> None:
    assert db("downgrade", url="postgresql://nobody@/nothing")[0] == 2
    code, words = db("upgrade", url=None)
    assert (code, words) == (2, "DATABASE_URL is not set: give the address of the database, as its owner.")


def test_a_database_that_is_away_is_told_without_its_password() -> None:
    code, words = db("current", url="postgresql://owner:secret-password@127.0.0.1:1/runwire")
    assert code == 1
    assert words.startswith("The database cannot be used:")
    assert "secret-password" not in words
