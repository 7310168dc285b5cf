"""Connections to PostgreSQL: one engine per process, in the role that the process may have."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import orjson
import sqlalchemy.exc
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from db.settings import Settings
from domain.errors import Invalid, Unavailable

API_ROLE = "runwire_api"
WORKER_ROLE = "runwire_worker"
CONNECT_SECONDS = 5
STATEMENT_SECONDS = 10
"""No statement of ours takes long; one that does is stopped rather than held."""
LOCK_SECONDS = 5
NUL_REFUSED = "A text may not hold NUL characters; leave them out."
NUL_REFUSED_PT = "Um texto não pode conter caracteres NUL; remova-os."


def engine_of(url: str, *, role: str | None, name: str, pool_size: int = 10) -> AsyncEngine:
    """An engine whose sessions run in `role`. `url` is a plain `postgresql://` address."""
    address, arguments = asyncpg_address(url)
    server_settings = {
        "application_name": name,
        "statement_timeout": str(STATEMENT_SECONDS * 1000),
        "lock_timeout": str(LOCK_SECONDS * 1000),
        "idle_in_transaction_session_timeout": str(15 * 1000),
    }
    if role is not None:
        server_settings["role"] = role
    return create_async_engine(
        address,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=CONNECT_SECONDS,
        pool_pre_ping=True,
        pool_recycle=1800,
        hide_parameters=True,  # an error of the driver is logged, and what it was given may be a secret
        json_serializer=lambda value: orjson.dumps(value).decode(),
        json_deserializer=orjson.loads,
        connect_args={"timeout": CONNECT_SECONDS, "server_settings": server_settings, **arguments},
    )


def owner_engine(settings: Settings) -> AsyncEngine:
    """For migrations and the operator's commands only."""
    return engine_of(settings.database_url, role=None, name="runwire db", pool_size=2)


def api_engine(settings: Settings) -> AsyncEngine:
    """Cannot see past row level security."""
    if settings.api_database_url:
        return engine_of(settings.api_database_url, role=None, name="runwire api", pool_size=20)
    return engine_of(settings.database_url, role=API_ROLE, name="runwire api", pool_size=20)


def worker_engine(settings: Settings) -> AsyncEngine:
    if settings.worker_database_url:
        return engine_of(settings.worker_database_url, role=None, name="runwire worker", pool_size=10)
    return engine_of(settings.database_url, role=WORKER_ROLE, name="runwire worker", pool_size=10)


def asyncpg_address(url: str) -> tuple[URL, dict[str, Any]]:
    """A libpq address in SQLAlchemy's and asyncpg's words.

    asyncpg takes no `sslmode` in its arguments, and a socket folder only as the argument `host`.
    """
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    arguments: dict[str, Any] = {}
    if "host" in query:
        arguments["host"] = query.pop("host")
    mode = query.pop("sslmode", None)
    if mode in ("require", "prefer", "allow"):
        arguments["ssl"] = mode
    elif mode in ("verify-ca", "verify-full"):
        arguments["ssl"] = ssl.create_default_context(cafile=query.pop("sslrootcert", None))
    query.pop("channel_binding", None)
    bare = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query), ""))
    return sqlalchemy.engine.make_url(bare).set(drivername="postgresql+asyncpg"), arguments


def is_unavailable(error: BaseException) -> bool:
    """Whether the error means that Postgres does not answer, rather than that it refused what we asked."""
    if isinstance(error, sqlalchemy.exc.DBAPIError):
        return error.connection_invalidated or (error.orig is not None and _is_lost(error.orig.__cause__ or error.orig))
    return isinstance(error, (sqlalchemy.exc.TimeoutError, Unavailable)) or _is_lost(error)


def _is_lost(error: BaseException) -> bool:
    """Statement timeouts and cancellations count: the database is there, but did not answer in time."""
    return isinstance(
        error,
        (
            OSError,
            asyncpg.PostgresConnectionError,
            asyncpg.InterfaceError,
            asyncpg.CannotConnectNowError,
            asyncpg.AdminShutdownError,
            asyncpg.CrashShutdownError,
            asyncpg.TooManyConnectionsError,
            asyncpg.QueryCanceledError,
            asyncpg.LockNotAvailableError,
        ),
    )


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turns a lost database into `Unavailable`, and a text that it cannot hold into `Invalid`, so that callers need to
    know no driver."""
    try:
        yield
    except Exception as error:
        if _is_text_refused(error):
            raise Invalid(NUL_REFUSED, NUL_REFUSED_PT) from None
        if isinstance(error, Unavailable) or not is_unavailable(error):
            raise
        raise Unavailable(retry_after_seconds=2) from error


def _is_text_refused(error: BaseException) -> bool:
    """Whether a text holds NUL, the one character that PostgreSQL has no place for."""
    cause = error.orig.__cause__ if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None else None
    return isinstance(cause, (asyncpg.CharacterNotInRepertoireError, asyncpg.UntranslatableCharacterError))
