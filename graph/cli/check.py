"""`runwire check`: is this installation fit for production? A line for each thing, and a cure for what is not well."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from uuid import uuid4

import httpx2
import sqlalchemy as sa
import typer
from pydantic import ValidationError
from rich.markup import escape
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from db.postgres import api_engine, owner_engine, worker_engine
from db.redis import redis_of
from db.settings import GIB, Settings, is_loopback
from db.upgrade import current_revision, newest_revision
from db.vault import Vault
from domain.training.status import Provider
from graph.cli.errors import Exit, Usage
from graph.cli.installation import read_environment
from graph.cli.options import DATA_DIR, DataDir
from graph.cli.output import Json, command, console, print_json
from jobs.providers.base import ProviderError

WORKER_SEEN_SECONDS = 30
CLOCK_SECONDS = 2.0
OLDEST_POSTGRES = 150000
OLDEST_REDIS = 6
DISK_FREE_BYTES = 5 * GIB
ANSWER_SECONDS = 5.0


class State(StrEnum):
    """How a thing stands. ADVICE is not well for production, and fine until then."""

    OK = "OK"
    ADVICE = "ADVICE"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the list."""

    name: str
    state: State
    says: str
    cure: str = ""


Check = Callable[[Settings], AsyncIterator[Finding]]


def check(data_dir: DataDir = DATA_DIR, as_json: Json = False) -> int:
    """Check settings, database, roles and policies, Redis, worker, public address, providers, disk and clock.

    Give it the environment that the processes get; beside a running `runwire up` it finds that by itself. The exit code
    is 1 when something fails. What only production needs is advice elsewhere.

    [bold]Examples[/]

    runwire check

    ENVIRONMENT=production DATABASE_URL=postgresql://… REDIS_URL=redis://… PUBLIC_URL=https://… runwire check --json
    """
    settings = read_settings({**read_environment(data_dir), **os.environ, "DATA_DIR": str(data_dir)})
    findings = asyncio.run(examine(settings))
    for finding in findings:
        if as_json:
            print_json({"check": finding.name, "state": finding.state, "says": finding.says, "cure": finding.cure})
        else:
            _print(finding)
    failed = sum(finding.state is State.FAILED for finding in findings)
    if not as_json:
        well = f"{sum(finding.state is State.OK for finding in findings)} of {len(findings)} are well"
        console.print(f"\n{well}{f', [bold red]{failed} failed[/]' if failed else ''}.")
    return Exit.REFUSED if failed else Exit.DONE


def read_settings(environment: dict[str, str]) -> Settings:
    """The settings in these variables. Raises `Usage` for one that cannot be read."""
    known = {name.lower(): value for name, value in environment.items() if value}
    try:
        return Settings(**{name: value for name, value in known.items() if name in Settings.model_fields})  # type: ignore[arg-type]  # texts, as in the environment
    except ValidationError as error:
        first = error.errors()[0]
        raise Usage(f"{str(first['loc'][0]).upper()}: {first['msg']}.") from error


async def examine(settings: Settings) -> list[Finding]:
    """All findings, in the order to mend them."""
    return [finding for part in CHECKS async for finding in part(settings)]


async def check_settings(settings: Settings) -> AsyncIterator[Finding]:
    state = State.FAILED if settings.is_production else State.ADVICE
    problems = settings.problems()
    for problem in problems:
        says, _, cure = problem.partition(": ")
        yield Finding("settings", state, says, cure)
    if not problems:
        yield Finding("settings", State.OK, "fit for production")
    if not settings.has_own_apps_origin:
        cure = "give APPS_URL another host name that leads to the same API"
        yield Finding("apps", State.ADVICE, "served models share the API's origin, and are sandboxed in browsers", cure)


async def check_public_address(settings: Settings) -> AsyncIterator[Finding]:
    url = f"{settings.own_url}/healthz"
    # Where the address is this machine's own, a proxy from the environment could not reach it.
    trusts = not is_loopback(httpx2.URL(url).host)
    cure = "start the API (`runwire serve`, `runwire up`), or let the proxy before it lead there"
    try:
        async with httpx2.AsyncClient(timeout=ANSWER_SECONDS, trust_env=trusts) as http:
            answer = await http.get(url)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        yield Finding("address", State.FAILED, f"{url} does not answer ({type(error).__name__})", cure)
        return
    if answer.is_success:
        yield Finding("address", State.OK, f"{settings.own_url} answers")
    else:
        yield Finding("address", State.FAILED, f"{url} answers with HTTP {answer.status_code}", cure)


async def check_database(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.database_url:
        cure = "give DATABASE_URL, or run it beside `runwire up`"
        yield Finding("postgres", State.FAILED, "no address is known", cure)
        return
    engine = owner_engine(settings)
    try:
        async with asyncio.timeout(ANSWER_SECONDS), engine.connect() as connection:
            version = int(await connection.scalar(sa.text("SHOW server_version_num")))
            clock = await connection.scalar(sa.text("SELECT clock_timestamp()"))
            apart = abs((datetime.now(UTC) - clock).total_seconds())
        if version < OLDEST_POSTGRES:
            yield Finding("postgres", State.FAILED, f"version {version // 10000}", "upgrade to PostgreSQL 15 or newer")
        else:
            yield Finding("postgres", State.OK, f"PostgreSQL {version // 10000} answers")
        if apart > CLOCK_SECONDS:
            cure = "let NTP set the clocks of both machines"
            yield Finding("clock", State.FAILED, f"ours and the database's are {apart:.1f} s apart", cure)
        else:
            yield Finding("clock", State.OK, "ours and the database's agree")
        yield await _migrations(engine)
        for finding in await _tables(engine):
            yield finding
    except (OSError, SQLAlchemyError, TimeoutError) as error:
        yield Finding("postgres", State.FAILED, f"it does not answer ({_cause(error)})", "check DATABASE_URL")
    finally:
        await engine.dispose()


async def check_roles(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.database_url and not settings.api_database_url:
        return
    for who, make in (("api", api_engine), ("worker", worker_engine)):
        engine = make(settings)
        try:
            async with asyncio.timeout(ANSWER_SECONDS), engine.connect() as connection:
                yield await _role(who, connection)
                if who == "worker":
                    yield await _worker_seen(connection)
        except (OSError, SQLAlchemyError, TimeoutError) as error:
            cure = "run `runwire db upgrade`, and check the login of this role"
            yield Finding(f"role {who}", State.FAILED, f"cannot work ({_cause(error)})", cure)
        finally:
            await engine.dispose()


async def check_redis(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.redis_url:
        yield Finding("redis", State.FAILED, "no address is known", "give REDIS_URL, or run it beside `runwire up`")
        return
    yield await _answered("redis queue", _queue(settings.redis_url), "check REDIS_URL")
    for url in settings.bus_urls or (settings.redis_url,):
        yield await _answered("redis bus", _bus(url), "check BUS_URLS, and that PUBLISH and SUBSCRIBE are allowed")


async def check_disk(settings: Settings) -> AsyncIterator[Finding]:
    folder = settings.data_dir.absolute()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    says = f"{free / GIB:.1f} GiB free at {folder}"
    if free < DISK_FREE_BYTES:
        yield Finding("disk", State.FAILED, says, "make room, or put DATA_DIR on a larger disk")
    else:
        yield Finding("disk", State.OK, says)


async def check_providers(settings: Settings) -> AsyncIterator[Finding]:
    """Whose accounts the operator's keys open, and whether keys of users could be stored."""
    from jobs.accounts import Accounts, provider_http

    keyed = {provider: key for provider in Provider if (key := settings.api_key_of(provider)) is not None}
    if settings.is_production and not settings.encryption_keys:
        cure = "give at least one key, made with `openssl rand -base64 32`"
        yield Finding("integrations", State.ADVICE, "without ENCRYPTION_KEYS users cannot connect accounts", cure)
    if not keyed:
        says = "no key of the operator's is set; runs elsewhere need accounts of their users"
        yield Finding("providers", State.OK, says)
        return
    async with provider_http() as http:
        accounts = Accounts(settings, http, Vault(()), _nobodys)
        for provider, key in keyed.items():
            name = f"provider {provider.value.lower()}"
            if not settings.reaches(provider):
                cure = "set PUBLIC_URL to an address that the internet reaches"
                yield Finding(name, State.FAILED, "it cannot reach this machine's own address", cure)
                continue
            try:
                yield Finding(
                    name, State.OK, f"the key opens the account of {(await accounts.opened(provider, key)).owner}"
                )
            except ProviderError as error:
                yield Finding(name, State.FAILED, str(error), "check its key and its base URL")


async def _nobodys(wanted: object) -> None:
    """No user's account is asked for here."""


CHECKS: tuple[Check, ...] = (
    check_settings,
    check_database,
    check_roles,
    check_redis,
    check_public_address,
    check_providers,
    check_disk,
)


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command(rich_help_panel="Operate")(command(check))


async def _migrations(engine: AsyncEngine) -> Finding:
    current, newest = await current_revision(engine), newest_revision()
    if current == newest:
        return Finding("migrations", State.OK, f"the schema is at {newest}, the newest")
    return Finding("migrations", State.FAILED, f"the schema is at {current}, not {newest}", "run `runwire db upgrade`")


async def _tables(engine: AsyncEngine) -> list[Finding]:
    """Row level security binds everybody, the owner too, on every table there is."""
    query = sa.text(
        "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity,"
        " EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid) FROM pg_class c"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY 1"
    )
    async with engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    open_tables = [name for name, is_forced, has_policy in rows if not (is_forced and has_policy)]
    if open_tables:
        cure = "ALTER TABLE … FORCE ROW LEVEL SECURITY, and a policy; or run `runwire db upgrade`"
        return [Finding("policies", State.FAILED, f"without a forced policy: {', '.join(open_tables)}", cure)]
    return [Finding("policies", State.OK, f"row level security is forced on all {len(rows)} tables")]


async def _role(who: str, connection: AsyncConnection) -> Finding:
    query = sa.text(
        "SELECT r.rolname, r.rolsuper, r.rolbypassrls, EXISTS (SELECT 1 FROM pg_class c WHERE c.relowner = r.oid"
        " AND c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p'))"
        " FROM pg_roles r WHERE r.rolname = current_user"
    )
    name, is_super, may_bypass, owns = (await connection.execute(query)).one()
    faults = {"is a superuser": is_super, "bypasses row level security": may_bypass, "owns tables": owns}
    found = [fault for fault, is_so in faults.items() if is_so]
    if found:
        cure = f"log in as runwire_{who}, which the migrations make: {who.upper()}_DATABASE_URL"
        return Finding(f"role {who}", State.FAILED, f"{name} {' and '.join(found)}", cure)
    return Finding(f"role {who}", State.OK, f"{name} is bound by the policies")


async def _worker_seen(connection: AsyncConnection) -> Finding:
    seen = await connection.scalar(sa.text("SELECT clock_timestamp() - max(seen_at) FROM workers"))
    cure = "start one: `runwire worker`"
    if seen is None:
        return Finding("worker", State.FAILED, "none was ever seen", cure)
    if seen.total_seconds() > WORKER_SEEN_SECONDS:
        return Finding("worker", State.FAILED, f"the last was seen {seen.total_seconds():.0f} s ago", cure)
    return Finding("worker", State.OK, f"seen {max(0.0, seen.total_seconds()):.0f} s ago")


async def _queue(url: str) -> Finding:
    client = redis_of(url)
    try:
        facts = await client.info()
    finally:
        await client.aclose()
    version, policy = str(facts["redis_version"]), str(facts.get("maxmemory_policy", "noeviction"))
    if int(version.partition(".")[0]) < OLDEST_REDIS:
        return Finding("redis queue", State.FAILED, f"version {version}", "upgrade to Redis 6 or newer")
    if policy != "noeviction":
        return Finding("redis queue", State.FAILED, f"it may evict jobs ({policy})", "set maxmemory-policy noeviction")
    return Finding("redis queue", State.OK, f"Redis {version} answers")


async def _bus(url: str) -> Finding:
    """A message goes round."""
    channel = f"check:{uuid4()}"
    client = redis_of(url)
    try:
        async with client.pubsub() as listener:
            await listener.subscribe(channel)
            await client.publish(channel, "hello")
            async with asyncio.timeout(ANSWER_SECONDS):
                while (await listener.get_message(timeout=1) or {}).get("type") != "message":
                    pass
    finally:
        await client.aclose()
    return Finding("redis bus", State.OK, "a message went round")


async def _answered(name: str, asking: Awaitable[Finding], cure: str) -> Finding:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asking
    except Exception as error:
        return Finding(name, State.FAILED, f"it does not answer ({type(error).__name__})", cure)


def _cause(error: BaseException) -> str:
    """The driver's own words, which name no password."""
    original = getattr(error, "orig", None)
    return str((original.__cause__ if original else None) or original or type(error).__name__).splitlines()[0]


def _print(finding: Finding) -> None:
    mark = {State.OK: "[green]✓[/]", State.ADVICE: "[yellow]·[/]", State.FAILED: "[bold red]✗[/]"}[finding.state]
    production = " [yellow](for production)[/]" if finding.state is State.ADVICE else ""
    console.print(f"{mark} [bold]{finding.name:<12}[/] {escape(finding.says)}{production}", soft_wrap=True)
    if finding.cure:
        console.print(f"  {'':<12} [dim]→ {escape(finding.cure)}[/]", soft_wrap=True)
