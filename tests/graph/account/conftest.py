"""The account room's part of the schema, with the real services behind it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import strawberry
from argon2 import PasswordHasher
from strawberry.schema.config import StrawberryConfig

from db.settings import Settings
from db.unit_of_work import Database
from domain.account.passwords import Passwords
from domain.viewer import Viewer
from graph.account.mutations import AccountMutations
from graph.account.queries import AccountQueries
from graph.auth import Authentication
from graph.context import Context, Services
from graph.errors import EXCEPTION_HANDLERS, Problem
from graph.limiter import AttemptLimiter
from graph.live.connections import Connection
from graph.scalars import SCALARS
from tests.fakes import Told

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""The tests are about what is done with passwords, not about how long it takes to guess them."""


@dataclass
class Api:
    """Runs operations as a viewer, with the services of one process."""

    schema: strawberry.Schema
    services: Services

    async def run(
        self,
        document: str,
        viewer: Viewer | None = None,
        *,
        address: str = "192.0.2.7",
        user_agent: str = "Firefox",
        connection: Connection | None = None,
        **variables: Any,
    ) -> Any:
        """The data. An entry in `errors` fails the test."""
        result = await self.result(
            document, viewer, address=address, user_agent=user_agent, connection=connection, **variables
        )
        assert result.errors is None, result.errors
        return result.data

    async def result(
        self,
        document: str,
        viewer: Viewer | None = None,
        *,
        address: str = "192.0.2.7",
        user_agent: str = "Firefox",
        connection: Connection | None = None,
        **variables: Any,
    ) -> Any:
        context = Context(
            services=self.services,
            viewer=viewer or Viewer.nobody(),
            client_address=address,
            user_agent=user_agent,
            connection=connection,
        )
        return await self.schema.execute(document, variable_values=variables, context_value=context)

    async def viewer_of(self, token: str) -> Viewer:
        """Who comes in with this token or key."""
        return await self.services.authentication.authenticate(f"Bearer {token}")


@pytest.fixture(scope="session")
def schema() -> strawberry.Schema:
    return strawberry.Schema(
        query=AccountQueries,
        mutation=AccountMutations,
        types=[Problem],
        config=StrawberryConfig(scalar_map=SCALARS),
        exception_handlers=EXCEPTION_HANDLERS,
    )


@pytest.fixture
async def attempts(redis_url: str) -> AsyncIterator[AttemptLimiter]:
    attempts = AttemptLimiter(redis_url, per_minute=10)
    yield attempts
    await attempts.close()


@pytest.fixture
def authentication(settings: Settings, database: Database) -> Authentication:
    return Authentication(settings, database, passwords=Passwords(CHEAP))


@pytest.fixture
def api(
    schema: strawberry.Schema,
    settings: Settings,
    database: Database,
    told: Told,
    authentication: Authentication,
    attempts: AttemptLimiter,
) -> Api:
    services = Services(
        settings=settings,
        database=database,
        bus=told,  # type: ignore[arg-type]  # remembers revocations instead of sending them
        hub=None,  # type: ignore[arg-type]  # nothing here is live
        authentication=authentication,
        attempts=attempts,
    )
    return Api(schema, services)
