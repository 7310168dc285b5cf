"""The production checklist: it sees what is well, and names what is not with a cure."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from db.postgres import engine_of
from db.settings import Settings
from graph.cli.check import Finding, State, examine, read_settings
from graph.cli.errors import Usage
from graph.cli.installation import read_environment, remove_environment, write_environment
from jobs.simulators.kit import serving
from jobs.simulators.server import Simulators
from tests.graph.cli.fake_api import FakeApi

pytestmark = pytest.mark.anyio


async def found(settings: Settings) -> dict[str, Finding]:
    return {finding.name: finding for finding in await examine(settings)}


async def run_sql(database_url: str, *statements: str) -> None:
    engine = engine_of(database_url, role=None, name="tests")
    async with engine.begin() as connection:
        for statement in statements:
            await connection.execute(sa.text(statement))
    await engine.dispose()


@pytest.fixture
def installation(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url, data_dir=tmp_path, public_url="http://127.0.0.1:1")


def changed(settings: Settings, update: dict[str, Any]) -> Settings:
    """Other settings; a copy would keep addresses that were built from the old ones."""
    return Settings.model_validate({**settings.model_dump(exclude_unset=True), **update})


async def test_a_migrated_database_and_a_redis_are_well(installation: Settings) -> None:
    findings = await found(installation)
    well = {
        "postgres",
        "clock",
        "migrations",
        "policies",
        "role api",
        "role worker",
        "redis queue",
        "redis bus",
        "providers",
        "disk",
    }
    assert {name for name, finding in findings.items() if finding.state is State.OK} == well
    assert findings["worker"] == Finding("worker", State.FAILED, "none was ever seen", "start one: `runwire worker`")
    assert findings["address"].state is State.FAILED
    assert findings["settings"].state is State.ADVICE


async def test_a_worker_is_seen_for_a_while(installation: Settings) -> None:
    row = "INSERT INTO workers (id, host, pid, started_at, seen_at) VALUES (gen_random_uuid(), 'h', 1, '{0}', '{0}')"
    await run_sql(installation.database_url, row.format(datetime.now(UTC) - timedelta(seconds=90)))
    assert (await found(installation))["worker"].says == "the last was seen 90 s ago"
    await run_sql(installation.database_url, row.format(datetime.now(UTC)))
    assert (await found(installation))["worker"].state is State.OK


async def test_a_table_without_a_forced_policy_is_named(installation: Settings) -> None:
    await run_sql(
        installation.database_url, "CREATE TABLE forgotten (id int)", "ALTER TABLE datasets NO FORCE ROW LEVEL SECURITY"
    )
    policies = (await found(installation))["policies"]
    assert (policies.state, policies.says) == (State.FAILED, "without a forced policy: datasets, forgotten")


async def test_an_api_that_logs_in_as_the_owner_is_named(installation: Settings) -> None:
    owner = changed(installation, {"api_database_url": installation.database_url})
    role = (await found(owner))["role api"]
    assert (role.state, role.says) == (State.FAILED, "runwire_owner owns tables")
    assert role.cure == "log in as runwire_api, which the migrations make: API_DATABASE_URL"


async def test_an_old_schema_is_named(installation: Settings) -> None:
    await run_sql(installation.database_url, "UPDATE alembic_version SET version_num = '0001'")
    migrations = (await found(installation))["migrations"]
    assert (migrations.state, migrations.cure) == (State.FAILED, "run `runwire db upgrade`")


async def test_servers_that_are_away_are_told_without_their_passwords(tmp_path: Path) -> None:
    settings = Settings(
        database_url="postgresql://owner:secret-password@127.0.0.1:1/runwire",
        redis_url="redis://:secret-password@127.0.0.1:1",
        data_dir=tmp_path,
        public_url="http://127.0.0.1:1",
    )
    findings = await found(settings)
    failed = {name for name, finding in findings.items() if finding.state is State.FAILED}
    assert failed == {"postgres", "role api", "role worker", "redis queue", "redis bus", "address"}
    assert "secret-password" not in str(findings)


async def test_production_fails_by_what_is_advice_elsewhere(installation: Settings) -> None:
    production = changed(installation, {"environment": "production"})
    assert (await found(production))["settings"].state is State.FAILED
    fit = changed(
        production,
        {
            "secret_keys": (SecretStr("k" * 40),),
            "public_url": "https://api.invalid",
            "apps_url": "https://x.invalid",
        },
    )
    assert (await found(fit))["settings"] == Finding("settings", State.OK, "fit for production")


async def test_an_address_that_is_not_ours_is_told(installation: Settings) -> None:
    with FakeApi() as api:
        address = (await found(changed(installation, {"public_url": api.url})))["address"]
        assert address.says == f"{api.url}/healthz answers with HTTP 404"


def test_a_setting_that_cannot_be_read_is_usage() -> None:
    with pytest.raises(Usage, match=r"^PORT: "):
        read_settings({"PORT": "eighty"})


def test_addresses_that_were_given_are_never_written_down(tmp_path: Path) -> None:
    chosen = {"DATABASE_URL": "postgresql://a:secret@b/c", "REDIS_URL": "unix:///s", "PORT": "8001", "SECRET_KEYS": "k"}
    write_environment(tmp_path, chosen, {"DATABASE_URL": "postgresql://a:secret@b/c"})
    assert read_environment(tmp_path) == {"REDIS_URL": "unix:///s", "PORT": "8001"}
    assert (tmp_path / "environment.json").stat().st_mode & 0o777 == 0o600
    remove_environment(tmp_path)
    assert read_environment(tmp_path) == {}


async def test_the_operators_accounts_are_opened(installation: Settings) -> None:
    """The simulators stand for the providers: one takes its key, one refuses it, one cannot reach us."""
    async with serving(Simulators().app) as url:
        update = {
            "replicate_api_token": "r8_sim_acme",
            "replicate_base_url": f"{url}/replicate",
            "astria_api_key": "sd_sim_acme.unauthorized",
            "astria_base_url": f"{url}/astria",
            "e2b_api_key": "e2b_sim_acme",
            "e2b_base_url": "https://api.e2b.app",
        }
        findings = await found(changed(installation, update))
    assert findings["provider replicate"].state is State.OK
    assert "acme" in findings["provider replicate"].says
    assert findings["provider astria"].state is State.FAILED
    assert findings["provider e2b"] == Finding(
        "provider e2b",
        State.FAILED,
        "it cannot reach this machine's own address",
        "set PUBLIC_URL to an address that the internet reaches",
    )
    assert "provider runpod" not in findings
